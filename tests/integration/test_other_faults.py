"""Requests other than parts that fail: create and complete, tried again, mended, or the end of the run."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.engine import multipart_upload
from bigupload.manifests.journal import FileJournal
from bigupload.testing.faults import Call, Conflict, ErrorIn200, LostResponse, Reset, Status, Whitespace
from bigupload.testing.strict_s3 import StrictS3

from .support import BUCKET, FAST, LEVELS, PART, World, content, no_leaks


@pytest.mark.parametrize("op", ["CreateMultipartUpload"])
@pytest.mark.parametrize(
    "fault",
    [
        Status(503, "SlowDown"),
        Status(500, "InternalError"),
        Status(507),
        Status(520),
        Status(409, "OperationAborted"),
        Status(400, "ThrottlingException"),
        Reset(),
        LostResponse(),
    ],
    ids=["503", "500", "507", "520", "OperationAborted", "ThrottlingException", "reset", "lost response"],
)
async def test_create_is_tried_again(world: World, op: str, fault: Any) -> None:
    world.s3.script(op, fault)
    path = world.file(PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.retries == 1
    assert world.s3.count(op) == 2


COMPLETES = {
    "500": Status(500, "InternalError"),
    "503": Status(503, "SlowDown"),
    "507": Status(507, "InsufficientStorage"),
    "524 without a body": Status(524),
    "404 without a body": Status(404),
    "OperationAborted": Status(409, "OperationAborted"),
    "409 without a body": Status(409),
    "lost response": LostResponse(),
    "reset": Reset(),
    "error in 200": ErrorIn200(),
    "error in 200 after acting": ErrorIn200(act=True),
    "white space": Whitespace(),
    "NoSuchUpload although it is open": Status(404, "NoSuchUpload"),
    "InvalidPart although they are there": Status(400, "InvalidPart"),
    "403": Status(403, "AccessDenied"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", COMPLETES.values(), ids=COMPLETES)
async def test_complete_that_fails_once(world: World, fault: Any) -> None:
    world.s3.script("CompleteMultipartUpload", fault)
    path = world.file(3 * PART)
    async with no_leaks():
        result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.manifest.status == "completed"
    assert sorted(world.sent()) == [1, 2, 3], "no part is sent again"
    assert not world.told(events.Restarted)
    assert not world.s3.uploads
    acted = isinstance(fault, LostResponse | Whitespace) or (isinstance(fault, ErrorIn200) and fault.act)
    assert world.s3.count("CompleteMultipartUpload") == (1 if acted else 2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("checksum", LEVELS)
async def test_a_lost_response_to_complete_keeps_the_proof(world: World, checksum: str) -> None:
    world.s3.script("CompleteMultipartUpload", LostResponse())
    path = world.file(3 * PART)
    result = await world.upload(path, checksum=checksum)
    assert world.holds(path)
    assert result.verified is LEVELS[checksum]
    assert world.s3.count("CompleteMultipartUpload") == 1


async def test_complete_that_goes_on_failing_ends_resumable(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(500, "InternalError"), repeat=True)
    path = world.file(2 * PART)
    with pytest.raises(errors.StoreUnavailable) as caught:
        await world.upload(path, retry=replace(FAST, attempts=3))
    assert (caught.value.exit_code, caught.value.manifest) == (errors.EXIT_RESUMABLE, world.manifest_path)
    assert world.s3.count("CompleteMultipartUpload") == 3
    world.s3.clear()
    result = await world.upload(path)
    assert result.resumed_parts == 2
    assert world.holds(path)


async def test_complete_refused_again_and_again_ends(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(400, "InvalidPart"), repeat=True)
    with pytest.raises(errors.StoreRefused, match="InvalidPart"):
        await world.upload(world.file(2 * PART))
    assert world.s3.count("CompleteMultipartUpload") == multipart_upload._MOST_ROUNDS
    assert len(world.told(events.UploadStarted)) == 1


async def test_complete_denied_for_good_ends_resumable(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await world.upload(world.file(2 * PART))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE


async def test_a_part_that_is_gone_at_complete_is_sent_again(world: World) -> None:
    def lose(s3: StrictS3) -> None:
        (upload,) = s3.uploads.values()
        del upload.parts[2]

    world.s3.script("CompleteMultipartUpload", Call(lose))
    path = world.file(3 * PART)
    result = await world.upload(path, concurrency=1)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert sorted(world.sent()) == [1, 2, 2, 3]
    assert world.s3.count("CompleteMultipartUpload") == 2


async def test_an_upload_that_no_manifest_can_record_is_aborted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise errors.ManifestUnwritable("no space left")

    monkeypatch.setattr(FileJournal, "begin", begin)
    with pytest.raises(errors.ManifestUnwritable):
        await world.upload(world.file(3 * PART))
    assert (world.s3.count("CreateMultipartUpload"), world.s3.uploads) == (1, {})


async def test_a_superseded_upload_is_aborted_and_begun_again(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Conflict())
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("AbortMultipartUpload") == 1
    assert world.s3.count("CreateMultipartUpload") == 2
    assert not world.s3.uploads
    (restarted,) = world.told(events.Restarted)
    assert "409" in restarted.reason


async def test_conflicts_without_end_end(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Conflict(), repeat=True)
    with pytest.raises(errors.StoreUnavailable):
        await world.upload(world.file(PART))
    assert world.s3.count("CompleteMultipartUpload") == multipart_upload._MOST_ROUNDS


async def test_bad_digest_at_complete_of_an_unchanged_file_is_a_mismatch(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(400, "BadDigest"))
    with pytest.raises(errors.ObjectMismatch, match="`resume=False`") as caught:
        await world.upload(world.file(2 * PART))
    assert caught.value.exit_code == 1
    assert world.told(events.Hashing)


async def test_bad_digest_at_complete_of_a_changed_file_names_the_part(world: World) -> None:
    path = world.file(3 * PART)
    times = path.stat()

    def change(_: StrictS3) -> None:
        with path.open("r+b") as file:
            file.seek(PART + 5)
            file.write(b"changed")

    world.s3.script("CompleteMultipartUpload", Call(change), Status(400, "BadDigest"))
    world.s3.clear("CompleteMultipartUpload")
    world.s3.script("CompleteMultipartUpload", Status(400, "BadDigest"))
    world.s3.hold("CompleteMultipartUpload")
    task = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("CompleteMultipartUpload")
    change(world.s3)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    world.s3.release()
    with pytest.raises(errors.SourceChanged, match="part 2") as caught:
        await task
    assert caught.value.resumable
    assert not world.object()
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_an_upload_that_is_gone_without_an_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_upload, "_LOOK_FOR", 0.5)
    world.s3.script("CompleteMultipartUpload", Call(lambda s3: s3.uploads.clear()))
    with pytest.raises(errors.UploadGone, match="`resume=False`") as caught:
        await world.upload(world.file(PART))
    assert caught.value.exit_code == 1
    assert not world.told(events.Restarted), "it may have been completed, and its object deleted by its owner"
    assert "looking for up to 5 minutes" in world.warnings()


async def test_an_object_that_appears_late_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete that keeps working after its response was lost: the upload is closed, the object not there yet."""
    monkeypatch.setattr(multipart_upload, "_LOOK_FOR", 60.0)
    path = world.file(2 * PART)
    kept: list[Any] = []

    def hide(s3: StrictS3) -> None:
        kept.append(s3.objects[BUCKET].pop("key"))

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if isinstance(event, events.Warned) and "looking" in event.message:
            world.s3.objects[BUCKET]["key"] = kept[0]

    world.s3.script("CompleteMultipartUpload", LostResponse())
    world.s3.script("HeadObject", Call(hide))
    result = await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        on_event=on_event,
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


@pytest.mark.parametrize("same_size", [True, False])
async def test_anothers_object_under_the_key_is_never_taken_for_ours(
    world: World, monkeypatch: pytest.MonkeyPatch, same_size: bool
) -> None:
    monkeypatch.setattr(multipart_upload, "_LOOK_FOR", 0.05)
    path = world.file(2 * PART)
    theirs = content(2 * PART if same_size else 5, seed=9)

    def replace_it(s3: StrictS3) -> None:
        s3.uploads.clear()
        client = s3.client()
        client.put_object(Bucket=BUCKET, Key="key", Body=theirs)
        client.close()

    world.s3.script("CompleteMultipartUpload", Call(replace_it))
    with pytest.raises(errors.TargetReplaced) as caught:
        await world.upload(path)
    assert caught.value.exit_code == 1
    assert world.object().body == theirs
    assert world.s3.count("CreateMultipartUpload") == 1


async def test_replaced_right_after_complete(world: World) -> None:
    """Where complete's response proves nothing, HEAD is asked, and finds another's object."""
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    path = world.file(2 * PART)

    def replace_it(s3: StrictS3) -> None:
        client = s3.client()
        client.put_object(Bucket=BUCKET, Key="key", Body=content(2 * PART, 9), Metadata={"bigupload-token": "another"})
        client.close()

    world.s3.script("HeadObject", Call(replace_it))
    with pytest.raises(errors.TargetReplaced):
        await world.upload(path)


async def test_an_object_that_nobody_can_read_is_no_success(world: World) -> None:
    """HEAD says 400 without a reason: the credentials have expired, or the object is encrypted with another's key."""
    world.s3.script("HeadObject", Status(400), repeat=True)
    path = world.file(5 * PART + 100)
    with pytest.raises(errors.ObjectNotShown, match="refused to show the object: 400") as caught:
        await world.upload(path, checksum="md5")
    assert caught.value.exit_code == 75
    assert world.manifest.status == "completing"
    world.s3.clear()
    assert (await world.resume()).verified is Verified.COMPOSITE_ETAG
    assert world.holds(path)


async def test_access_denied_within_a_200_is_final(world: World) -> None:
    """S3 found out late: the signature was good, and another one changes nothing."""
    world.s3.script("CompleteMultipartUpload", ErrorIn200("AccessDenied"), repeat=True)
    path = world.file(2 * PART)
    with pytest.raises(errors.AccessDenied, match="200 AccessDenied") as caught:
        await world.upload(path)
    assert world.s3.count("CompleteMultipartUpload") == 1
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    world.s3.clear()
    await world.upload(path)
    assert world.holds(path)

"""`delta`: the store copies the parts that are the same as in the last upload, the others are sent."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.part_plan import MIB
from bigupload.manifests.state_directory import state_dir
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Call, ErrorIn200, LostResponse, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for

from .support import BUCKET, LEVELS, PART, World, write

SIZE = 6 * PART - 100


def changed(path: Path, at: int, data: bytes = b"\0new") -> Path:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return path


async def test_only_the_part_with_the_change_is_sent(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    before = len(world.s3.requests)
    result = await world.upload(changed(path, 2 * PART + 5), delta=True)
    assert world.sent(since=before) == [3]
    assert (result.bytes_sent, result.bytes_copied) == (PART, SIZE - PART)
    assert (result.verified, result.parts, result.resumed_parts) == (Verified.FULL_OBJECT, 6, 0)
    assert world.holds(path)
    assert world.warnings() == ""
    copied = {event.number for event in world.told(events.PartUploaded) if event.copied}
    assert copied == {1, 2, 4, 5, 6}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("change", "sent"),
    [
        (lambda data: data, []),
        (lambda data: data + b"more", [6]),
        (lambda data: data + bytes(2 * PART), [6, 7, 8]),
        (lambda data: data[: 3 * PART - 7], [3]),
        (lambda data: data[: 3 * PART], []),
        (lambda data: b"x" + data, [1, 2, 3, 4, 5, 6]),
        (lambda data: b"", [1]),
        (lambda data: data[:9], [1]),
    ],
    ids=["same", "longer", "much longer", "shorter", "whole parts", "shifted", "empty", "one short part"],
)
async def test_what_is_sent_of_a_file_that_changed(
    world: World, change: Callable[[bytes], bytes], sent: list[int]
) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    path.write_bytes(change(path.read_bytes()))
    before = len(world.s3.requests)
    result = await world.upload(path, delta=True)
    assert sorted(world.sent(since=before)) == sent
    assert result.bytes_sent + result.bytes_copied == path.stat().st_size
    assert result.verified is Verified.FULL_OBJECT
    assert world.holds(path)


@pytest.mark.slow
async def test_an_empty_object_is_no_help(world: World) -> None:
    path = world.file(0)
    await world.upload(path)
    result = await world.upload(write(path, PART), delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (PART, 0)
    assert world.s3.count("UploadPartCopy") == 0


@pytest.mark.slow
async def test_one_delta_after_another(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    for number in (1, 2, 3):
        before = len(world.s3.requests)
        await world.upload(changed(path, number * PART - 9), delta=True)
        assert world.sent(since=before) == [number]
        assert world.holds(path)


@pytest.mark.slow
async def test_the_last_upload_may_have_been_of_another_file(world: World) -> None:
    """Its manifest is found by the target, in the state directory."""
    monday, tuesday = world.file(SIZE, "monday.tar"), world.file(SIZE, "tuesday.tar")
    await world.upload(world.file(SIZE, "other.tar", seed=7), to="s3://bucket/other", manifest=None)
    await world.upload(monday, manifest=None)
    result = await world.upload(changed(tuesday, 0), manifest=None, delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (PART, SIZE - PART)
    assert world.holds(tuesday)


@pytest.mark.slow
async def test_the_upload_that_made_the_object_counts_and_not_this_files_last_one(world: World) -> None:
    monday, tuesday = world.file(SIZE, "monday.tar"), changed(world.file(SIZE, "tuesday.tar"), PART)
    await world.upload(monday, manifest=None)
    await world.upload(tuesday, manifest=None)
    result = await world.upload(monday, manifest=None, delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (PART, SIZE - PART)
    assert world.holds(monday)


@pytest.mark.slow
async def test_a_manifest_that_was_set_aside_is_found(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    await world.interrupted(changed(path, 0), after=1, manifest=None)
    shutil.copy(world.manifest_path, state_dir() / f"{'0' * 32}.manifest.jsonl.1")
    result = await world.upload(path, manifest=None, resume=False, delta=True)
    assert result.bytes_copied == SIZE - PART


async def replace(world: World) -> None:
    await world.upload(world.file(SIZE, "another.bin", seed=9), manifest=world.directory / "another.manifest.jsonl")
    world.events.clear()


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", ["no manifest", "replaced", "deleted", "another checksum", "may not look"])
async def test_where_there_is_nothing_to_copy_all_is_sent_and_the_reason_said(world: World, what: str) -> None:
    path = world.file(SIZE)
    if what != "no manifest":
        await world.upload(path)
    more: dict[str, Any] = {}
    if what == "replaced":
        await replace(world)
    elif what == "deleted":
        world.s3.client().delete_object(Bucket=BUCKET, Key="key")
    elif what == "another checksum":
        more["checksum"] = "sha256"
    elif what == "may not look":
        world.s3.script("HeadObject", Status(403), Status(403))
    result = await world.upload(path, delta=True, **more)
    assert (result.bytes_sent, result.bytes_copied, world.s3.count("UploadPartCopy")) == (SIZE, 0, 0)
    assert world.holds(path)
    (warning,) = [event.message for event in world.told(events.Warned)]
    reasons = {
        "no manifest": "no manifest on this machine describes a completed upload to s3://bucket/key",
        "replaced": "s3://bucket/key was replaced since the last upload from here",
        "deleted": "s3://bucket/key was deleted since the last upload",
        "another checksum": "the last upload to s3://bucket/key used `checksum='crc64nvme'`, and this one uses sha256",
        "may not look": "the store refused to look at the object: 403",
    }
    assert warning.startswith(f"`delta` is not possible, and all parts are sent: {reasons[what]}")


async def test_an_object_that_is_replaced_meanwhile_is_copied_no_more(world: World) -> None:
    """What was copied before is proved, and stays."""
    path = world.file(SIZE)
    await world.upload(path)

    def replace_it(s3: StrictS3) -> None:
        s3.client().put_object(Bucket=BUCKET, Key="key", Body=b"another")

    world.s3.script("UploadPartCopy", Call(replace_it), part_number=4)
    result = await world.upload(path, delta=True, concurrency=1)
    assert result.bytes_sent >= PART
    assert result.bytes_sent + result.bytes_copied == SIZE
    assert world.holds(path)
    (warning,) = [event.message for event in world.told(events.Warned)]
    assert "was replaced or deleted" in warning


@pytest.mark.slow
async def test_a_version_is_copied_although_it_was_replaced(world: World) -> None:
    world.s3.knobs.versioning = True
    path = world.file(SIZE)
    await world.upload(path)

    def replace_it(s3: StrictS3) -> None:
        s3.client().put_object(Bucket=BUCKET, Key="key", Body=b"another")

    world.s3.script("UploadPartCopy", Call(replace_it), part_number=1)
    result = await world.upload(path, delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (0, SIZE)
    assert world.holds(path)


@pytest.mark.slow
async def test_copies_are_retried_as_any_request(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    world.s3.script("UploadPartCopy", Status(503, "SlowDown"), ErrorIn200("InternalError"), LostResponse())
    result = await world.upload(path, delta=True)
    assert (result.bytes_sent, result.bytes_copied, result.retries) == (0, SIZE, 3)
    assert world.holds(path)


@pytest.mark.slow
async def test_the_object_gets_what_this_upload_asks_for(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path, options=world.options(metadata={"v": "1"}, content_type="video/mp4"))
    await world.upload(path, options=world.options(metadata={"v": "2"}, storage_class="STANDARD_IA"), delta=True)
    made = world.object()
    assert (made.metadata["v"], made.storage_class) == ("2", "STANDARD_IA")
    assert made.headers["content-type"] != "video/mp4"


@pytest.mark.exhaustive
@pytest.mark.parametrize("checksum", ["crc32c", "sha256", "md5"])
async def test_every_checksum_proves_copies(world: World, checksum: str) -> None:
    path = world.file(SIZE)
    await world.upload(path, checksum=checksum)
    result = await world.upload(changed(path, SIZE - 1), checksum=checksum, delta=True)
    assert (result.bytes_copied, result.verified) == (5 * PART, LEVELS[checksum])
    assert world.holds(path)


@pytest.mark.slow
async def test_opaque_etags(world: World) -> None:
    """As with SSE-KMS."""
    kms = world.options(sse_kms_key_id="key-1")
    path = world.file(SIZE)
    await world.upload(path, options=kms)
    result = await world.upload(changed(path, 0), options=kms, delta=True)
    assert (result.bytes_copied, result.verified) == (SIZE - PART, Verified.FULL_OBJECT)
    assert world.holds(path)


@pytest.mark.slow
async def test_a_customer_key(s3_tls: StrictS3, tmp_path: Path, small_limits: None) -> None:
    world = World(s3_tls, tmp_path)
    path = world.file(SIZE)
    first, second = (base64.b64encode(bytes([n] * 32)).decode() for n in (1, 2))
    await world.upload(path, options=world.options(sse_customer_key=first))
    result = await world.upload(path, options=world.options(sse_customer_key=first), delta=True)
    assert (result.bytes_copied, result.verified) == (SIZE, Verified.FULL_OBJECT)
    assert first not in world.manifest_path.read_text()
    result = await world.upload(path, options=world.options(sse_customer_key=second), delta=True)
    assert (result.bytes_copied, result.verified) == (0, Verified.FULL_OBJECT)
    assert "`delta` is not possible" in world.warnings()


async def test_copies_wait_for_no_part_that_is_sent(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    changed(path, 0)
    world.s3.hold("UploadPart")
    task = asyncio.create_task(world.upload(path, delta=True, concurrency=1))
    await world.s3.wait_for_async("UploadPartCopy", 5, responded=True)
    world.s3.release("UploadPart")
    assert (await task).bytes_copied == SIZE - PART


async def test_a_resumed_upload_goes_on_copying(world: World) -> None:
    """Its own manifest is enough: the one of the last upload may be gone."""
    path = world.file(SIZE)
    await world.upload(path)
    changed(path, SIZE - 1)
    world.s3.script(
        "UploadPartCopy", Status(503, "SlowDown", headers={"Retry-After": "900"}), part_number=5, repeat=True
    )
    await world.interrupted(path, after=2, delta=True)
    world.s3.clear("UploadPartCopy")
    aside = world.manifest_path.with_name(f"{world.manifest_path.name}.1")
    aside.unlink()
    assert world.manifest.header.copies is not None
    before = len(world.s3.requests)
    result = await world.resume()
    assert world.sent(since=before) == [6]
    assert result.bytes_copied >= PART
    assert result.bytes_copied == (5 - result.resumed_parts) * PART
    assert world.holds(path)


@pytest.mark.slow
async def test_an_upload_that_began_without_it_keeps_that(world: World) -> None:
    path = world.file(SIZE)
    await world.interrupted(path, after=2)
    result = await world.upload(path, delta=True)
    assert result.bytes_copied == 0
    assert "this upload began without `delta`" in world.warnings()
    assert world.holds(path)


@pytest.mark.slow
async def test_a_store_that_forgets_the_upload_gets_copies_again(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    changed(path, 0)
    world.s3.script("UploadPartCopy", Status(404, "NoSuchUpload"))
    result = await world.upload(path, delta=True)
    assert len(world.told(events.Restarted)) == 1
    assert result.bytes_copied == SIZE - PART
    assert world.holds(path)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"part_size": "1MiB"}, "`part_size` can't be used with `delta`"),
        ({"checksum": "none"}, "`checksum='none'` can't be used with `delta`"),
        ({"options": "if_none_match"}, "`if_none_match` refuses to replace an object"),
        ({"follow": True}, "`delta` can't be used with `follow`"),
    ],
)
async def test_what_contradicts_it(world: World, more: dict[str, Any], text: str) -> None:
    if "options" in more:
        more = {"options": world.options(if_none_match=True)}
    with pytest.raises(errors.UsageError, match=re.escape(text)):
        await world.upload(world.file(SIZE), delta=True, **more)
    assert world.s3.requests == []


async def test_neither_streams_nor_media_services(world: World) -> None:
    with pytest.raises(errors.UsageError, match="`delta` is for files, and pipe is a stream"):
        await bigupload.upload(iter([b"bytes"]), to="s3://bucket/key", name="pipe", s3=world.options(), delta=True)
    with pytest.raises(errors.UsageError, match="a media service makes a new one for each upload"):
        await bigupload.upload(world.file(SIZE), service="http://127.0.0.1:9", api_key="k", delta=True)


async def test_the_local_store_copies(weed: LocalStore, tmp_path: Path) -> None:
    options = options_for(weed)
    path = write(tmp_path / "file.bin", 4 * 5 * MIB + 17)
    to = f"s3://{BUCKET}/delta"
    await bigupload.upload(path, to=to, s3=options)
    result = await bigupload.upload(changed(path, 6 * MIB), to=to, s3=options, delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (5 * MIB, 3 * 5 * MIB + 17)
    assert result.verified is Verified.FULL_OBJECT
    assert (await bigupload.read_back(path, to, s3=options)).size == path.stat().st_size

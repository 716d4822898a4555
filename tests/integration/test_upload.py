"""Whole uploads, by the library's own surface, against the strict fake and against SeaweedFS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

import bigupload
from bigupload import PartProof, RetryPolicy, S3Options, Verified, engine, errors, events
from bigupload.local_store import LocalStore
from bigupload.planning import MIB
from tests.tools.strict_s3 import (
    Call,
    Conflict,
    ErrorIn200,
    FlipBit,
    LostAnswer,
    Reset,
    Stall,
    Status,
    StrictS3,
    Whitespace,
    WrongEtag,
)
from tests.tools.waiting import until

from .support import BUCKET, FAST, KIB, LIMITS, PART, World, assert_secretless, content, no_leaks, write

SIZES = {"empty": 0, "one byte": 1, "one part": PART, "one part and a byte": PART + 1, "several": 5 * PART + 17}
LEVELS = {
    "auto": Verified.FULL_OBJECT,
    "crc64nvme": Verified.FULL_OBJECT,
    "crc32c": Verified.FULL_OBJECT,
    "sha256": Verified.COMPOSITE_CHECKSUM,
    "md5": Verified.COMPOSITE_ETAG,
    "none": Verified.SIZE,
}


# --- every size, every checksum


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_each_size_ends_proved(world: World, size: int) -> None:
    path = world.file(size)
    async with no_leaks():
        result = await world.upload(path)
    assert world.holds(path)
    assert (result.verified, result.size, result.bytes_sent) == (Verified.FULL_OBJECT, size, size)
    assert (result.parts, result.resumed_parts, result.retries) == (max(1, -(-size // PART)), 0, 0)
    assert result.checksum == f"crc64nvme:{world.object().crc64nvme}"
    assert (result.bucket, result.key, result.path) == (BUCKET, "key", path)
    assert result.url == f"{world.s3.url}/{BUCKET}/key"
    assert world.manifest.status == "completed"
    assert not world.s3.uploads


@pytest.mark.parametrize("size", [0, 3 * PART + 1])
@pytest.mark.parametrize(("checksum", "level"), LEVELS.items())
async def test_each_checksum_gives_its_proof(world: World, checksum: str, level: Verified, size: int) -> None:
    path = world.file(size)
    result = await world.upload(path, checksum=checksum)
    assert world.holds(path)
    assert result.verified == level
    assert ("only its size" in world.warnings()) == (level is Verified.SIZE)
    assert (result.checksum is not None) == (level in (Verified.FULL_OBJECT, Verified.COMPOSITE_CHECKSUM))
    proofs = {event.proof for event in world.told(events.PartUploaded)}
    expected = {"md5": PartProof.ETAG, "none": PartProof.NONE}.get(checksum, PartProof.CHECKSUM)
    assert proofs == {expected}


async def test_over_https(s3_tls: StrictS3, tmp_path: Path, small_limits: None) -> None:
    world = World(s3_tls, tmp_path)
    path = world.file(3 * PART + 5)
    async with no_leaks():
        result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_ten_thousand_parts(world: World) -> None:
    world.s3.knobs.min_part_size = 8
    path = world.file(10_000 * KIB - 5)
    limits = replace(LIMITS, max_parts=10_000, default_part_size=KIB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bigupload.stores.s3.S3Store.limits", limits)
        result = await world.upload(path)
    assert result.parts == 10_000
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert sorted(world.sent()) == list(range(1, 10_001))


@pytest.mark.parametrize("checksum", LEVELS)
@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 16 * MIB + 3])
async def test_into_seaweedfs(
    weed: LocalStore, tmp_path: Path, checksum: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size == 16 * MIB + 3 and checksum not in ("auto", "md5"):
        pytest.skip("several parts are tried with two checksums")
    path = write(tmp_path / "file", size)
    options = S3Options(
        endpoint_url=weed.endpoint_url, region=weed.region, access_key=weed.access_key, secret_key=weed.secret_key
    )
    result = await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/{checksum}/{size}",
        s3=options,
        part_size=5 * MIB,
        checksum=checksum,
        manifest=tmp_path / "m",
        retry=FAST,
    )
    assert result.parts == max(1, -(-size // (5 * MIB)))
    assert fetch(weed, result.key) == path.read_bytes()
    # What this SeaweedFS echoes and what it keeps is its own matter; the level may be lower, never a failure.
    expected = {"auto": Verified.FULL_OBJECT, "crc64nvme": Verified.FULL_OBJECT}.get(checksum)
    assert expected in (None, result.verified)


def fetch(weed: LocalStore, key: str) -> bytes:
    from .conftest import weed_client

    client = weed_client(weed)
    try:
        body: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body
    finally:
        client.close()


# --- stores that know less


async def test_a_store_that_does_not_echo_is_proved_by_etags(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(5 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.COMPOSITE_ETAG
    assert result.checksum is None
    assert world.warnings().count("proved by MD5 instead") == 1
    assert {event.proof for event in world.told(events.PartUploaded)} == {PartProof.ETAG}
    # The first parts went out before the store's silence was noticed; nothing is sent twice for it.
    assert sorted(world.sent()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("checksum", ["auto", "md5"])
async def test_opaque_etags_are_proved_by_content_md5(world: World, checksum: str) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    path = world.file(4 * PART)
    result = await world.upload(path, checksum=checksum, concurrency=2)
    assert world.holds(path)
    assert result.verified is Verified.SIZE
    assert "only its size" in world.warnings()
    assert {event.proof for event in world.told(events.PartUploaded)} == {PartProof.MD5}
    refused = [r for r in world.s3.requests if r.op == "UploadPart" and r.error == "BadDigest"]
    assert len(refused) == 1, "the store is probed once"


async def test_where_nothing_proves_a_part_the_upload_ends(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    world.s3.knobs.verify_md5 = False
    path = world.file(3 * PART)
    with pytest.raises(errors.PartUnproved, match="--checksum none") as caught:
        await world.upload(path)
    assert caught.value.exit_code == 1
    assert not world.object()
    assert not world.told(events.PartUploaded)


async def test_no_proof_is_fine_where_none_was_asked_for(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    world.s3.knobs.verify_md5 = False
    path = world.file(3 * PART)
    result = await world.upload(path, checksum="none")
    assert world.holds(path)
    assert result.verified is Verified.SIZE


@pytest.mark.parametrize("status", [400, 501])
async def test_a_refused_algorithm_is_left_out_once_with_a_warning(world: World, status: int) -> None:
    world.s3.knobs.refuse_checksum_algorithm = status
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert world.s3.count("CreateMultipartUpload") == 2
    assert world.warnings().count("the store refused crc64nvme checksums") == 1
    # AWS gives an object a CRC64NVME of its own accord, and that one counts.
    assert result.verified is Verified.FULL_OBJECT
    assert {event.proof for event in world.told(events.PartUploaded)} == {PartProof.ETAG}


async def test_a_refused_algorithm_at_a_store_without_checksums(world: World) -> None:
    world.s3.knobs.refuse_checksum_algorithm = 400
    world.s3.knobs.default_crc64nvme = False
    result = await world.upload(world.file(3 * PART))
    assert result.verified is Verified.COMPOSITE_ETAG


async def test_another_400_at_create_is_not_taken_for_a_refused_algorithm(world: World) -> None:
    with pytest.raises(errors.StoreRefused, match="InvalidStorageClass") as caught:
        await world.upload(world.file(1), options=world.options(storage_class="NO_SUCH"))
    assert caught.value.exit_code == 1
    assert not world.manifest_path.exists()
    assert_secretless(caught.value)


async def test_an_echo_that_differs_is_a_failed_part_and_never_a_lower_level(world: World) -> None:
    world.s3.knobs.lie_checksum = True
    with pytest.raises(errors.PartCorrupted, match="echoed") as caught:
        await world.upload(world.file(PART))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert caught.value.manifest == world.manifest_path
    assert world.sent() == [1, 1]
    assert not world.told(events.PartUploaded)
    assert not world.object()


async def test_a_lie_about_the_whole_is_a_mismatch(world: World) -> None:
    world.s3.knobs.lie_complete = True
    with pytest.raises(errors.ObjectMismatch) as caught:
        await world.upload(world.file(3 * PART))
    assert caught.value.exit_code == 1
    assert world.manifest.status == "completing"
    assert not world.told(events.UploadCompleted)


async def test_a_wrong_etag_is_mended_from_the_list(world: World) -> None:
    world.s3.script("UploadPart", WrongEtag(), part_number=2)
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CompleteMultipartUpload", status=400) == 1
    assert sorted(world.sent()) == [1, 2, 3]


async def test_a_wrong_etag_without_checksums_is_sent_again_or_proved(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.script("UploadPart", WrongEtag(), part_number=2)
    path = world.file(3 * PART)
    result = await world.upload(path, concurrency=1)
    assert world.holds(path)
    assert result.verified in (Verified.COMPOSITE_ETAG, Verified.SIZE)


@pytest.mark.parametrize(
    ("required", "enough"),
    [("full-object", False), ("composite-checksum", False), ("composite-etag", True), ("size", True)],
)
async def test_require_proof(world: World, required: str, enough: bool) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(2 * PART)
    if enough:
        result = await world.upload(path, require_proof=required)
        assert result.verified is Verified.COMPOSITE_ETAG
        return
    with pytest.raises(errors.ProofTooWeak, match="composite-etag only") as caught:
        await world.upload(path, require_proof=required)
    assert caught.value.exit_code == 1
    assert world.holds(path)
    assert not world.told(events.UploadCompleted)


async def test_an_unknown_proof_is_a_usage_error(world: World) -> None:
    with pytest.raises(errors.UsageError, match="full-object, composite-checksum"):
        await world.upload(world.file(1), require_proof="certainly")


# --- parts that fail


PASSING = {
    "503 before the body": Status(503, "SlowDown", read_body=False),
    "503 with Retry-After": Status(503, "SlowDown", headers={"Retry-After": "0"}),
    "500": Status(500, "InternalError"),
    "502 of a balancer": Status(502),
    "504": Status(504),
    "429": Status(429, "SlowDown"),
    "408": Status(408),
    "RequestTimeout": Status(400, "RequestTimeout"),
    "RequestTimeout before the body": Status(400, "RequestTimeout", read_body=False),
    "reset": Reset(after_bytes=100),
    "lost answer": LostAnswer(),
    "flipped bit": FlipBit(at=7),
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_a_part_that_fails_once_is_sent_again(tls: bool, fault: Any, tmp_path: Path, small_limits: None) -> None:
    with StrictS3(min_part_size=KIB, tls=tls) as s3:
        s3.create_bucket(BUCKET)
        world = World(s3, tmp_path)
        s3.script("UploadPart", fault, part_number=2)
        path = world.file(3 * PART)
        result = await world.upload(path, concurrency=1)
        assert world.holds(path)
        assert (result.verified, result.retries) == (Verified.FULL_OBJECT, 1)
        assert sorted(world.sent()) == [1, 2, 2, 3]
        (retrying,) = world.told(events.Retrying)
        assert (retrying.part, retrying.attempt, retrying.delay) == (2, 1, 0)
        attempts = {event.number: event.attempt for event in world.told(events.PartUploaded)}
        assert attempts == {1: 1, 2: 1 if isinstance(fault, FlipBit) else 2, 3: 1}, "a hash again is not counted"


async def test_retry_after_is_obeyed(world: World) -> None:
    world.s3.script("UploadPart", Status(503, "SlowDown", headers={"Retry-After": "1"}))
    await world.upload(world.file(1))
    (retrying,) = world.told(events.Retrying)
    assert retrying.delay == 1


async def test_a_part_that_goes_on_failing_ends_the_run_resumable(world: World) -> None:
    world.s3.script("UploadPart", Status(500, "InternalError"), part_number=2, repeat=True)
    path = world.file(3 * PART)
    with pytest.raises(errors.StoreUnavailable, match="run again to go on") as caught:
        await world.upload(path, concurrency=1, retry=replace(FAST, attempts=3))
    assert (caught.value.exit_code, caught.value.manifest) == (errors.EXIT_RESUMABLE, world.manifest_path)
    assert world.sent().count(2) == 3
    assert_secretless(caught.value)
    world.s3.clear()
    result = await world.upload(path)
    assert result.resumed_parts >= 1
    assert world.holds(path)


async def test_a_stall_is_broken_off_and_sent_again(s3: StrictS3, tmp_path: Path) -> None:
    """A body beyond what the kernel's buffers take, so that it can be seen to stand still."""
    world = World(s3, tmp_path)
    s3.script("UploadPart", Stall(after_bytes=1))
    path = world.file(16 * MIB)
    result = await world.upload(path, concurrency=1, retry=replace(FAST, stall_after=0.2))
    s3.release()
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert any("stood still" in event.reason for event in world.told(events.Retrying))


async def test_no_answer_is_waited_for_longer_than_a_stall(world: World) -> None:
    """The whole body is out: the store may think about it for `answer_within`, not only for `stall_after`."""
    world.s3.hold("UploadPart", acted=True)
    ticks = 0

    def on_event(event: events.Event) -> None:
        nonlocal ticks
        world.events.append(event)
        if isinstance(event, events.Progress) and event.bytes_in_flight == PART:
            ticks += 1
            if ticks == 5:
                world.s3.release()

    policy = replace(FAST, stall_after=0.01, answer_within=60)
    await bigupload.upload(
        world.file(PART), to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=policy,
        on_event=on_event,
    )  # fmt: skip
    assert ticks >= 5
    assert world.sent() == [1]


async def test_an_answer_that_never_comes_is_given_up(world: World) -> None:
    world.s3.hold("UploadPart", acted=True)
    released = False

    def on_event(event: events.Event) -> None:
        nonlocal released
        world.events.append(event)
        if isinstance(event, events.Retrying):
            world.s3.release()
            released = True

    policy = replace(FAST, stall_after=60, answer_within=0.05)
    path = world.file(PART)
    await bigupload.upload(
        path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=policy,
        on_event=on_event,
    )  # fmt: skip
    assert released
    assert world.holds(path)


async def test_other_bytes_twice_end_in_part_corrupted(world: World) -> None:
    world.s3.script("UploadPart", FlipBit(), FlipBit())
    with pytest.raises(errors.PartCorrupted) as caught:
        await world.upload(world.file(PART))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert world.sent() == [1, 1]


REFUSALS = {
    "AccessDenied": Status(403, "AccessDenied", read_body=False),
    "an empty 403": Status(403),
    "ExpiredToken": Status(400, "ExpiredToken"),
    "401": Status(401),
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_url_is_signed_anew_once(world: World, fault: Any) -> None:
    world.s3.script("UploadPart", fault, part_number=2)
    path = world.file(3 * PART)
    await world.upload(path, concurrency=1)
    assert world.holds(path)
    assert sorted(world.sent()) == [1, 2, 2, 3]
    (part,) = [event for event in world.told(events.PartUploaded) if event.number == 2]
    assert part.attempt == 1, "a new signature is not counted"


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
async def test_refused_again_with_a_new_signature_stops_resumable(world: World, fault: Any) -> None:
    world.s3.script("UploadPart", fault, fault, part_number=2)
    path = world.file(3 * PART)
    with pytest.raises((errors.AccessDenied, errors.CredentialsError)) as caught:
        await world.upload(path, concurrency=1)
    assert (caught.value.exit_code, caught.value.manifest) == (errors.EXIT_RESUMABLE, world.manifest_path)
    assert world.sent().count(2) == 2
    assert_secretless(caught.value)
    recorded = len(world.manifest.parts)
    world.s3.clear()
    result = await world.resume()
    assert (result.resumed_parts, world.holds(path)) == (recorded, True)


async def test_another_4xx_is_final(world: World) -> None:
    world.s3.script("UploadPart", Status(405, "MethodNotAllowed"))
    with pytest.raises(errors.StoreRefused, match="MethodNotAllowed"):
        await world.upload(world.file(1))
    assert world.sent() == [1]


async def test_a_skewed_clock_stops_at_once_and_says_by_how_much(world: World) -> None:
    world.s3.script("UploadPart", Status(403, "RequestTimeTooSkewed"))
    with pytest.raises(errors.ClockSkewed, match=r"clock is \d+ s") as caught:
        await world.upload(world.file(1))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE


async def test_an_upload_that_vanishes_is_begun_again_and_that_is_said(world: World) -> None:
    world.s3.script("UploadPart", Call(lambda s3: s3.uploads.clear()), part_number=3)
    path = world.file(4 * PART)
    async with no_leaks():
        result = await world.upload(path, concurrency=1)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    (restarted,) = world.told(events.Restarted)
    assert "no longer knows the upload" in restarted.reason
    assert world.s3.count("CreateMultipartUpload") == 2
    assert sorted(world.sent()[-4:]) == [1, 2, 3, 4]


# --- requests other than parts that fail


@pytest.mark.parametrize("op", ["CreateMultipartUpload"])
@pytest.mark.parametrize(
    "fault",
    [Status(503, "SlowDown"), Status(500, "InternalError"), Reset(), LostAnswer()],
    ids=["503", "500", "reset", "lost answer"],
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
    "lost answer": LostAnswer(),
    "reset": Reset(),
    "error in 200": ErrorIn200(),
    "error in 200 after acting": ErrorIn200(act=True),
    "white space": Whitespace(),
    "NoSuchUpload although it is open": Status(404, "NoSuchUpload"),
    "InvalidPart although they are there": Status(400, "InvalidPart"),
    "403": Status(403, "AccessDenied"),
}


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
    acted = isinstance(fault, LostAnswer | Whitespace) or (isinstance(fault, ErrorIn200) and fault.act)
    assert world.s3.count("CompleteMultipartUpload") == (1 if acted else 2)


@pytest.mark.parametrize("checksum", LEVELS)
async def test_a_lost_answer_to_complete_keeps_the_proof(world: World, checksum: str) -> None:
    world.s3.script("CompleteMultipartUpload", LostAnswer())
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
    assert world.s3.count("CompleteMultipartUpload") == engine._MOST_ROUNDS


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
    assert world.s3.count("CompleteMultipartUpload") == engine._MOST_ROUNDS


async def test_bad_digest_at_complete_of_an_unchanged_file_is_a_mismatch(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(400, "BadDigest"))
    with pytest.raises(errors.ObjectMismatch, match="--no-resume") as caught:
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
    monkeypatch.setattr(engine, "_LOOK_FOR", 0.5)
    world.s3.script("CompleteMultipartUpload", Call(lambda s3: s3.uploads.clear()))
    with pytest.raises(errors.UploadGone, match="--no-resume") as caught:
        await world.upload(world.file(PART))
    assert caught.value.exit_code == 1
    assert not world.told(events.Restarted), "it may have been completed, and its object deleted by its owner"
    assert "looking for up to 5 minutes" in world.warnings()


async def test_an_object_that_appears_late_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete that goes on working after its answer was lost: the upload is closed, the object not there yet."""
    monkeypatch.setattr(engine, "_LOOK_FOR", 60.0)
    path = world.file(2 * PART)
    kept: list[Any] = []

    def hide(s3: StrictS3) -> None:
        kept.append(s3.objects[BUCKET].pop("key"))

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if isinstance(event, events.Warned) and "looking" in event.message:
            world.s3.objects[BUCKET]["key"] = kept[0]

    world.s3.script("CompleteMultipartUpload", LostAnswer())
    world.s3.script("HeadObject", Call(hide))
    result = await bigupload.upload(
        path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=FAST, on_event=on_event
    )
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


@pytest.mark.parametrize("same_size", [True, False])
async def test_anothers_object_under_the_key_is_never_taken_for_ours(
    world: World, monkeypatch: pytest.MonkeyPatch, same_size: bool
) -> None:
    monkeypatch.setattr(engine, "_LOOK_FOR", 0.05)
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
    """Where complete's answer proves nothing, HEAD is asked, and finds another's object."""
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


# --- if_none_match


async def test_if_none_match_refuses_before_anything_is_sent(world: World) -> None:
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
    client.close()
    with pytest.raises(errors.TargetExists) as caught:
        await world.upload(world.file(PART), options=world.options(if_none_match=True))
    assert caught.value.exit_code == 1
    assert world.s3.count("CreateMultipartUpload") == 0
    assert world.object().body == b"theirs"
    assert not world.manifest_path.exists()


async def test_if_none_match_is_held_to_at_complete(world: World) -> None:
    def overtake(s3: StrictS3) -> None:
        client = s3.client()
        client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
        client.close()

    world.s3.script("CompleteMultipartUpload", Call(overtake))
    with pytest.raises(errors.TargetExists) as caught:
        await world.upload(world.file(PART), options=world.options(if_none_match=True))
    assert caught.value.exit_code == 1
    assert world.object().body == b"theirs"


async def test_if_none_match_lets_a_new_key_through(world: World) -> None:
    path = world.file(PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)


async def test_if_none_match_with_a_lost_answer_finds_its_own_object(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", LostAnswer())
    path = world.file(PART)
    result = await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_a_conditional_conflict_sends_every_part_again(world: World) -> None:
    world.s3.knobs.conditional_conflicts = 1
    path = world.file(2 * PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert sorted(world.sent()) == [1, 1, 2, 2]


# --- cancellation


async def by_task(
    run: Callable[[], Awaitable[Any]], when: Callable[[], Awaitable[None]], after: Callable[[], None]
) -> None:
    task = asyncio.ensure_future(run())
    await when()
    task.cancel()
    await asyncio.sleep(0)
    after()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(
    run: Callable[[], Awaitable[Any]], when: Callable[[], Awaitable[None]], after: Callable[[], None]
) -> None:
    async def expire(timeout: asyncio.Timeout) -> None:
        await when()
        timeout.reschedule(asyncio.get_running_loop().time())
        await until(timeout.expired)
        after()

    with pytest.raises(TimeoutError):  # noqa: PT012
        async with asyncio.timeout(None) as timeout:
            expiring = asyncio.create_task(expire(timeout))
            await run()
    await expiring


async def by_scope(
    run: Callable[[], Awaitable[Any]], when: Callable[[], Awaitable[None]], after: Callable[[], None]
) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await when()
            scope.cancel()
            for _ in range(10):  # anyio knocks once a turn of the loop
                await asyncio.sleep(0)
            after()

        cancelling = asyncio.create_task(cancel())
        await run()
    await cancelling
    assert scope.cancelled_caught


@pytest.mark.parametrize("acted", [False, True], ids=["before it acted", "after it acted"])
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("way", [by_task, by_timeout, by_scope], ids=["task", "timeout", "scope"])
async def test_a_cancelled_upload_can_be_resumed(world: World, way: Any, op: str, acted: bool) -> None:
    path = world.file(3 * PART)
    world.s3.hold(op, acted=acted)
    async with no_leaks():
        await way(lambda: world.upload(path, concurrency=2), lambda: world.s3.wait_for_async(op), world.s3.release)
    manifest = world.manifest
    # A call that is in its thread is waited for, and what came of it is recorded.
    assert manifest.status == ("completed" if op == "CompleteMultipartUpload" else "uploading")
    assert world.s3.count("CreateMultipartUpload") == 1
    result = await world.resume()
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CreateMultipartUpload") == 1
    assert world.s3.count("CompleteMultipartUpload") == 1


async def test_cancelled_while_it_lists(world: World) -> None:
    path = world.file(3 * PART)
    await world.interrupted(path, after=1)
    world.s3.hold("ListParts")
    async with no_leaks():
        await by_task(world.resume, lambda: world.s3.wait_for_async("ListParts"), world.s3.release)
    result = await world.resume()
    assert world.holds(path)
    assert result.resumed_parts >= 1


async def test_cancelled_before_it_began(world: World) -> None:
    task = asyncio.create_task(world.upload(world.file(PART)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not world.s3.requests


async def test_cancelled_again_and_again_while_complete_is_seen_through(world: World) -> None:
    path = world.file(PART)
    world.s3.hold("CompleteMultipartUpload")
    task = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("CompleteMultipartUpload")
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    world.s3.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.manifest.status == "completed"


# --- the source must hold still


def change_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * PART + 3)
        file.write(b"changed")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def rename_over(path: Path) -> None:
    other = path.with_name("other")
    write(other, path.stat().st_size, seed=5)
    other.rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("checksum", ["auto", "md5", "none"])
@pytest.mark.parametrize("change", [change_in_place, append, truncate, rename_over, remove])
async def test_a_file_that_changes_meanwhile_makes_no_object(
    world: World, change: Callable[[Path], None], checksum: str
) -> None:
    path = world.file(4 * PART)
    world.s3.hold("UploadPart")
    task = asyncio.create_task(world.upload(path, concurrency=1, checksum=checksum))
    await world.s3.wait_for_async("UploadPart")
    change(path)
    world.s3.release()
    with pytest.raises(errors.SourceChanged) as caught:
        await task
    assert caught.value.resumable == (change not in (append, truncate))
    assert not world.object()
    assert world.s3.count("CompleteMultipartUpload") == 0
    assert world.manifest.status == "uploading"


async def test_a_file_that_changes_before_complete_makes_no_object(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart", acted=True)
    task = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("UploadPart", 2)
    change_in_place(path)
    world.s3.release()
    with pytest.raises(errors.SourceChanged):
        await task
    assert world.s3.count("CompleteMultipartUpload") == 0


async def test_verify_source_finds_what_the_times_hide(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a write through a mapping that was dirty already: the bytes change, neither mtime nor ctime do."""
    path = world.file(3 * PART)
    monkeypatch.setattr("bigupload.source.FileSource.check", lambda self: None)

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded) and event.number == 3:
            with path.open("r+b") as file:
                file.write(b"changed")

    with pytest.raises(errors.SourceChanged, match="part 1 "):
        await bigupload.upload(
            path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=FAST,
            concurrency=1, verify_source=True, on_event=on_event,
        )  # fmt: skip
    assert not world.object()


async def test_verify_source_of_a_file_that_held_still(world: World) -> None:
    path = world.file(3 * PART)
    result = await world.upload(path, verify_source=True)
    assert result.verified is Verified.FULL_OBJECT
    assert [event.parts for event in world.told(events.Hashing)] == [3]


# --- many uploads


async def test_two_uploads_of_the_same_file_and_key(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart")
    first = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("UploadPart")
    with pytest.raises(errors.ManifestLocked, match=str(os.getpid())) as caught:
        await world.upload(path)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    world.s3.release()
    await first
    assert world.holds(path)
    assert world.s3.count("CreateMultipartUpload") == 1


async def test_the_same_file_to_the_same_key_finds_its_manifest_by_itself(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart")
    first = asyncio.create_task(world.upload(path, manifest=None))
    await world.s3.wait_for_async("UploadPart")
    with pytest.raises(errors.ManifestLocked):
        await world.upload(path, manifest=None)
    other = asyncio.create_task(world.upload(path, manifest=None, to=f"s3://{BUCKET}/another"))
    await world.s3.wait_for_async("CreateMultipartUpload", 2)
    world.s3.release()
    results = [await first, await other]
    assert len({result.manifest for result in results}) == 2
    assert all(result.manifest.parent == world.directory / "state" for result in results)


async def test_many_uploads_share_one_uploader(world: World) -> None:
    paths = [world.file(n * PART // 2, f"file-{n}", seed=n) for n in range(6)]
    manifests = world.directory / "manifests"
    async with no_leaks(), bigupload.Uploader(concurrency=3, retry=FAST, manifests=manifests) as uploader:
        results = await asyncio.gather(
            *(uploader.upload(path, to=f"s3://{BUCKET}/many/", s3=world.options()) for path in paths)
        )
    for path, result in zip(paths, results, strict=True):
        assert result.key == f"many/{path.name}"
        assert world.holds(path, result.key)
    assert len(list((world.directory / "manifests").glob("*.jsonl"))) == 6


async def test_the_concurrency_is_shared_and_kept(world: World) -> None:
    world.s3.hold("UploadPart")
    paths = [world.file(4 * PART, f"file-{n}", seed=n) for n in range(2)]
    async with bigupload.Uploader(concurrency=2, retry=FAST, manifests=world.directory) as uploader:
        tasks = [
            asyncio.create_task(uploader.upload(path, to=f"s3://{BUCKET}/many/", s3=world.options())) for path in paths
        ]
        await world.s3.wait_for_async("UploadPart", 2)
        await world.s3.wait_for_async("CreateMultipartUpload", 2, answered=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert world.s3.count("UploadPart") == 2
        world.s3.release()
        await asyncio.gather(*tasks)


async def test_one_that_fails_does_not_take_the_others_along(world: World) -> None:
    good, bad = world.file(3 * PART, "good"), world.file(3 * PART, "bad")
    world.s3.script("UploadPart", Status(405, "MethodNotAllowed"), key="bad", repeat=True)
    async with bigupload.Uploader(retry=FAST, manifests=world.directory) as uploader:
        results = await asyncio.gather(
            *(uploader.upload(p, to=f"s3://{BUCKET}/", s3=world.options()) for p in (good, bad)), return_exceptions=True
        )
    assert isinstance(results[0], bigupload.UploadResult)
    assert isinstance(results[1], errors.StoreRefused)
    assert world.holds(good, "good")


# --- what is told


async def test_the_order_and_the_sums_of_events(world: World) -> None:
    path = world.file(6 * PART + 3)
    await world.upload(path, concurrency=2)
    kinds = [type(event) for event in world.events]
    assert kinds[0] is events.UploadStarted
    assert kinds[-1] is events.UploadCompleted
    assert (
        kinds.count(events.UploadStarted) == kinds.count(events.Completing) == kinds.count(events.UploadCompleted) == 1
    )
    completing = kinds.index(events.Completing)
    assert all(kinds.index(each) < completing for each in (events.PartUploaded, events.Progress))
    assert events.PartUploaded not in kinds[completing:]
    (started,) = world.told(events.UploadStarted)
    assert (started.size, started.parts, started.part_size) == (6 * PART + 3, 7, PART)
    assert (started.resumed_parts, started.manifest, started.path) == (0, world.manifest_path, path)
    parts = world.told(events.PartUploaded)
    assert sorted(event.number for event in parts) == list(range(1, 8))
    assert sum(event.size for event in parts) == 6 * PART + 3


async def test_progress_counts_what_is_recorded_and_what_is_out(world: World) -> None:
    path = world.file(8 * PART)
    world.s3.hold("UploadPart", acted=True)

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if isinstance(event, events.Progress) and event.bytes_in_flight == 2 * PART:
            world.s3.release()

    await bigupload.upload(
        path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=FAST, concurrency=2,
        on_event=on_event,
    )  # fmt: skip
    told = world.told(events.Progress)
    assert told[-1].bytes_uploaded == told[-1].size == 8 * PART
    assert (told[-1].bytes_in_flight, told[-1].parts_uploaded, told[-1].parts) == (0, 8, 8)
    assert all(event.bytes_uploaded + event.bytes_in_flight <= event.size for event in told)
    uploaded = [event.bytes_uploaded for event in told]
    assert uploaded == sorted(uploaded)
    assert all(event.concurrency == 2 for event in told)


async def test_bytes_sent_counts_failed_attempts(world: World) -> None:
    world.s3.script("UploadPart", Status(500), part_number=1)
    result = await world.upload(world.file(2 * PART))
    assert result.bytes_sent == 3 * PART
    assert result.retries == 1


# --- bad input


async def test_files_that_are_none(world: World) -> None:
    directory = world.directory / "directory"
    directory.mkdir()
    fifo = world.directory / "fifo"
    os.mkfifo(fifo)
    for path, error in [
        (world.directory / "missing", errors.SourceNotFound),
        (directory, errors.SourceUnsupported),
        (fifo, errors.SourceUnsupported),
        (Path("/dev/null"), errors.SourceUnsupported),
        (world.directory / "missing" / "deeper", errors.SourceNotFound),
    ]:
        with pytest.raises(error) as caught:
            await world.upload(path)
        assert caught.value.exit_code == 1
    assert not world.s3.requests
    assert not world.manifest_path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read(world: World) -> None:
    path = world.file(1)
    path.chmod(0)
    with pytest.raises(errors.SourceUnreadable, match="Permission denied"):
        await world.upload(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "http://bucket/key"}, "not a target"),
        ({"to": "s3://"}, "not a target"),
        ({"to": "bucket/key"}, "not a target"),
        ({"to": f"s3://{BUCKET}/{'k' * 1025}"}, "1,024"),
        ({"checksum": "crc16"}, "unknown checksum"),
        ({"part_size": "1B"}, "below"),
        ({"part_size": 2 * MIB}, "above"),
        ({"part_size": "many"}, "size"),
        ({"concurrency": 0}, "from 1 to 256"),
        ({"limit_rate": 0}, "more than 0"),
        ({"limit_rate": "fast"}, "rate"),
    ],
)
async def test_arguments_that_make_no_sense(world: World, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UsageError, match=message) as caught:
        await world.upload(world.file(2 * KIB), **arguments)
    assert caught.value.exit_code == errors.EXIT_USAGE
    assert not world.s3.requests


async def test_too_many_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.stores.s3.S3Store.limits", replace(LIMITS, max_parts=3))
    with pytest.raises(errors.UsageError, match="3 parts"):
        await world.upload(world.file(4 * PART), part_size=PART)
    assert not world.s3.requests


async def test_a_target_is_needed(world: World) -> None:
    with pytest.raises(errors.UsageError, match="target"):
        await bigupload.upload(world.file(1))


def test_upload_sync(world: World) -> None:
    path = world.file(2 * PART)
    result = bigupload.upload_sync(
        path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=FAST
    )
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_upload_sync_inside_a_loop(world: World) -> None:
    with pytest.raises(errors.UsageError, match=r"await bigupload\.upload"):
        bigupload.upload_sync(world.file(1), to=f"s3://{BUCKET}/key", s3=world.options())
    assert not world.s3.requests


async def test_what_create_declares_arrives(world: World) -> None:
    path = world.file(PART, "movie.mp4")
    options = world.options(metadata={"owner": "me"}, tags={"a b": "c&d=e"}, storage_class="STANDARD_IA", sse="AES256")
    await world.upload(path, options=options)
    found = world.object()
    assert found.headers["content-type"] == "video/mp4"
    assert found.metadata["owner"] == "me"
    assert len(found.metadata["bigupload-token"]) == 32
    assert found.tagging == "a%20b=c%26d%3De"
    assert found.storage_class == "STANDARD_IA"
    assert found.headers["x-amz-server-side-encryption"] == "AES256"


async def test_a_kms_object_is_proved_by_its_checksum(world: World) -> None:
    """With SSE-KMS no ETag is an MD5: the checksum must do, and does."""
    path = world.file(2 * PART)
    result = await world.upload(path, options=world.options(sse="aws:kms", sse_kms_key_id="key-1"))
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_a_rate_limit_slows_and_still_proves(world: World) -> None:
    path = world.file(2 * PART)
    result = await world.upload(path, limit_rate=8 * MIB)
    assert world.holds(path)
    assert result.bytes_sent == 2 * PART


async def test_no_answer_at_all_ends_within_a_few_attempts(world: World) -> None:
    options = world.options()
    world.s3.stop()
    with pytest.raises(errors.StoreUnreachable) as caught:
        await world.upload(world.file(1), options=options)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert len(world.told(events.Retrying)) == 3
    assert not world.manifest_path.exists()


async def test_an_outage_does_not_count_as_attempts(world: World, s3: StrictS3) -> None:
    """While nothing connects, the attempts are not counted; the give-up time ends it."""
    from tests.tools.proxy import CountingProxy

    with CountingProxy("127.0.0.1", s3.port) as proxy:
        options = replace(world.options(), endpoint_url=proxy.url)
        refusals = 0

        def on_event(event: events.Event) -> None:
            nonlocal refusals
            world.events.append(event)
            if isinstance(event, events.PartUploaded) and event.number == 1:
                proxy.cut(refuse=True)
            if isinstance(event, events.Retrying):
                refusals += 1
                if refusals == 30:
                    proxy.restore()

        path = world.file(4 * PART)
        result = await bigupload.upload(
            path, to=f"s3://{BUCKET}/key", s3=options, manifest=world.manifest_path, concurrency=1,
            retry=RetryPolicy(base_delay=0, max_delay=0, attempts=60), on_event=on_event,
        )  # fmt: skip
    assert world.holds(path)
    assert result.retries >= 30

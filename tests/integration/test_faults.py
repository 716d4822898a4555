"""Parts that fail: tried again, mended, or the end of the run, resumable where that can help."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import MIB
from bigupload.testing.faults import Call, FlipBit, LostResponse, Reset, Stall, Status
from bigupload.testing.strict_s3 import StrictS3

from .backends import Backend, raised
from .support import BUCKET, FAST, KIB, PART, World, assert_secretless, no_leaks

PASSING = {
    "503 before the body": Status(503, "SlowDown", read_body=False),
    "503 with Retry-After": Status(503, "SlowDown", headers={"Retry-After": "0"}),
    "500": Status(500, "InternalError"),
    "502 of a balancer": Status(502),
    "504": Status(504),
    "429": Status(429, "SlowDown"),
    "408": Status(408),
    "507": Status(507, "InsufficientStorage"),
    "520 of a proxy": Status(520),
    "524 of a proxy": Status(524),
    "404 of a gateway": Status(404),
    "OperationAborted": Status(409, "OperationAborted"),
    "IncompleteBody": Status(400, "IncompleteBody"),
    "ThrottlingException": Status(400, "ThrottlingException"),
    "RequestTimeout": Status(400, "RequestTimeout"),
    "RequestTimeout before the body": Status(400, "RequestTimeout", read_body=False),
    "reset": Reset(after_bytes=100),
    "lost response": LostResponse(),
    "flipped bit": FlipBit(at=7),
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
@pytest.mark.exhaustive
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
    with pytest.raises(errors.StoreUnavailable, match="try again later") as caught:
        await world.upload(path, concurrency=1, retry=replace(FAST, attempts=3))
    assert (caught.value.exit_code, caught.value.manifest) == (errors.EXIT_RESUMABLE, world.manifest_path)
    assert world.sent().count(2) == 3
    assert_secretless(caught.value)
    await world.settled()
    (upload,) = world.s3.uploads.values()
    stored = len(upload.parts)  # the others wait for the one slot beside part 2: either may still be missing
    world.s3.clear()
    result = await world.upload(path)
    assert (result.resumed_parts, world.holds(path)) == (stored, True)


async def test_a_stall_is_broken_off_and_sent_again(s3: StrictS3, tmp_path: Path) -> None:
    """A body larger than the kernel's buffers, so that a stall can be detected."""
    world = World(s3, tmp_path)
    s3.script("UploadPart", Stall(after_bytes=1))
    path = world.file(16 * MIB)
    result = await world.upload(path, concurrency=1, retry=replace(FAST, stall_after=0.2, attempts=1000))
    s3.release()
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert any("stalled" in event.reason for event in world.told(events.Retrying))


async def test_a_response_is_waited_for_once_all_is_sent(world: World) -> None:
    """The whole body is out, and the gauge says so: the store may think about it for `response_timeout`."""
    world.s3.hold("UploadPart", acted=True)
    ticks = 0

    def on_event(event: events.Event) -> None:
        nonlocal ticks
        world.events.append(event)
        if isinstance(event, events.Progress) and event.bytes_in_flight == PART:
            ticks += 1
            if ticks == 5:
                world.s3.release()

    await bigupload.upload(
        world.file(PART),
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        on_event=on_event,
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert ticks >= 5
    assert world.sent() == [1]


async def test_a_response_that_never_comes_is_given_up(world: World) -> None:
    world.s3.hold("UploadPart", acted=True)
    released = False

    def on_event(event: events.Event) -> None:
        nonlocal released
        world.events.append(event)
        if isinstance(event, events.Retrying):
            world.s3.release()
            released = True

    policy = replace(FAST, stall_after=600, response_timeout=0.05, attempts=1000)
    path = world.file(PART)
    await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        on_event=on_event,
        uploader=bigupload.Uploader(retry=policy),
    )
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
async def test_refused_again_with_a_new_signature_stops_resumable(world: World, fault: Any) -> None:
    world.s3.script("UploadPart", fault, fault, part_number=2)
    path = world.file(3 * PART)
    with pytest.raises((errors.AccessDenied, errors.CredentialsError)) as caught:
        await world.upload(path, concurrency=1)
    assert (caught.value.exit_code, caught.value.manifest) == (errors.EXIT_RESUMABLE, world.manifest_path)
    assert world.sent().count(2) == 2
    assert_secretless(caught.value)
    await world.settled()
    (upload,) = world.s3.uploads.values()
    stored = len(upload.parts)  # part 3 may be among them: it can be in flight when part 2 fails
    world.s3.clear()
    result = await world.resume()
    assert (result.resumed_parts, world.holds(path)) == (stored, True)


@pytest.mark.parametrize("op", ["UploadPart", "CreateMultipartUpload"])
async def test_a_message_that_is_only_the_code_is_said_once(world: World, op: str) -> None:
    world.s3.script(op, Status(418, "Teapot", message="Teapot"))
    with pytest.raises(errors.StoreRefused, match=r": 418 Teapot$"):
        await world.upload(world.file(1))


async def test_a_response_without_a_body_says_its_status_once(fake: Backend) -> None:
    assert fake.s3 is not None
    fake.s3.script("ListParts", Status(404))
    async with contextlib.aclosing(fake.store()) as store:
        fault = await raised(store.list_parts("any", Algorithm.NONE), [fake.secret])
    assert str(fault).count("404") == 1


async def test_another_4xx_is_final(world: World) -> None:
    world.s3.script("UploadPart", Status(405, "MethodNotAllowed"))
    with pytest.raises(errors.StoreRefused, match="MethodNotAllowed"):
        await world.upload(world.file(1))
    assert world.sent() == [1]


async def test_a_skewed_clock_stops_the_upload_and_says_by_how_much(world: World) -> None:
    world.s3.script("UploadPart", *[Status(403, "RequestTimeTooSkewed")] * 2)
    with pytest.raises(errors.ClockSkewed, match=r"clock is \d+ s") as caught:
        await world.upload(world.file(1))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
async def test_a_machine_that_slept_between_signature_and_request_signs_again(world: World, operation: str) -> None:
    world.s3.script(operation, Status(403, "RequestTimeTooSkewed"))
    path = world.file(2 * PART)
    await world.upload(path)
    assert world.holds(path)


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

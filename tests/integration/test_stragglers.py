"""A part that lags far behind the others is sent a second time: the first answer wins, the other PUT leaves nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bigupload import Verified, events
from bigupload.retry import RetryPolicy
from tests.tools.strict_s3 import LostAnswer, Reset, Stall, Status, StrictS3
from tests.tools.waiting import until

from .support import BUCKET, KIB, PART, World, no_leaks

SLOW = 9
"""The part that lags, when enough others have arrived to tell."""
PARTS = 12
IMPATIENT = RetryPolicy(base_delay=0, max_delay=0, stall_after=1.0, answer_within=1.0)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("size", [PART, 1], ids=["whole", "one byte"])
async def test_a_part_that_stands_still_is_sent_again(tls: bool, size: int, tmp_path: Path, small_limits: None) -> None:
    with StrictS3(min_part_size=KIB, tls=tls) as s3:
        s3.create_bucket(BUCKET)
        world = World(s3, tmp_path)
        number = SLOW if size == PART else PARTS  # the last part has one byte
        s3.script("UploadPart", Stall(), part_number=number)
        path = world.file((PARTS - 1) * PART + (PART if size == PART else 1))
        async with no_leaks():
            result = await world.upload(path)
            s3.release()
            await world.settled()
        assert world.holds(path)
        assert (result.verified, result.retries) == (Verified.FULL_OBJECT, 0)
        assert sorted(world.sent()) == sorted([*range(1, PARTS + 1), number])
        assert result.bytes_sent <= path.stat().st_size + size
        attempts = {event.number: event.attempt for event in world.told(events.PartUploaded)}
        assert attempts == dict.fromkeys(range(1, PARTS + 1), 1)


async def test_the_second_goes_over_a_connection_of_its_own(world: World) -> None:
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    await world.upload(world.file(PARTS * PART), concurrency=1)
    world.s3.release()
    puts = [request for request in world.s3.requests if request.op == "UploadPart"]
    (_, again) = [request for request in puts if request.part_number == SLOW]
    assert again.peer not in {request.peer for request in puts if request is not again}


@pytest.mark.parametrize("fault", [Status(503, "SlowDown"), Reset(), LostAnswer()], ids=["refused", "reset", "lost"])
async def test_a_second_that_fails_leaves_the_first_to_its_fate(world: World, fault: object) -> None:
    world.s3.script("UploadPart", Stall(), fault, part_number=SLOW)
    path = world.file(PARTS * PART)
    result = await world.upload(path, retry=IMPATIENT)
    world.s3.release()
    assert world.holds(path)
    assert result.retries == 1, "the first stood still and was tried again"
    assert world.sent().count(SLOW) == 3
    assert "stood still" in world.told(events.Retrying)[0].reason


async def test_where_etags_tell_nothing_no_part_is_sent_twice(world: World) -> None:
    """Content-MD5 alone proves the parts here: which of two bodies an ETag is of could not be told."""
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    result = await world.upload(path, retry=IMPATIENT)
    world.s3.release()
    assert world.holds(path)
    assert result.retries >= 1
    assert any("stood still" in event.reason for event in world.told(events.Retrying))


async def test_no_more_is_sent_twice_than_the_budget_allows(world: World) -> None:
    """Three of twelve parts stand still, and one part is what may be sent again: the others are retried."""
    for number in (SLOW, SLOW + 1, SLOW + 2):
        world.s3.script("UploadPart", Stall(), part_number=number)
    path = world.file(PARTS * PART)
    result = await world.upload(path, retry=IMPATIENT)
    world.s3.release()
    assert world.holds(path)
    assert result.bytes_sent <= path.stat().st_size + 3 * PART


async def test_cancelled_while_a_part_flies_twice(world: World) -> None:
    world.s3.script("UploadPart", Stall(), Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    async with no_leaks():
        sending = asyncio.create_task(world.upload(path))
        await until(lambda: world.sent().count(SLOW) == 2)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        world.s3.release()
        await world.settled()
    await world.resume()
    assert world.holds(path)

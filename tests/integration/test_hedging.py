"""A straggler is sent a second time: the first response wins, and the other PUT leaves nothing.

The clock decides which part is a straggler, and a machine that stops for a moment would make any part one. Here only
the parts that the store does not read are stragglers, and none is aborted as stalled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from bigupload import UploadResult, Verified, events
from bigupload.core import hedging
from bigupload.core.hedging import Pace, PutProgress
from bigupload.engine.in_flight import PartsInFlight
from bigupload.testing.faults import LostResponse, Ok, Reset, Stall, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.waiting import until

from .support import BUCKET, KIB, PART, World, no_leaks

SLOW = 9
"""The straggler, when enough others have arrived to notice it."""
PARTS = 12
ENOUGH = 60.0
"""Seconds for what takes one."""


@pytest.fixture(autouse=True)
def grace(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hedging, "_GRACE", 0.25)


def only_what_is_not_read_lags(s3: StrictS3, monkeypatch: pytest.MonkeyPatch, *, at_once: bool = False) -> None:
    """Nothing else is in flight then. `at_once`: when all of it is sent, without asking the clock."""
    lagging = Pace.lagging

    def judge(self: Pace, flights: Sequence[PutProgress], *, at_the_end: bool) -> list[int]:
        if not s3.stalled or len(flights) > s3.stalled:
            return []
        if at_once:
            return [index for index, flight in enumerate(flights) if flight.share == 1]
        return lagging(self, flights, at_the_end=at_the_end)

    monkeypatch.setattr(Pace, "lagging", judge)


def uploading(world: World, path: Path) -> asyncio.Task[UploadResult]:
    return asyncio.create_task(world.upload(path))


async def looked(world: World, sending: asyncio.Task[UploadResult], times: int = 5) -> None:
    """Until the engine has looked so many times more at what is in flight, at least, or has nothing left to look at."""
    before = len(world.told(events.Progress))
    await until(lambda: sending.done() or len(world.told(events.Progress)) >= before + times, within=ENOUGH)


@pytest.mark.exhaustive
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("size", [PART, 1], ids=["whole", "one byte"])
async def test_a_part_that_stands_still_is_sent_again(
    tls: bool, size: int, tmp_path: Path, small_limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StrictS3(min_part_size=KIB, tls=tls) as s3:
        s3.create_bucket(BUCKET)
        only_what_is_not_read_lags(s3, monkeypatch)
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


async def test_the_second_goes_over_a_connection_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    only_what_is_not_read_lags(world.s3, monkeypatch)
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    await world.upload(world.file(PARTS * PART), concurrency=1)
    world.s3.release()
    puts = [request for request in world.s3.requests if request.op == "UploadPart"]
    (_, again) = [request for request in puts if request.part_number == SLOW]
    assert again.peer not in {request.peer for request in puts if request is not again}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", [Status(503, "SlowDown"), Reset(), LostResponse()], ids=["refused", "reset", "lost"])
async def test_a_second_that_fails_leaves_the_first_to_its_fate(
    world: World, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is to be read in the end, unless one more second is sooner: one that failed before it had sent anything
    cost nothing of what may be sent again."""
    only_what_is_not_read_lags(world.s3, monkeypatch)
    failed = asyncio.Event()
    hedge = PartsInFlight._hedge

    async def until_it_fails(*arguments: object) -> None:
        try:
            await hedge(*arguments)
        finally:
            failed.set()

    monkeypatch.setattr(PartsInFlight, "_hedge", until_it_fails)
    world.s3.script("UploadPart", Stall(), fault, part_number=SLOW)
    path = world.file(PARTS * PART)
    sending = uploading(world, path)
    await asyncio.wait_for(failed.wait(), ENOUGH)
    await looked(world, sending)
    world.s3.release()
    result = await sending
    assert world.holds(path)
    assert world.sent().count(SLOW) in (2, 3)
    assert world.told(events.Retrying) == [], "the second's fault is no attempt of the part's"
    assert result.retries == 0


async def test_where_etags_tell_nothing_no_part_is_sent_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content-MD5 alone proves the parts here: which of two bodies an ETag is of could not be told."""
    only_what_is_not_read_lags(world.s3, monkeypatch, at_once=True)
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    sending = uploading(world, path)
    await until(lambda: len(world.told(events.PartUploaded)) == PARTS - 1 and world.s3.stalled == 1, within=ENOUGH)
    await looked(world, sending)
    assert world.sent().count(SLOW) == 1
    world.s3.release()
    await sending
    assert world.holds(path)


async def test_no_more_is_sent_twice_than_the_budget_allows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of twelve parts stall, and the budget allows to hedge one. The upload waits for the others."""
    only_what_is_not_read_lags(world.s3, monkeypatch, at_once=True)
    slow = (SLOW, SLOW + 1, SLOW + 2)
    for number in slow:
        world.s3.script("UploadPart", Stall(), part_number=number)
    path = world.file(PARTS * PART)
    sending = uploading(world, path)
    await until(lambda: len(world.told(events.PartUploaded)) == PARTS - 2 and world.s3.stalled == 3, within=ENOUGH)
    await looked(world, sending)
    assert sorted(world.sent().count(number) for number in slow) == [1, 1, 2]
    world.s3.release()
    result = await sending
    assert world.holds(path)
    assert result.bytes_sent <= path.stat().st_size + PART


async def test_where_a_second_put_kills_the_upload_no_part_is_sent_twice_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on stores that take parts as streams. The next upload is begun by the same run, and hedges nothing."""
    only_what_is_not_read_lags(world.s3, monkeypatch)
    world.s3.knobs.second_put = "kills"
    world.s3.script("UploadPart", Stall(), Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    sending = uploading(world, path)
    await until(lambda: world.s3.stalled == 2, within=ENOUGH)
    world.s3.script("UploadPart", Ok(), Stall(), part_number=SLOW)  # alone, and the next upload's: to be hedged, too
    world.s3.release()
    await until(lambda: len(world.told(events.Restarted)) == 1 and world.s3.stalled == 1, within=ENOUGH)
    await looked(world, sending)
    world.s3.release()
    result = await asyncio.wait_for(sending, ENOUGH)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.warnings().count("no more parts are sent twice in this upload (to never send one twice") == 1
    assert world.sent().count(SLOW) <= 4, (
        "two of the first upload, one alone to see whether it is there, one of the next"
    )


async def test_parts_that_complete_refuses_are_sent_again_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store lists the part, and calls it invalid at complete because two PUTs of it came at a time."""
    only_what_is_not_read_lags(world.s3, monkeypatch)
    world.s3.knobs.second_put = "voids"
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    result = await asyncio.wait_for(world.upload(path), ENOUGH)
    world.s3.release()
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert sorted(world.sent()) == sorted([*range(1, PARTS + 1), SLOW, SLOW])
    assert world.warnings().count("no more parts are sent twice") == 1


async def test_an_upload_that_is_lost_at_complete_is_begun_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not looked for: complete was refused, so that it made no object."""
    only_what_is_not_read_lags(world.s3, monkeypatch)
    world.s3.knobs.second_put = "loses"
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    result = await asyncio.wait_for(world.upload(path), ENOUGH)
    world.s3.release()
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert len(world.told(events.Restarted)) == 1
    assert world.sent().count(SLOW) == 3


async def test_no_hedge_sends_no_part_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    only_what_is_not_read_lags(world.s3, monkeypatch, at_once=True)
    world.s3.script("UploadPart", Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    sending = asyncio.create_task(world.upload(path, hedge=False))
    await until(lambda: len(world.told(events.PartUploaded)) == PARTS - 1 and world.s3.stalled == 1, within=ENOUGH)
    await looked(world, sending)
    world.s3.release()
    await sending
    assert world.holds(path)
    assert sorted(world.sent()) == [*range(1, PARTS + 1)]


async def test_cancelled_while_a_part_flies_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    only_what_is_not_read_lags(world.s3, monkeypatch)
    world.s3.script("UploadPart", Stall(), Stall(), part_number=SLOW)
    path = world.file(PARTS * PART)
    async with no_leaks():
        sending = uploading(world, path)
        await until(lambda: world.s3.stalled == 2, within=ENOUGH)  # a release is for those that are stalled by then
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        world.s3.release()
        await world.settled()
    await world.resume()
    assert world.holds(path)

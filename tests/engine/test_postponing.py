"""Parts that are postponed, so that the others are finished sooner: which ones, and what becomes of them."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bigupload.core.concurrency_control import START, WINDOW
from bigupload.core.flight_bound import FlightBound
from bigupload.engine.context import TICK, SharedResources
from bigupload.engine.in_flight import Postponed
from bigupload.ports import PutResponse
from tests.tools.gauges import FakeGauge

from .test_in_flight import FIRST, PART, REQUEST, SECOND, Put, Sky


class Flying(FakeGauge):
    """A part in flight."""

    def __init__(
        self,
        sent: int,
        size: int = 1000,
        *,
        round_trips: float = 0.0,
        times: tuple[float, float] = (0.0, 0.0),
        window_is_full: bool = False,
    ) -> None:
        super().__init__(sent)
        self.size = size
        self._times, self._window_is_full = times, window_is_full
        self._round_trips = round_trips
        self.postponed = False

    def round_trips(self) -> float:
        return self._round_trips

    def round_trip_times(self) -> tuple[float, float]:
        return self._times

    def window_is_full(self) -> bool:
        return self._window_is_full

    def postpone(self) -> None:
        self.postponed = True


class Bound:
    """A bound that says what the test wants."""

    def __init__(self, limit: int | None, left: int | None = None, *, after: int | None = None) -> None:
        self.limit, self.left, self.after = limit, left, after
        self.starts = True
        self.seen: list[dict[str, Any]] = []

    def sample(self, now: float, bytes_done: int, **seen: Any) -> int | None:
        self.seen.append(seen)
        return self.left

    def adapted(self, limit: int, **seen: Any) -> int | None:
        self.limits = (seen["before"], limit)
        return self.after


def shared_with(bound: Any, *parts: Flying) -> SharedResources:
    shared = SharedResources(None)
    shared.bound = bound
    shared.parts |= set(parts)
    shared.gauges |= set(parts)
    return shared


async def test_those_are_postponed_of_which_the_least_was_sent() -> None:
    await assert_postponed([Flying(sent) for sent in (500, 20, 300, 10)], [False, True, False, True])


async def test_so_are_those_of_a_doubling_in_vain() -> None:
    bound = Bound(None, after=1)
    parts = [Flying(500), Flying(20)]
    shared = shared_with(bound, *parts)
    async with shared.slots.queue(lambda: 1), shared.slots.queue(lambda: 1):
        shared.adapt(1.0)
    assert [part.postponed for part in parts] == [False, True]
    assert bound.limits == (START, START)


async def test_parts_of_which_much_is_sent_are_not_postponed() -> None:
    """That would be lost as by a kill."""
    await assert_postponed([Flying(sent) for sent in (126, 500, 125, 900)], [False, False, True, False])


async def test_a_small_part_beside_big_ones_is_not_postponed() -> None:
    await assert_postponed(
        [Flying(500), Flying(20), Flying(100), Flying(5, size=10)], [False, True, True, False], size=752.5
    )


@pytest.mark.parametrize(("round_trips", "held_back"), [(0, None), (2, None), (3, True)])
async def test_the_bound_learns_at_the_start_that_parts_are_held_back(
    round_trips: float, held_back: bool | None
) -> None:
    bound = Bound(None)
    shared = shared_with(bound, *(Flying(20, size=10**6, round_trips=round_trips) for _ in range(16)))
    looks_until = shared.tick
    shared.adapt(1.0)
    bound.starts = False
    assert shared.tick == TICK > looks_until
    shared.adapt(1.1)
    assert [seen["held_back"] for seen in bound.seen] == [held_back, None]


async def test_round_trips_are_those_of_the_connection_that_waited_least() -> None:
    """Most were made while packets waited in front of the link, and know no shorter round trip than that."""
    bound = Bound(None)
    waited = [Flying(20, size=10**6, round_trips=1, times=(0.15, 0.15)) for _ in range(15)]
    shared_with(bound, Flying(20, size=10**6, round_trips=5, times=(0.03, 0.15)), *waited).adapt(1.0)
    assert bound.seen[0]["held_back"] is True


@pytest.mark.parametrize(("now", "limit"), [(0.05, 2 * START), (0.1, START)])
async def test_the_limit_is_not_doubled_if_packets_wait(now: float, limit: int) -> None:
    shared = shared_with(Bound(None), *(Flying(0, size=10**9, times=(0.05, now)) for _ in range(START)))
    slots = shared.slots.queue(lambda: 1)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(START):
            await stack.enter_async_context(slots)
        for tick in range(4):
            shared.adapt(0.5 * tick)
            shared.bytes_sent += 10**6
    assert shared.limit == limit


async def assert_postponed(parts: list[Flying], postponed: list[bool], *, size: float = 1000) -> None:
    bound = Bound(2, left=2)
    shared = shared_with(bound, *parts)
    async with contextlib.AsyncExitStack() as slots:
        for _ in parts:
            await slots.enter_async_context(shared.slots.queue(lambda: 1))
        shared.adapt(1.0)
    assert [part.postponed for part in parts] == postponed
    assert bound.seen == [{"in_flight": 4, "part_size": size, "held_back": None}]
    assert shared.slots.total_tokens == shared.limit == 2


async def test_an_empty_file_has_a_part_of_no_bytes() -> None:
    part = Flying(0, size=0)
    shared = shared_with(FlightBound(), part)
    for tick in range(20):
        shared.adapt(tick / 10)
    assert not part.postponed


async def test_without_a_bound_the_concurrency_control_decides() -> None:
    shared = shared_with(Bound(None), Flying(1))
    shared.adapt(1.0)
    assert shared.limit == START
    shared = shared_with(Bound(START + 1), Flying(1))
    assert shared.limit == START


async def test_the_next_part_begins_while_the_only_one_waits_for_its_response() -> None:
    part = Flying(999)
    shared = shared_with(Bound(1), part)
    assert shared.limit == 1
    part.bytes = 1000
    shared.adapt(1.0)
    assert shared.limit == shared.slots.total_tokens == 2
    shared.parts.remove(part)
    shared.ended(part)
    assert shared.slots.total_tokens == 1, "before its slot is given to another one"
    assert shared.bytes_sent == 1000


async def test_the_end_of_the_only_part_makes_room_for_one_part_alone() -> None:
    """Its response must not find it among the parts whose response is awaited: two parts would begin, and stay two."""
    sky = Sky()
    shared = sky.context.shared = shared_with(Bound(1))
    sky.context.slots = shared.slots.queue(lambda: 1)
    shared.adapt(0.0)
    shared.wake()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(sky.flights.put, sky.source, PART, REQUEST)
        flying = []
        for number in range(3):
            while len(sky.puts) <= number:
                await anyio.lowlevel.checkpoint()
            sky.puts[number].bytes = PART.size
            sky.puts[number].end(FIRST)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            flying.append(shared.slots.borrowed_tokens)
    assert flying == [1, 1, 0]


def test_a_chosen_concurrency_has_no_bound() -> None:
    assert SharedResources(16).bound is None


@pytest.mark.parametrize(("rate", "limit"), [(None, START), (500, 4), (1, 1), (10**9, START)])
def test_a_rate_limit_tells_how_many_parts_to_begin_with(rate: float | None, limit: int) -> None:
    shared = SharedResources(None, rate=lambda: rate)
    shared.expect(1000, 0.0)
    assert shared.limit == shared.slots.total_tokens == limit
    chosen = SharedResources(16, rate=lambda: rate)
    chosen.expect(1000, 0.0)
    assert chosen.limit == 16


async def postponed(sky: Sky, test: Any = lambda first: None) -> PutResponse:
    """Send a part, postpone it as soon as it flies."""
    async with anyio.create_task_group() as tasks:

        async def play() -> None:
            while not sky.puts:
                await anyio.lowlevel.checkpoint()
            test(sky.puts[0])
            for part in set(sky.context.shared.parts):
                part.postpone()

        tasks.start_soon(play)
        return await sky.flights.put(sky.source, PART, REQUEST)


async def test_a_postponed_part_is_no_failure() -> None:
    sky = Sky()
    with pytest.raises(BaseExceptionGroup) as caught:
        await postponed(sky)
    assert caught.group_contains(Postponed, depth=1)
    assert sky.puts[0].cancelled
    assert sky.context.shared.parts == sky.context.shared.gauges == set()
    assert sky.context.counts.bytes_sent == sky.context.shared.bytes_sent == 1


async def test_a_response_that_was_there_already_counts() -> None:
    assert await postponed(Sky(), lambda first: first.end(FIRST)) == FIRST


async def test_a_postponed_part_leaves_its_hedge() -> None:
    sky = Sky()

    def postpone(first: Put, second: Put) -> None:
        for part in set(sky.context.shared.parts):
            part.postpone()

    with pytest.raises(BaseExceptionGroup) as caught:
        await sky.fly(postpone)
    assert caught.group_contains(Postponed)
    assert [put.cancelled for put in sky.puts] == [True, True]
    assert sky.now < 1, "at once, and not when the hedge stalls"


async def test_what_is_no_part_of_the_file_is_not_postponed() -> None:
    sky = Sky()
    async with anyio.create_task_group() as tasks:

        async def play() -> None:
            while not sky.puts:
                await anyio.lowlevel.checkpoint()
            assert sky.context.shared.parts == set()
            sky.puts[0].end(SECOND)

        tasks.start_soon(play)
        assert await sky.flights.put(SimpleNamespace(), PART, REQUEST) == SECOND


@pytest.mark.parametrize(
    ("times", "window_is_full", "windows"),
    [((0.03, 0.03), False, 2), ((0.03, 0.03), True, 1), ((0.03, 0.09), True, 1), ((0.03, 0.09), False, None)],
)
async def test_what_holds_the_connections_back_reaches_the_controller(
    times: tuple[float, float], window_is_full: bool, windows: int | None
) -> None:
    parts = [Flying(0, size=10**9, times=times, window_is_full=window_is_full) for _ in range(START)]
    shared = shared_with(None, *parts)
    doubled = []
    async with contextlib.AsyncExitStack() as slots:
        for _ in parts:
            await slots.enter_async_context(shared.slots.queue(lambda: 1))
        for window in range(4):
            for each in parts:
                each.bytes = window * 10**6
            shared.adapt(window * 1.001 * WINDOW)
            doubled += [window] * (shared.concurrency.limit > START)
    assert next(iter(doubled), None) == windows

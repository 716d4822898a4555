"""The rate limiter on a virtual clock: over any stretch of time the rate holds."""

from __future__ import annotations

import asyncio
import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.support.rate_limiter import RateLimiter

BURST = 0.1


class VirtualClock:
    """Time that passes when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken.wait()

    async def run(self, *tasks: asyncio.Task[None]) -> None:
        while not all(task.done() for task in tasks):
            for _ in range(5):
                await asyncio.sleep(0)
            if self._sleepers:
                self.now, _, woken = heapq.heappop(self._sleepers)
                woken.set()
        for task in tasks:
            if not task.cancelled():
                task.result()


def limiter(rate: float, clock: VirtualClock) -> RateLimiter:
    return RateLimiter(rate, clock=clock, sleep=clock.sleep)


def assert_rate_holds(sent: list[tuple[float, int]], rate: float) -> None:
    """Between any two moments no more than the rate, what was saved up, and the slice that was just let go."""
    for i, (start, _) in enumerate(sent):
        total = 0
        for end, count in sent[i:]:
            total += count
            assert total <= rate * (end - start + BURST) + sent[i][1] + 1e-3


@pytest.mark.parametrize("takers", [1, 2, 7])
async def test_the_rate_holds_over_any_window(takers: int) -> None:
    clock, rate = VirtualClock(), 1_000_000.0
    bucket = limiter(rate, clock)
    sent: list[tuple[float, int]] = []

    async def taker(number: int) -> None:
        for turn in range(40):
            count = 1000 * (1 + (number * 7 + turn * 3) % 90)
            await bucket.take(count)
            sent.append((clock.now, count))

    began = clock.now
    await clock.run(*(asyncio.create_task(taker(number)) for number in range(takers)))
    assert_rate_holds(sent, rate)
    total = sum(count for _, count in sent)
    # And it is used: nobody waits longer than the rate demands.
    assert clock.now - began == pytest.approx(total / rate)


@settings(deadline=None, max_examples=40)
@given(
    turns=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 300_000)), min_size=1, max_size=25),
    rate=st.floats(1000, 10**9),
)
def test_pauses_save_up_no_more_than_a_tenth_of_a_second(turns: list[tuple[float, int]], rate: float) -> None:
    sent: list[tuple[float, int]] = []

    async def main() -> None:
        clock = VirtualClock()
        bucket = limiter(rate, clock)

        async def taker() -> None:
            for pause, count in turns:
                await clock.sleep(pause)
                await bucket.take(count)
                sent.append((clock.now, count))

        await clock.run(asyncio.create_task(taker()))

    asyncio.run(main())
    assert len(sent) == len(turns)
    assert_rate_holds(sent, rate)


async def test_takers_are_served_in_turn() -> None:
    clock = VirtualClock()
    bucket = limiter(1000.0, clock)
    served: list[tuple[str, float]] = []

    async def taker(name: str) -> None:
        await bucket.take(500)
        served.append((name, clock.now - 1000.0))

    await clock.run(*(asyncio.create_task(taker(name)) for name in "abc"))
    assert served == [("a", pytest.approx(0.5)), ("b", pytest.approx(1.0)), ("c", pytest.approx(1.5))]


async def test_a_cancelled_takers_stretch_stays_empty() -> None:
    clock = VirtualClock()
    bucket = limiter(1000.0, clock)
    served: list[float] = []

    async def taker() -> None:
        await bucket.take(1000)
        served.append(clock.now - 1000.0)

    first, second, third = (asyncio.create_task(taker()) for _ in range(3))
    for _ in range(5):
        await asyncio.sleep(0)
    second.cancel()
    await clock.run(first, second, third)
    assert second.cancelled()
    assert served == [pytest.approx(1.0), pytest.approx(3.0)]


async def test_what_is_free_costs_no_waiting() -> None:
    clock = VirtualClock()
    bucket = limiter(1000.0, clock)
    clock.now += 5.0
    await bucket.take(100)  # the saved-up tenth of a second: no sleep, or this would hang
    assert clock.now == 1005.0
    task = asyncio.create_task(bucket.take(100))
    await clock.run(task)
    assert clock.now == pytest.approx(1005.1)


@pytest.mark.parametrize(
    ("rate", "size"), [(1, 4096), (40_960, 4096), (1_000_000, 100_000), (2_621_440, 262_144), (10**12, 262_144)]
)
def test_slices(rate: float, size: int) -> None:
    assert RateLimiter(rate).slice == size

"""The rate limiter on a virtual clock: over any stretch of time the rate holds."""

from __future__ import annotations

import asyncio
import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.errors import UsageError
from bigupload.support.rate_limiter import RateLimiter, second_of_day
from bigupload.units import RateSchedule, parse_rate_limit
from tests.tools.cases import each_case, examples

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


@settings(deadline=None, max_examples=examples(40))
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


@each_case(("rate", "size"), [(1, 4096), (40_960, 4096), (1_000_000, 100_000), (2_621_440, 262_144), (10**12, 262_144)])
def test_slices(rate: float, size: int) -> None:
    assert RateLimiter(rate).slice == size


async def test_a_schedule_s_change_holds_for_those_who_wait() -> None:
    """0 to 10 s: 1,000 bytes per second; to 20 s: no limit; then 2,000."""
    clock = VirtualClock()
    schedule = RateSchedule(((0, 1000.0), (10, None), (20, 2000.0)))
    bucket = RateLimiter(schedule, clock=clock, sleep=clock.sleep, time_of_day=lambda: clock.now - 1000.0)
    served: list[float] = []

    async def taker() -> None:
        for count in (5000, 50_000, 70_000):
            await bucket.take(count)
            served.append(clock.now - 1000.0)
        await clock.sleep(1020.5 - clock.now)
        await bucket.take(4000)
        assert bucket.slice == 4096
        served.append(clock.now - 1000.0)

    await clock.run(asyncio.create_task(taker()))
    assert served == [pytest.approx(5), pytest.approx(10), pytest.approx(10), pytest.approx(22.5, abs=0.2)]


def test_the_time_of_day_is_local() -> None:
    assert 0 <= second_of_day() < 86_400


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("08:00=2MB/s,20:00=off", {0: None, 7.99: None, 8: 2_000_000, 19.99: 2_000_000, 20: None}),
        ("22:30=1MB/s, 6:00 = 500kB", {0: 1_000_000, 6: 500_000, 22: 500_000, 22.5: 1_000_000}),
        ("12:00=1kB/s", {0: 1000, 13: 1000}),
    ],
)
def test_schedules(text: str, rates: dict[float, int | None]) -> None:
    schedule = parse_rate_limit(text)
    assert isinstance(schedule, RateSchedule)
    assert {hour: schedule.rate_at(hour * 3600) for hour in rates} == rates


def test_a_limit_that_is_no_schedule() -> None:
    assert (parse_rate_limit("20MB/s"), parse_rate_limit("off")) == (20_000_000, None)


@each_case(
    ("text", "says"),
    [
        ("24:00=1MB/s", "not a schedule"),
        ("8=1MB/s", "not a schedule"),
        ("08:60=off", "not a schedule"),
        ("08:00=1MB/s,", "not a schedule"),
        ("08:00=", "not a schedule"),
        ("=off", "not a schedule"),
        ("08:00=fast", "not a rate: 'fast'"),
        ("08:00=20", "is 20 bytes a second"),
        ("08:00=off,8:00=1MB/s", "two rates for 8:00"),
        ("on", "not a rate"),
        ("nan", "not a rate"),
    ],
)
def test_what_is_no_limit(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_rate_limit(text)

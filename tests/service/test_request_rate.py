"""Requests a second, of each key."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace

import limits.aio.storage.memory as memory
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.errors import UsageError
from bigupload.service.access import callers as module
from bigupload.service.access.callers import RequestRateLimit
from tests.tools.cases import each_case, examples


class Clock:
    """The time of day, for the library and for what uses it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e9
        for user in (memory, module):
            monkeypatch.setattr(user, "time", SimpleNamespace(time=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def taken(limit: RequestRateLimit, count: int, key: str = "a") -> list[bool]:
    return [await limit.take(key) == 0.0 for _ in range(count)]


async def test_those_of_two_seconds_at_once_and_no_more(clock: Clock) -> None:
    limit = RequestRateLimit(10)
    assert await taken(limit, 21) == [True] * 20 + [False]
    assert await limit.take("a") == pytest.approx(2.0)
    assert await taken(limit, 20, "b") == [True] * 20  # keys do not share


async def test_who_waits_as_told_is_let_through(clock: Clock) -> None:
    limit = RequestRateLimit(2)
    assert await limit.take("a") == 0.0
    clock.now += 0.5
    assert await taken(limit, 4) == [True, True, True, False]
    for told in (1.5, 0.5):  # until the first one leaves the window, then until the other three do
        wait = await limit.take("a")
        assert wait == pytest.approx(told, abs=0.02)
        clock.now += wait - 0.01
        assert await limit.take("a") > 0
        clock.now += 0.02
        assert await limit.take("a") == 0.0


async def test_a_refusal_costs_nothing(clock: Clock) -> None:
    limit = RequestRateLimit(0.5)
    assert await taken(limit, 100) == [True] + [False] * 99
    clock.now += 2.01
    assert await limit.take("a") == 0.0


@each_case(
    ("rate", "requests", "window"),
    [(100, 200, 2), (1, 2, 2), (0.5, 1, 2), (0.1, 1, 10), (1.5, 3, 2), (0.7, 7, 10), (0.25, 1, 4), (99.9, 999, 10),
     (100_000, 200_000, 2), (math.pi, 188, 60), (0.001, 1, 1000)],
)  # fmt: skip
def test_a_rate_as_requests_in_a_window(rate: float, requests: int, window: int) -> None:
    limit = RequestRateLimit(rate)
    assert (limit.requests, limit.window) == (requests, window)


@given(rate=st.floats(0.1, 100_000))
def test_a_window_never_holds_more_than_the_rate(rate: float) -> None:
    limit = RequestRateLimit(rate)
    assert limit.requests <= max(1, rate * limit.window + 1e-6)
    assert limit.requests >= 1
    assert limit.window >= 2


@settings(max_examples=examples(30), deadline=None)
@given(rate=st.sampled_from([0.5, 1, 2.5, 10]), steps=st.lists(st.floats(0, 3), min_size=1, max_size=40))
async def test_in_no_window_are_there_more(rate: float, steps: list[float]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        limit = RequestRateLimit(rate)
        granted: list[float] = []
        for step in steps:
            clock.now += step
            if await limit.take("a") == 0.0:
                granted.append(clock.now)
    for first, begin in enumerate(granted):
        assert sum(begin <= at < begin + limit.window for at in granted[first:]) <= limit.requests


@pytest.mark.parametrize("back", [10.0, 3600.0])
async def test_a_clock_that_is_set_back_blocks_nobody(clock: Clock, back: float) -> None:
    limit = RequestRateLimit(1)
    assert await taken(limit, 3) == [True, True, False]
    clock.now -= back
    assert await taken(limit, 3) == [True, True, False]
    assert await limit.take("a") <= 2.0


async def test_keys_that_are_silent_are_forgotten(clock: Clock) -> None:
    limit = RequestRateLimit(10)
    for number in range(50):
        await limit.take(f"key{number}")
    clock.now += 3
    async with asyncio.timeout(60):
        while len(limit._storage.events) > 1:  # the library forgets them in a task of its own
            await limit.take("another")
            await asyncio.sleep(0)
    assert list(limit._storage.events), "the one that asked last is known"


@each_case("rate", [0, -1, math.nan, math.inf])
def test_what_is_no_limit(rate: float) -> None:
    with pytest.raises(UsageError, match="not a limit"):
        RequestRateLimit(rate)

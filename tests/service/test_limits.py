"""Requests a second: to the last one, whatever the times."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.errors import UsageError
from bigupload.service.limits import RequestRateLimit


class Clock:
    def __init__(self, now: float | Fraction = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make(rate: float, burst: float) -> tuple[RequestRateLimit, Clock]:
    clock = Clock()
    return RequestRateLimit(rate, burst, clock), clock


def test_a_burst_and_no_more() -> None:
    limit, _ = make(10, 20)
    assert [limit.take("a") for _ in range(20)] == [0.0] * 20
    assert limit.take("a") == pytest.approx(0.1, abs=1e-15)


def test_then_the_rate() -> None:
    limit, clock = make(4, 2)
    assert [limit.take("a") for _ in range(3)] == [0.0, 0.0, 0.25]
    clock.now += 0.125
    assert limit.take("a") == 0.125
    clock.now += 0.125
    assert [limit.take("a") for _ in range(2)] == [0.0, 0.25]


def test_a_refusal_costs_nothing() -> None:
    limit, clock = make(1, 1)
    limit.take("a")
    assert {limit.take("a") for _ in range(100)} == {1.0}
    clock.now += 1
    assert limit.take("a") == 0.0


def test_what_is_saved_up_ends_at_the_burst() -> None:
    limit, clock = make(1, 3)
    limit.take("a")
    clock.now += 1e6
    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]


def test_keys_do_not_share() -> None:
    limit, _ = make(1, 1)
    assert [limit.take(key) for key in "aabb"] == [0.0, 1.0, 0.0, 1.0]


def test_less_than_one_a_second() -> None:
    limit, clock = make(0.25, 1)
    assert [limit.take("a"), limit.take("a")] == [0.0, 4.0]
    clock.now += 3.5
    assert limit.take("a") == 0.5


def test_a_burst_need_not_be_whole() -> None:
    limit, _ = make(2, 1.5)
    assert [limit.take("a"), limit.take("a")] == [0.0, 0.25]


@settings(deadline=None)
@given(rate=st.floats(0.001, 1e6), burst=st.floats(1, 1e3), start=st.floats(0, 1e9))
def test_who_waits_as_told_is_let_through(rate: float, burst: float, start: float) -> None:
    clock = Clock(Fraction(start))
    limit = RequestRateLimit(rate, burst, clock)
    for _ in range(math.floor(burst)):
        assert limit.take("a") == 0.0
    for _ in range(5):
        wait = limit.take("a")
        assert wait > 0
        clock.now += Fraction(wait)
        assert limit.take("a") == 0.0


times = st.lists(st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 1e-6)), min_size=1, max_size=60)


@given(rate=st.floats(0.1, 30), burst=st.floats(1, 10), steps=times)
def test_in_no_window_are_there_more(rate: float, burst: float, steps: list[float]) -> None:
    limit, clock = make(rate, burst)
    granted: list[Fraction] = []
    for step in steps:
        clock.now += step
        if limit.take("a") == 0.0:
            granted.append(Fraction(clock.now))
    for first, begin in enumerate(granted):
        for last, end in enumerate(granted[first:], first):
            assert last - first + 1 <= Fraction(burst) + Fraction(rate) * (end - begin)


@given(
    rate=st.floats(0.1, 30), burst=st.floats(1, 10), steps=st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc")))
)
def test_it_is_a_token_bucket(rate: float, burst: float, steps: list[tuple[float, str]]) -> None:
    """Nobody is refused too much either: step by step as the textbook has it."""
    limit, clock = make(rate, burst)
    tokens = dict.fromkeys("abc", Fraction(burst))
    for step, key in steps:
        before = Fraction(clock.now)
        clock.now += step
        gained = (Fraction(clock.now) - before) * Fraction(rate)
        tokens = {k: min(Fraction(burst), v + gained) for k, v in tokens.items()}
        wait = limit.take(key)
        if tokens[key] >= 1:
            assert wait == 0.0
            tokens[key] -= 1
        else:
            exact = (1 - tokens[key]) / Fraction(rate)
            assert exact <= Fraction(wait) <= exact * (1 + Fraction(1, 2**50))


def test_full_buckets_are_forgotten() -> None:
    limit, clock = make(10, 5)  # full again after half a second
    most = 0
    for number in range(10_000):
        limit.take(f"key{number}")
        clock.now += 0.125
        most = max(most, len(limit))
    assert most <= 5
    clock.now += 1
    limit.take("another")
    assert len(limit) == 1


def test_they_are_forgotten_also_behind_a_busy_one() -> None:
    limit, clock = make(10, 5)
    for number in range(100):
        limit.take("busy")
        limit.take(f"key{number}")
        clock.now += 0.125
    assert len(limit) <= 6


def test_a_full_bucket_that_is_still_kept_runs_over() -> None:
    limit, clock = make(1, 10)
    assert [limit.take("empty") for _ in range(11)] == [0.0] * 10 + [1.0]
    limit.take("other")
    clock.now += 5
    assert len(limit) == 2
    assert [limit.take("other") for _ in range(11)] == [0.0] * 10 + [1.0]


def test_a_bucket_that_is_not_full_is_kept() -> None:
    limit, clock = make(1, 2)
    limit.take("a")
    limit.take("a")
    for _ in range(3):
        clock.now += 0.25
        limit.take(f"{clock.now}")
    assert limit.take("a") == 0.25


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0.5), (math.nan, 1), (1, math.nan), (math.inf, 1)])
def test_what_is_no_limit(rate: float, burst: float) -> None:
    with pytest.raises(UsageError, match="not a limit"):
        RequestRateLimit(rate, burst)

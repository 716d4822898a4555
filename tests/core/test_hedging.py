"""Which parts are stragglers, and how much may be sent twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.core.hedging import Budget, Pace, PutProgress
from tests.tools.cases import each_case

SIZE = 16_000_000


def at(rate: float, seconds: float, size: int = SIZE) -> PutProgress:
    return PutProgress(size, min(size, int(rate * seconds)), seconds)


def pace(*took: float) -> Pace:
    made = Pace()
    for seconds in took:
        made.arrived(seconds)
    return made


USUAL = [0.4] * 8


def test_one_slow_connection_among_fast_ones() -> None:
    flights = [at(40e6, 0.3), at(1e6, 1.2), at(40e6, 0.1), at(40e6, 0.2)]
    assert pace(*USUAL).lagging(flights, at_the_end=False) == [1]


def test_one_that_stands_still_and_one_that_waits_for_its_response() -> None:
    flights = [at(40e6, 0.3), PutProgress(SIZE, 0, 1.7), PutProgress(SIZE, SIZE, 1.7)]
    assert pace(*USUAL).lagging(flights, at_the_end=False) == [1, 2]


def test_all_of_them_slow_is_no_reason() -> None:
    """The path has become slow, or more parts share it: sending one again would make it slower."""
    flights = [at(1e6, 3 + n / 10) for n in range(8)]
    assert pace(*USUAL).lagging(flights, at_the_end=False) == []


def test_at_the_end_those_that_lag_are_all_that_is_left() -> None:
    flights = [at(1e6, 3 - n / 10) for n in range(5)]
    assert pace(*USUAL).lagging(flights, at_the_end=True) == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("rate", [20e6, 13e6])
def test_two_or_three_times_as_slow_is_usual_on_a_crowded_path(rate: float) -> None:
    flights = [at(40e6, 0.2)] * 3 + [at(rate, seconds) for seconds in (0.5, 0.9, 1.1)]
    assert pace(*USUAL).lagging(flights, at_the_end=False) == []


def test_at_the_end_a_second_try_takes_nothing_from_anyone() -> None:
    flights = [at(12e6, 1.1)]
    assert pace(*USUAL).lagging(flights, at_the_end=False) == []
    assert pace(*USUAL).lagging(flights, at_the_end=True) == [0]


def test_nobody_can_say_what_is_usual_before_some_have_arrived() -> None:
    flights = [at(40e6, 0.3), at(1e6, 60), at(40e6, 0.1), at(40e6, 0.2)]
    assert pace(0.4, 0.4, 0.4).lagging(flights, at_the_end=True) == []
    assert pace(0.4, 0.4, 0.4, 0.4).lagging(flights, at_the_end=True) == [1]


def test_what_is_usual_is_what_was_usual_lately() -> None:
    slower = pace(*USUAL, *[4.0] * 40)
    assert slower.lagging([at(4e6, 3.9)] * 4, at_the_end=True) == []


@pytest.mark.parametrize(("slow", "lags"), [(12, True), (20, False)])
def test_usual_is_the_median_of_the_latest_thirty_two(slow: int, lags: bool) -> None:
    lately = pace(*USUAL * 4, *[4.0] * slow)
    assert bool(lately.lagging([at(4e6, 3.9)], at_the_end=True)) is lags


@pytest.mark.parametrize(("takes", "lags"), [(9.0, False), (10.5, True)])
def test_at_the_end_two_and_a_half_times_as_long_is_far(takes: float, lags: bool) -> None:
    usual = pace(*[4.0] * 8)
    assert bool(usual.lagging([at(SIZE / takes, 8.5)], at_the_end=True)) is lags


def test_an_instant_is_not_worth_a_connection() -> None:
    assert pace(*[0.001] * 8).lagging([at(1e6, 0.2)], at_the_end=True) == []


def test_the_furthest_behind_goes_first() -> None:
    flights = [at(3e6, 2), at(1e6, 2), at(2e6, 2), *[at(40e6, 0.3)] * 4]
    assert pace(*USUAL).lagging(flights, at_the_end=False) == [1, 2, 0]


@given(st.lists(st.builds(PutProgress, st.integers(0, 10), st.integers(0, 10), st.floats(0, 100))))
def test_any_progress_can_be_judged(flights: list[PutProgress]) -> None:
    late = pace(*USUAL).lagging(flights, at_the_end=True)
    assert sorted(set(late)) == sorted(late)


# -- the budget


@each_case(("size", "part", "most"), [(0, 5, 5), (100, 5, 5), (1000, 10, 50), (1000, 60, 60)])
def test_a_twentieth_or_one_part(size: int, part: int, most: int) -> None:
    budget = Budget(size, part)
    taken = 0
    while budget.take(1):
        taken += 1
    assert taken == most


def test_what_was_not_needed_comes_back() -> None:
    budget = Budget(100, 10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(4)
    assert not budget.take(5)
    assert budget.take(4)


@each_case(("rate", "seconds", "late"), [(3e6, 0.7, True), (3e6, 0.6, False), (5e6, 0.7, False), (5e6, 1.1, True)])
def test_what_is_very_far_behind_is_sent_again_sooner(rate: float, seconds: float, late: bool) -> None:
    """Usual are 0.4 s: after those and the grace, at a tenth of the rate; after twice that, at a quarter."""
    flights = [at(40e6, 0.2)] * 3 + [at(rate, seconds)]
    assert bool(pace(*USUAL).lagging(flights, at_the_end=False)) is late

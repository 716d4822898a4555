"""How many parts may be in flight so that an interruption costs little: on full links, and on paths that are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bigupload.core.flight_bound import HORIZON, REST, TOLERANCE, FlightBound

MB = 1e6
PART = 5 * MB
TICK = 0.1


class Path:
    """Parts that are sent at the rate that `goodput` gives for their number, and replaced as the bound allows."""

    def __init__(self, goodput: Callable[[int], float], parts: int = 16) -> None:
        self.bound = FlightBound()
        self.goodput = goodput
        self.wanted = self.parts = parts
        self.now = self.sent = 0.0
        self.cut: list[int] = []
        self.replaces_at_once = True

    def run(self, seconds: float) -> Path:
        until = self.now + seconds
        while self.now < until:
            self.now += TICK
            self.sent += self.goodput(self.parts) * TICK
            left = self.bound.sample(self.now, int(self.sent), in_flight=self.parts, part_size=PART)
            if left is not None:
                self.cut.append(left)
                self.parts = left
            limit = self.bound.limit or self.wanted
            if limit > self.parts or self.replaces_at_once:
                self.parts = min(self.wanted, limit)
        return self


def link(rate: float) -> Callable[[int], float]:
    return lambda parts: rate


def each(rate: float) -> Callable[[int], float]:
    return lambda parts: rate * parts


@pytest.mark.parametrize(("rate", "parts"), [(0.1, 1), (0.5, 1), (1, 2), (2, 4), (3.5, 8), (5, 10)])
def test_a_full_link_has_what_it_finishes_in_ten_seconds(rate: float, parts: int) -> None:
    path = Path(link(rate * MB)).run(5)
    assert path.bound.limit == path.parts == parts
    assert path.parts == 1 or path.parts * PART <= TOLERANCE * HORIZON * rate * MB
    assert path.cut == sorted(path.cut, reverse=True)
    assert path.cut[0] >= 8, "parts are halved at most"


def test_the_first_parts_are_cancelled_within_a_second() -> None:
    """They are small then."""
    assert Path(link(2 * MB)).run(1).cut == [8]


@pytest.mark.parametrize("rate", [6, 10, 1000])
def test_a_faster_link_is_left_alone(rate: float) -> None:
    path = Path(link(rate * MB)).run(600)
    assert (path.bound.limit, path.cut) == (None, [])


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_where_each_connection_carries_little_the_bound_is_taken_back(rate: float) -> None:
    """Fewer parts would finish no sooner."""
    path = Path(each(rate * MB)).run(3)
    assert (path.bound.limit, path.parts) == (None, 16)
    assert len(path.run(600).cut) == 1
    assert path.bound.limit is None


def test_connections_that_grow_slowly_are_waited_for() -> None:
    """As over a long round trip: after half of them are gone, the others need two seconds to fill the link."""
    pace = 2 * MB / 16

    def goodput(parts: int) -> float:
        nonlocal pace
        pace = min(1.04 * pace, 2 * MB / parts)
        return pace * parts

    assert Path(goodput).run(10).bound.limit == 4


def test_a_start_that_still_grows_is_waited_for() -> None:
    path = Path(lambda parts: 2**path.now * MB)  # as slow start does
    assert path.run(3).cut == []


def test_more_parts_from_the_concurrency_control_are_worth_it() -> None:
    path = Path(each(0.6 * MB)).run(2)
    path.wanted = 32
    path.goodput = link(1 * MB)
    assert path.run(60).cut == []


def test_an_outage_says_nothing_of_the_link() -> None:
    path = Path(link(2 * MB)).run(5)
    path.goodput = link(0)
    path.run(30)
    assert path.bound.limit == 4


def test_a_faster_link_raises_the_bound() -> None:
    path = Path(link(2 * MB)).run(5)
    path.goodput = link(6 * MB)
    assert (path.run(5).bound.limit or 0) >= 11


def test_a_slower_link_lowers_it_and_cancels_nothing() -> None:
    path = Path(link(5 * MB)).run(5)
    cut = list(path.cut)
    path.goodput = link(1 * MB)
    assert path.run(20).bound.limit == 3
    assert path.cut == cut


def test_parts_that_are_not_cancelled_are_waited_for() -> None:
    path = Path(link(5 * MB)).run(5)
    path.replaces_at_once = False
    path.goodput = link(1 * MB)
    path.run(20)
    tried = path.bound.limit
    assert path.parts == 10 > (tried or 10)
    path.run(20)
    assert path.bound.limit == tried, "the trial waits"
    path.replaces_at_once = True
    assert path.run(10).bound.limit == 3


def test_the_bound_is_lifted_for_a_moment_and_comes_back() -> None:
    path = Path(link(2 * MB)).run(5)
    seen = {path.run(TICK).bound.limit for _ in range(int(2 * REST / TICK))}
    assert seen == {4, 8}
    assert path.bound.limit == 4


def test_a_path_that_has_changed_loses_its_bound() -> None:
    path = Path(link(2 * MB)).run(5)
    path.goodput = each(0.3 * MB)
    assert path.run(15).bound.limit is None

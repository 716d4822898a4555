"""How many parts may be in flight so that an interruption costs little: on full links, and on paths that are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bigupload.core.flight_bound import AIM, HELD_BACK, REST, ROUND_TRIPS, FlightBound, are_held_back

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
        self.held_back: bool | None = None
        self.cancels = True

    def run(self, seconds: float) -> Path:
        until = self.now + seconds
        while self.now < until:
            self.now += TICK
            self.sent += self.goodput(self.parts) * TICK
            left = self.bound.sample(
                self.now, int(self.sent), in_flight=self.parts, part_size=PART, held_back=self.held_back
            )
            if left is not None:
                self.cut.append(left)
                self.parts = left if self.cancels else self.parts
            limit = self.bound.limit or self.wanted
            if limit > self.parts or self.replaces_at_once:
                self.parts = min(self.wanted, limit)
        return self


def link(rate: float) -> Callable[[int], float]:
    return lambda parts: rate


def each(rate: float) -> Callable[[int], float]:
    return lambda parts: rate * parts


@pytest.mark.parametrize(("rate", "parts"), [(0.1, 1), (0.5, 1), (1, 1), (2, 3), (3.5, 5), (5, 8), (7.5, 12)])
def test_a_full_link_has_what_it_finishes_in_less_than_ten_seconds(rate: float, parts: int) -> None:
    path = Path(link(rate * MB)).run(10)
    assert path.bound.limit == path.parts == parts
    assert path.parts == 1 or path.parts * PART <= AIM * rate * MB
    assert path.cut == sorted(path.cut, reverse=True)
    assert path.cut[0] >= 4, "a quarter of the parts is left at least"


def test_the_first_parts_are_cancelled_within_a_second() -> None:
    """They are small then."""
    assert Path(link(2 * MB)).run(1).cut == [4]


@pytest.mark.parametrize(
    ("puts", "held"),
    [
        ([(ROUND_TRIPS, HELD_BACK - 1)] * 16, True),
        ([(ROUND_TRIPS, HELD_BACK)] * 16, False),
        ([(ROUND_TRIPS - 0.1, 0)] * 16, None),
        ([(ROUND_TRIPS, 0)] * 9 + [(1, 0)] * 7, True),
        ([(ROUND_TRIPS, 0)] * 8 + [(1, 0)] * 8, None),  # most have not begun long ago
        ([(ROUND_TRIPS, 0)] * 15 + [(ROUND_TRIPS, 16 * HELD_BACK)], False),  # the link carries enough for all
        ([(0, 0)] * 16, None),  # nobody knows
        ([], None),
    ],
)
def test_a_link_that_is_full_at_once(puts: list[tuple[float, int]], held: bool | None) -> None:
    assert are_held_back(puts) is held


@pytest.mark.parametrize(("rate", "parts"), [(0.5, 1), (1, 1), (2, 3)])
def test_the_parts_of_a_link_that_is_full_at_once_are_cancelled_at_once(rate: float, parts: int) -> None:
    path = Path(link(rate * MB))
    path.held_back = True
    path.run(0.4)
    assert path.cut == [parts]
    assert path.run(50).bound.limit == parts
    assert path.cut == [parts], "once"


def test_a_moment_says_nothing_of_the_link() -> None:
    bound, decided = FlightBound(), []
    for tick in range(8):
        now = tick / 40
        decided.append(bound.sample(now, int(now * MB / 2), in_flight=16, part_size=PART, held_back=True))
    assert decided == [None] * 5 + [1] + [None] * 2, "a tenth of a second after the first bytes"


def test_where_each_connection_carries_little_from_the_start_that_is_taken_back() -> None:
    path = Path(each(0.1 * MB))
    path.held_back = True
    assert path.run(0.4).cut == [2]
    assert path.run(2).bound.limit is None


def test_a_link_that_carries_all_parts_in_time_is_not_bounded_at_once() -> None:
    path = Path(link(10 * MB))
    path.held_back = True
    assert path.run(50).cut == []


def test_a_start_that_is_not_held_back_is_over() -> None:
    path = Path(link(2 * MB))
    assert path.run(0.1).bound.starts
    path.held_back = False
    assert not path.run(0.2).bound.starts
    path.held_back = True
    assert path.run(0.5).cut == [], "the windows decide now"


def test_nothing_is_bounded_before_goodput_is_known() -> None:
    path = Path(link(0))
    path.held_back = True
    assert (path.run(5).cut, path.bound.starts) == ([], True)


@pytest.mark.parametrize(("rate", "parts"), [(0.1, 1), (1, 1), (2, 3), (100, 160)])
def test_goodput_that_is_known_beforehand_is_the_first_bound(rate: float, parts: int) -> None:
    bound = FlightBound()
    bound.expect(0.0, rate * MB, part_size=PART)
    assert bound.limit == parts


def test_what_was_measured_counts_more_than_what_was_expected() -> None:
    path = Path(link(2 * MB)).run(5)
    path.bound.expect(path.now, 100 * MB, part_size=PART)
    assert path.bound.limit == 3


def test_an_expectation_that_was_too_low_or_too_high_is_corrected() -> None:
    for expected in (0.5, 50):
        path = Path(link(5 * MB))
        path.bound.expect(0.0, expected * MB, part_size=PART)
        assert path.run(10).bound.limit == 8


@pytest.mark.parametrize("rate", [8.5, 10, 1000])
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

    assert Path(goodput).run(10).bound.limit == 3


def test_a_start_that_still_grows_is_waited_for() -> None:
    path = Path(lambda parts: 2**path.now * MB)  # as slow start does
    assert path.run(3).cut == []


def test_an_outage_says_nothing_of_the_link() -> None:
    path = Path(link(2 * MB)).run(5)
    path.goodput = link(0)
    path.run(30)
    assert path.bound.limit == 3


def test_a_faster_link_raises_the_bound() -> None:
    path = Path(link(2 * MB)).run(5)
    path.goodput = link(6 * MB)
    assert (path.run(10).bound.limit or 0) >= 9


def test_a_slower_link_lowers_it() -> None:
    path = Path(link(5 * MB)).run(5)
    path.goodput = link(1 * MB)
    assert path.run(20).bound.limit == 1


def test_parts_that_are_not_cancelled_are_waited_for() -> None:
    path = Path(link(5 * MB)).run(5)
    path.cancels = path.replaces_at_once = False
    path.goodput = link(1 * MB)
    path.run(20)
    tried = path.bound.limit
    assert path.parts == 8 > (tried or 8)
    path.run(20)
    assert path.bound.limit == tried, "the trial waits"
    path.cancels = path.replaces_at_once = True
    assert path.run(10).bound.limit == 1


def test_the_bound_is_lifted_for_a_moment_and_comes_back() -> None:
    path = Path(link(2 * MB)).run(5)
    seen = {path.run(TICK).bound.limit for _ in range(int(2 * REST / TICK))}
    assert seen == {3, 6}
    assert path.bound.limit == 3


@pytest.mark.parametrize(("rate", "parts"), [(0.5, 1), (2, 3)])
def test_more_parts_that_carry_no_more_are_cancelled_soon(rate: float, parts: int) -> None:
    """Else they are in flight until they end, and a kill loses twenty seconds."""
    path = Path(link(rate * MB)).run(5)
    path.replaces_at_once = False
    numbers = [path.run(TICK).parts for _ in range(int(2 * REST / TICK))]
    assert set(numbers) == {parts, 2 * parts}
    assert numbers.count(2 * parts) * TICK <= 2
    assert (path.parts, path.bound.limit, path.cut[-1]) == (parts, parts, parts)


class Doubled:
    """The concurrency control doubles sixteen parts, and takes that back."""

    def __init__(self, before: float, after: float) -> None:
        self.path = Path(link(before * MB), parts=16).run(2)
        assert self.left(32, before=16) is None
        self.path.goodput = link(after * MB)
        self.path.wanted = self.path.parts = 32
        self.path.run(4)

    def left(self, limit: int, *, before: int) -> int | None:
        return self.path.bound.adapted(limit, before=before, in_flight=self.path.parts, part_size=PART)


@pytest.mark.parametrize("after", [9, 10, 11])
def test_a_doubling_in_vain_shows_that_the_link_was_full(after: float) -> None:
    doubled = Doubled(10, after)
    assert doubled.path.cut == [], "the trial is not disturbed"
    assert doubled.left(32, before=32) is None
    assert doubled.left(24, before=32) is None, "a small trial"
    assert doubled.left(16, before=32) == 16
    assert doubled.path.bound.limit == 16
    assert doubled.path.run(300).bound.limit == max(16, int(AIM * after * MB / PART))
    assert doubled.left(32, before=16) is None


@pytest.mark.parametrize("after", [12, 8])
def test_a_link_that_was_not_full_keeps_its_parts(after: float) -> None:
    """A doubling that brought a little less than it should, or connections that grow old."""
    doubled = Doubled(10, after)
    assert doubled.left(16, before=32) is None
    assert doubled.path.run(300).cut == []
    assert doubled.path.bound.limit is None


def test_a_doubling_that_too_few_parts_fill_keeps_nobody_waiting() -> None:
    """A file of 24 parts: the concurrency control judges no limit that is not reached."""
    path = Path(link(0.5 * MB), parts=16).run(0.8)
    path.wanted = path.parts = 24
    for limit, before in ((32, 16), *[(32, 32)] * 30):
        path.run(TICK)
        path.bound.adapted(limit, before=before, in_flight=path.parts, part_size=PART)
    assert path.cut[0] == 6
    assert path.run(5).bound.limit == 1


def test_parts_that_fill_a_doubled_limit_wait_for_its_end() -> None:
    path = Path(link(0.5 * MB), parts=16).run(0.8)
    path.wanted = path.parts = 32
    for limit, before in ((32, 16), *[(32, 32)] * 30):
        path.run(TICK)
        path.bound.adapted(limit, before=before, in_flight=path.parts, part_size=PART)
    assert path.cut == []


def test_connections_that_grow_old_do_not_fill_a_link_for_long() -> None:
    doubled = Doubled(10, 10)
    assert doubled.left(16, before=32) == 16
    doubled.path.goodput = each(0.3 * MB)
    assert doubled.path.run(300).bound.limit is None
    assert doubled.path.cut == []


def test_a_doubling_that_brought_more_ends_the_search_for_a_bound() -> None:
    doubled = Doubled(10, 13)
    assert doubled.left(64, before=32) is None
    doubled.path.goodput = link(5 * MB)
    assert doubled.path.run(300).cut == []


def test_parts_that_are_finished_in_ten_seconds_are_left_alone() -> None:
    doubled = Doubled(17, 17)
    assert doubled.left(16, before=32) is None
    assert doubled.path.bound.limit is None


def test_nothing_is_cancelled_before_goodput_is_known() -> None:
    bound = FlightBound()
    assert bound.adapted(32, before=16, in_flight=16, part_size=PART) is None
    assert bound.adapted(16, before=32, in_flight=32, part_size=PART) is None


def test_a_path_that_has_changed_loses_its_bound() -> None:
    path = Path(link(2 * MB)).run(5)
    path.goodput = each(0.3 * MB)
    assert path.run(15).bound.limit is None

"""What a kill loses: the bound of the parts in flight, by what the peer acknowledges or by what the store has.

Each upload is simulated: its parts begin, write, wait and are stored as the limit and the number of writers allow.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest

from bigupload.core.flight import BUFFERED, MOST, SMALL, Flight, Sample
from bigupload.core.flight_bound import AIM, REST, Bound
from bigupload.core.flight_trials import LASTING, LEAP, LONGEST_REST, WINDOW
from bigupload.core.stored_rate import HORIZON, LATE, is_late
from tests.core.simulated_links import START, START_BYTES, TICK
from tests.tools.cases import each_case

pytestmark = pytest.mark.usefixtures("few_to_begin_with")

MB = 1e6
PART = 5 * MB


@dataclasses.dataclass(eq=False)
class _Part:
    began: float
    written: float = 0.0
    accepted: float = math.inf
    wrote_from: float = 0.0
    behind: float = 0.0
    """Bytes that what stands in front of the store has of it."""


class Path:
    """An upload of parts without an end."""

    def __init__(
        self,
        goodput: Callable[[int], float],
        *,
        passes_on: float = math.inf,
        together: bool = False,
        responds: float = 0.0,
        parts: int = 1000,
        part_size: float = PART,
        flight: Flight | None = None,
    ) -> None:
        """`goodput`: bytes a second that are accepted of so many writers. `passes_on`: of these, what reaches the
        store, of whole bodies one by one, or of all `together`. `responds`: the seconds that the store needs for each
        response. `parts`: how many there are to be in flight."""
        self.flight = flight or Flight()
        self.goodput, self.passes_on, self.together, self.responds = goodput, passes_on, together, responds
        self.parts, self.part_size = parts, part_size
        self.flying: list[_Part] = []
        self.now = self.sent = 0.0
        self.lost: list[float] = []
        """At each tick since the first response: what a kill loses, in bytes."""
        self.writing: list[int] = []
        """At each tick."""
        self.flight.expect_parts(0.0, int(part_size))

    def run(self, seconds: float) -> Path:
        until = self.now + seconds
        while self.now < until:
            self._tick()
        return self

    def _tick(self) -> None:
        flight = self.flight
        self._admit()
        self.now += TICK
        unwritten = [part for part in self.flying if part.accepted == math.inf]
        count = max(0, flight.writers(len(self.flying) - len(unwritten)))
        writers = unwritten[:count]
        for part in unwritten[count:]:
            part.wrote_from = self.now
        share = self.goodput(len(writers)) * TICK / max(1, len(writers))
        for part in writers:
            count = min(share, self.part_size - part.written)
            part.written += count
            part.behind += count
            self.sent += count
            if part.written >= self.part_size - 1e-3:
                part.accepted = self.now
        self._pass_on()
        waiting = [part for part in self.flying if part.accepted < math.inf]
        self.flight.sample(
            Sample(
                now=self.now,
                acknowledged=int(self.sent),
                writing=len({*writers, *waiting}),
                part_size=self.part_size,
                is_late=any(is_late(self.now - part.accepted, part.accepted - part.wrote_from) for part in waiting),
                left=0 if waiting else min((self.part_size - part.written for part in self.flying), default=math.inf),
            )
        )
        self.writing.append(len(writers))
        if flight.stored_parts.parts:
            self.lost.append(sum(part.written for part in self.flying))

    def _admit(self) -> None:
        while len(self.flying) < min(self.flight.limit, self.parts):
            self.flight.began()
            self.flying.append(_Part(self.now, wrote_from=self.now))

    def _pass_on(self) -> None:
        rate = min(self.passes_on * TICK, 1e12)
        behind = [part for part in self.flying if part.behind and (self.together or part.accepted < math.inf)]
        behind.sort(key=lambda part: part.accepted)
        share = rate / max(1, len(behind)) if self.together else rate
        for part in behind:
            count = min(part.behind, share, rate)
            part.behind -= count
            rate -= count
        for part in [part for part in self.flying if part.accepted + self.responds <= self.now and part.behind < 1]:
            self.flying.remove(part)
            wrote_for = part.accepted - part.wrote_from
            self.flight.stored(
                self.now, int(self.part_size), began=part.began, accepted=part.accepted, wrote_for=wrote_for
            )
            self._admit()

    def run_until(self, holds: Callable[[int], bool], *, within: float) -> bool:
        """Run until it holds of the limit. Returns whether that came within so many seconds."""
        until = self.now + within
        while self.now < until and not holds(self.flight.limit):
            self._tick()
        return holds(self.flight.limit)

    def limits(self, seconds: float) -> list[int]:
        """The limit at each tick of the next seconds."""
        return [self.run(TICK).flight.limit for _ in range(round(seconds / TICK))]


def link(rate: float) -> Callable[[int], float]:
    return lambda writers: rate if writers else 0


def each(rate: float) -> Callable[[int], float]:
    return lambda writers: rate * writers


FEW = START - 1
"""Parts that never reach the limit, so that it is not tried."""


# -- where responses follow at once


@each_case(("rate", "parts"), [(0.1, 1), (0.5, 1), (1, 1), (2, 3), (2.5, 4), (3.4, 5)])
def test_a_full_link_has_what_it_finishes_in_less_than_ten_seconds(rate: float, parts: int) -> None:
    path = Path(link(rate * MB), parts=FEW)
    first = path.limits(2)
    assert first[0] == 6 == int(START_BYTES / PART)
    if rate < 3:
        assert first[-1] in (parts, parts + 1), "within two seconds, before the first part ends"
    path.run(10)
    limits = path.limits(40)
    assert min(limits) == parts
    assert max(limits) == parts + (rate == 1)
    assert path.sent >= 0.99 * rate * MB * path.now
    path.run(2 * REST)
    most = max(HORIZON * rate * MB, PART)
    assert sum(lost > 1.001 * most for lost in path.lost) <= 0.05 * len(path.lost), "but for trials of more parts"


@each_case("rate", [0.3, 1, 2, 5, 7.5])
def test_a_file_of_many_parts_loses_no_more(rate: float) -> None:
    path = Path(link(rate * MB)).run(4 * REST)
    most = max(HORIZON * rate * MB, PART)
    assert sum(lost > 1.001 * most for lost in path.lost) <= 0.05 * len(path.lost)
    assert path.sent >= 0.99 * rate * MB * path.now


def test_the_next_part_begins_while_the_only_one_ends() -> None:
    """A link has no pause, and a kill loses no more than ten seconds of it."""
    path = Path(link(1 * MB)).run(20)
    for _ in range(200):
        limit = path.run(TICK).flight.limit
        oldest = path.flying[0]
        assert limit == 2 or oldest.written <= PART - LATE * MB
    assert max(path.lost) <= HORIZON * MB
    slow = Path(link(0.5 * MB)).run(20)
    assert set(slow.limits(30)) == {1}, "the two of them would be more than ten seconds"


def test_the_newest_parts_are_paused_and_go_on_later() -> None:
    path = Path(link(2 * MB)).run(1)
    started = [part for part in path.flying if part.written]
    assert len(started) == 6 > path.writing[-1] == 3
    before = [part.written for part in started[3:]]
    path.run(1)
    assert [part.written for part in started[3:]] == before
    path.run(20)
    assert not any(part in path.flying for part in started)


@pytest.mark.parametrize("rate", [8.5, 10, 1000])
def test_a_faster_link_is_left_alone(rate: float) -> None:
    assert set(Path(link(rate * MB), parts=FEW).limits(100)) <= {6, START, LEAP * START}


@pytest.mark.exhaustive
@pytest.mark.parametrize("rate", [0.1, 0.05, 0.3])
def test_where_each_connection_carries_little_the_bound_is_taken_back(rate: float) -> None:
    """Fewer parts would finish no sooner. It is tried again, ever more rarely."""
    path = Path(each(rate * MB), parts=FEW)
    limits = path.limits(1100)
    begun = [tick * TICK for tick in range(1, len(limits)) if limits[tick] < limits[tick - 1]]
    gaps = [later - before for before, later in itertools.pairwise(begun)]
    assert begun[0] < 1
    assert [round(gap, -1) for gap in gaps[:3]] == [2 * REST, 4 * REST, 8 * REST]
    assert path.sent >= 0.98 * 6 * rate * MB * 1100


def test_the_bound_is_lifted_for_a_moment_and_comes_back() -> None:
    path = Path(link(2 * MB), parts=FEW).run(5)
    limits = path.limits(1100)
    begun = [tick * TICK for tick in range(1, len(limits)) if limits[tick] > limits[tick - 1]]
    assert set(limits) == {3, 6}
    gaps = [round(later - before, -1) for before, later in itertools.pairwise(begun)]
    assert gaps[:3] == [2 * REST, 4 * REST, 8 * REST]
    assert limits.count(6) * TICK < 2 * len(begun)


def pause(path: Path) -> None:
    path.now += 8 * 3600


def long_outage(path: Path) -> None:
    before, path.goodput = path.goodput, link(0)
    path.run(600)
    path.goodput = before


@each_case("interruption", [pause, long_outage])
def test_no_rest_follows_from_an_interruption_of_a_trial(interruption: Callable[[Path], None]) -> None:
    """Between two uploads nothing is sent, for hours: so long a trial would be followed by days without a bound."""
    path = Path(link(2 * MB), parts=FEW).run(5)
    assert path.run_until(lambda limit: limit == 6, within=2 * REST)
    interruption(path)
    path.goodput = each(0.7 * MB)
    path.run(LASTING * WINDOW)
    assert path.flight.limit > 6, "the bound is lifted"
    path.goodput = link(2.5 * MB)  # more than half of what helped
    assert path.run_until(lambda limit: limit == 4, within=3 * REST)


def test_connections_that_grow_slowly_are_waited_for() -> None:
    """As over a long round trip: after half of them are gone, the others need two seconds to fill the link."""
    pace = 2 * MB / 6

    def goodput(writers: int) -> float:
        nonlocal pace
        pace = min(1.04 * pace, 2 * MB / max(1, writers))
        return pace * writers

    assert set(Path(goodput, parts=FEW).run(3).limits(30)) == {3}


@pytest.mark.parametrize(("share", "grows"), [(0.0, True), (0.9 * BUFFERED, True), (1.1 * BUFFERED, False)])
def test_before_the_first_response_no_more_buffers_are_filled(share: float, grows: bool) -> None:
    """By more parts, which the buffers of new connections take at once, so that they seem to help."""
    flight = Flight()

    def most(ticks: range) -> int:
        limits = []
        for tick in ticks:
            sent = int(tick * TICK * MB)
            buffered = share * START * MB
            flight.sample(
                Sample(now=tick * TICK, acknowledged=sent, writing=flight.limit, buffered=buffered, part_size=MB)
            )
            limits.append(flight.limit)
        return max(limits)

    flight.expect_parts(0.0, int(MB))
    assert most(range(1, 15)) == (2 * START if grows else START)
    flight.stored(1.4, int(MB), began=0.0, accepted=1.4)
    assert most(range(15, 30)) == 2 * START


@pytest.mark.parametrize(("buffered", "is_bounded"), [(16e6, True), (0.0, False)])
def test_a_trial_waits_until_what_paused_parts_had_sent_is_read(buffered: float, is_bounded: bool) -> None:
    """For four seconds, the store reads what the paused parts had sent: the others get their share of its rate."""
    flight = Flight()
    flight.expect_parts(0.0, int(16 * MB))  # four of them begin
    sent, now, began, bounds = 0.0, 0.0, math.inf, []
    while now < 12:
        if flight._bound.trial is not None:
            began = min(began, now)
        sent += 4 * MB * TICK * (flight.limit / 4 if began <= now < began + 4 else 1.0)
        now += TICK
        sample = Sample(now=now, acknowledged=int(sent), writing=flight.limit, part_size=16 * MB, buffered=buffered)
        flight.sample(sample)
        bounds.append(flight._bound.limit)
    assert began < 5
    assert (bounds[-1] is not None) is is_bounded
    assert (bounds[round((began + 3) / TICK)] is not None) is is_bounded


@pytest.mark.parametrize(("later", "is_tried"), [(0.4, True), (0.6, False)])
def test_a_larger_limit_that_helped_at_first_only_keeps_no_bound_away(later: float, is_tried: bool) -> None:
    """Eight connections seem to carry twice as much as four, until the buffers of the store are full."""
    flight = Flight()
    flight.expect_parts(0.0, int(16 * MB))
    flight._bound.helped(0.0, 8 * MB, proportional=True)
    sent, now = 0.0, 0.0
    while now < 2 * LASTING * WINDOW:
        sent += later * 8 * MB * TICK
        now += TICK
        flight.sample(Sample(now=now, acknowledged=int(sent), writing=8, part_size=16 * MB))
    assert (flight._bound.trial is not None or flight._bound.limit is not None) is is_tried


@pytest.mark.parametrize(
    ("goodput", "is_slow"),
    [
        (each(0.33 * MB), True),
        (lambda writers: min(each(0.46 * MB)(writers), 2 * MB), True),  # each carries more then, and all too little
        (link(2 * MB), False),
    ],
)
def test_connections_are_slow_if_fewer_of_them_carry_less(goodput: Callable[[int], float], is_slow: bool) -> None:
    path, found = Path(goodput, parts=FEW), False
    for _ in range(int(HORIZON / TICK)):
        path.run(TICK)
        found = found or path.flight.is_slow_for(int(PART))
    assert found is is_slow


def test_goodput_that_comes_back_too_late_does_not_count() -> None:
    """Each connection grows for longer than a trial lasts: the path may be like that."""
    path = Path(lambda writers: MB * min(2.0, 0.33 * writers + 0.002 * path.now), parts=FEW)
    limits = path.limits(2 + LASTING * WINDOW * 2)
    assert min(limits) < limits[-1] == 6


def test_a_start_that_still_grows_is_waited_for() -> None:
    path = Path(lambda writers: 2**path.now * MB, parts=FEW)  # as slow start does
    assert set(path.limits(3)) == {6}


def test_an_outage_says_nothing_of_the_link() -> None:
    path = Path(link(2 * MB), parts=FEW).run(5)
    path.goodput = link(0)
    assert set(path.limits(30)) == {3}


@pytest.mark.parametrize(("before", "then", "least", "most"), [(2, 6, 8, 8), (3.4, 1, 1, 2), (1, 0.1, 1, 2)])
def test_a_link_that_changes_changes_the_bound(before: float, then: float, least: int, most: int) -> None:
    path = Path(link(before * MB), parts=FEW).run(20)
    path.goodput = link(then * MB)
    path.run(20)
    assert least <= min(path.limits(5)) <= max(path.limits(5)) <= most


def test_a_link_that_becomes_faster_little_by_little_has_more_parts_at_once() -> None:
    path = Path(link(0.5 * MB), parts=FEW).run(20)
    assert set(path.limits(3)) == {1}
    grows_from = path.now
    path.goodput = lambda writers: 0.5 * MB * 1.25 ** ((path.now - grows_from) / WINDOW)
    assert path.run_until(lambda limit: limit > 2, within=4)


@each_case("parts", [9, 20, 24, 1000])
def test_a_doubling_that_too_few_parts_fill_keeps_nobody_waiting(parts: int) -> None:
    """The limit was doubled, and there are not as many parts: no larger one is judged. The bound is."""
    path = Path(each(5 * MB), parts=parts).run(30)
    path.goodput = link(0.5 * MB)
    assert path.run_until(lambda limit: limit == 1, within=60)


# -- a rate limit


@each_case(("rate", "parts"), [(0.1, 1), (1, 1), (2, 3), (100, 6)])
def test_goodput_that_is_known_beforehand_is_the_first_bound(rate: float, parts: int) -> None:
    flight = Flight()
    flight.expect_parts(0.0, int(PART), rate * MB)
    assert flight.limit == parts <= max(1, AIM * rate * MB / PART)


def test_what_was_measured_counts_more_than_what_was_expected() -> None:
    path = Path(link(2 * MB), parts=FEW).run(5)
    path.flight.expect_parts(path.now, int(PART), 100 * MB)
    assert path.flight.limit == 3


@pytest.mark.parametrize("expected", [0.5, 50])
def test_an_expectation_that_was_too_low_or_too_high_is_corrected(expected: float) -> None:
    flight = Flight()
    flight.expect_parts(0.0, int(PART), expected * MB)
    assert set(Path(link(2.5 * MB), parts=FEW, flight=flight).run(10).limits(20)) == {4}


# -- where responses are late


def test_nothing_begins_once_a_whole_body_waits_and_nothing_was_stored() -> None:
    flight = Flight()
    flight.expect_parts(0.0, int(PART))
    waits = Sample(now=1.0, acknowledged=int(6 * PART), writing=2, part_size=PART)
    flight.sample(waits)
    assert (flight.limit, flight.writers(4), flight.responses_are_late) == (6, 6, False)
    flight.sample(dataclasses.replace(waits, now=1.1, is_late=True))
    assert (flight.limit, flight.writers(4), flight.responses_are_late) == (1, 0, True)
    assert flight.writers(0) == 1


@each_case("rate", [0.1, 0.8, 2, 20])
@pytest.mark.exhaustive
@pytest.mark.parametrize("accepts", [1000, 30])
@each_case("together", [False, True])
def test_something_that_takes_bodies_and_passes_them_on_slowly(rate: float, accepts: float, together: bool) -> None:
    """What it has is bounded as soon as its rate is known: at the start, that is the first bytes."""
    path = Path(link(accepts * MB), passes_on=rate * MB, together=together)
    path.run(1.1 * START_BYTES / rate / MB + 1)
    assert path.sent <= START_BYTES + 3 * rate * MB * path.now
    path.lost.clear()
    begun = path.now
    before = path.flight.stored_parts.bytes
    path.run(max(60, 5 * PART / rate / MB))
    most = max(HORIZON * rate * MB, PART)
    assert sum(lost > 1.001 * most for lost in path.lost) <= 0.02 * len(path.lost)
    stored = path.flight.stored_parts.bytes - before
    assert stored >= 0.85 * rate * MB * (path.now - begun) - PART


def test_a_moment_with_nothing_in_flight_bounds_what_begins_after_it() -> None:
    path = Path(link(50 * MB), passes_on=0.8 * MB, together=True).run(60)
    assert path.flight.limit == 1
    path.flying.clear()
    path.flight.sample(Sample(now=path.now + TICK, acknowledged=int(path.sent), writing=0))
    assert path.flight.limit == 1


def test_parts_that_wait_count_among_those_that_are_bounded() -> None:
    flight = Flight()
    flight.expect_parts(0.0, int(PART))
    for tick in range(1, 61):
        flight.sample(Sample(now=tick * TICK, acknowledged=0, writing=1, part_size=PART, is_late=tick * TICK > LATE))
    flight.stored(6.0, int(3 * PART), began=0.0, accepted=1.0)
    assert flight.limit == int(AIM * 3 * PART / 6 / PART) == 4
    assert [flight.writers(waiting) for waiting in range(7)] == [4, 3, 2, 1, 0, 0, 0]


def test_it_is_bounded_with_a_late_response_and_not_with_the_next_sample() -> None:
    """Its slot is free at once: what follows in it must be bounded. But one of many that is late is an accident."""
    path = Path(each(5 * MB), parts=FEW).run(20)
    assert path.flight.limit == START
    late = path.now + TICK - 1.01 * LATE
    path.flight.stored(path.now + TICK, int(PART), began=late, accepted=late, wrote_for=1.02 * LATE)
    assert not path.flight.responses_are_late, "the store needs a while, as long as it takes to write a body"
    path.flight.stored(path.now + TICK, int(PART), began=late, accepted=late)
    assert path.flight.responses_are_late
    path.flight.stored(path.now + 30, int(PART), began=path.now, accepted=path.now)
    assert path.flight.limit <= START


@each_case("rate", [0.5, 1])
def test_the_next_part_shows_that_the_response_to_the_only_one_is_lost(rate: float) -> None:
    """On a slow link, nothing else is in flight."""
    path = Path(link(rate * MB)).run(60)
    flight, took = path.flight, PART / rate / MB
    stored, sent = flight.stored_parts.parts, int(path.sent)
    seconds = 0.0
    while flight.limit == 1 or not flight.responses_are_late:
        seconds += TICK
        assert seconds < 2.5 * took, "nothing is sent"
        is_late = seconds > LATE
        sample = Sample(now=path.now + seconds, acknowledged=sent, writing=1, part_size=PART, is_late=is_late, left=0)
        flight.sample(sample)
    assert seconds > 2 * took
    assert (flight.limit, flight.writers(1), flight.stored_parts.parts) == (2, 1, stored)
    flight.stored(path.now + seconds, int(PART), began=path.now, accepted=path.now + seconds)
    flight.sample(dataclasses.replace(sample, now=path.now + seconds + TICK, is_late=False))
    assert not flight.responses_are_late


def test_small_files_say_nothing_of_large_bodies_that_wait() -> None:
    path = Path(link(1000 * MB), passes_on=1 * MB).run(100)
    before = path.flight.limit, path.flight.stored_parts.accepted, path.flight.stored_parts.rate
    for _ in range(100):
        path.flight.stored(path.now, SMALL, began=path.now, accepted=path.now)
    assert (path.flight.limit, path.flight.stored_parts.accepted, path.flight.stored_parts.rate) == before
    assert path.flight.responses_are_late


def test_a_store_that_needs_a_while_for_each_response_is_not_slow() -> None:
    """Each connection carries 2 MB/s, and the response comes after 1.5 s: nothing has the bodies but the store."""
    flight = Flight()
    flight.expect_parts(0.0, 16 << 20)
    for part in range(100):
        flight.stored(8.4 + part, 16 << 20, began=part - 1.5, accepted=part + 6.9, wrote_for=8.4)
        sample = Sample(now=8.4 + part, acknowledged=int(20 * MB * part), writing=10, part_size=16 << 20)
        flight.sample(sample)
    assert not flight.responses_are_late


@each_case("responds", [9, 11, 20])
def test_what_needs_long_for_each_part_gets_many_at_a_time(responds: float) -> None:
    """A scanner needs longer for each than the bound has seconds: fewer would be slower, and no sooner stored."""
    path = Path(each(20 * MB), responds=responds)
    assert path.run_until(lambda limit: limit >= 2 * START, within=60 * responds)
    before = path.flight.stored_parts.bytes
    path.run(100)
    assert path.flight.stored_parts.bytes - before >= START * PART * 100 / (responds + 1)
    path.responds, path.passes_on = 0.0, MB
    assert path.run_until(lambda limit: limit <= 2, within=600), "now they wait for one another"
    assert path.run_until(lambda limit: limit == 1, within=LONGEST_REST * REST)


def test_parts_that_come_to_wait_for_one_another_are_one_at_a_time_again() -> None:
    bound, now = Bound(), 0.0

    def in_flight(parts: int, took: float) -> int:
        """Show parts that are there together and end together, and return how many may be in flight then."""
        nonlocal now
        bound.sampled(now, parts)
        now += took
        for _ in range(parts):
            bound.part_was_late(now, took, most=64)
        bound.stored(now, rate=1.0, part_size=1e6)
        return bound.limit or 0

    assert any(in_flight(1, 20) == 2 for _ in range(200)), "each takes long, though it is alone: two are tried"
    assert in_flight(2, 20) == 4, "two do not wait for one another: four are tried"
    assert in_flight(4, 45) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("rate", [8, 2])
def test_parts_that_wait_for_one_another_are_rarely_doubled(rate: float) -> None:
    path = Path(link(1000 * MB), passes_on=rate * MB, together=True).run(60)
    usual = AIM * rate * MB / PART
    assert sum(limit > 1.3 * usual for limit in path.limits(900)) * TICK <= 900 / LONGEST_REST


@each_case("rate", [0.5, 5])
@each_case("together", [False, True])
def test_responses_that_become_late_while_more_parts_helped_are_bounded_at_once(rate: float, together: bool) -> None:
    """A bound that was lifted for what is acknowledged is not lifted for what is stored."""
    path = Path(each(5 * MB), together=together).run(20)
    assert path.flight.limit == MOST
    path.passes_on = rate * MB
    path.goodput = lambda writers: min(50 * MB, 5 * MB * writers)
    sent = path.sent + sum(PART - part.written for part in path.flying)
    path.run(60)
    assert path.flight.limit <= 20
    assert path.sent <= sent + 60 * rate * MB


def test_responses_that_follow_at_once_again_end_it() -> None:
    path = Path(link(1000 * MB), passes_on=1 * MB).run(100)
    assert (path.flight.limit, path.flight.responses_are_late) == (1, True)
    path.passes_on = math.inf
    path.goodput = each(5 * MB)
    path.run(15)
    assert not path.flight.responses_are_late
    assert path.run(30).flight.limit == MOST


def test_a_chosen_concurrency_is_measured_too() -> None:
    """Whether a response is overdue follows from it."""
    path = Path(link(1000 * MB), passes_on=2 * MB, flight=Flight(4)).run(60)
    assert path.flight.stored_parts.rate == pytest.approx(2 * MB, rel=0.05)
    assert set(path.writing[:20]) <= {0, 1, 2, 3, 4}


# -- no decision is for ever


def slow_link(path: Path) -> None:
    path.goodput = link(0.2 * MB)
    path.run(200)


def slow_proxy(path: Path) -> None:
    path.goodput, path.passes_on = link(1000 * MB), 0.5 * MB
    path.run(200)


def little_each(path: Path) -> None:
    path.goodput = each(0.05 * MB)
    path.run(200)


def outage(path: Path) -> None:
    path.goodput = link(0)
    path.run(200)


def refusing_store(path: Path) -> None:
    for _ in range(1000):
        path.run(TICK)
        path.flight.began()
        path.flight.refused(path.now)


def silent_store(path: Path) -> None:
    for _ in range(100):
        path.run(1)
        path.flight.sent_again(path.now)


@pytest.mark.exhaustive
@pytest.mark.parametrize("before", [20, 0])
@each_case("disaster", [slow_link, slow_proxy, little_each, outage, refusing_store, silent_store])
def test_no_decision_is_for_ever(disaster: Callable[[Path], None], before: float) -> None:
    path = Path(each(5 * MB)).run(before)
    disaster(path)
    path.goodput, path.passes_on = each(5 * MB), math.inf
    assert path.run_until(lambda limit: limit > MOST / 2, within=LONGEST_REST * REST)
    path.goodput = link(0.5 * MB)
    assert path.run_until(lambda limit: limit == 1, within=LONGEST_REST * REST)


def test_a_store_that_is_no_longer_late_is_bounded_by_what_it_stored() -> None:
    """A path that is fast again first fills the buffers of new connections: 128 parts were begun within a second, and a
    kill then lost 17 seconds of sending."""
    flight, now = Flight(), 0.0

    def sample(*, late: bool) -> None:
        flight.sample(
            Sample(now=now, acknowledged=int(now * MB), writing=flight.limit, part_size=int(PART), is_late=late)
        )

    flight.expect_parts(now, int(PART))
    for _ in range(6):
        for _ in range(20):
            now += 0.25
            sample(late=True)
        flight.stored(now, int(PART), began=now - 20, accepted=now - 15)
    for _ in range(4):
        now += 0.25
        flight.stored(now, int(PART), began=now - 2, accepted=now, wrote_for=2)
        sample(late=False)
    assert not flight.responses_are_late
    assert flight.limit <= HORIZON * flight.stored_parts.rate / PART

"""The limit of parts in flight as trials and refusals change it, on links whose clock is the test's.

The parts are of one byte here, so that no bound applies: that is `test_flight_bound`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest

from bigupload.core.flight import MOST, START_LEAST, Flight, Sample
from bigupload.core.flight_trials import (
    BACK_OFF,
    LASTING,
    LEAP,
    LONGEST_REST,
    PROBE_AFTER,
    QUEUED,
    QUEUED_FOR,
    REFUSALS,
    REFUSED_SHARE,
    SOON,
    WINDOW,
    Bottleneck,
)
from tests.core.simulated_links import MIB, RATE, START, START_BYTES, TICK, changes, refuse, simulate
from tests.tools.cases import each_case

pytestmark = pytest.mark.usefixtures("few_to_begin_with")


def tail(limits: list[int]) -> list[int]:
    return limits[-int(120 / TICK) :]


def mean(limits: list[int]) -> float:
    return sum(limits) / len(limits)


# -- the first parts


def first_parts(took: float, *, stored: int = 6, flight: Flight | None = None) -> Flight:
    """A path after its first parts, of 5 MiB, of which six may begin."""
    flight = flight or Flight()
    flight.expect_parts(0.0, 5 * MIB)
    flight.sample(Sample(now=0.0, acknowledged=0, writing=6, part_size=5 * MIB, round_trip=0.001))
    for _ in range(stored):
        flight.stored(took, 5 * MIB, began=0.0, accepted=took)
    return flight


def test_first_parts_that_end_within_a_window_widen_the_limit_at_once() -> None:
    assert first_parts(WINDOW).limit == LEAP * START
    assert first_parts(1.01 * WINDOW).limit == START
    assert first_parts(WINDOW, stored=5).limit == START
    assert first_parts(WINDOW, flight=Flight(3)).limit == 3
    assert first_parts(WINDOW, flight=Flight(most=10)).limit == 10
    refused = Flight()
    refuse(refused, 0.0)
    assert first_parts(WINDOW, flight=refused).limit < START


@pytest.mark.parametrize(("grows", "stays"), [(1.0, False), (1.35, False), (LEAP, True)])
def test_a_limit_that_was_widened_at_once_stays_if_goodput_grew(grows: float, stays: bool) -> None:
    """The first six parts had six connections' worth, in 0.2 s. Four times as many must carry 1.41 times as much."""
    flight, sent = first_parts(0.2), 6 * 5 * MIB
    limits = []
    for tick in range(1, 30):
        sent += int(6 * 5 * MIB / 0.2 * grows * TICK)
        sample = Sample(now=0.2 + tick * TICK, acknowledged=sent, writing=flight.limit, part_size=5 * MIB)
        flight.sample(sample)
        limits.append(flight.limit)
    assert limits[0] == LEAP * START
    assert (min(limits) >= LEAP * START) == stays


def after_first_parts(link: Callable[[int], float], *, seconds: float = 10, refused_at: float = math.inf) -> list[int]:
    """The limits of a link whose first parts, four instead of eight, have four connections' worth until 2 s."""
    flight, size = Flight(), 2 * RATE
    flight.expect_parts(0.0, START_BYTES // START_LEAST)
    for stored in range(START_LEAST):
        if refused_at == stored:
            refuse(flight, 2.0)
        flight.stored(2.0, size, began=0.0, accepted=2.0)
    if refused_at == START_LEAST:
        refuse(flight, 2.0)
    limits, sent = [], START_LEAST * size
    for tick in range(1, int(seconds / TICK)):
        sent += int(link(flight.limit) * RATE * TICK)
        flight.sample(Sample(now=2.0 + tick * TICK, acknowledged=sent, writing=flight.limit, part_size=size))
        limits.append(flight.limit)
    return changes(limits)


@pytest.mark.parametrize(
    ("carried", "then"),
    [(1.0, [16, 8, 6]), (0.99, [16, 8, 4]), (0.5, [16, 8, 4])],
    ids=["as much", "a little less", "half"],
)
def test_the_first_trial_of_fewer_is_as_few_as_carried_more(carried: float, then: list[int]) -> None:
    """As many as the first parts, if more of them carry less."""
    assert after_first_parts(lambda limit: 4 if limit <= 4 else 4 * carried)[:3] == then


def test_a_trial_of_few_that_carry_too_little_is_undone_and_not_repeated() -> None:
    assert after_first_parts(lambda limit: 3.0 * min(limit, 8) / 8, seconds=40)[:4] == [16, 8, 4, 8]
    assert after_first_parts(lambda limit: 3.0 * min(limit, 8) / 8, seconds=40).count(4) == 1


@pytest.mark.parametrize("stored", [1, START_LEAST])
def test_after_a_refusal_the_first_parts_say_nothing(stored: int) -> None:
    limits = after_first_parts(lambda limit: 4 if limit <= 4 else 3, refused_at=stored)
    assert limits[:3] == [7, 6, 5]


# -- links


@pytest.mark.exhaustive
@pytest.mark.parametrize(("noise", "most"), [(0.06, 1.4), (0.0, 1.4), (0.12, 2.3)])
@each_case("enough", [1, 2, 4, 10, 20, 40, 64])
def test_a_link_that_saturates(enough: int, noise: float, most: float) -> None:
    """It stays near what is needed, from above and from below, also where goodput wavers."""
    limits = tail(simulate(Flight(), lambda limit: min(limit, enough), noise=noise))
    assert 0.85 * enough <= mean(limits) <= 1.15 * enough + 0.5
    assert max(limits) <= min(MOST, most * enough + 2)


def test_a_link_that_always_wants_more() -> None:
    limits = simulate(Flight(), lambda limit: limit)
    assert changes(limits)[:4] == [16, 32, 64, MOST]
    assert 1.8 / TICK <= limits.index(64) <= 3.5 / TICK, "two windows for each"
    assert max(limits) == MOST
    assert mean(tail(limits)) >= 0.9 * MOST


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
@each_case("most", [1, 2, 3, 4, 8, 12, 20])
def test_a_store_that_says_slow_down(most: int, seed: int) -> None:
    limits = simulate(Flight(), lambda limit: limit, slow_above=most, noise=0.03, seed=seed)
    early, late = limits[int(20 / TICK) : int(60 / TICK)], tail(limits)
    for some in (early, late):
        # What it takes, it gets, but for trials, whose smallest step is 1.
        assert mean([min(limit, most) for limit in some]) >= min(0.88 * most, most - 0.6)
    assert sum(max(0, limit - most) for limit in late) <= 0.06 * sum(late)  # what was too much once is tried rarely


@pytest.mark.parametrize("most", [32, 50])
def test_a_store_that_refuses_the_last_few(most: int) -> None:
    """Of so many, a few refused look like hiccups; they stay few."""
    limits = tail(simulate(Flight(), lambda limit: limit, slow_above=most, noise=0.03))
    assert sum(max(0, limit - most) for limit in limits) <= 0.1 * sum(limits)
    assert mean([min(limit, most) for limit in limits]) >= 0.88 * most


def test_a_store_that_has_hiccups() -> None:
    """Fewer parts at once would change nothing: three in a hundred are refused anyway."""
    runs = [simulate(Flight(), lambda n: n, hiccups=0.03, seconds=120, seed=seed) for seed in range(10)]
    assert sum(map(mean, runs)) / len(runs) >= 0.85 * MOST
    assert sum(max(limits) == MOST for limits in runs) >= 8  # now and then chance looks like intent


def test_a_store_that_comes_to_take_less_and_more_again() -> None:
    flight = Flight()
    simulate(flight, lambda limit: limit, seconds=60)
    assert flight.limit >= 0.75 * MOST
    limits = simulate(flight, lambda limit: limit, slow_above=5, seconds=60)
    assert max(limits[int(10 / TICK) :]) <= 7
    assert tail(simulate(flight, lambda limit: limit, seconds=200))[-1] > MOST / 2


def test_trials_that_keep_failing_grow_rare() -> None:
    """Where the limit is right already, more bring too little and fewer cost too much."""
    limits = simulate(Flight(), lambda limit: 10 * limit**0.15)
    begun = [tick * TICK for tick in range(1, len(limits)) if limits[tick - 1] == START != limits[tick]]
    gaps = [after - before for before, after in itertools.pairwise(begun)]
    assert max(gaps[:2]) < 5
    assert 18 < min(gaps[-3:]) <= max(gaps[-3:]) < 25


def test_connections_in_a_slow_start_of_their_own_are_waited_for() -> None:
    """They fill the link by themselves, so that growth is no sign that more of them would carry more."""
    ticks = itertools.count(1)
    limits = simulate(Flight(), lambda _: min(START, 0.1 * 1.4 ** next(ticks)), seconds=6)
    assert max(limits) == 2 * START, "one doubling, to see whether there is more"
    assert limits[-1] < 1.3 * START


def after(seconds: float, then: Callable[[int], float], first: Callable[[int], float]) -> Callable[[int], float]:
    """A link that becomes another; asked once a tick."""
    ticks = itertools.count()
    return lambda limit: (first if next(ticks) * TICK < seconds else then)(limit)


def test_connections_that_carry_less_once_they_are_old() -> None:
    """What fills the path while they are new does not later: as Reno with random losses."""
    limits = simulate(Flight(), after(30, lambda limit: limit / 4, lambda limit: min(limit, 20)), seconds=50)
    assert limits[int(30 / TICK) - 1] < 32
    assert max(limits) == MOST


@pytest.mark.exhaustive
@pytest.mark.parametrize("every", [10, 30])
@each_case("enough", [5, 20])
def test_one_bad_second_now_and_then_is_no_sign_of_anything(enough: int, every: int) -> None:
    """It passes by itself, which must not be taken for what more connections brought."""
    ticks = itertools.count()

    def link(limit: int) -> float:
        return min(limit, enough) * (0.5 if next(ticks) * TICK % every < 1 else 1)

    limits = tail(simulate(Flight(), link, noise=0.06))
    assert max(limits) < MOST
    assert mean(limits) <= max(16, 1.5 * enough)


def test_a_disk_that_writes_in_bursts_and_is_slower_the_more_it_is_asked_for() -> None:
    """Its pauses are no sign that each connection carries less, and its bursts are no merit of more of them."""

    def disk(seed: int) -> Callable[[int], float]:
        chance, ticks = random.Random(seed), itertools.count()
        pace = [chance.choice([0, 0.5, 1, 1.5, 2]) for _ in range(1000)]
        return lambda limit: pace[next(ticks) // 4 % 1000] * min(limit, 8) * min(1, 20 / limit)

    means = [mean(simulate(Flight(), disk(seed), seconds=120)) for seed in range(6)]
    assert sum(means) / len(means) < 56, means


def test_a_path_that_has_become_narrow_is_not_crowded() -> None:
    narrow = after(30, lambda limit: min(limit, 5), lambda limit: min(limit, 20))
    limits = simulate(Flight(), narrow, noise=0.06)[int(30 / TICK) :]
    assert max(limits) > 32, "more is tried"
    assert sum(limit > 32 for limit in limits) * TICK < 2 * LASTING * WINDOW, "once"
    assert max(tail(limits)) <= 8


def test_nothing_doubles_while_nothing_arrives() -> None:
    """Connections may take their time, to a store that is far away or to one that is not there."""
    assert set(simulate(Flight(), lambda _: 0, seconds=10)) == {START}


# -- refusals


def test_it_backs_off_once_for_all_that_was_in_flight() -> None:
    flight = Flight()
    refuse(flight, 100.0, times=50)  # every part in flight brings the same news
    refuse(flight, 100.0 + WINDOW * 0.99, times=50)
    assert flight.limit == int(BACK_OFF * START)
    flight = Flight()
    refuse(flight, 100.0)
    assert flight.limit == int(BACK_OFF * START)
    for later in range(1, 20):
        refuse(flight, 100.0 + 1.01 * WINDOW * later)
    assert flight.limit == 1


def test_a_few_refusals_are_no_news() -> None:
    flight = Flight()
    refuse(flight, 0.0, times=REFUSALS - 1)
    assert flight.limit == START
    refuse(flight, 0.0, times=1)
    assert flight.limit < START


@pytest.mark.parametrize(("fewer", "limit"), [(1, START), (0, int(BACK_OFF * START))])
def test_it_is_the_share_that_counts(fewer: int, limit: int) -> None:
    times = int(REFUSED_SHARE * 400) - fewer
    flight = Flight()
    refuse(flight, 0.0, times=times, accepted=400 - times)
    assert flight.limit == limit


def test_refusals_of_long_ago_do_not_count() -> None:
    """Ten seconds without another: what was accepted before them, too."""
    flight = Flight()
    refuse(flight, 0.0, times=REFUSALS - 1, accepted=100)
    simulate(flight, lambda _: 1.0, seconds=10)
    before = flight.limit
    refuse(flight, 20.0, times=REFUSALS)
    assert flight.limit < before


def test_one_more_than_the_ceiling_is_tried_ever_more_rarely() -> None:
    limits = simulate(Flight(), lambda limit: limit, slow_above=6)
    rises = [tick * TICK for tick in range(1, len(limits)) if limits[tick] > 6 >= limits[tick - 1]]
    rises = [when for when in rises if when > PROBE_AFTER]
    assert 2 <= len(rises) <= 8
    assert rises[-1] - rises[-2] > 2 * (rises[1] - rises[0]) or rises[-1] - rises[-2] > 4 * PROBE_AFTER


def test_a_store_that_refused_for_hours_is_tried_again_within_minutes() -> None:
    flight = Flight()
    simulate(flight, lambda limit: limit, slow_above=3, seconds=5000)
    limits = simulate(flight, lambda limit: limit, seconds=int(2 * LONGEST_REST * PROBE_AFTER), since=5000)
    assert max(limits) == MOST


def test_after_slow_down_the_limit_stays_below_what_was_too_much() -> None:
    flight = Flight()
    refuse(flight, 0.0, accepted=10)
    limits = simulate(flight, lambda limit: limit, seconds=int(PROBE_AFTER))
    assert max(limits) == START - 1


def test_a_whole_body_that_is_sent_again_lowers_the_limit_by_itself() -> None:
    flight = Flight()
    simulate(flight, lambda limit: limit, seconds=20)
    before = flight.limit
    flight.sent_again(20.1)
    assert flight.limit == int(BACK_OFF * before)
    flight.sent_again(20.2)
    assert flight.limit == int(BACK_OFF * before), "all that were in flight bring the same news"
    assert max(simulate(flight, lambda limit: limit, seconds=int(20 + PROBE_AFTER))[200:]) == before - 1
    assert simulate(flight, lambda limit: limit, seconds=100)[-1] == MOST


# -- trials, each told the goodput of one window after the other


class Measured:
    """A flight that is told each window's goodput, with as many parts in flight as the limit allows."""

    def __init__(self) -> None:
        self.flight = Flight()
        self.now = self.sent = 0.0
        self._sample(Bottleneck.UNKNOWN)

    def _sample(self, bottleneck: Bottleneck) -> None:
        writing = self.flight.limit
        self.flight.sample(Sample(now=self.now, acknowledged=int(self.sent), writing=writing, bottleneck=bottleneck))

    def windows(self, *goodput: float, bottleneck: Bottleneck = Bottleneck.UNKNOWN) -> int:
        """The limit after these, in bytes a second."""
        for each in goodput:
            limit = self.flight.limit
            self.now += 1.001 * WINDOW
            self.sent += 1.001 * WINDOW * each
            self._sample(bottleneck)
            if self.flight.limit != limit:
                self._sample(bottleneck)
        return self.flight.limit


@pytest.mark.parametrize(("grows_by", "limit"), [(1.08, 2 * START), (1.12, START)])
def test_the_first_trial_waits_until_goodput_does_not_grow_by_itself(grows_by: float, limit: int) -> None:
    assert Measured().windows(1e6, grows_by * 1e6) == limit


@pytest.mark.parametrize(("brings", "limit"), [(1.21, 4 * START), (1.17, START)])
def test_a_doubling_must_bring_enough(brings: float, limit: int) -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6) == 2 * START
    assert measured.windows(brings * 1e6, brings * 1e6) == limit


@pytest.mark.parametrize(("keeps", "limit"), [(0.995, 5), (0.98, START)])
def test_fewer_parts_stay_where_they_cost_nothing(keeps: float, limit: int) -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6, 1e6, 1e6) == START, "a doubling that brought nothing"
    assert measured.windows(1e6, 1e6, 1e6) == 6
    assert measured.windows(keeps * 1e6, keeps * 1e6) == 6
    assert measured.windows(keeps * 1e6) == limit


@pytest.mark.parametrize(("falls_to", "limit"), [(0.45, 2 * START), (0.55, 6)])
def test_goodput_that_has_sunk_begins_the_search_anew(falls_to: float, limit: int) -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6, 1e6, 1e6) == START
    low = falls_to * 1e6
    assert measured.windows(low, low) == START, "which may be an accident"
    assert measured.windows(low) == limit


@pytest.mark.parametrize("windows", [5, 8])
def test_a_trial_lasts_as_long_as_the_first_connections_took_to_be_up_to_speed(windows: int) -> None:
    """What new connections bring over a long path shows after several round trips."""
    measured = Measured()
    ramp = [1e5 * 1.3**n for n in range(windows)]
    assert measured.windows(*ramp, ramp[-1]) == 2 * START
    assert measured.windows(*[ramp[-1]] * windows) == 2 * START
    assert measured.windows(*[ramp[-1]] * 2) == START


def test_a_start_that_hung_does_not_make_every_trial_long() -> None:
    measured = Measured()
    assert measured.windows(*[0.0] * 100, 1e6, 1e6) == 2 * START
    assert measured.windows(*[1e6] * LASTING) == 2 * START
    assert measured.windows(*[1e6] * 3) == START


# -- a link that is full


@each_case(
    ("least", "now", "full"),
    [
        (0.1, 0.1 * (1 + QUEUED) + 1e-9, True),
        (0.1, 0.1 * (1 + QUEUED) - 1e-9, False),
        (0.001, 0.001 + QUEUED_FOR + 1e-9, True),
        (0.001, 0.001 + QUEUED_FOR - 1e-9, False),
        (0.0, 0.0, False),
    ],
)
def test_packets_that_wait_show_a_full_link(least: float, now: float, full: bool) -> None:
    assert Bottleneck.of([(least, now, False)]) is (Bottleneck.LINK if full else Bottleneck.UNKNOWN)


def test_most_connections_must_show_it() -> None:
    """A connection that is new to a full link has never seen a short round trip, and what is not known shows none."""
    waits, new, unknown = (0.05, 0.1, False), (0.1, 0.1, False), (0.0, 0.0, False)
    assert Bottleneck.of([waits, waits, new]) is Bottleneck.LINK
    for some in ([waits, new], [waits, unknown], []):
        assert Bottleneck.of(some) is Bottleneck.UNKNOWN


def test_a_store_that_reads_slowly_does_not_look_like_a_full_link() -> None:
    """It acknowledges late."""
    slow, other, queued = (0.0001, 0.0065, True), (0.0001, 0.0001, False), (0.0001, 0.0065, False)
    assert Bottleneck.of([slow, slow, other]) is Bottleneck.STORE
    assert Bottleneck.of([slow, other]) is Bottleneck.UNKNOWN
    assert Bottleneck.of([slow, queued]) is Bottleneck.UNKNOWN
    assert Bottleneck.of([slow, queued, queued]) is Bottleneck.LINK


@pytest.mark.parametrize(("least", "found"), [(SOON, Bottleneck.STORE), (1.001 * SOON, Bottleneck.UNKNOWN)])
def test_over_a_long_path_a_new_connection_is_not_up_to_speed_at_once(least: float, found: Bottleneck) -> None:
    assert Bottleneck.of([(least, 2 * least, True)]) is found


def test_the_limit_is_not_doubled_while_the_link_is_full() -> None:
    measured = Measured()
    assert measured.windows(*[1e6] * 7, bottleneck=Bottleneck.LINK) == START
    assert measured.windows(1e6) == 2 * START


def test_if_the_link_stays_full_fewer_parts_are_tried() -> None:
    """And small steps up: its queue may be that of others."""
    measured = Measured()
    assert measured.windows(*[1e6] * (LASTING - 1), bottleneck=Bottleneck.LINK) == START
    assert measured.windows(1e6, bottleneck=Bottleneck.LINK) == 6
    assert measured.windows(*[1e6] * 3, bottleneck=Bottleneck.LINK) == 5, "because that cost nothing"
    assert measured.windows(*[5e5] * 3, bottleneck=Bottleneck.LINK) == 6, "fewer parts cost half of the goodput"
    assert not measured.flight.doubles
    assert measured.windows(*[1e6] * 4, bottleneck=Bottleneck.LINK) == 8


@pytest.mark.parametrize(("brings", "limit"), [(1.21, 4 * START), (1.17, START)])
def test_one_window_shows_what_a_doubling_brings_at_a_store_that_holds_connections_back(
    brings: float, limit: int
) -> None:
    measured = Measured()
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 2 * START
    assert measured.windows(brings * 1e6, bottleneck=Bottleneck.STORE) == limit


def test_a_goodput_that_wavers_much_is_measured_for_longer() -> None:
    bursts = [1.9e6, 0.1e6] * 8  # the disk writes, and does not
    measured = Measured()
    measured.windows(*bursts)
    settled = measured.flight.limit
    limits = {measured.windows(each, bottleneck=Bottleneck.STORE) for each in bursts[:8]}
    assert limits == {settled}, "a few windows would decide by chance"


def test_smaller_steps_are_measured_for_longer_there_too() -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6, 1e6, 1e6, bottleneck=Bottleneck.STORE) == START, "the doubling was undone"
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 6
    assert measured.windows(0.9e6, 0.9e6, bottleneck=Bottleneck.STORE) == 6
    assert measured.windows(0.9e6, bottleneck=Bottleneck.STORE) == START


def test_how_long_connections_take_to_be_up_to_speed_is_not_learnt_there() -> None:
    measured = Measured()
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 2 * START
    ramp = [2e6 * 1.3**n for n in range(3)]
    assert measured.windows(*ramp, ramp[-1]) == 4 * START
    assert measured.windows(*[ramp[-1]] * 4) == 4 * START, "they take three windows"
    assert measured.windows(ramp[-1]) == 2 * START

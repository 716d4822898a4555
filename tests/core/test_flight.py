"""The limit of parts in flight as trials, refusals and small files change it, on links whose clock is the test's.

The parts are of one byte here, so that no bound applies: that is `test_flight_bound`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core import flight as flight_module
from bigupload.core.flight import (
    AT_SPEED,
    BACK_OFF,
    FAR,
    FILLED,
    LASTING,
    LEAP,
    LONGEST_REST,
    MOST,
    PROBE_AFTER,
    QUEUED,
    QUEUED_FOR,
    REFUSALS,
    REFUSED_SHARE,
    SMALL,
    SMALL_AT_ONCE,
    SMALL_JUDGED,
    SOON,
    START_FAR,
    START_LEAST,
    WINDOW,
    Bottleneck,
    Flight,
    Sample,
)
from bigupload.core.stored_rate import HORIZON, PAUSE, is_late
from tests.tools.cases import each_case, examples

MIB = 1 << 20
START, START_BYTES = 8, 32 * MIB
TICK = 0.1
"""Seconds between samples, as the engine takes them."""
PART_SECONDS = 0.4
"""That one part takes; one that is refused is tried again after half of that."""
RATE = 1_000_000
"""Bytes a second of one connection."""


@pytest.fixture(autouse=True, scope="module")
def few_to_begin_with() -> Iterator[None]:
    """How many parts are best to begin with is shown by `benchmarks controller`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flight_module, "START", START)
        patched.setattr(flight_module, "START_BYTES", START_BYTES)
        yield


def simulate(
    flight: Flight,
    link: Callable[[int], float],
    *,
    slow_above: int = 1000,
    seconds: int = 400,
    hiccups: float = 0.0,
    noise: float = 0.0,
    seed: int = 1,
    since: float = 0.0,
) -> list[int]:
    """The limit at each tick. `link` is the goodput, in connections' worth, of so many connections; `noise` is the
    share by which each tick's may be off. More than `slow_above` parts in flight are refused, and so is a share of all
    of them, the `hiccups`."""
    chance = random.Random(seed)
    limits = []
    sent = 0.0
    for tick in range(1, int(seconds / TICK) + 1):
        now = since + tick * TICK
        taken = min(flight.limit, slow_above)
        sent += link(taken) * RATE * TICK * (1 + chance.uniform(-noise, noise))
        for waiting, refuse, pace in ((taken, hiccups, 1), (flight.limit - taken, 1.0, 2)):
            for _ in range(waiting):
                if chance.random() < pace * TICK / PART_SECONDS:
                    flight.began()
                    if chance.random() < refuse:
                        flight.refused(now)
        flight.sample(Sample(now=now, acknowledged=int(sent), writing=flight.limit))
        limits.append(flight.limit)
    return limits


def tail(limits: list[int]) -> list[int]:
    return limits[-int(120 / TICK) :]


def mean(limits: list[int]) -> float:
    return sum(limits) / len(limits)


def changes(limits: list[int]) -> list[int]:
    return [limit for before, limit in itertools.pairwise(limits) if limit != before]


# -- the start


@each_case(
    ("size", "limit"),
    [(1, START), (START_BYTES // START, START), (5 * MIB, 6), (START_BYTES // START_LEAST, 4), (1 << 30, START_LEAST)],
)
def test_before_the_first_response_few_bytes_go_to_something_near(size: int, limit: int) -> None:
    flight = Flight()
    flight.expect_parts(0.0, size)
    assert flight.limit == limit
    flight.spread(3)
    assert flight.limit == 3 * limit
    flight.spread(1)
    flight.stored(1.0, size, began=0.0, accepted=1.0)
    assert flight.limit == START


@pytest.mark.parametrize(("round_trip", "limit"), [(FAR, START_FAR), (0.999 * FAR, START_LEAST), (0.0, START_LEAST)])
def test_far_away_more_parts_begin(round_trip: float, limit: int) -> None:
    flight = Flight()
    flight.expect_parts(0.0, 1 << 30)
    flight.sample(Sample(now=0.0, acknowledged=0, writing=START_LEAST, part_size=1 << 30, round_trip=round_trip))
    assert flight.limit == limit
    flight.spread(2)
    assert flight.limit == 2 * limit


def test_a_distance_that_shows_late_changes_no_limit_that_was_found() -> None:
    flight = Flight()
    refuse(flight, 0.0)
    found = flight.limit
    flight.sample(Sample(now=1.0, acknowledged=0, writing=found, round_trip=FAR))
    assert flight.limit == found < START
    few = Flight(most=10)
    few.sample(Sample(now=0.0, acknowledged=0, writing=8, round_trip=FAR))
    assert few.limit == 10


def test_it_looks_often_until_the_distance_shows() -> None:
    flight = Flight()
    assert flight.starts
    flight.sample(Sample(now=0.0, acknowledged=0, writing=1))
    assert flight.starts
    flight.sample(Sample(now=0.1, acknowledged=0, writing=1, round_trip=0.001))
    assert not flight.starts
    stored = Flight()
    stored.stored(1.0, 1, began=0.0, accepted=1.0)
    assert not stored.starts
    assert not Flight(3).starts


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


@pytest.mark.parametrize(("grows", "stays"), [(1.0, False), (LEAP, True)])
def test_a_limit_that_was_widened_at_once_stays_if_goodput_grew(grows: float, stays: bool) -> None:
    """The first six parts had six connections' worth, in 0.2 s."""
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


@each_case(("noise", "most"), [(0.0, 1.4), (0.06, 1.4), (0.12, 2.3)])
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


@each_case("seed", range(3))
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


@each_case("every", [10, 30])
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


def refuse(flight: Flight, now: float, *, times: int = REFUSALS, accepted: int = 0) -> None:
    for _ in range(times + accepted):
        flight.began()
    for _ in range(times):
        flight.refused(now)


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


# -- the windows


@each_case(
    ("in_flight", "counts"),
    [
        ([1.0], True),
        ([7 / START], False),  # never as many as may be: there are no more parts, or something else holds back
        ([1.0, 5 / START], False),
        ([1.0, 6 / START], True),  # a slot or two are empty for a moment
        ([1.0, 1.0, 5 / START], True),
        ([1.0, 2 / START], False),
    ],
)
def test_what_is_measured_with_too_few_parts_in_flight_teaches_nothing(in_flight: list[float], counts: bool) -> None:
    assert (sum(in_flight) / len(in_flight) >= FILLED and max(in_flight) == 1) is counts
    flight, limits = Flight(), set()
    for tick in range(100):
        writing = round(in_flight[tick % len(in_flight)] * START)
        flight.sample(Sample(now=tick * TICK, acknowledged=tick * RATE, writing=writing))
        limits.add(flight.limit)
    assert (limits == {START}) is not counts


def test_what_is_still_in_flight_above_the_limit_says_nothing_of_it() -> None:
    flight = Flight()
    sent, parts, highest = 0.0, START, 0
    for tick in range(1, 200):
        sent += min(parts, START) * RATE * TICK
        flight.sample(Sample(now=tick * TICK, acknowledged=int(sent), writing=parts))
        parts = max(parts, flight.limit)  # none comes to its end
        highest = max(highest, flight.limit)
    assert highest == parts == 2 * START
    assert flight.limit <= START


def test_a_window_begins_again_once_too_few_parts_were_in_flight() -> None:
    flight = Flight()
    for at, writing in [(0, START), (0.5, START), (0.9, 2), (1.4, START), (1.95, START), (2.5, START), (3, START)]:
        flight.sample(Sample(now=at * WINDOW, acknowledged=int(at * RATE), writing=writing))
    assert flight.limit == START, "the second window is not over"
    flight.sample(Sample(now=3.6 * WINDOW, acknowledged=int(3.6 * RATE), writing=START))
    assert flight.limit == 2 * START


@pytest.mark.parametrize(("pause", "limit"), [(0.9 * PAUSE, 2 * START), (1.1 * PAUSE, START)])
def test_a_pause_is_no_measurement(pause: float, limit: int) -> None:
    """Between two uploads nothing is sent, and a laptop sleeps."""
    flight = Flight()
    for now, sent in [(0.0, 0), (0.3, RATE), (0.3 + pause, 2 * RATE)]:
        flight.sample(Sample(now=now, acknowledged=sent, writing=START, bottleneck=Bottleneck.STORE))
    assert flight.limit == limit


# -- connections that are too slow for their parts


def slow_at(link: Callable[[int], float], part_size: float, flight: Flight | None = None) -> list[float]:
    """The seconds at which a part of this size is found too large. `link` is as that of `simulate`."""
    flight, ticks, found = flight or Flight(), itertools.count(), []

    def watched(parts: int) -> float:
        now = next(ticks) * TICK
        if flight.is_slow_for(int(part_size)):
            found.append(now)
        return link(parts)

    simulate(flight, watched, seconds=30)
    return found


def test_each_connection_carries_little() -> None:
    flight = Flight()
    assert not flight.is_slow_for(1 << 40)
    assert flight.part_in_time == 0
    simulate(flight, lambda parts: parts, seconds=20)
    assert flight.is_slow_for(int(1.01 * HORIZON * RATE))
    assert not flight.is_slow_for(int(0.99 * HORIZON * RATE))
    assert flight.part_in_time == pytest.approx(HORIZON / 2 * RATE, rel=0.01)


def test_that_shows_before_a_part_can_be_stored() -> None:
    assert AT_SPEED * WINDOW < slow_at(lambda parts: parts, 1.1 * HORIZON * RATE)[0] < HORIZON / 2


@each_case("most", [START / 2, START, 1.35 * START])
def test_where_connections_share_a_link_smaller_parts_bring_nothing(most: float) -> None:
    """A limit that is twice as large may have a third more goodput there, which is worth it."""
    assert not slow_at(lambda parts: min(parts, most), 1e12)


def test_connections_that_were_not_up_to_speed_show_nothing() -> None:
    """What fills the buffers of a store is not counted: at first, little is left."""
    flight = Flight(most=2 * START)
    assert not slow_at(lambda parts: parts * (1 if parts <= START else 1.5), 1e12, flight=flight)


def test_connections_that_still_grow_are_waited_for() -> None:
    """As slowly as Reno: from one window to the next, it does not show."""
    growing, ticks = 20, itertools.count()

    def each(parts: int) -> float:
        return parts * 0.01 * 1.01 ** min(next(ticks), growing / TICK)

    first = slow_at(each, HORIZON * RATE)[0]
    assert growing <= first < growing + AT_SPEED * WINDOW


def test_connections_that_have_been_fast_lately_are_waited_for() -> None:
    """A trial may slow them down, or a moment's loss."""
    ticks = itertools.count()
    first = slow_at(lambda parts: parts * (1.0 if next(ticks) < 10 / TICK else 0.6), 0.9 * HORIZON * RATE)[0]
    assert first == pytest.approx(10 + LASTING * WINDOW, abs=2 * WINDOW)


def test_a_link_that_has_become_narrow_says_nothing_of_connections() -> None:
    ticks = itertools.count()
    most = 2 * START
    assert not slow_at(
        lambda parts: parts if next(ticks) < 10 / TICK else 0.3 * most, 0.9 * HORIZON * RATE, flight=Flight(most=most)
    )


def test_a_pause_ends_the_measurement_of_connections() -> None:
    flight = Flight()
    simulate(flight, lambda parts: parts, seconds=20)
    flight.sample(Sample(now=20 + 1.1 * PAUSE, acknowledged=10**12, writing=MOST))
    assert not flight.is_slow_for(1 << 40)


def test_where_responses_are_late_nobody_knows_what_connections_carry() -> None:
    flight = Flight()
    simulate(flight, lambda parts: parts, seconds=20)
    flight.sample(Sample(now=20 + TICK, acknowledged=10**12, writing=MOST, is_late=True))
    assert not flight.is_slow_for(1 << 40)


def test_a_fixed_limit_shows_nothing_of_connections() -> None:
    flight = Flight(START)
    simulate(flight, lambda parts: parts, seconds=20)
    assert not flight.is_slow_for(1 << 40)


# -- several machines, and what the user chose


def test_each_machine_brings_as_much_room_as_one_alone() -> None:
    flight = Flight()
    flight.spread(4)
    assert flight.limit == 4 * START
    assert max(simulate(flight, lambda limit: limit, seconds=30)) == 4 * MOST
    flight.spread(2)
    assert flight.limit == 2 * MOST


def test_a_limit_that_was_found_stays_when_machines_come() -> None:
    flight = Flight()
    refuse(flight, 100.0)
    found = flight.limit
    flight.spread(8)
    assert flight.limit == found < START


def test_room_for_one_part_a_machine_stays_that() -> None:
    flight = Flight(most=1)
    flight.spread(3)
    assert flight.limit == 3
    flight.spread(1)
    assert flight.limit == 1
    assert set(simulate(flight, lambda limit: limit, seconds=5)) == {1}


@each_case("fixed", [1, 3, 64, 256])
def test_a_fixed_limit_is_that_of_all_machines_together_and_nothing_changes_it(fixed: int) -> None:
    flight = Flight(fixed)
    assert not flight.adapts
    assert not flight.doubles
    assert Flight().adapts
    assert Flight().doubles
    flight.spread(4)
    flight.expect_files()
    flight.expect_parts(0.0, 1 << 30, rate=1.0)
    assert set(simulate(flight, lambda limit: limit, slow_above=0, seconds=20)) == {fixed}
    flight.sent_again(20.0)
    flight.stored(30.0, 1 << 30, began=0.0, accepted=0.0)
    small(flight, *[(0.0, 1.0), *[(1.0, 31.0)] * SMALL_JUDGED])
    flight.sample(Sample(now=31.0, acknowledged=0, writing=1, part_size=1e9, is_late=True, round_trip=1.0))
    assert (flight.limit, flight.writers(0), flight.writers(7)) == (fixed, fixed, fixed)
    assert not flight.responses_are_late


# -- small files


def small(flight: Flight, *responses: tuple[float, float], size: int = 1000) -> int:
    """The limit after PUTs that began and were responded to at these times, in seconds."""
    for began, ended in responses:
        flight.stored(ended, size, began=began, accepted=ended)
    return flight.limit


def files(most: int | None = None) -> Flight:
    flight = Flight(most=most)
    flight.expect_files()
    assert flight.limit == min(SMALL_AT_ONCE, most or MOST)
    return flight


@pytest.mark.parametrize(("seconds", "limit"), [(0.005, SMALL_AT_ONCE), (0.0625, 188), (0.5, 256)])
def test_as_many_as_one_process_sends_meanwhile(seconds: float, limit: int) -> None:
    flight = files()
    assert small(flight, (0.0, 0.5), *[(1.0, 1.0 + seconds)] * (SMALL_JUDGED - 1)) == SMALL_AT_ONCE
    assert small(flight, (1.0, 1.0 + seconds)) == limit
    assert small(flight, *[(1.0, 9.0)] * 100) == limit


def test_the_quickest_response_counts() -> None:
    """Later responses wait in a busy process, and so take as long as those of a store that is far away."""
    assert small(files(), (0.0, 0.5), (1.0, 1.0625), *[(1.0, 3.0)] * SMALL_JUDGED) == 188
    assert small(files(), (0.0, 0.016), *[(1.0, 1.0625)] * SMALL_JUDGED) == SMALL_AT_ONCE


def test_what_began_before_the_first_response_had_to_connect() -> None:
    flight = files()
    assert small(flight, *[(0.0, 1.0)] * 100) == SMALL_AT_ONCE
    assert small(flight, *[(1.0, 1.0625)] * SMALL_JUDGED) == 188


def test_larger_files_wait_for_the_link() -> None:
    flight = files()
    assert small(flight, *[(1.0, 2.0)] * 100, size=SMALL + 1) == SMALL_AT_ONCE
    assert small(flight, (1.9, 2.0), *[(2.0, 2.0625)] * SMALL_JUDGED, size=SMALL) == 188


@pytest.mark.parametrize("most", [None, 20])
def test_small_files_have_twice_the_room_of_parts(most: int | None) -> None:
    far = [(0.0, 0.5), *[(1.0, 2.0)] * SMALL_JUDGED]
    flight = files(most)
    assert small(flight, *far) == 2 * (most or MOST)
    flight.expect_parts(2.0, 1000)
    assert flight.limit == (most or MOST)
    beside = Flight(most=most)
    beside.expect_parts(0.0, 1000)
    beside.expect_files()
    assert beside.limit == min(START, most or START), "parts are in flight"
    assert small(beside, *far) == (most or MOST)


def test_no_wider_start_after_a_refusal_or_a_trial() -> None:
    far = [(0.0, 0.5), *[(1.0, 2.0)] * SMALL_JUDGED]
    refused = files()
    refused.began()
    refused.refused(1.0)
    assert small(refused, *far) == SMALL_AT_ONCE
    tried = Flight()
    simulate(tried, lambda limit: limit, seconds=1)
    found = tried.limit
    tried.expect_files()
    assert small(tried, *far) == found != START


def test_a_trial_with_fewer_small_files_that_fails_is_undone() -> None:
    flight = files()
    widest = small(flight, (0.0, 0.5), *[(1.0, 2.0)] * SMALL_JUDGED)
    limits = simulate(flight, lambda limit: limit, seconds=20)
    assert min(limits) < widest
    assert limits.count(widest) > len(limits) / 2


def test_what_was_measured_before_is_not_the_wider_limit_s() -> None:
    flight = files()
    for window in range(2):
        flight.sample(Sample(now=window * WINDOW, acknowledged=window * 1000, writing=flight.limit))
    limit = small(flight, (0.0, 0.2), *[(0.2, 0.2625)] * SMALL_JUDGED)
    for window in range(2, 4):  # one whole window since then
        flight.sample(Sample(now=window * WINDOW, acknowledged=window * 1000, writing=limit))
    assert flight.limit == limit == 188


# -- any events


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["sample", "idle", "late", "refused", "again", "stored", "stored late", "parts", "files"]),
        st.floats(0, 3, allow_nan=False),
        st.integers(-(2**20), 2**32),
        st.integers(1, 300),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=examples(300))
@given(events=EVENTS, machines=st.integers(1, 3))
def test_it_never_leaves_its_bounds(events: list[tuple[str, float, int, int]], machines: int) -> None:
    """For any measurement, even if the number of sent bytes falls because a part in flight was aborted."""
    flight = Flight()
    flight.spread(machines)
    now, sent = 0.0, 0
    for what, pause, count, parts in events:
        now, sent, before = now + pause, sent + count, flight.limit
        flight.began()
        match what:
            case "refused" | "again":
                (flight.refused if what == "refused" else flight.sent_again)(now)
                assert flight.limit <= before
            case "stored" | "stored late":
                flight.stored(now, abs(count), began=now - 3, accepted=now - 2 * (what == "stored late"))
            case "parts":
                flight.expect_parts(now, abs(count) + 1, rate=pause * 1e6 if parts % 2 else None)
            case "files":
                flight.expect_files()
            case _:
                waited = pause if what == "late" else 0.0
                writing = flight.limit if what == "sample" else parts % (flight.limit + 1)
                size = abs(count) / parts
                flight.sample(
                    Sample(
                        now=now,
                        acknowledged=sent,
                        writing=writing,
                        part_size=size,
                        is_late=is_late(waited, 0.0),
                        left=pause,
                    )
                )
        assert 1 <= flight.limit <= 2 * MOST * machines
        assert flight.writers(0) >= 1
        assert 0 <= flight.writers(parts) <= max(1, flight.limit)
        assert flight.writers(parts) >= flight.writers(parts + 1)

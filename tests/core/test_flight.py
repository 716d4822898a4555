"""What is in flight at the start, of several machines, of small files, over slow connections, and after any events."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.flight import (
    FAR,
    FILLED,
    MOST,
    SMALL,
    SMALL_AT_ONCE,
    SMALL_JUDGED,
    START_FAR,
    START_LEAST,
    Flight,
    Sample,
)
from bigupload.core.flight_bound import AT_SPEED
from bigupload.core.flight_trials import LASTING, WINDOW, Bottleneck
from bigupload.core.stored_rate import HORIZON, PAUSE, is_late
from tests.core.simulated_links import MIB, RATE, START, START_BYTES, TICK, refuse, simulate
from tests.tools.cases import each_case, examples

pytestmark = pytest.mark.usefixtures("few_to_begin_with")


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


@each_case(
    ("count", "limit"),
    [(0, 24), (1, 24), (24, 24), (25, 25), (30, 30), (31, 24), (48, 24), (49, 25), (60, 30), (61, 24), (73, 24)],
)
def test_far_away_no_part_is_left_alone_for_the_last_round(count: int, limit: int) -> None:
    flight = Flight()
    flight.expect_parts(0.0, 5 * MIB, count=count)
    flight.sample(Sample(now=0.0, acknowledged=0, writing=6, part_size=5 * MIB, round_trip=FAR))
    assert flight.limit == limit
    few = Flight(most=24)
    few.expect_parts(0.0, 5 * MIB, count=count)
    few.sample(Sample(now=0.0, acknowledged=0, writing=6, part_size=5 * MIB, round_trip=FAR))
    assert few.limit == 24


@each_case(
    ("count", "limit"), [(0, 6), (1, 6), (6, 6), (7, 7), (8, 6), (12, 6), (13, 7), (14, 7), (15, 6), (18, 6), (19, 6)]
)
def test_nor_near_by(count: int, limit: int) -> None:
    flight = Flight()
    flight.expect_parts(0.0, 5 * MIB, count=count)
    assert flight.limit == limit


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


@each_case(
    ("writing", "searches"),
    [
        ([10, 8, 7, 6, 5, 4, 3, 2, 1, 0], [7, 4, 2, 1]),
        ([10, 3, 10, 8, 7], [3, 7]),  # parts have come meanwhile
        ([1, 1, 0, 0, 1], []),
    ],
)
@pytest.mark.parametrize("fixed", [None, 10])
def test_the_last_parts_search_for_what_others_have_left(
    fixed: int | None, writing: list[int], searches: list[int]
) -> None:
    flight = Flight(fixed)
    assert [parts for parts in writing if flight.searches(parts, ending=True)] == searches


def test_where_other_parts_wait_none_searches() -> None:
    flight = Flight()
    assert not any(flight.searches(parts, ending=False) for parts in (10, 7, 1))
    assert flight.searches(7, ending=True)


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

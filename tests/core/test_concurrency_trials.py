"""The concurrency controller's trials, each told the goodput of one window after the other."""

from __future__ import annotations

import pytest

from bigupload.core.concurrency_control import (
    LONGEST_RAMP,
    PATIENCE,
    QUEUED,
    QUEUED_FOR,
    SOON,
    START,
    WINDOW,
    Bottleneck,
    ConcurrencyControl,
)


class Measured:
    """A control that is told each window's goodput, with as many parts in flight as the limit allows."""

    def __init__(self) -> None:
        self.control = ConcurrencyControl()
        self.now = 0.0
        self.sent = 0.0
        self.control.sample(0.0, 0, in_flight=START)

    def windows(self, *goodput: float, bottleneck: Bottleneck = Bottleneck.UNKNOWN) -> int:
        """The limit after these, in bytes a second."""
        for each in goodput:
            limit = self.control.limit
            self.now += 1.001 * WINDOW
            self.sent += 1.001 * WINDOW * each
            self.control.sample(self.now, int(self.sent), in_flight=limit, bottleneck=bottleneck)
            if self.control.limit != limit:
                self.control.sample(self.now, int(self.sent), in_flight=self.control.limit)
        return self.control.limit


@pytest.mark.parametrize(("grows_by", "limit"), [(1.08, 2 * START), (1.12, START)])
def test_the_first_trial_waits_until_goodput_does_not_grow_by_itself(grows_by: float, limit: int) -> None:
    assert Measured().windows(1e6, grows_by * 1e6) == limit


@pytest.mark.parametrize(("brings", "limit"), [(1.21, 4 * START), (1.17, START)])
def test_a_doubling_must_bring_enough(brings: float, limit: int) -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6) == 2 * START
    assert measured.windows(brings * 1e6, brings * 1e6) == limit


@pytest.mark.parametrize(("keeps", "limit"), [(0.995, 13), (0.98, START)])
def test_fewer_parts_stay_where_they_cost_nothing(keeps: float, limit: int) -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6, 1e6, 1e6) == START, "a doubling that brought nothing"
    assert measured.windows(1e6, 1e6, 1e6) == 13
    assert measured.windows(keeps * 1e6, keeps * 1e6) == 13
    measured.windows(keeps * 1e6)
    assert (measured.control.limit < 13) is (limit == 13)
    assert measured.control.limit in (limit, 10)


@pytest.mark.parametrize(("falls_to", "limit"), [(0.45, 2 * START), (0.55, 13)])
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
    assert measured.windows(*[1e6] * int(LONGEST_RAMP / WINDOW)) == 2 * START
    assert measured.windows(*[1e6] * 3) == START


# -- a link that is full


@pytest.mark.parametrize(
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
    measured = Measured()
    assert measured.windows(*[1e6] * (2 * PATIENCE - 1), bottleneck=Bottleneck.LINK) == START
    assert measured.windows(1e6, bottleneck=Bottleneck.LINK) == 13
    assert measured.windows(*[1e6] * 3, bottleneck=Bottleneck.LINK) == 10, "because that cost nothing"


def test_small_steps_are_tried_on_a_full_link() -> None:
    """Its queue may be that of others."""
    measured = Measured()
    assert measured.windows(*[1e6] * 2 * PATIENCE, bottleneck=Bottleneck.LINK) == 13
    assert measured.windows(*[5e5] * 3, bottleneck=Bottleneck.LINK) == START, "fewer parts cost half of the goodput"
    assert not measured.control.doubles
    assert measured.windows(*[1e6] * 4, bottleneck=Bottleneck.LINK) == 20


# -- a store that holds each connection back


@pytest.mark.parametrize(("brings", "limit"), [(1.21, 4 * START), (1.17, START)])
def test_one_window_shows_what_a_doubling_brings_at_a_store_that_holds_connections_back(
    brings: float, limit: int
) -> None:
    measured = Measured()
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 2 * START
    assert measured.windows(brings * 1e6, bottleneck=Bottleneck.STORE) == limit


def test_smaller_steps_are_measured_for_longer_there_too() -> None:
    measured = Measured()
    assert measured.windows(1e6, 1e6, 1e6, 1e6, bottleneck=Bottleneck.STORE) == START, "the doubling was undone"
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 13
    assert measured.windows(0.9e6, 0.9e6, bottleneck=Bottleneck.STORE) == 13
    assert measured.windows(0.9e6, bottleneck=Bottleneck.STORE) == START


def test_how_long_connections_take_to_be_up_to_speed_is_not_learnt_there() -> None:
    measured = Measured()
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 2 * START
    ramp = [2e6 * 1.3**n for n in range(3)]
    assert measured.windows(*ramp, ramp[-1]) == 4 * START
    assert measured.windows(*[ramp[-1]] * 4) == 4 * START, "they take three windows"
    assert measured.windows(ramp[-1]) == 2 * START


def test_two_windows_count_once_a_link_holds_back() -> None:
    measured = Measured()
    assert measured.windows(1e6, bottleneck=Bottleneck.STORE) == 2 * START
    assert measured.windows(2e6) == 2 * START
    assert measured.windows(2e6) == 4 * START


def test_a_fixed_limit_wants_to_know_nothing() -> None:
    assert ConcurrencyControl().doubles
    assert not ConcurrencyControl(8).doubles

"""How fast something goes, and when the rest of it is done: in lumps, backwards, in silence."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.core.rate_meter import RateMeter

TICK = 0.25


def test_nothing_is_known_of_one_count() -> None:
    meter = RateMeter()
    assert meter.rate(0.0) == 0
    assert meter.seconds_left(0.0, 100) is None
    meter.add(1.0, 0)
    assert meter.rate(1.0) == 0
    assert meter.seconds_left(1.0, 100) is None


def test_changes_within_one_step_of_the_clock_show_no_rate() -> None:
    meter = RateMeter()
    meter.add(1.0, 0)
    meter.add(1.0, 1000)
    assert meter.rate(1.0) == 0
    assert meter.seconds_left(1.0, 100_000) is None
    assert meter.rate(1.5) == pytest.approx(2000)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = RateMeter()
    for second in range(30):
        meter.add(float(second), second * 1000 if second < 10 else second * 2000)
    assert meter.rate(29.0) == pytest.approx(2000)
    assert meter.seconds_left(29.0, 68_000) == pytest.approx(5)
    assert meter.seconds_left(29.0, None) is None


def test_what_earlier_runs_sent_is_no_rate_of_this_one() -> None:
    meter = RateMeter()
    for second in range(4):
        meter.add(float(second), 5_000_000 + 100 * second)
    assert meter.rate(3.0) == pytest.approx(100)
    assert meter.seconds_left(3.0, 5_001_300) == pytest.approx(10)


def test_between_two_lumps_the_time_left_counts_down() -> None:
    meter = RateMeter()
    for tick in range(200):  # a lump of 600 bytes every 6 s
        now = tick * TICK
        meter.add(now, 600 * int(now / 6))
        if now >= 6:
            assert meter.rate(now) == pytest.approx(100)
            assert meter.seconds_left(now, 60_000) == pytest.approx(600 - now)


def test_one_lump_of_bodies_that_end_together_shows_no_rate() -> None:
    meter = RateMeter()
    for second in range(60):  # twelve bodies share the path: the last of them has half the size of the others
        now = float(second)
        meter.add(now, 5 * (now >= 30) + 100 * (now >= 58), late=True)
        if now < 58:
            assert meter.seconds_left(now, 115) is None
    assert meter.seconds_left(58.0, 115) == pytest.approx(58 * 10 / 105)


@given(
    every=st.floats(0.2, 100),
    size=st.integers(1, 100 << 20),
    lumps=st.integers(3, 60),
    start=st.integers(0, 1 << 40),
)
def test_for_steady_lumps_the_end_moves_by_less_than_one(every: float, size: int, lumps: int, start: int) -> None:
    meter = RateMeter()
    ends = []
    for look in range(4 * lumps):
        now = every * look / 4
        meter.add(now, start + size * (look // 4))
        left = meter.seconds_left(now, start + size * lumps)
        if look >= 4:
            assert left is not None
            ends.append(now + left)
    assert max(ends) - min(ends) < every
    assert ends[0] == pytest.approx(lumps * every)


def test_a_late_lump_moves_the_end_slowly_and_its_coming_does_not() -> None:
    meter = RateMeter()
    ends = []
    for tick in range(int(36 / TICK)):  # every 5 s; that of 30 s comes at 35 s
        now = tick * TICK
        meter.add(now, int(now / 5) - (now >= 30))
        if now >= 5:
            left = meter.seconds_left(now, 30)
            assert left is not None
            ends.append(now + left)
    jumps = [abs(later - sooner) for sooner, later in itertools.pairwise(ends)]
    assert 0 < max(jumps) < 5 / 2


def test_bunches_of_lumps_are_no_silence() -> None:
    """Parts that are forwarded together end together: here eight every 16 seconds."""
    meter = RateMeter()
    for tick in range(480):
        now = tick * TICK
        meter.add(now, 8 * int(now / 16) + min(7, int(now % 16 / TICK)) + 1)
        if now > 32:
            assert meter.rate(now) > 0


def test_what_is_sent_again_is_no_negative_rate_and_no_jump() -> None:
    meter = RateMeter()
    for second in range(12):
        meter.add(float(second), 100 * second)
    before = meter.rate(11.0)
    meter.add(11.0, 600)
    assert meter.rate(11.0) == before == pytest.approx(100)
    assert meter.seconds_left(11.0, 1600) == pytest.approx(10)  # 500 bytes are sent once more
    meter.add(12.0, 700)
    assert meter.rate(12.0) == pytest.approx(100)


def test_after_a_silence_nothing_is_known() -> None:
    meter = RateMeter()
    for second in range(12):
        meter.add(float(second), 100 * second)
    rates = [meter.rate(11.0 + second) for second in range(5)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 50
    assert meter.rate(17.0) == 0
    assert meter.seconds_left(17.0, 5000) is None


def test_a_slow_store_is_not_silent_between_its_lumps() -> None:
    meter = RateMeter()
    for minute in range(4):
        meter.add(60.0 * minute, 6000 * minute)
    assert meter.rate(180.0 + 59) == pytest.approx(100)
    assert meter.rate(180.0 + 239) > 0
    assert meter.rate(180.0 + 241) == 0


def test_what_is_overdue_is_not_done_in_a_moment() -> None:
    """ "0 s left" for half a minute would be a lie."""
    meter = RateMeter()
    for minute in range(4):
        meter.add(60.0 * minute, 6000 * minute)
    assert meter.seconds_left(180.0 + 59, 24_000) == pytest.approx(1)
    assert meter.seconds_left(180.0 + 120, 24_000) == pytest.approx(20)  # the rate has fallen
    assert meter.seconds_left(180.0 + 29, 21_000) == pytest.approx(1)
    assert meter.seconds_left(180.0 + 31, 21_000) is None
    assert meter.seconds_left(180.0 + 31, 18_000) == 0, "all of it is done"


def test_while_responses_are_late_the_rate_is_that_of_the_stored() -> None:
    meter = RateMeter()
    for second in range(41):  # something takes 1,000 bytes a second, and the store gets 500 bytes in 5 seconds
        stored = 500 * (second // 5)
        meter.add(float(second), stored, 1000 * second - stored, late=second > 20)
        if second in (10, 20):
            assert meter.rate(second) == pytest.approx(1000)
            assert meter.seconds_left(second, 41_000) == pytest.approx(41 - second)
        elif second > 20:
            assert meter.rate(second) == pytest.approx(100)
            assert meter.seconds_left(second, 41_000) == pytest.approx(410 - second)


def test_the_last_second_is_not_shown_before_anything_is_stored() -> None:
    """A proxy takes all of it at once, and stores nothing for a minute."""
    meter = RateMeter()
    for tenth in range(1, 11):
        meter.add(tenth / 10, 0, 1000 * tenth)
    assert meter.seconds_left(1.0, 12_000) is None
    assert meter.seconds_left(1.0, 10_000) is None
    assert meter.seconds_left(1.0, 30_000) == pytest.approx(2)
    meter.add(1.1, 1000, 9000)
    assert meter.seconds_left(1.1, 10_000) == 0


def test_the_rate_between_two_bunches_does_not_count_both() -> None:
    """A proxy shares its way among five bodies, which end together each ten seconds: 500 bytes a second."""
    meter = RateMeter()
    for bunch in range(1, 12):
        for body in range(1, 6):
            now = 10 * bunch + body / 1000
            meter.add(now, 1000 * (5 * (bunch - 1) + body), late=True, stored_rate=500.0)
        if bunch > 1:
            assert meter.rate(now) == pytest.approx(500)
            assert meter.seconds_left(now, 60_000) == pytest.approx(120 - 10 * bunch)
            assert meter.seconds_left(now + 5, 60_000) == pytest.approx(115 - 10 * bunch)


def test_no_time_left_is_known_while_the_first_bunch_comes() -> None:
    """After three of its twelve bodies, it seemed six times as long."""
    meter = RateMeter()
    meter.add(0.0, 0, late=True)
    for body in range(1, 13):
        now = 20 + body / 10
        meter.add(now, 1000 * body, late=True, stored_rate=1000 * body / now)
        assert meter.seconds_left(now, 24_000) is None
    assert meter.seconds_left(22.2, 24_000) == pytest.approx(20, rel=0.1)

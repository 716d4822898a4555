"""The rate at which parts become stored, overdue responses, and bytes that only fill a buffer."""

from __future__ import annotations

import pytest

from bigupload.core.stored_rate import FILLS_WITHIN, PAUSE, SLOWEST, STORED_PARTS, Filling, Stored

MB = 1e6
TICK = 0.1


# -- the rate of the stored


def stored(*parts: tuple[float, float], size: int = int(MB), until: float = 0.0) -> Stored:
    """Parts by when they were stored, and after which wait. Something is in flight all the time, until `until`."""
    made, tick = Stored(), 0
    for at, wait in (*parts, (until, -1.0)):
        while tick * TICK < at:
            made.passed(tick * TICK, in_flight=True)
            tick += 1
        if wait >= 0:
            made.passed(at, in_flight=True)
            made.add(at, size, wait)
    return made


def test_the_rate_is_that_of_the_latest_seconds() -> None:
    assert Stored().rate == 0
    seconds = [(1.0 * n, 0.0) for n in range(1, 60)]
    assert stored(*seconds).rate == pytest.approx(MB)
    faster = [(60 + 0.25 * n, 0.0) for n in range(50)]
    assert stored(*seconds, *faster).rate == pytest.approx(4 * MB, rel=0.1)
    assert stored(*seconds, until=65.0).rate == pytest.approx(0.5 * MB, rel=0.2), "nothing has come for six"


def test_of_rare_parts_the_latest_four_count() -> None:
    rare = [(20.0 * n, 0.0) for n in range(1, 20)]
    assert stored(*rare).rate == pytest.approx(MB / 20)
    assert STORED_PARTS == 4
    assert stored(*rare, *[(380 + 100.0 * n, 0.0) for n in range(1, 5)]).rate == pytest.approx(MB / 100)


@pytest.mark.parametrize("together", [2, 8, 50])
def test_parts_that_waited_together_do_not_make_the_rate_larger(together: int) -> None:
    """They end within a moment, after they shared all of the time before."""
    lumps = [(100.0 + 0.01 * n, 99.0) for n in range(together)]
    found = stored(*lumps)
    assert found.rate == pytest.approx(together * MB / 100, rel=0.01)
    again = [(200.0 + 0.01 * n, 99.0) for n in range(together)]
    assert stored(*lumps, *again).rate == pytest.approx(together * MB / 100, rel=0.05)


def test_time_without_anything_in_flight_does_not_count() -> None:
    made = stored(*[(1.0 * n, 0.0) for n in range(1, 21)])
    for tick in range(1000):
        made.passed(20 + tick * TICK, in_flight=False)
    assert made.rate == pytest.approx(MB)


@pytest.mark.parametrize(("pause", "rate"), [(0.9 * PAUSE, 1 / 1.09), (1.1 * PAUSE, 1), (10_000, 1)])
def test_a_machine_that_slept_did_not_upload_slowly(pause: float, rate: float) -> None:
    made = stored(*[(1.0 * n, 0.0) for n in range(1, 21)])
    made.passed(20 + pause, in_flight=True)
    assert made.rate == pytest.approx(rate * MB, rel=0.01)


# -- overdue


TIMEOUT = 300.0


@pytest.mark.parametrize(("after", "overdue"), [(TIMEOUT, False), (TIMEOUT + 1, True)])
def test_nothing_stored_ever(after: float, overdue: bool) -> None:
    assert Stored().overdue(5.0, 5.0 + after, timeout=TIMEOUT, backlog=1) is overdue


@pytest.mark.parametrize(("backlog", "overdue"), [(SLOWEST * 400 / 2, True), (SLOWEST * 400 / 2 + 1, False)])
def test_a_backlog_may_drain_slowly_before_its_rate_is_known(backlog: float, overdue: bool) -> None:
    assert Stored().overdue(0.0, 400.0, timeout=TIMEOUT, backlog=int(backlog)) is overdue


def test_a_backlog_has_twice_the_time_that_it_took_when_something_was_stored() -> None:
    made = stored(*[(1.0 * n, 0.0) for n in range(1, 21)], size=int(10 * MB))
    least, most = int(10 * MB * 400 / 2), int(10 * MB * 401 / 2)
    for tick in range(4000):  # the rate of now would be far lower
        made.passed(20 + tick * TICK, in_flight=True)
    assert made.overdue(1.0, 420.5, timeout=TIMEOUT, backlog=least)
    assert not made.overdue(1.0, 420.5, timeout=TIMEOUT, backlog=most)


@pytest.mark.parametrize(("wait", "overdue"), [(99.0, False), (0.5, True)])
def test_a_backlog_drains_as_slowly_as_late_responses_show(wait: float, overdue: bool) -> None:
    """Something passes on 0.1 MB/s. But where responses are quick, few bytes a second are those of small files."""
    made = stored(*[(100.0 * n, wait) for n in range(1, 6)], size=int(10 * MB))
    assert made.rate == pytest.approx(0.1 * MB)
    backlog = int(40 * MB)
    assert made.overdue(500.0, 500 + TIMEOUT + 1, timeout=TIMEOUT, backlog=backlog) is overdue
    assert made.overdue(500.0, 500 + 801.0, timeout=TIMEOUT, backlog=backlog)


def test_while_others_are_stored_nothing_is_overdue() -> None:
    made = Stored()
    for n in range(1, 1000):
        made.add(1.0 * n, int(MB), float(n))  # all were accepted at once
        assert not made.overdue(0.0, 1.0 * n, timeout=TIMEOUT, backlog=1)
    assert not made.overdue(0.0, 999 + TIMEOUT, timeout=TIMEOUT, backlog=1)
    assert made.overdue(0.0, 1000 + TIMEOUT, timeout=TIMEOUT, backlog=1)


@pytest.mark.parametrize(("later", "overdue"), [(TIMEOUT, False), (TIMEOUT + 1, True)])
def test_a_part_that_others_overtook_is_overdue(later: float, overdue: bool) -> None:
    """Whatever the backlog is: those were accepted much later, and are stored."""
    made = Stored()
    made.add(later + 1.0, int(MB), 1.0)
    made.add(later + 2.0, int(MB), later + 2.0)  # an old one
    assert made.overdue(0.0, later + 2.0, timeout=TIMEOUT, backlog=1 << 50) is overdue


# -- what fills a buffer


def test_what_fills_a_buffer_is_no_goodput() -> None:
    filling = Filling(0.0)
    assert filling.update(0.1, 500, lambda: False, paused=False) == 0
    assert filling.update(0.2, 900, lambda: True, paused=False) == 900
    assert filling.update(0.3, 1000, lambda: True, paused=False) == 0, "it is read now"
    assert filling.update(0.4, 1040, lambda: True, paused=True) == 40, "what the system had to send yet"
    assert filling.update(0.5, 1050, lambda: False, paused=True) == 0, (
        "on a link, it takes the place of what others send"
    )
    assert filling.update(0.6, 1350, lambda: True, paused=False) == 300, "it is filled again"
    assert filling.bytes == 300


def test_a_window_that_becomes_full_late_or_was_full_before_shows_no_filling() -> None:
    assert Filling(0.0).update(7.0, 900, lambda: True, paused=False) == 900, (
        "24 connections fill 4 MB each over 16 MB/s"
    )
    late = Filling(0.0)
    assert late.update(FILLS_WITHIN + 0.1, 900, lambda: True, paused=False) == 0
    assert late.update(FILLS_WITHIN + 0.2, 1000, lambda: True, paused=False) == 0
    before = Filling(0.0, was_full=True)
    assert before.update(0.1, 900, lambda: True, paused=False) == 0
    assert before.bytes == 0


# -- late responses


def test_responses_are_late_until_four_in_a_row_are_not() -> None:
    late, in_time = 3.0, 0.1
    assert not stored((1.0, in_time)).late
    assert stored((1.0, in_time), (4.0, late)).late
    others = [(5.0 + n, in_time) for n in range(STORED_PARTS)]
    assert stored((4.0, late), *others[:-1]).late, "a part that buffers held for a moment only"
    assert not stored((4.0, late), *others).late
    assert stored((4.0, late), *others[:-1], (9.0, late), *((n + 10.0, in_time) for n in range(STORED_PARTS - 1))).late

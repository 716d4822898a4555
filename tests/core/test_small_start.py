"""How many small files are sent at once, by the first responses."""

from __future__ import annotations

import pytest

from bigupload.core.concurrency_control import MOST, REFUSALS, WINDOW, ConcurrencyControl
from bigupload.core.small_start import AT_ONCE, JUDGED, MOST_JUDGED, SmallStart


def told(start: SmallStart, *responses: tuple[float, float], size: int = 1000) -> list[int]:
    """What it says to PUTs that began and were responded to at these times, in seconds."""
    found = [start.responded(size, began, ended) for began, ended in responses]
    return [each for each in found if each is not None]


@pytest.mark.parametrize(("seconds", "limit"), [(0.0, AT_ONCE), (0.005, AT_ONCE), (0.0625, 188), (0.5, 1500)])
def test_as_many_as_one_process_sends_meanwhile(seconds: float, limit: int) -> None:
    start = SmallStart()
    assert told(start, (0.0, 0.5), *[(1.0, 1.0 + seconds)] * (JUDGED - 1)) == []
    assert told(start, (1.0, 1.0 + seconds)) == [limit]
    assert told(start, *[(1.0, 9.0)] * 100) == []


def test_the_quickest_response_counts() -> None:
    assert told(SmallStart(), (0.0, 0.5), (1.0, 1.0625), *[(1.0, 3.0)] * JUDGED) == [188]


def test_a_process_with_much_to_do_sends_no_more_at_once() -> None:
    """Later responses wait in it, and so take as long as those of a store that is far away."""
    assert told(SmallStart(), (0.0, 0.016), *[(1.0, 1.0625)] * JUDGED) == [AT_ONCE]


def test_what_began_before_the_first_response_had_to_connect() -> None:
    start = SmallStart()
    assert told(start, *[(0.0, 1.0)] * 100) == []
    assert told(start, *[(1.0, 1.0)] * JUDGED) == [AT_ONCE]


def test_larger_files_wait_for_the_link() -> None:
    start = SmallStart()
    assert told(start, *[(1.0, 2.0)] * 100, size=MOST_JUDGED + 1) == []
    assert told(start, *[(2.0, 2.0)] * JUDGED, size=MOST_JUDGED) == [AT_ONCE]


def test_small_files_have_twice_the_room_of_parts() -> None:
    control = ConcurrencyControl()
    control.widen(3000)
    assert control.limit == 2 * MOST
    control.narrow()
    assert control.limit == MOST
    control.widen(3000)
    assert control.limit == MOST
    few = ConcurrencyControl(most=20)
    few.widen(3000)
    assert few.limit == 40


def test_a_store_that_refuses_brings_a_wider_start_back() -> None:
    control = ConcurrencyControl()
    control.widen(200)
    for _ in range(REFUSALS):
        control.started()
        control.refused(1.0)
    assert control.limit == 160
    control.widen(200)
    assert control.limit == 160


def test_no_wider_start_after_a_refusal_or_a_trial_or_with_a_fixed_limit() -> None:
    refused = ConcurrencyControl()
    before = refused.limit
    refused.started()
    refused.refused(1.0)
    refused.widen(200)
    assert refused.limit == before
    tried = ConcurrencyControl()
    for number in range(4):
        tried.sample(number * 1.01 * WINDOW, number * 1000, in_flight=tried.limit)
    found = tried.limit
    assert found != before
    tried.widen(200)
    assert tried.limit == found
    fixed = ConcurrencyControl(5)
    fixed.widen(200)
    fixed.narrow()
    assert fixed.limit == 5


def test_a_trial_with_fewer_that_fails_is_undone() -> None:
    control = ConcurrencyControl()
    control.widen(2 * MOST)
    now, sent, limits = 0.0, 0.0, []
    for _ in range(40):  # goodput grows with the limit
        limits.append(control.limit)
        control.sample(now, int(sent), in_flight=control.limit)
        now += 1.01 * WINDOW
        sent += control.limit * 1e6
    assert min(limits) < 2 * MOST
    assert limits.count(2 * MOST) > 10


def test_what_was_measured_before_is_not_the_wider_limit_s() -> None:
    control = ConcurrencyControl()
    control.sample(0.0, 0, in_flight=control.limit)
    control.sample(WINDOW, 1000, in_flight=control.limit)
    control.widen(100)
    for number in range(2, 4):  # one whole window since then
        control.sample(number * WINDOW, number * 1000, in_flight=100)
    assert control.limit == 100

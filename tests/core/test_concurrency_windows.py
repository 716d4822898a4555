"""The windows in which the concurrency controller measures goodput."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bigupload.core.concurrency_control import FILLED, PAUSE, START, WINDOW, Bottleneck, ConcurrencyControl

TICK = 0.1
RATE = 1_000_000


def measured_with(in_flight: Callable[[int], float]) -> int:
    """The limit after ten seconds, with so many parts in flight at each tick, and goodput that stays the same."""
    controller = ConcurrencyControl()
    for tick in range(100):
        controller.sample(tick * TICK, tick * RATE, in_flight=round(in_flight(tick) * START))
        if controller.limit != START:
            break
    return controller.limit


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        ([1.0], True),
        ([FILLED + 1 / START], False),  # never as many as may be: there are no more parts, or something else holds back
        ([1.0, FILLED - 3 / START], False),
        ([1.0, FILLED], True),
        ([1.0, 1.0, FILLED - 2 / START], True),  # a slot or two are empty for a moment
        ([1.0, FILLED - 5 / START], False),
    ],
)
def test_what_is_measured_with_too_few_parts_in_flight_teaches_nothing(shares: list[float], counts: bool) -> None:
    assert measured_with(lambda tick: shares[tick % len(shares)]) == (2 * START if counts else START)


def test_a_window_begins_again_once_too_few_parts_were_in_flight() -> None:
    controller = ConcurrencyControl()
    for at, in_flight in [(0, START), (0.5, START), (0.9, START // 2), (1.4, START), (1.95, START), (2.5, START)]:
        controller.sample(at * WINDOW, int(at * RATE), in_flight=in_flight)
    assert controller.limit == START, "the second window is not over"
    controller.sample(3.0 * WINDOW, 3 * RATE, in_flight=START)
    assert controller.limit == 2 * START


@pytest.mark.parametrize(("pause", "limit"), [(0.9 * PAUSE, 2 * START), (1.1 * PAUSE, START)])
def test_a_pause_is_no_measurement(pause: float, limit: int) -> None:
    """Between two uploads nothing is sent, and a laptop sleeps."""
    controller = ConcurrencyControl()
    for at, sent in [(0.0, 0), (0.3, RATE), (0.3 + pause, 2 * RATE)]:
        controller.sample(at, sent, in_flight=START, bottleneck=Bottleneck.STORE)
    assert controller.limit == limit

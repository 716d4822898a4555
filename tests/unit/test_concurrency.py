"""The concurrency controller on simulated links, its clock being the simulation's."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.concurrency import MOST, START, WINDOW, Concurrency

TICK = 0.25
"""Seconds between samples, as the engine takes them: several a window."""
RATE = 1_000_000
"""Bytes a second of one connection."""


def simulate(
    controller: Concurrency,
    link: Callable[[int], float],
    *,
    slow_above: int = MOST,
    seconds: int = 400,
    noise: float = 0.0,
    seed: int = 1,
) -> list[int]:
    """The limit at each tick. `link` is the goodput, in connections' worth, of so many connections; `noise` is the
    share by which each tick's may be off."""
    chance = random.Random(seed)
    limits = []
    sent = 0.0
    for tick in range(1, int(seconds / TICK) + 1):
        now = tick * TICK
        sent += link(controller.limit) * RATE * TICK * (1 + chance.uniform(-noise, noise))
        if controller.limit > slow_above:
            controller.slow_down(now)
        controller.sample(now, int(sent), saturated=True)
        limits.append(controller.limit)
    return limits


def tail(limits: list[int]) -> list[int]:
    return limits[-int(120 / TICK) :]


@pytest.mark.parametrize("noise", [0.0, 0.06, 0.12])
@pytest.mark.parametrize("enough", [1, 2, 4, 8, 10, 20, 32, 40, 64])
def test_a_link_that_saturates(enough: int, noise: float) -> None:
    """It comes to rest at what is needed, from above and from below, also where goodput wavers."""
    limits = tail(simulate(Concurrency(), lambda limit: min(limit, enough), noise=noise))
    assert 0.85 * enough <= sum(limits) / len(limits) <= 1.15 * enough + 0.5
    assert max(limits) <= min(MOST, 1.4 * enough + 2)


def test_a_link_that_always_wants_more() -> None:
    limits = tail(simulate(Concurrency(), lambda limit: limit))
    assert max(limits) == MOST
    assert sum(limits) / len(limits) >= 0.9 * MOST


def test_slow_start_doubles() -> None:
    limits = simulate(Concurrency(), lambda limit: limit, seconds=10)
    assert [limit for limit, before in zip(limits[1:], limits, strict=False) if limit != before][:3] == [16, 32, 64]


def test_a_doubling_that_brings_nothing_is_undone() -> None:
    limits = simulate(Concurrency(), lambda _: 10.0, seconds=10)
    assert [limit for limit, before in zip(limits[1:], limits, strict=False) if limit != before][:2] == [16, 8]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 12, 20, 32, 40, 50, 63])
def test_a_store_that_says_slow_down(most: int) -> None:
    limits = tail(simulate(Concurrency(), lambda limit: limit, slow_above=most, noise=0.03))
    assert max(limits) <= 1.25 * most + 1  # what was too much once is tried again by one
    assert sum(limits) / len(limits) >= 0.8 * most
    assert sum(limit > most for limit in limits) <= len(limits) / 8  # what is too much is left at once


@pytest.mark.parametrize("fixed", [1, 3, 64, 256])
def test_fixed_stays_fixed(fixed: int) -> None:
    controller = Concurrency(fixed)
    assert set(simulate(controller, lambda limit: limit, slow_above=0)) == {fixed}


def test_it_backs_off_once_a_window() -> None:
    controller = Concurrency()
    for _ in range(50):  # every part in flight brings the same news
        controller.slow_down(100.0)
        controller.slow_down(100.0 + WINDOW * 0.99)
    assert controller.limit == 6
    controller.slow_down(100.0 + WINDOW)
    assert controller.limit == 4
    for window in range(2, 20):
        controller.slow_down(100.0 + WINDOW * window)
    assert controller.limit == 1


def test_after_slow_down_new_ground_is_gained_one_by_one() -> None:
    controller = Concurrency()
    controller.slow_down(0.0)
    limits = [controller.limit, *simulate(controller, lambda limit: limit, seconds=60)]
    assert limits[0] == 6
    for before, after in itertools.pairwise(limits):
        assert after <= before + 1


def test_windows_that_were_not_saturated_teach_nothing() -> None:
    controller = Concurrency()
    for tick in range(100):
        controller.sample(tick * TICK, tick * tick * RATE, saturated=False)
    assert controller.limit == START
    now = 100 * TICK
    controller.sample(now, 0, saturated=True)
    controller.sample(now + WINDOW / 2, RATE, saturated=True)
    controller.sample(now + WINDOW * 0.9, RATE, saturated=False)  # the window is void: it begins again
    controller.sample(now + WINDOW * 1.1, 2 * RATE, saturated=True)
    assert controller.limit == START
    controller.sample(now + WINDOW * 2, 3 * RATE, saturated=True)
    assert controller.limit == 2 * START


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["sample", "idle", "slow"]),
        st.floats(0, 3, allow_nan=False),
        st.integers(-(2**20), 2**32),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(operations=OPERATIONS)
def test_it_never_leaves_its_bounds(operations: list[tuple[str, float, int]]) -> None:
    """Whatever is measured, also that the bytes sent become fewer, as when a part in flight is given up."""
    controller = Concurrency()
    now, sent = 0.0, 0
    for what, pause, count in operations:
        now, sent, before = now + pause, sent + count, controller.limit
        if what == "slow":
            controller.slow_down(now)
            assert controller.limit <= before
        else:
            controller.sample(now, sent, saturated=what == "sample")
        assert 1 <= controller.limit <= MOST
        assert controller.limit <= 2 * before

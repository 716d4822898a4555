"""The concurrency controller on simulated links, its clock being the simulation's."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core.concurrency_control import (
    BACK_OFF,
    LONGEST_RAMP,
    MOST,
    PROBE_AFTER,
    REFUSALS,
    START,
    WINDOW,
    ConcurrencyControl,
)

TICK = 0.1
"""Seconds between samples, as the engine takes them."""
PART_SECONDS = 0.4
"""That one part takes; one that is refused is tried again after half of that."""
RATE = 1_000_000
"""Bytes a second of one connection."""


def simulate(
    controller: ConcurrencyControl,
    link: Callable[[int], float],
    *,
    slow_above: int = MOST,
    seconds: int = 400,
    hiccups: float = 0.0,
    noise: float = 0.0,
    seed: int = 1,
) -> list[int]:
    """The limit at each tick. `link` is the goodput, in connections' worth, of so many connections; `noise` is the
    share by which each tick's may be off. More than `slow_above` parts in flight are refused, and so is a share of all
    of them, the `hiccups`."""
    chance = random.Random(seed)
    limits = []
    sent = 0.0
    for tick in range(1, int(seconds / TICK) + 1):
        now = tick * TICK
        taken = min(controller.limit, slow_above)
        sent += link(taken) * RATE * TICK * (1 + chance.uniform(-noise, noise))
        for waiting, refuse, pace in ((taken, hiccups, 1), (controller.limit - taken, 1.0, 2)):
            for _ in range(waiting):
                if chance.random() < pace * TICK / PART_SECONDS:
                    controller.started()
                    if chance.random() < refuse:
                        controller.refused(now)
        controller.sample(now, int(sent), in_flight=controller.limit)
        limits.append(controller.limit)
    return limits


def tail(limits: list[int]) -> list[int]:
    return limits[-int(120 / TICK) :]


@pytest.mark.parametrize(("noise", "most"), [(0.0, 1.4), (0.06, 1.4), (0.12, 2.3)])
@pytest.mark.parametrize("enough", [1, 2, 4, 8, 10, 20, 32, 40, 64])
def test_a_link_that_saturates(enough: int, noise: float, most: float) -> None:
    """It stays near what is needed, from above and from below, also where goodput wavers."""
    limits = tail(simulate(ConcurrencyControl(), lambda limit: min(limit, enough), noise=noise))
    assert 0.85 * enough <= sum(limits) / len(limits) <= 1.15 * enough + 0.5
    assert max(limits) <= min(MOST, most * enough + 2)


def test_a_link_that_always_wants_more() -> None:
    limits = tail(simulate(ConcurrencyControl(), lambda limit: limit))
    assert max(limits) == MOST
    assert sum(limits) / len(limits) >= 0.9 * MOST


def test_slow_start_doubles() -> None:
    limits = simulate(ConcurrencyControl(), lambda limit: limit, seconds=10)
    assert [limit for limit, before in zip(limits[1:], limits, strict=False) if limit != before][:3] == [32, 64, 128]
    assert 1.0 / TICK <= limits.index(64) <= 2.5 / TICK, "two windows for each"


def test_a_doubling_that_brings_nothing_is_undone() -> None:
    limits = simulate(ConcurrencyControl(), lambda _: 10.0, seconds=10)
    assert [limit for limit, before in zip(limits[1:], limits, strict=False) if limit != before][:2] == [32, 16]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 2, 3, 4, 8, 12, 20])
def test_a_store_that_says_slow_down(most: int, seed: int) -> None:
    limits = simulate(ConcurrencyControl(), lambda limit: limit, slow_above=most, noise=0.03, seed=seed)
    early, late = limits[int(20 / TICK) : int(60 / TICK)], tail(limits)
    for some in (early, late):
        # What it takes, it gets, but for trials, whose smallest step is 1.
        assert sum(min(limit, most) for limit in some) / len(some) >= min(0.88 * most, most - 0.6)
    assert sum(max(0, limit - most) for limit in late) <= 0.06 * sum(late)  # what was too much once is tried rarely


@pytest.mark.parametrize("most", [32, 40, 50, 63])
def test_a_store_that_refuses_the_last_few(most: int) -> None:
    """Of so many, a few refused look like hiccups; they stay few."""
    limits = tail(simulate(ConcurrencyControl(), lambda limit: limit, slow_above=most, noise=0.03))
    assert sum(max(0, limit - most) for limit in limits) <= 0.1 * sum(limits)
    assert sum(min(limit, most) for limit in limits) / len(limits) >= 0.88 * most


def test_a_store_that_has_hiccups() -> None:
    """Fewer parts at once would change nothing: three in a hundred are refused anyway."""
    runs = [simulate(ConcurrencyControl(), lambda n: n, hiccups=0.03, seconds=120, seed=seed) for seed in range(20)]
    means = [sum(limits) / len(limits) for limits in runs]
    assert sum(means) / len(means) >= 0.85 * MOST
    assert sum(max(limits) == MOST for limits in runs) >= 17  # now and then chance looks like intent


def test_a_store_that_comes_to_take_less() -> None:
    controller = ConcurrencyControl()
    simulate(controller, lambda limit: limit, seconds=60)
    assert controller.limit >= 0.75 * MOST
    limits = simulate(controller, lambda limit: limit, slow_above=5, seconds=60)
    assert max(limits[int(10 / TICK) :]) <= 6


@pytest.mark.parametrize("fixed", [1, 3, 64, 256])
def test_fixed_stays_fixed(fixed: int) -> None:
    controller = ConcurrencyControl(fixed)
    assert set(simulate(controller, lambda limit: limit, slow_above=0)) == {fixed}


def refuse(control: ConcurrencyControl, now: float, *, times: int = REFUSALS, accepted: int = 0) -> None:
    for _ in range(times + accepted):
        control.started()
    for _ in range(times):
        control.refused(now)


def test_it_backs_off_once_for_all_that_was_in_flight() -> None:
    control = ConcurrencyControl()
    refuse(control, 100.0, times=50)  # every part in flight brings the same news
    refuse(control, 100.0 + WINDOW * 0.99, times=50)
    assert control.limit == int(START * BACK_OFF) == 12
    control = ConcurrencyControl()
    refuse(control, 100.0)
    refuse(control, 100.0 + WINDOW * 1.01)
    assert control.limit == 9
    for later in range(2, 20):
        refuse(control, 100.0 + 1.01 * WINDOW * later)
    assert control.limit == 1


def test_a_few_refusals_are_no_news() -> None:
    control = ConcurrencyControl()
    refuse(control, 0.0, times=REFUSALS - 1)
    assert control.limit == START
    refuse(control, 0.0, times=1)
    assert control.limit < START


@pytest.mark.parametrize(("share", "limit"), [(0.09, START), (0.11, 12)])
def test_it_is_the_share_that_counts(share: float, limit: int) -> None:
    control = ConcurrencyControl()
    times = 30
    refuse(control, 0.0, times=times, accepted=int(times / share) - times)
    assert control.limit == limit


def test_refusals_of_long_ago_do_not_count() -> None:
    """Ten seconds without another: what was accepted before them, too."""
    control = ConcurrencyControl()
    refuse(control, 0.0, times=REFUSALS - 1, accepted=100)
    for tick in range(100):
        control.sample(tick * TICK, 0, in_flight=control.limit)
    before = control.limit
    refuse(control, 10.0, times=REFUSALS)
    assert before == START > control.limit


def test_one_more_than_the_ceiling_is_tried_ever_more_rarely() -> None:
    limits = simulate(ConcurrencyControl(), lambda limit: limit, slow_above=8)
    rises = [tick * TICK for tick in range(1, len(limits)) if limits[tick] > 8 >= limits[tick - 1]]
    rises = [when for when in rises if when > PROBE_AFTER]
    assert 2 <= len(rises) <= 8
    assert rises[-1] - rises[-2] > 2 * (rises[1] - rises[0]) or rises[-1] - rises[-2] > 4 * PROBE_AFTER


def test_a_store_that_comes_to_take_more_gets_more() -> None:
    control = ConcurrencyControl()
    simulate(control, lambda limit: limit, slow_above=5, seconds=30)
    assert control.limit <= 6
    assert tail(simulate(control, lambda limit: limit, seconds=200))[-1] > MOST / 2


def test_after_slow_down_the_limit_stays_below_what_was_too_much() -> None:
    control = ConcurrencyControl()
    refuse(control, 0.0)
    limits = [control.limit, *simulate(control, lambda limit: limit, seconds=int(PROBE_AFTER))]
    assert limits[0] == 12
    assert max(limits) == START - 1


def test_trials_that_keep_failing_grow_rare() -> None:
    """Where the limit is right already, more bring too little and fewer cost too much."""
    limits = simulate(ConcurrencyControl(), lambda limit: 10 * limit**0.15)
    begun = [tick * TICK for tick in range(1, len(limits)) if limits[tick - 1] == START != limits[tick]]
    gaps = [after - before for before, after in itertools.pairwise(begun)]
    assert max(gaps[:2]) < 5
    assert 18 < min(gaps[-3:]) <= max(gaps[-3:]) < 25


def test_connections_in_a_slow_start_of_their_own_are_waited_for() -> None:
    """They fill the link by themselves, so that growth is no sign that more of them would carry more."""
    controller = ConcurrencyControl()
    limits = []
    sent = 0.0
    for tick in range(1, 60):
        sent += min(START * RATE, 0.1 * RATE * 1.4**tick) * TICK
        controller.sample(tick * TICK, int(sent), in_flight=controller.limit)
        limits.append(controller.limit)
    assert max(limits) == 2 * START, "one doubling, to see whether there is more"
    assert limits[-1] < 1.2 * START


def test_what_is_still_in_flight_above_the_limit_says_nothing_of_it() -> None:
    controller = ConcurrencyControl()
    sent = 0.0
    parts, highest = START, 0
    for tick in range(1, 200):
        sent += min(parts, START) * RATE * TICK
        controller.sample(tick * TICK, int(sent), in_flight=parts)
        parts = max(parts, controller.limit)  # none comes to its end
        highest = max(highest, controller.limit)
    assert highest == parts == 2 * START
    assert controller.limit == START


def after(seconds: float, then: Callable[[int], float], first: Callable[[int], float]) -> Callable[[int], float]:
    """A link that becomes another; asked once a tick."""
    ticks = itertools.count()
    return lambda limit: (first if next(ticks) * TICK < seconds else then)(limit)


def test_connections_that_carry_less_once_they_are_old() -> None:
    """What fills the path while they are new does not later: as Reno with random losses."""
    limits = simulate(
        ConcurrencyControl(), after(30, lambda limit: limit / 4, lambda limit: min(limit, 20)), seconds=50
    )
    assert limits[int(30 / TICK) - 1] < 32
    assert max(limits) == MOST


@pytest.mark.parametrize("every", [10, 30])
@pytest.mark.parametrize("enough", [5, 20])
def test_one_bad_second_now_and_then_is_no_sign_of_anything(enough: int, every: int) -> None:
    """It passes by itself, which must not be taken for what more connections brought."""
    ticks = itertools.count()

    def link(limit: int) -> float:
        return min(limit, enough) * (0.5 if next(ticks) * TICK % every < 1 else 1)

    limits = tail(simulate(ConcurrencyControl(), link, noise=0.06))
    assert max(limits) < MOST
    assert sum(limits) / len(limits) <= max(16, 1.5 * enough)


def test_a_disk_that_writes_in_bursts_and_is_slower_the_more_it_is_asked_for() -> None:
    """Its pauses are no sign that each connection carries less, and its bursts are no merit of more of them."""

    def disk(seed: int) -> Callable[[int], float]:
        chance, ticks = random.Random(seed), itertools.count()
        pace = [chance.choice([0, 0.5, 1, 1.5, 2]) for _ in range(1000)]
        return lambda limit: pace[next(ticks) // 4 % 1000] * min(limit, 8) * min(1, 20 / limit)

    means = [
        sum(limits) / len(limits) for limits in (simulate(ConcurrencyControl(), disk(n), seconds=120) for n in range(6))
    ]
    assert sum(means) / len(means) < 56, means


def test_goodput_that_wavers_by_half_every_tenth_of_a_second() -> None:
    limits = tail(simulate(ConcurrencyControl(), lambda limit: min(limit, 20), noise=0.5))
    assert sum(limits) / len(limits) <= 40


def test_nothing_doubles_while_nothing_arrives() -> None:
    """Connections may take their time, to a store that is far away or to one that is not there."""
    controller = ConcurrencyControl()
    for tick in range(100):
        controller.sample(tick * TICK, 0, in_flight=controller.limit)
    assert controller.limit == START


def test_a_path_that_has_become_narrow_is_not_crowded() -> None:
    narrow = after(30, lambda limit: min(limit, 5), lambda limit: min(limit, 20))
    limits = simulate(ConcurrencyControl(), narrow, noise=0.06)[int(30 / TICK) :]
    assert max(limits) > 32, "more is tried"
    assert sum(limit > 32 for limit in limits) * TICK < 2 * LONGEST_RAMP, "once"
    assert max(tail(limits)) <= 8


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
    """For any measurement, even if the number of sent bytes falls because a part in flight was aborted."""
    controller = ConcurrencyControl()
    now, sent = 0.0, 0
    for what, pause, count in operations:
        now, sent, before = now + pause, sent + count, controller.limit
        if what == "slow":
            controller.started()
            controller.refused(now)
            assert controller.limit <= before
        else:
            controller.sample(now, sent, in_flight=controller.limit - (what != "sample"))
        assert 1 <= controller.limit <= MOST
        assert controller.limit <= 2 * before


def test_each_machine_brings_as_much_room_as_one_alone() -> None:
    control = ConcurrencyControl(most=40)
    control.spread(4)
    assert control.limit == 4 * START
    control.spread(2)
    assert control.limit == 2 * START


def test_a_limit_that_was_found_stays_when_machines_come() -> None:
    control = ConcurrencyControl()
    for _ in range(REFUSALS):
        control.started()
        control.refused(100.0)
    found = control.limit
    assert found < START
    control.spread(8)
    assert control.limit == found


def test_room_for_one_part_a_machine_stays_that() -> None:
    control = ConcurrencyControl(most=1)
    control.spread(3)
    assert control.limit == 3
    control.spread(1)
    assert control.limit == 1


def test_a_fixed_limit_is_that_of_all_machines_together() -> None:
    control = ConcurrencyControl(5)
    control.spread(4)
    assert control.limit == 5

"""Links of which the clock is the test's, and what the tests of `core.flight` and `core.flight_trials` begin with."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from bigupload.core.flight import Flight, Sample
from bigupload.core.flight_trials import REFUSALS

MIB = 1 << 20
START, START_BYTES = 8, 32 * MIB
"""In place of those of `core.flight`, by `few_to_begin_with`."""
TICK = 0.1
"""Seconds between samples, as the engine takes them."""
PART_SECONDS = 0.4
"""That one part takes; one that is refused is tried again after half of that."""
RATE = 1_000_000
"""Bytes a second of one connection."""


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


def changes(limits: list[int]) -> list[int]:
    return [limit for before, limit in itertools.pairwise(limits) if limit != before]


def refuse(flight: Flight, now: float, *, times: int = REFUSALS, accepted: int = 0) -> None:
    for _ in range(times + accepted):
        flight.began()
    for _ in range(times):
        flight.refused(now)

"""When an event is sent again, for how long, and when an intent is looked at again. Pure: times are passed in."""

from __future__ import annotations

from collections.abc import Callable

RETRIED_FOR = 24 * 3600.0
"""Seconds after which an event that nobody took is given up."""
_PAUSES = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 28_800.0)
"""Seconds after the first failure, the second and so on. The last one repeats."""
_SPREAD = 0.1
"""A pause is this much shorter or longer: what failed together need not come back together."""
_FIRST_LOOK = 15.0
_LONGEST_LOOK = 3600.0


def next_attempt(
    failures: int, *, now: float, since: float, retry_after: float | None, random: Callable[[], float]
) -> float | None:
    """Return when to send an event again; None: it is given up. The last attempt is at the end of the time.

    Args:
        failures: How many attempts failed, one at least.
        now: The time, in seconds.
        since: When the event was noted.
        retry_after: The seconds that the receiver asked for.
        random: Returns a number from 0 to 1.
    """
    end = since + RETRIED_FOR
    if now >= end:
        return None
    pause = _PAUSES[min(failures, len(_PAUSES)) - 1] * (1 + _SPREAD * (2 * random() - 1))
    return min(end, now + max(pause, retry_after or 0.0))


def next_look(looks: int, *, now: float) -> float:
    """Return when to look again what became of something that was not decided at the first `looks` looks."""
    return now + min(_LONGEST_LOOK, _FIRST_LOOK * 2.0 ** min(looks, 10))

"""Decides how many parts may be in flight so that an interruption costs little. It knows goodput alone.

A kill loses what was sent of parts that the store has not acknowledged. On a slow link, many parts in flight mean that
no part is acknowledged for minutes. So no more parts are in flight than goodput finishes in ten seconds, and at least
one.

Fewer parts cost nothing if they fill the link. If each connection carries little, as on a long path that loses packets,
fewer parts mean less goodput. So each bound is tried: parts are halved at most, and if goodput falls, the bound is
taken back. A bound that is in force is lifted for a moment now and then, because the path may have changed.

`python -m benchmarks controller --interruptions` simulates what an interruption costs, with and without the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean as mean

HORIZON = 10.0
"""Seconds in which the parts in flight must be finished."""
TOLERANCE = 1.5
"""A bound is tried if the parts in flight need this many times the horizon."""
WINDOW = 0.4
"""Seconds of one measurement."""
SETTLED = 1.1
"""Goodput that grew by more since the window before still grows by itself."""
PATIENCE = 10
"""Windows in which goodput must reach what it was before, after parts were taken away or added."""
GROWTH = 1.08
"""After three windows, goodput must be so many times what it would be in proportion to the parts: else each connection
carries what it can, and will not carry more."""
REST = 60.0
"""Seconds until a bound is lifted for a moment. Each time that this changes nothing, it is twice as long."""
LONGEST_REST = 600.0
CHANGED = 0.2
"""The share by which the number of parts may change during a measurement."""
MEMORY = 0.3
"""What the latest measurement counts for in the goodput from which a bound is computed."""


@dataclass(frozen=True, slots=True)
class _BoundTrial:
    """A number of parts that is tried: what there was before it."""

    parts: int
    before: int
    limit: int | None
    goodput: float
    """Bytes a second, before it."""


class FlightBound:
    """The bound for the parts of all uploads that share their slots."""

    def __init__(self) -> None:
        self._limit: int | None = None
        self._window: tuple[float, int] | None = None
        """When the measurement under way began, and the bytes that had been sent by then."""
        self._goodput: list[float] = []
        """Of each window since the number of parts changed."""
        self._average = 0.0
        self._parts = 0
        """In flight, when they last changed."""
        self._trial: _BoundTrial | None = None
        self._rest = REST
        self._more_at = math.inf
        """When more parts are tried."""
        self._cancels = True
        """Whether a trial cancels younger parts. Once much of them is sent, it waits until they end."""

    @property
    def limit(self) -> int | None:
        """The most parts in flight; None: as many as the concurrency control wants."""
        return self._limit

    def sample(self, now: float, bytes_done: int, *, in_flight: int, part_size: float) -> int | None:
        """Take a measurement, and decide.

        Args:
            now: Seconds.
            bytes_done: Bytes that all parts together have sent by then.
            in_flight: Parts in flight.
            part_size: Their size in bytes, on average.

        Returns:
            How many parts to leave in flight at once, the younger ones being cancelled. None: cancel none.
        """
        if self._window is None or in_flight == 0:
            self._window = (now, bytes_done)
            self._goodput.clear()
            return None
        since, before = self._window
        if now - since < WINDOW:
            return None
        self._window = (now, bytes_done)
        if bytes_done <= before:  # an outage says nothing of the link
            self._goodput.clear()
            return None
        if self._trial is None and abs(in_flight - self._parts) > CHANGED * self._parts > 0:
            if self._limit is None:
                self._cancels = False
            self._goodput.clear()  # it was that of another number of parts
            self._average = 0.0
        self._parts = in_flight
        self._goodput.append((bytes_done - before) / (now - since))
        if self._trial is not None and not self._judge(self._trial, now, in_flight):
            return None
        return self._look(now, in_flight, part_size)

    def _look(self, now: float, in_flight: int, part_size: float) -> int | None:
        if len(self._goodput) < 2 or self._goodput[-1] > SETTLED * self._goodput[-2]:
            return None
        goodput = mean(self._goodput[-2:])
        self._average += (goodput - self._average) * (MEMORY if self._average else 1.0)
        affordable = max(1, int(HORIZON * self._average / part_size))
        if self._limit is not None and affordable > self._limit:
            self._limit = affordable  # a faster link
        if self._limit is not None and now >= self._more_at and in_flight >= self._limit:
            return self._begin(2 * self._limit, self._limit, goodput)
        most = in_flight if self._limit is None else min(in_flight, self._limit)
        if affordable < most and most * part_size > TOLERANCE * HORIZON * self._average:
            if self._limit is not None or self._cancels:
                return self._begin(max(affordable, (most + 1) // 2), most, goodput)
        elif self._limit is not None:
            self._cancels = False
        return None

    def _begin(self, parts: int, before: int, goodput: float) -> int | None:
        self._trial = _BoundTrial(parts, before, self._limit, goodput)
        self._limit = parts
        self._goodput.clear()
        return parts if self._cancels and parts < before else None

    def _judge(self, trial: _BoundTrial, now: float, in_flight: int) -> bool:
        """Compare goodput with what it was, and with what it would be in proportion to the parts.

        Returns:
            Whether the trial has ended.
        """
        fewer = trial.parts < trial.before
        if fewer and in_flight > trial.parts:  # parts that were not cancelled
            self._goodput.clear()
        if len(self._goodput) < 2:
            return False
        goodput, proportional = mean(self._goodput[-2:]), trial.goodput * trial.parts / trial.before
        reached = goodput >= (trial.goodput + proportional) / 2
        hopeless = len(self._goodput) >= 3 and fewer and goodput < GROWTH * proportional
        if not reached and not hopeless and len(self._goodput) < PATIENCE:
            return False
        self._trial = None
        if fewer and reached:
            self._more_at = now + self._rest
            return True
        self._goodput.clear()
        if fewer or reached:  # each connection carries what it can
            self._cancels = False
        self._limit = trial.limit if fewer or not reached else None
        if fewer:
            self._more_at = now  # then more parts carry more
        else:
            self._more_at = now + self._rest
            self._rest = min(LONGEST_REST, 2 * self._rest)
        return True

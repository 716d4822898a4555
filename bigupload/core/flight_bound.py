"""Decides how many parts may be in flight so that an interruption costs little. It knows goodput alone.

A kill loses what was sent of parts that the store has not acknowledged. On a slow link, many parts in flight mean that
no part is acknowledged for minutes. So no more parts are in flight than goodput finishes in ten seconds, and at least
one. What is cancelled to get there is lost by a kill, too: so the bound leaves some of the ten seconds for that, and
parts are cancelled only while they are small. A very slow link shows after three round trips.

Fewer parts cost nothing if they fill the link. If each connection carries little, as on a long path that loses packets,
fewer parts mean less goodput. So each bound is tried, and taken back if goodput falls. A bound that is in force is
lifted for a moment now and then, because the path may have changed.

`python -m benchmarks controller --interruptions` simulates what an interruption costs, with and without the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bigupload.core.averages import mean
from bigupload.records import dataclass

HORIZON = 10.0
"""Seconds of sending that a kill may lose. A bound is tried if the parts in flight need more."""
AIM = 8.0
"""Seconds in which the parts in flight are finished under a bound. Parts that began together end together, so that a
kill may lose all of this, and what was cancelled before."""
CONTRAST = 1.5
"""A trial divides the parts by this at least: otherwise chance would decide it."""
CUT = 4
"""A trial leaves at least one in so many parts. The fewer are left at once, the less is sent in vain. But with a single
part left, a long path would not be full again before the trial is judged."""
SMALL = 1 / 8
"""Parts are cancelled of which no more than this share is sent. The others are waited for."""
ROUND_TRIPS = 3
"""After so many, a connection in slow start has had 70 packets acknowledged: 10, then 20, then 40 (RFC 6928)."""
HELD_BACK = 70 * 1448 / 4
"""Bytes. If connections have had less acknowledged by then, on average, they share a link that was full at once."""
FULL = 0.15
"""If goodput changes by no more than this share when the parts are doubled, the link was full before."""
SUNK = 0.8
"""The share of goodput below which such a link is no longer taken to be full."""
SHORTEST = 0.1
"""Seconds of a measurement that shows this. On a busy machine, a shorter one would show how it shares its cores."""
WINDOW = 0.4
"""Seconds of one measurement."""
UNJUDGED = 3
"""Windows with the same number of parts, fewer than a doubled limit: then there are no more."""
SETTLED = 1.1
"""Goodput that grew by more since the window before still grows by itself."""
PATIENCE = 10
"""Windows in which goodput must reach what it was before, after parts were taken away or added."""
GROWTH = 1.08
"""After three windows, goodput must be so many times what it would be in proportion to the parts, if there are fewer,
or what it was, if there are more: otherwise it will not get there."""
REST = 60.0
"""Seconds until a bound is lifted for a moment. Each time that this changes nothing, it is twice as long."""
LONGEST_REST = 600.0
CHANGED = 0.2
"""The share by which the number of parts may change during a measurement."""
MEMORY = 0.3
"""What the latest measurement counts for in the goodput from which a bound is computed."""


def are_held_back(puts: Sequence[tuple[float, int]]) -> bool | None:
    """Whether a link was full as soon as the PUTs began: together they are far behind what slow start would have sent.

    Args:
        puts: Of each PUT in flight, the round trips since its body began, and the bytes that were acknowledged.

    Returns:
        None while most of them have not had round trips enough, or the system does not tell.
    """
    ripe = [sent for round_trips, sent in puts if round_trips >= ROUND_TRIPS]
    return mean(ripe) < HELD_BACK if 2 * len(ripe) > len(puts) else None


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
        self._starts = True
        """Whether it is not known yet if the PUTs are held back, and no measurement of their bytes is over."""
        self._first: tuple[float, int] | None = None
        """When the first bytes had been acknowledged, and the bytes that had been sent by then."""
        self._window: tuple[float, int] | None = None
        """When the measurement under way began, and the bytes that had been sent by then."""
        self._goodput: list[float] = []
        """Of each window since the number of parts changed."""
        self._average = 0.0
        self._latest = 0.0
        """Goodput of the latest windows, whatever the number of parts was."""
        self._undoubled = 0.0
        """Goodput before the concurrency control doubled its limit."""
        self._full = 0.0
        """Goodput of the link that such a doubling showed to be full, if the bound is from that; otherwise 0."""
        self._parts = 0
        """In flight, when they last changed."""
        self._trial: _BoundTrial | None = None
        self._rest = REST
        self._more_at = math.inf
        """When more parts are tried."""
        self._open = False
        """Whether no bound is tried any more, because more parts carry more."""

    @property
    def limit(self) -> int | None:
        """The most parts in flight; None: as many as the concurrency control wants."""
        return self._limit

    @property
    def starts(self) -> bool:
        """Whether `sample` wants to know if the PUTs are held back."""
        return self._starts

    def expect(self, now: float, goodput: float, *, part_size: float) -> None:
        """Begin with a bound, unless something was measured already, because goodput will not be larger.

        Args:
            now: Seconds.
            goodput: Bytes a second.
            part_size: The size in bytes of the parts that are to be sent.
        """
        if self._starts and self._limit is None:
            self._limit = _affordable(goodput, part_size)
            self._more_at = now + self._rest

    def sample(
        self, now: float, bytes_done: int, *, in_flight: int, part_size: float, held_back: bool | None = None
    ) -> int | None:
        """Take a measurement, and decide.

        Args:
            now: Seconds.
            bytes_done: Bytes that all parts together have sent by then.
            in_flight: Parts in flight.
            part_size: Their size in bytes, on average.
            held_back: Whether they are; see `are_held_back`. None: not known.

        Returns:
            How many parts to leave in flight at once. Of the others, the small ones are cancelled. None: cancel none.
        """
        if self._window is None or in_flight == 0:
            self._window = (now, bytes_done)
            self._goodput.clear()
            return None
        since, before = self._window
        if self._starts and bytes_done > before:
            self._first = self._first or (now, bytes_done)
            if held_back and now - self._first[0] >= SHORTEST and bytes_done > self._first[1]:
                return self._bound_at_once(now, bytes_done, self._first, in_flight, part_size)
            self._starts = held_back is not False
        if now - since < WINDOW:
            return None
        self._window = (now, bytes_done)
        if bytes_done <= before:  # an outage says nothing of the link
            self._goodput.clear()
            return None
        self._starts = self._starts and (self._first is None or self._first[0] > since)
        if self._trial is None and abs(in_flight - self._parts) > CHANGED * self._parts > 0:
            self._goodput.clear()  # it was that of another number of parts
            self._average = 0.0
        self._parts = in_flight
        self._goodput.append((bytes_done - before) / (now - since))
        self._latest = mean([self._latest or self._goodput[-1], self._goodput[-1]])
        trial = self._trial
        if trial is not None and not self._judge(trial, now, in_flight):
            return None
        if trial is not None and trial.before == self._limit:
            return self._limit  # more parts carried no more, and what a kill loses would grow until they end
        return self._look(now, in_flight, part_size)

    def adapted(self, limit: int, *, before: int, in_flight: int, part_size: float) -> int | None:
        """Note a limit of the concurrency control, and decide what becomes of parts that it tried in vain.

        Its first trials double the limit. Where that brings more, no bound is wanted. If it brings nothing, the link
        was full before: then that is the bound, and the parts of the trial are cancelled. Where connections carry less
        as they grow old, the link is not full for long, and the bound is gone with that. Where too few parts are left
        to fill the doubled limit, nobody judges it, and this no longer waits for that.

        Args:
            limit: Its limit now.
            before: Its limit before.
            in_flight: Parts in flight.
            part_size: Their size in bytes, on average.

        Returns:
            As `sample`.
        """
        if self._limit is not None or self._open:
            return None
        if limit >= 2 * before:
            self._open, self._undoubled = self._undoubled > 0, self._latest
        elif self._undoubled and in_flight < limit and len(self._goodput) >= UNJUDGED:
            self._undoubled = 0.0
        elif self._undoubled and 2 * limit <= before:
            change, self._undoubled = self._latest / self._undoubled - 1, 0.0
            if in_flight * part_size > HORIZON * self._latest:
                self._open = abs(change) > FULL
                if not self._open:
                    self._limit, self._full = limit, self._latest
                    return limit
        return None

    def _bound_at_once(
        self, now: float, bytes_done: int, first: tuple[float, int], in_flight: int, part_size: float
    ) -> int | None:
        """Try what the link affords: it was full at once, and each moment longer more is sent in vain."""
        self._starts = False
        self._window = (now, bytes_done)
        goodput = (bytes_done - first[1]) / (now - first[0])
        if in_flight == 1 or in_flight * part_size <= HORIZON * goodput:
            return None
        return self._begin(_affordable(goodput, part_size), in_flight, goodput)

    def _look(self, now: float, in_flight: int, part_size: float) -> int | None:
        if len(self._goodput) < 2 or self._goodput[-1] > SETTLED * self._goodput[-2]:
            return None
        goodput = mean(self._goodput[-2:])
        self._average += (goodput - self._average) * (MEMORY if self._average else 1.0)
        if self._average < SUNK * self._full:
            self._limit, self._full, self._open = None, 0.0, True
            return None
        affordable = _affordable(self._average, part_size)
        if self._limit is not None and affordable > self._limit:
            self._limit = affordable  # a faster link
        if self._limit is not None and now >= self._more_at and in_flight >= self._limit:
            return self._begin(2 * self._limit, self._limit, goodput)
        most = in_flight if self._limit is None else min(in_flight, self._limit)
        if most > 1 and most * part_size > HORIZON * self._average and not self._open and not self._undoubled:
            return self._begin(max(min(affordable, int(most / CONTRAST)), -(-most // CUT)), most, goodput)
        return None

    def _begin(self, parts: int, before: int, goodput: float) -> int | None:
        self._trial = _BoundTrial(parts, before, self._limit, goodput)
        self._limit = parts
        self._goodput.clear()
        return parts if parts < before else None

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
        hopeless = len(self._goodput) >= 3 and goodput < GROWTH * min(proportional, trial.goodput)
        if not reached and not hopeless and len(self._goodput) < PATIENCE:
            return False
        self._trial = None
        self._goodput.clear()
        if fewer and reached:
            self._more_at = now + self._rest
            return True
        self._limit = trial.limit if fewer or not reached else None
        self._open = self._limit is None  # each connection carries what it can
        if fewer:
            self._more_at = now  # then more parts carry more
        else:
            self._more_at = now + self._rest
            self._rest = min(LONGEST_REST, 2 * self._rest)
        return True


def _affordable(goodput: float, part_size: float) -> int:
    """Return how many parts goodput finishes in time."""
    return max(1, int(AIM * goodput / part_size))

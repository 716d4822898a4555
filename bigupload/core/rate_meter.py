"""The rate of a transfer, and the time that the rest of it takes. Pure: time is passed in.

What is done may come in lumps: where responses are late, whole parts are done at a time. So the rate is that between
two changes, and between two changes the time left counts down.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

_WINDOW = 10.0
"""Seconds over which the rate is measured at least: long enough to read, short enough to show that a link went away."""
_CHANGES = 4
"""Changes over which it is measured at least."""
_LUMPS = 2
"""Lumps needed where responses are late: of bodies that share a path and end together, a small one ends long before the
others."""
_BUNCH = 2.0
"""Seconds in which bodies that share a path end together: until then, the first are not all of them."""
_SILENT = 4
"""The rate is 0 after a pause of this many usual intervals, and of half the window."""


class _Count:
    """The times at which a count of bytes changed."""

    def __init__(self, least: int = 1) -> None:
        """`least`: changes without which there is no rate."""
        self.changes: deque[tuple[float, int]] = deque()
        self._least = least

    def add(self, now: float, done: int) -> None:
        changes = self.changes
        if changes and done < changes[-1][1]:  # something is to be done again: that is not a negative rate
            less = changes[-1][1] - done
            self.changes = deque((at, before - less) for at, before in changes)
        elif not changes or done > changes[-1][1]:
            changes.append((now, done))
            while len(changes) > _CHANGES + 1 and changes[1][0] < now - _WINDOW:
                changes.popleft()

    def rate(self, now: float) -> float:
        changes = self.changes
        if len(changes) <= self._least:
            return 0.0
        (began, first), (at, last) = changes[0], changes[-1]
        usual, silent = self._usual(), now - at
        if silent > max(_SILENT * usual, _WINDOW / 2):
            return 0.0
        took = at - began + max(0.0, silent - usual)
        return (last - first) / took if took > 0 else 0.0  # a clock may go in steps: on Windows, of 15.6 ms

    def seconds_left(self, now: float, size: int, most: float) -> float | None:
        rate = min(self.rate(now), most)
        if not rate:
            return None
        at, done = self.changes[-1]
        if done >= size:
            return 0.0
        left = (size - done) / rate - min(now - at, self._usual())  # an overdue lump is not done yet
        return left if left > 0 else None

    def _usual(self) -> float:
        """Seconds without a change that are usual."""
        return max(later - sooner for (sooner, _), (later, _) in pairwise(self.changes))


class RateMeter:
    """Measures bytes a second: of what was sent, or, while responses are late, of what was stored."""

    def __init__(self) -> None:
        self._sent, self._stored = _Count(), _Count(_LUMPS)
        self._most = math.inf
        self._is_late = False
        self._bunch_at: float | None = None
        """The time at which the first bytes became stored."""

    def add(
        self, now: float, stored: int, in_flight: int = 0, *, late: bool = False, stored_rate: float = math.inf
    ) -> None:
        """Note what is done. It may be less than before.

        Args:
            now: Seconds.
            stored: Bytes that are done.
            in_flight: Bytes that were sent of others.
            late: Whether responses are late, so that what is in flight is not done.
            stored_rate: Then the rate is at most this. Between two bunches of parts that waited together, it counts
                what was stored, and not both bunches.
        """
        self._sent.add(now, stored + in_flight)
        self._stored.add(now, stored)
        if self._bunch_at is None and len(self._stored.changes) > 1:
            self._bunch_at = now
        self._is_late = late
        self._most = stored_rate if late else math.inf

    def rate(self, now: float) -> float:
        """Return bytes a second; 0 if that is not known, or if nothing moves any more."""
        return min(self._count.rate(now), self._most)

    def seconds_left(self, now: float, size: int | None) -> float | None:
        """Return the seconds until `size` bytes are done; None if their number is not known, or `size` is overdue.

        It is not known either when all that was sent may be stored, as long as nothing is, or while responses are late
        and the first bunch of them is coming.
        """
        if self._is_late and self._bunch_at is not None and now < self._bunch_at + _BUNCH:
            return None
        left = None if size is None else self._count.seconds_left(now, size, self._most)
        is_stored = self._stored.changes and self._stored.changes[-1][1]
        return left if is_stored or left is None or left >= 1 else None

    @property
    def _count(self) -> _Count:
        return self._stored if self._is_late else self._sent

"""How fast something goes, and how long the rest of it takes. Pure: time is passed in.

What is done may come in lumps: where responses are late, whole parts are done at a time. So the rate is that between
two changes, and between two changes the time left counts down."""

from __future__ import annotations

from collections import deque

_WINDOW = 10.0
"""Seconds over which the rate is measured at least: long enough to read, short enough to show that a link went away."""
_CHANGES = 4
"""Changes over which it is measured at least."""
_SILENT = 4
"""Nothing has changed for so many times as long as usual, and for half the window: the rate is 0."""


class RateMeter:
    """Measures bytes a second."""

    def __init__(self) -> None:
        self._changes: deque[tuple[float, int]] = deque()

    def restart(self) -> None:
        """Forget: the next count is the first."""
        self._changes = deque()

    def add(self, now: float, done: int) -> None:
        """Note that `done` bytes are done. If that is less than before, something is to be done again."""
        changes = self._changes
        if changes and done == changes[-1][1]:
            return
        if changes and done < changes[-1][1]:
            less = changes[-1][1] - done
            self._changes = deque((at, before - less) for at, before in changes)
            return
        changes.append((now, done))
        while len(changes) > _CHANGES + 1 and changes[1][0] < now - _WINDOW:
            changes.popleft()

    def rate(self, now: float) -> float:
        """Return bytes a second; 0 if that is not known, or if nothing moves any more."""
        changes = self._changes
        if len(changes) < 2:
            return 0.0
        (began, first), (at, last) = changes[0], changes[-1]
        usual = (at - began) / (len(changes) - 1)
        silent = now - at
        if silent > max(_SILENT * usual, _WINDOW / 2):
            return 0.0
        return (last - first) / max(1e-9, at - began + max(0.0, silent - usual))

    def seconds_left(self, now: float, size: int | None) -> float | None:
        """Return how long it takes until `size` bytes are done; None if that is not known."""
        rate = self.rate(now)
        if size is None or not rate:
            return None
        at, done = self._changes[-1]
        return max(0.0, (size - done) / rate - (now - at))

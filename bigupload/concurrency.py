"""How many parts to send at once, from goodput alone. Pure: time is passed in.

As TCP does it: double while that brings more (slow start), then probe by small steps and keep what helps; when the
store says SlowDown, go down to four fifths and remember where that was. https://www.rfc-editor.org/rfc/rfc5681
"""

from __future__ import annotations

from dataclasses import dataclass

START = 8
MOST = 64
WINDOW = 1.0
"""Seconds of one measurement; what a step brings shows no sooner."""
_GROWTH = 1.2
"""A doubling must bring a fifth more, else it was one too many."""
_GAIN = 1.05
_BACK_OFF = 0.8


@dataclass(slots=True)
class _Window:
    since: float
    bytes_done: int


class Concurrency:
    """The limit for one store. `fixed` switches the adapting off."""

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._limit = fixed or START
        self._ceiling = MOST
        self._slow_start = True
        self._step = 0
        self._best = 0.0
        self._window: _Window | None = None
        self._backed_off_at = float("-inf")

    @property
    def limit(self) -> int:
        """Parts that may be in flight."""
        return self._limit

    def sample(self, now: float, bytes_done: int, *, saturated: bool) -> None:
        """`bytes_done`: sent in all by time `now` (seconds). `saturated`: the limit was what held sending back."""
        window = self._window
        if window is None or not saturated or self._fixed is not None:
            self._window = _Window(now, bytes_done)
            return
        if now - window.since < WINDOW:
            return
        self._judge((bytes_done - window.bytes_done) / (now - window.since))
        self._window = _Window(now, bytes_done)

    def slow_down(self, now: float) -> None:
        """The store asked for less. Acts once a window, since every part in flight brings the same news."""
        if self._fixed is not None or now - self._backed_off_at < WINDOW:
            return
        self._backed_off_at = now
        self._slow_start = False
        self._step = 0
        self._best = 0.0
        self._limit = self._ceiling = max(1, int(self._limit * _BACK_OFF))
        self._window = None

    def _judge(self, goodput: float) -> None:
        if self._slow_start:
            if goodput >= self._best * _GROWTH:
                self._best = goodput
                self._move(self._limit * 2)
            else:
                self._slow_start = False
                self._move(max(START, self._limit // 2))
            return
        if self._step and goodput < self._best * _GAIN:
            self._move(self._limit - self._step)
            self._step = 0
        else:
            self._step = max(1, self._limit // 8)
            self._move(self._limit + self._step)
        self._best = goodput

    def _move(self, limit: int) -> None:
        if limit > self._ceiling and self._ceiling < MOST:
            self._ceiling += 1  # what was too much once is probed again, by one
        before = self._limit
        self._limit = max(1, min(limit, self._ceiling, MOST))
        self._step = self._step if self._limit > before else 0

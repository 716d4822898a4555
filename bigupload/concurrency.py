"""How many parts to send at once, from goodput alone. Pure: time is passed in.

Slow start doubles the limit while that brings more, as TCP's does. Then trials: a little more or a little less, each
held for some windows and compared with what was before it, because one window's goodput wavers by more than a step
brings. A step up must bring a good share of what it could; a step down is kept where it costs next to nothing, so that
the limit comes down again to what the path needs. When the store says SlowDown, the limit falls to four fifths, and
trials go no further than one above where that was. https://www.rfc-editor.org/rfc/rfc5681
"""

from __future__ import annotations

from dataclasses import dataclass

START = 8
MOST = 64
WINDOW = 1.0
"""Seconds of one measurement; what a step brings shows no sooner."""
_GROWTH = 1.2
"""A doubling must bring a fifth more, else it was one too many."""
_WINDOWS = 3
"""Measurements that one comparison is made of, on each side."""
_STEP = 8
"""A trial is an eighth of the limit, at least 1."""
_UP = 0.5
"""Of what a step up could bring, this share must come."""
_DOWN = 0.25
"""Of what a step down could cost, no more than this share may go."""
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
        self._window: _Window | None = None
        self._measured: list[float] = []
        self._base: tuple[int, float] | None = None
        """The limit before the trial that is under way, and its goodput."""
        self._upwards = True
        self._doubled_from = 0.0
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
        goodput = (bytes_done - window.bytes_done) / (now - window.since)
        self._window = _Window(now, bytes_done)
        if self._slow_start:
            self._start(goodput)
        else:
            self._try(goodput)

    def slow_down(self, now: float) -> None:
        """The store asked for less. Acts once a window, since every part in flight brings the same news."""
        if self._fixed is not None or now - self._backed_off_at < WINDOW:
            return
        self._backed_off_at = now
        self._slow_start = False
        self._ceiling = self._limit
        self._move(int(self._limit * _BACK_OFF))
        self._base = None
        self._upwards = False

    def _start(self, goodput: float) -> None:
        if self._limit == MOST or goodput < self._doubled_from * _GROWTH:
            self._slow_start = False
            self._move(self._limit if goodput >= self._doubled_from * _GROWTH else self._limit // 2)
        else:
            self._doubled_from = goodput
            self._move(self._limit * 2)

    def _try(self, goodput: float) -> None:
        """Every few windows: judge the trial that is under way, or begin one."""
        self._measured.append(goodput)
        if len(self._measured) < _WINDOWS:
            return
        goodput = sum(self._measured) / len(self._measured)
        if self._base is None:
            self._begin(goodput)
            return
        (limit, before), self._base = self._base, None
        change = (self._limit - limit) / limit
        share = _UP if change > 0 else _DOWN
        if goodput >= before * (1 + share * change):
            self._begin(goodput)  # it helped, or did no harm: on in the same direction
        else:
            self._upwards = change < 0
            self._move(limit)

    def _begin(self, goodput: float) -> None:
        step = max(1, self._limit // _STEP)
        wanted = self._limit + (step if self._upwards else -step)
        if self._ceiling < MOST and wanted > self._ceiling:
            wanted = self._ceiling = min(self._ceiling + 1, MOST)  # what was too much once is tried again, by one
        wanted = max(1, min(wanted, MOST))
        if wanted == self._limit:
            self._upwards = not self._upwards
            self._measured.clear()
            return
        self._base = (self._limit, goodput)
        self._move(wanted)

    def _move(self, limit: int) -> None:
        """What was measured was another limit's."""
        self._limit = max(1, min(limit, MOST))
        self._measured.clear()
        self._window = None

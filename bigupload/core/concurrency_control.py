"""How many parts to send at once, from goodput and refusals alone. Pure: time is passed in.

Slow start doubles the limit as soon as goodput has grown and does not go on growing by itself. Then trials: a little
more or a little less, each held for some windows and compared with what was before it, because one window's goodput
wavers by more than a step brings. A step up must bring a good share of what it could; a step down is kept where it
costs next to nothing, so that the limit comes down again to what the path needs. Where goodput sinks far, slow start
begins anew. What was in flight when the limit fell may be so for long, and is no measure of the new one.
https://www.rfc-editor.org/rfc/rfc5681

A store that is asked for too much refuses a share of the requests (SlowDown); one that has a hiccup refuses a few,
however many there are. So it is the share that counts. Too large a one, and the limit falls to four fifths and climbs
back by ones to below where that was, its ceiling. The ceiling itself is tried again by one, ever more rarely.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean as mean

START = 16
MOST = 128
WINDOW = 1.0
"""Seconds of one measurement; what a small step brings shows no sooner."""
START_WINDOW = 0.1
"""In slow start, which takes two of them for a doubling: what that brings is seen at once, where the round trip allows
it."""
START_PATIENCE = 1.2
"""Seconds in which a doubling must have brought something, also over a long path."""
_GROWTH = 1.2
"""A doubling must bring a fifth more, else it was one too many."""
_SETTLED = 1.1
"""From one window to the next: what grows more will be more without any doubling, as each new connection is in a slow
start of its own. BBR's fill a link in half a second, however few they are."""
_SUNK = 0.5
"""Of the goodput that was: less, and the path has changed, or each connection carries less than when it was new, as by
loss-based congestion controls where packets are lost at random. Slow start begins anew. A store that writes to a disk
takes now more, now less, by a third either way."""
_STAYS_LOW = 2
"""Windows. One that is bad is an accident of the path, and its end is no merit of more connections."""
_WINDOWS = 3
"""Measurements that one comparison is made of, on each side."""
_STEP = 8
"""A trial is an eighth of the limit, at least 1."""
_UP = 0.5
"""Of what a step up could bring, this share must come."""
_DOWN = 0.25
"""Of what a step down could cost, no more than this share may go."""
_PLAINLY = 0.75
"""One window that costs so much of what a step down could is enough."""
_MOST_REST = 48
"""Windows between two trials, where trials keep failing."""
_BACK_OFF = 0.8
_REFUSED_SHARE = 0.1
"""Of the requests since the limit last changed, the older ones counting less."""
_OLDER = 0.7
"""What a request counts for when it is a window older."""
_REFUSALS = 3
"""No fewer: a few are chance."""
_FIRST_TIME = 1.5
"""So much more clearly must a store speak that has never asked for less before."""
DEAF = 0.5
"""Seconds after backing off in which refusals are still the old limit's news."""
PROBE_AFTER = 10.0
"""Seconds until a ceiling is tried again, the first time; twice as long each time that it holds."""
_CLIMB = 0.5
"""Seconds for each one more on the way back to the ceiling."""


@dataclass(slots=True)
class _Window:
    since: float
    bytes_done: int


class ConcurrencyControl:
    """The limit for one store. `fixed` switches the adapting off."""

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._limit = fixed or START
        self._slow_start = True
        self._window: _Window | None = None
        self._measured: list[float] = []
        self._base: tuple[int, float] | None = None
        """The limit before the trial that is under way, and its goodput."""
        self._upwards = True
        self._rest = _WINDOWS
        """Windows to measure before the next trial."""
        self._doubled_from = 0.0
        self._best = 0.0
        """Goodput that was held, since slow start."""
        self._low: list[float] = []
        """The latest windows in which it was far from that."""
        self._changed_at: float | None = None
        # What the store refuses
        self._started = 0.0
        self._refused = 0.0
        self._ceiling = MOST
        self._held_back = False
        """The store has said SlowDown: the ceiling is its, not ours."""
        self._backed_off_at = float("-inf")
        self._probe_at = 0.0
        self._probe_after = PROBE_AFTER

    @property
    def limit(self) -> int:
        """Parts that may be in flight."""
        return self._limit

    def started(self) -> None:
        """One more request went out."""
        self._started += 1

    def refused(self, now: float) -> None:
        """A request was answered with SlowDown at time `now` (seconds)."""
        if self._fixed is not None or now - self._backed_off_at < DEAF:
            return
        self._refused += 1
        clearly = 1.0 if self._held_back else _FIRST_TIME
        if self._refused < clearly * max(_REFUSALS, _REFUSED_SHARE * self._started):
            return
        if self._held_back and self._limit > self._ceiling:  # the probe failed: below it all was well
            self._probe_after *= 2
            self._back_off(self._ceiling, now)
        else:
            self._ceiling = max(1, self._limit - 1)
            self._back_off(min(self._ceiling, int(self._limit * _BACK_OFF)), now)

    def sample(self, now: float, bytes_done: int, *, in_flight: int) -> None:
        """`bytes_done`: sent in all by time `now`. `in_flight`: parts, more than the limit where that fell lately."""
        window = self._window
        if window is None or in_flight < self._limit or self._fixed is not None:  # it is not what holds sending back
            self._window = _Window(now, bytes_done)
            return
        lasts = START_WINDOW if self._slow_start else _CLIMB if self._climbing else WINDOW
        if now - window.since < lasts:
            return
        goodput = (bytes_done - window.bytes_done) / (now - window.since)
        self._window = _Window(now, bytes_done)
        self._started *= _OLDER
        self._refused *= _OLDER
        if self._slow_start:
            self._start(goodput, now)
        elif self._climbing:
            self._move(self._limit + 1, now)
        else:
            self._try(goodput, now, in_flight)

    @property
    def _climbing(self) -> bool:
        return self._held_back and self._limit < self._ceiling and self._base is None and not self._upwards

    def _back_off(self, limit: int, now: float) -> None:
        self._backed_off_at = now
        self._probe_at = now + self._probe_after
        self._slow_start = self._upwards = False
        self._held_back = True
        self._base = None
        self._move(limit, now)

    def _start(self, goodput: float, now: float) -> None:
        self._measured.append(goodput)
        enough = self._doubled_from * _GROWTH
        *_, before, last = 0.0, *self._measured
        if self._limit < MOST and min(before, last) >= enough and 0 < last <= before * _SETTLED:
            self._double(last, now)
        elif self._changed_at is not None and now - self._changed_at >= START_PATIENCE:
            self._slow_start = False
            if self._base is None:
                self._best = mean(self._measured)
            self._move(self._limit if last >= enough else self._limit // 2, now)

    def _double(self, goodput: float, now: float) -> None:
        self._doubled_from = goodput
        self._move(self._limit * 2, now)

    def _try(self, goodput: float, now: float, in_flight: int) -> None:
        """Every few windows: judge the trial that is under way, or begin one."""
        if self._sinks(goodput):
            self._slow_start = True
            self._best = max(self._low) * self._limit / in_flight
            self._base = (self._limit, self._best)  # what comes of it is judged as any trial is
            self._double(self._best, now)
            return
        if in_flight > self._limit:
            self._measured.clear()  # that was what more of them carry
            return
        self._measured.append(goodput)
        if self._base is None:
            if len(self._measured) >= self._rest:
                self._begin(mean(self._measured[-_WINDOWS:]), now)
            return
        limit, before = self._base
        change = (self._limit - limit) / limit
        if change < 0 and goodput < before * (1 + _PLAINLY * change):
            self._undo(limit, change, now)  # no need to lose more
            return
        if len(self._measured) < _WINDOWS:
            return
        goodput = mean(self._measured)
        if self._held_back:
            self._ceiling = max(self._ceiling, self._limit)  # a probe that the store let pass
        if goodput >= before * (1 + (_UP if change > 0 else _DOWN) * change):
            self._rest = _WINDOWS
            self._base = None
            self._begin(goodput, now)  # it helped, or did no harm: on in the same direction
        else:
            self._undo(limit, change, now)

    def _sinks(self, goodput: float) -> bool:
        """Whether goodput stays far below what it was, where more connections are allowed."""
        if self._held_back or self._limit >= MOST:
            return False
        if goodput < _SUNK * self._best:
            self._low.append(goodput)
        else:
            self._low.clear()
            if len(self._measured) >= _WINDOWS:
                self._best = max(self._best, mean(self._measured[-_WINDOWS:]))
        return len(self._low) >= _STAYS_LOW

    def _undo(self, limit: int, change: float, now: float) -> None:
        """A trial failed. Where both ways have failed, the next rests longer."""
        if change < 0:
            self._rest = min(self._rest * 2, _MOST_REST)
        self._upwards = change < 0
        self._base = None
        self._move(limit, now)

    def _begin(self, goodput: float, now: float) -> None:
        step = max(1, self._limit // _STEP)
        wanted = self._limit + (step if self._upwards else -step)
        if self._held_back and wanted > self._ceiling:
            wanted = self._ceiling if now < self._probe_at else self._ceiling + 1
        wanted = max(1, min(wanted, MOST))
        if wanted == self._limit:
            self._upwards = not self._upwards
            self._measured.clear()
            return
        self._base = (self._limit, goodput)
        self._move(wanted, now)

    def _move(self, limit: int, now: float) -> None:
        """What was measured was another limit's."""
        self._limit = max(1, min(limit, MOST))
        self._changed_at = now
        self._started = self._refused = 0.0
        self._measured.clear()
        self._low.clear()
        self._window = None

"""Decides how many parts to send at once. It knows goodput, refusals and queues alone. Time is passed in.

The limit is found by trials. A trial changes the limit, waits until the new connections are up to speed, and compares
goodput with what it was before. A larger limit stays if goodput grew with it; a smaller one stays if goodput did not
suffer. A trial that fails is undone, and the next one goes the other way. The first trials double the limit. Later
trials change it by a quarter, and each larger limit that helped is followed by a step twice as large.

More connections than fill a link take goodput from one another: on a path with losses, BBR's lose more than they carry.
So the limit is not doubled while packets wait in a queue in front of the link. If it is the store that holds each
connection back, because its window is full, a new one is up to speed at once: then one window is enough for a doubling.

Goodput also changes by itself. A connection needs many round trips until it is up to speed: how long, the start of the
upload shows. Connections of a loss-based congestion control carry less as they grow old: if goodput halves at the same
limit, the search begins again by doubling.

A store that is asked for too much refuses a share of the requests (503 SlowDown). Then the limit falls to four fifths,
and the limit before, less one, is a ceiling that trials do not pass. After a while one more than the ceiling is tried,
and if the store accepts that, the ceiling is gone.

What each constant brings is simulated by `python -m benchmarks controller`. A figure in brackets is how much longer an
upload takes, on the path that suffers most, with the constant changed or switched off: benchmarks/README.md.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from bigupload.core.averages import mean
from bigupload.records import dataclass

START = 16
"""Parts in flight at the start. [8: 126 %, 32: 113 %]"""
MOST = 128
"""The largest limit. [64: 89 %, 256: nothing, but 25 % more parts in flight]"""
WINDOW = 0.4
"""Seconds of one measurement. [0.2: 24 %, 0.8: 95 %]"""
FILLED = 0.85
"""The share of the limit that is in flight on average while goodput is measured: between two parts a slot may be empty
for a moment, as never in the simulation. With fewer, it is not the limit that holds sending back."""
PAUSE = 1.0
"""Seconds between two samples. After a longer time, nothing was sent in between, or the machine slept."""
STEP = 1 / 3
"""Later trials change the limit by 2 to this power: a quarter more, a fifth less. [1/6: 95 %, 2/3: 41 %]"""
WORTH = 0.25
"""Goodput must grow by the limit's growth to this power: by a fifth where the limit doubles. [0: 27 %, and 34 % more
parts in flight; 0.5: 26 %]"""
HARMLESS = 0.05
"""Goodput may shrink by the limit's change to this power: by 1 % where the limit is a fifth less. [0: nothing, but
2 % more parts in flight. Where goodput does not waver at all, a limit that is too large would stay for ever]"""
SETTLED = 1.1
"""At the start of the upload: goodput that grew by more since the window before still grows by itself. [off: nothing,
but 10 % more parts in flight]"""
SUNK = 0.5
"""Goodput below this share of what it was, for as long as a small trial takes: the path has changed.
[off: 30 %, 0.75: 17 %]"""
QUEUED = 0.25
"""Packets that wait for this share of the shortest round trip stand in a queue before a full link. [off: 8 %]"""
QUEUED_FOR = 0.005
"""Seconds that they wait at least: a busy machine is late by a few milliseconds."""
WINDOWS_AT_STORE = 1
"""Windows that are enough for a doubling if the store holds the connections back. [2: 22 %]"""
SOON = 0.04
"""Seconds. With a round trip of at most that, a new connection is up to speed within a window. [0: 28 %, 0.02: 6 %]"""
PATIENCE = 4
"""If the link is still full after so many times as long as a trial takes, fewer parts are tried instead. Connections
that a loss will slow down fill a link while they are new. [1: 13 %]"""
LONGEST_RAMP = 4.0
"""Seconds. How long new connections take to be up to speed is measured once, at the start of the upload. A start that
took longer hung: with a round trip of 300 ms it takes less than 2 s. [off: 495 %, 2 or 8: nothing]"""
LONGEST_REST = 16
"""Two trials that fail, one each way, double the time until the next, up to so many times that of a trial.
[off: 43 %]"""
BACK_OFF = 0.8
"""The share of the limit that is left after too many refusals. [0.6: 132 %, 0.9: 21 %]"""
REFUSED_SHARE = 0.1
"""Of the latest requests. A store that has a hiccup refuses a few requests, however many parts are in flight.
[0.05: 339 %, 0.2: nothing, but a store that takes 12 parts at once refused 53 PUTs of 5 GB instead of 14]"""
REFUSALS = 4
"""Fewer are chance. [2: 179 %, 8: 10 %]"""
OLDER = 0.9
"""What a request counts for when it is a window older: the latest four seconds count. [off: 37 %]"""
PROBE_AFTER = 10.0
"""Seconds until one part more than the ceiling is tried. Each time that this fails, it is twice as long.
[off: 178 %]"""


class Bottleneck(enum.Enum):
    """What holds most connections back, as far as the kernel can tell."""

    UNKNOWN = enum.auto()
    LINK = enum.auto()
    """Packets wait in a queue in front of a link."""
    STORE = enum.auto()
    """The store reads less from each connection than the path carries. A new one is up to speed at once."""

    @classmethod
    def of(cls, paths: Sequence[tuple[float, float, bool]]) -> Bottleneck:
        """What most connections tell.

        Args:
            paths: Of each connection: its shortest round trip and that of now, in seconds, or zeros if the system does
                not tell; and whether the store's window is full. Then it acknowledges late, and nothing else follows
                from its round trips.
        """
        if 2 * sum(full and least <= SOON for least, _, full in paths) > len(paths):
            return cls.STORE
        waiting = sum(not full and now - least >= max(QUEUED_FOR, QUEUED * least) for least, now, full in paths)
        return cls.LINK if 2 * waiting > len(paths) else cls.UNKNOWN


@dataclass(slots=True)
class _Window:
    """The measurement that is under way."""

    since: float
    bytes_done: int
    until: float
    part_seconds: float = 0.0
    """Parts in flight, times seconds."""
    reached: bool = False
    """Whether as many parts were in flight as may be."""

    def goes_on(self, now: float, in_flight: int, limit: int) -> bool:
        """Measure until now. Returns whether the limit is what holds sending back."""
        took = now - self.until
        self.part_seconds += in_flight * took
        self.until = now
        self.reached = self.reached or in_flight >= limit
        return took <= PAUSE and self.part_seconds >= FILLED * limit * (now - self.since)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What the limit and the goodput were before the trial that is under way."""

    limit: int
    goodput: float


class ConcurrencyControl:
    """The limit for one store. `fixed` switches the adapting off. `most` is the largest limit, if less than MOST."""

    def __init__(self, fixed: int | None = None, *, most: int | None = None) -> None:
        self._fixed = fixed
        self._alone = self._most = min(MOST, most or MOST)
        self._limit = fixed or min(START, self._most)
        self._moved = False
        self._has_parts = False
        self._twice = False
        """Whether the limit may be twice the largest one of parts."""
        self._since = 0.0
        """When the limit changed."""
        self._window: _Window | None = None
        self._goodput: list[float] = []
        """Bytes a second of each window since the limit changed."""
        self._before = 0.0
        """The most goodput that a trial began with in this search."""
        self._ramp: float | None = None
        """Seconds until new connections are up to speed."""
        self._trial: _Trial | None = None
        self._up = True
        self._step = 1.0
        self._failures = 0
        """Of the latest trials, one after another."""
        # What the store refuses
        self._started = 0.0
        self._refused = 0.0
        self._backed_off_at = float("-inf")
        self._ceiling: int | None = None
        self._probe_after = PROBE_AFTER

    @property
    def limit(self) -> int:
        """Parts that may be in flight."""
        return self._limit

    def spread(self, machines: int) -> None:
        """Let so many machines send parts: each has as much room as one alone, from the start on."""
        self._most = self._alone * machines
        if self._fixed is None:
            self._limit = min(self._most, self._limit if self._moved else min(START, self._alone) * machines)

    def begin_with(self, limit: int) -> None:
        """Begin with this limit instead of START, if nothing was measured yet: what is to be sent is small."""
        if self._fixed is None and self._window is None:
            self._limit = min(limit, self._most)

    def widen(self, limit: int) -> None:
        """Raise the limit to this one, if the store has refused nothing and no trial has begun.

        Up to twice the largest one, until `narrow` is called: what is sent are small files, and each needs one
        descriptor where a part needs two.
        """
        if self._fixed is None and not self._moved and not self._refused and limit > self._limit:
            self._twice = not self._has_parts
            self._limit = min(limit, self._largest)
            self._goodput.clear()
            self._window = None

    def narrow(self) -> None:
        """Keep to the largest limit from now on: parts are to be sent."""
        self._has_parts = True
        self._twice = False
        if self._fixed is None:
            self._limit = min(self._limit, self._most)

    @property
    def _largest(self) -> int:
        return self._most * 2 if self._twice else self._most

    def started(self) -> None:
        """One more request went out."""
        self._started += 1

    def refused(self, now: float) -> None:
        """The store refused a request with SlowDown at time `now`, in seconds."""
        if self._fixed is not None or now - self._backed_off_at < WINDOW:  # of requests before the limit fell
            return
        self._refused += 1
        if self._refused < max(REFUSALS, REFUSED_SHARE * self._started):
            return
        if self._ceiling is not None and self._limit > self._ceiling:
            limit = self._ceiling
            self._probe_after *= 2
        else:
            self._ceiling = max(1, self._limit - 1)
            limit = min(self._ceiling, int(self._limit * BACK_OFF))
        self._backed_off_at = now
        self._search(STEP)
        self._move(limit, now)

    def sample(
        self, now: float, bytes_done: int, *, in_flight: int, bottleneck: Bottleneck = Bottleneck.UNKNOWN
    ) -> None:
        """Take a measurement, and decide.

        Args:
            now: Seconds.
            bytes_done: Bytes that all parts together have sent by then.
            in_flight: Parts in flight. There may be more than the limit for a while after it fell.
            bottleneck: What holds most connections back. It matters only if `doubles`.
        """
        if self._fixed is not None:
            return
        window = self._window
        if window is None or not window.goes_on(now, in_flight, self._limit):
            self._window = _Window(now, bytes_done, now)
            if not self._goodput:
                self._since = now
            return
        if now - window.since < WINDOW or not window.reached:
            return
        self._window = _Window(now, bytes_done, now)
        self._started *= OLDER
        self._refused *= OLDER
        if in_flight > self._limit:  # this was the goodput of another limit
            self._goodput.clear()
            self._since = now
            return
        self._goodput.append((bytes_done - window.bytes_done) / (now - window.since))
        self._decide(now, bottleneck)

    @property
    def doubles(self) -> bool:
        """Whether the next trial is to double the limit, if the link is not full."""
        return self._fixed is None and self._up and self._step >= 1

    def _decide(self, now: float, bottleneck: Bottleneck) -> None:
        if self._sunk():
            self._search(1.0)
        at_speed = bottleneck is Bottleneck.STORE and self.doubles
        windows = WINDOWS_AT_STORE if at_speed else max(2, round(1 / self._step))  # a smaller step shows less
        if len(self._goodput) < windows or not self._goodput[-1]:
            return
        goodput = mean(self._goodput[-windows:])
        measured_for = now - self._since
        ramp = 0.0
        if not at_speed:
            if self._ramp is None:
                if self._goodput[-1] > SETTLED * self._goodput[-2]:
                    return
                self._ramp = min(LONGEST_RAMP, measured_for - windows * WINDOW)
            ramp = self._ramp
        ramped = measured_for >= ramp + windows * WINDOW
        if self._trial is None:
            if bottleneck is Bottleneck.LINK and self.doubles:
                if measured_for >= ramp + windows * WINDOW * PATIENCE:
                    self._up, self._step = False, STEP
                    self._try_another(goodput, now)
            elif measured_for >= ramp + windows * WINDOW * min(2 ** (self._failures // 2), LONGEST_REST):
                self._try_another(goodput, now)
            return
        change = self._limit / self._trial.limit
        if change > 1 and goodput >= self._trial.goodput * change**WORTH:
            self._step = min(1.0, self._step * 2)
            self._failures = 0
            if self._ceiling is not None and self._limit > self._ceiling:
                self._ceiling = None
            self._try_another(goodput, now)
        elif change < 1 and goodput >= self._trial.goodput * change**HARMLESS:
            self._failures = 0
            self._try_another(goodput, now)
        elif change < 1 or ramped:
            self._undo(self._trial, now)

    def _sunk(self) -> bool:
        lately = self._goodput[-round(1 / STEP) :]
        return self._trial is None and len(lately) == round(1 / STEP) and max(lately) < SUNK * self._before

    def _search(self, step: float) -> None:
        """Forget what was measured, and begin with a step up."""
        self._trial = None
        self._before = 0.0
        self._up, self._step = True, step
        self._failures = 0

    def _try_another(self, goodput: float, now: float) -> None:
        """Begin a trial from this limit, which has this goodput."""
        wanted = round(self._limit * 2.0 ** (self._step if self._up else -self._step))
        if wanted == self._limit:
            wanted += 1 if self._up else -1
        most = self._largest
        if self._ceiling is not None:
            most = self._ceiling + (now - self._backed_off_at >= self._probe_after)
        wanted = max(1, min(wanted, most))
        trial = _Trial(self._limit, goodput)
        if wanted == self._limit:
            self._undo(trial, now)
        else:
            self._trial = trial
            self._move(wanted, now)

    def _undo(self, trial: _Trial, now: float) -> None:
        """The trial failed: the next one goes the other way."""
        self._trial = None
        self._before = max(self._before, trial.goodput)
        self._up, self._step = not self._up, STEP
        self._failures += 1
        self._move(trial.limit, now)

    def _move(self, limit: int, now: float) -> None:
        self._moved = True
        self._limit = max(1, min(limit, self._largest))
        self._since = now
        self._started = self._refused = 0.0
        self._goodput.clear()
        self._window = None

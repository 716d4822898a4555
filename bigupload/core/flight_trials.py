"""Finds the limit of parts in flight that has the best goodput, by trials. Pure: time is passed in.

A trial changes the limit, waits until new connections are up to speed, and compares goodput with what it was before. A
larger limit stays if goodput grew with it; a smaller one stays if goodput did not suffer. The first trials double the
limit; if the first parts were all stored within one measurement, the first trial multiplies it by three, and is judged
by how many those parts were. Later ones change it by a quarter, and each larger limit that helped is followed by a step
twice as large. The first trial of fewer parts is with as few as the first parts were, if those had more goodput: a
store that is best at a few parts shows it before more are in flight. The limit is not doubled while packets wait in a
queue in front of the link: more connections than fill a link take goodput from one another. If goodput halves at the
same limit, the search begins again by doubling.

A store that is asked for too much refuses a share of the requests. Then the limit falls to four fifths, and the limit
before, less one, is a ceiling. After a while one more than the ceiling is tried, and if the store accepts that, the
ceiling is gone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Sequence

from bigupload.records import dataclass

WINDOW = 0.4
"""Seconds of one measurement."""
LEAP = 3
"""The limit is multiplied by that at once if the first parts were all stored within a window: where a window shows
nothing of the parts that it begins with, trials would be slower than the path."""
STEP = 1 / 3
"""Later trials change the limit by 2 to this power: a quarter more, a fifth less."""
WORTH = 0.25
"""Goodput must grow by the limit's growth to this power: by a fifth where the limit doubles."""
HARMLESS = 0.05
"""Goodput may shrink by the limit's change to this power: by 1 % where the limit is a fifth less. Where goodput does
not waver at all, a limit that is too large would stay for ever."""
WAVERS = 0.3
"""If goodput differs by twice this share from one window to the next, four windows decide, if by three times, nine: one
would decide by chance where a disk writes in bursts."""
SETTLED = 1.1
"""Goodput that grew by more since the window before still grows by itself."""
SUNK = 0.5
"""Goodput below this share of what it was, for as long as a small trial takes: the path has changed."""
QUEUED = 0.25
"""Packets that wait for this share of the shortest round trip stand in a queue before a full link."""
QUEUED_FOR = 0.005
"""Seconds that they wait at least: a busy machine is late by a few milliseconds."""
SOON = 0.04
"""Seconds. With a round trip of at most that, a new connection is up to speed within a window."""
LASTING = 10
"""Windows after which a state is lasting. A start that takes longer has hung. A link that is full for longer will stay
full: connections that a loss will slow down fill it while they are new. What paused parts had sent has drained. And if
a larger limit was kept for a goodput of which less than half is left, its connections have only filled the buffers of
a store that reads slowly."""
AVERAGED = 0.3
"""The weight of the latest window in the goodput from which the bound is computed."""
ALIKE = 0.75
"""If connections carry less than this share of what fewer carried, they share a link. If they carry more than one
divided by it, they were not up to speed."""
LONGEST_REST = 16
"""Two failed trials, one each way, double the time until the next, up to this many times that of a trial. More parts
than the bound are in flight for at most one second in this many."""
BACK_OFF = 0.8
"""The share of the limit that is left after too many refusals."""
REFUSED_SHARE = 0.1
"""The share of refused requests, since the limit changed, that is too many. A store that has a hiccup refuses a few
requests, however many parts are in flight."""
REFUSALS = 4
"""Fewer are chance."""
PROBE_AFTER = 10.0
"""Seconds until one part more than the ceiling is tried. Each time that this fails, it is twice as long, up to
LONGEST_REST times this."""


class Bottleneck(enum.Enum):
    """The cause that holds most connections back, as far as the kernel knows."""

    UNKNOWN = enum.auto()
    LINK = enum.auto()
    """Packets wait in a queue in front of a link."""
    STORE = enum.auto()
    """The store reads less from each connection than the path carries. A new one is up to speed at once."""

    @classmethod
    def of(cls, paths: Sequence[tuple[float, float, bool]]) -> Bottleneck:
        """Return what most connections show.

        Args:
            paths: For each connection: its shortest and its present round trip in seconds, zeros if the system does
                not say; and whether the store's window is full. Then it acknowledges late, and its round trips show
                nothing else.
        """
        if 2 * sum(full and least <= SOON for least, _, full in paths) > len(paths):
            return cls.STORE
        waiting = sum(not full and now - least >= max(QUEUED_FOR, QUEUED * least) for least, now, full in paths)
        return cls.LINK if 2 * waiting > len(paths) else cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Trial:
    """The state before the trial that is under way."""

    limit: int
    goodput: float
    parts: int
    """The number of parts with that goodput: fewer than the limit only before the first response."""


class Trials:
    """The limit with the best goodput."""

    def __init__(self, limit: int, most: int) -> None:
        self.limit = limit
        self.most = most
        self.moved = False
        self.since = 0.0
        """The time at which the limit changed."""
        self.goodput: list[float] = []
        """Bytes a second of each window since the limit changed."""
        self.proportional = False
        """Whether connections carried as much with the latest larger limit that helped as with the one before."""
        self.trial: _Trial | None = None
        self._before = 0.0
        """The most goodput that a trial began with in this search."""
        self._wavers = 0.0
        """By how much goodput differs from one window to the next, as a share."""
        self._ramp: float | None = None
        """Seconds until new connections are up to speed."""
        self._up = True
        self._step = 1.0
        self._failures = 0
        """The number of the latest trials in a row that failed."""
        self._first: _Trial | None = None
        """The number of the first parts and their goodput, until fewer parts are tried than then."""
        # What the store refuses
        self.started = 0.0
        self.refused = 0.0
        self._backed_off_at = -math.inf
        self._ceiling: int | None = None
        self._probe_after = PROBE_AFTER

    @property
    def doubles(self) -> bool:
        """Whether the next trial is to double the limit, if the link is not full."""
        return self._up and self._step >= 1

    def refuse(self, now: float, *, certain: bool) -> None:
        """Note a refusal. `certain`: it alone is reason enough."""
        if now - self._backed_off_at < WINDOW:  # of requests before the limit fell
            return
        self.refused += 1
        if not certain and self.refused < max(REFUSALS, REFUSED_SHARE * self.started):
            return
        if self._ceiling is not None and self.limit > self._ceiling:
            limit = self._ceiling
            self._probe_after = min(LONGEST_REST * PROBE_AFTER, 2 * self._probe_after)
        else:
            self._ceiling = max(1, self.limit - 1)
            limit = min(self._ceiling, int(self.limit * BACK_OFF))
        self._backed_off_at = now
        self._search(STEP)
        self._move(limit, now)

    def begin(self, now: float, parts: int, goodput: float, *, leap: bool) -> None:
        """Take the number of the first parts and their goodput. `leap`: begin with a large trial."""
        if self.moved:
            return
        self._first = _Trial(parts, goodput, parts)
        limit = min(self.most, LEAP * self.limit)
        if leap and limit > self.limit:
            self.trial = _Trial(self.limit, goodput, parts)
            self._move(limit, now)

    def measured(self, now: float, goodput: float, bottleneck: Bottleneck) -> bool:
        """Take the goodput of a window, and decide. Returns whether a larger limit has just helped."""
        self.goodput.append(goodput)
        if self._sunk():
            self._search(1.0)
        at_speed = bottleneck is Bottleneck.STORE and self.doubles
        if len(self.goodput) > 1:
            wavers = abs(goodput - self.goodput[-2]) / max(1.0, mean(self.goodput[-2:]))
            self._wavers += (wavers - self._wavers) * AVERAGED
        windows = 1 if at_speed else max(2, round(1 / self._step))  # a smaller step shows less
        windows = max(windows, round((self._wavers / WAVERS) ** 2))
        if len(self.goodput) < windows or not self.goodput[-1]:
            return False
        average = mean(self.goodput[-windows:])
        measured_for = now - self.since
        ramp = 0.0
        if not at_speed:
            if self._ramp is None:
                if self.goodput[-1] > SETTLED * self.goodput[-2]:
                    return False
                self._ramp = min(LASTING * WINDOW, measured_for - windows * WINDOW)
            ramp = self._ramp
        ramped = measured_for >= ramp + windows * WINDOW
        if self.trial is None:
            if bottleneck is Bottleneck.LINK and self.doubles:
                if measured_for >= ramp + LASTING * WINDOW:
                    self._up, self._step = False, STEP
                    self._try_another(average, now)
            elif measured_for >= ramp + windows * WINDOW * min(2 ** (self._failures // 2), LONGEST_REST):
                self._try_another(average, now)
            return False
        change = self.limit / self.trial.parts
        if change > 1 and average >= self.trial.goodput * change**WORTH:
            self.proportional = _alike(average, self.limit, self.trial.goodput, self.trial.parts)
            self._step = min(1.0, self._step * 2)
            self._failures = 0
            if self._ceiling is not None and self.limit > self._ceiling:
                self._ceiling = None
            self._try_another(average, now)
            return True
        if change < 1 and average >= self.trial.goodput * change**HARMLESS:
            self._failures = 0
            self._try_another(average, now)
        elif change < 1 or ramped:
            self._undo(self.trial, now)
        return False

    def _sunk(self) -> bool:
        lately = self.goodput[-round(1 / STEP) :]
        return self.trial is None and len(lately) == round(1 / STEP) and max(lately) < SUNK * self._before

    def _search(self, step: float) -> None:
        """Forget what was measured, and begin with a step up."""
        self.trial = self._first = None
        self._before = 0.0
        self._up, self._step = True, step
        self._failures = 0

    def _try_another(self, goodput: float, now: float) -> None:
        """Begin a trial from this limit, which has this goodput."""
        wanted = round(self.limit * 2.0 ** (self._step if self._up else -self._step))
        if wanted == self.limit:
            wanted += 1 if self._up else -1
        if not self._up and self._first is not None:
            if goodput < self._first.goodput:
                wanted = min(wanted, self._first.limit)
            self._first = None
        most = self.most
        if self._ceiling is not None:
            most = self._ceiling + (now - self._backed_off_at >= self._probe_after)
        wanted = max(1, min(wanted, most))
        trial = _Trial(self.limit, goodput, self.limit)
        if wanted == self.limit:
            self._undo(trial, now)
        else:
            self.trial = trial
            self._move(wanted, now)

    def _undo(self, trial: _Trial, now: float) -> None:
        """The trial failed: the next one goes the other way."""
        self.trial = None
        self._before = max(self._before, trial.goodput)
        self._up, self._step = not self._up, STEP
        self._failures += 1
        self._move(trial.limit, now)

    def _move(self, limit: int, now: float) -> None:
        self.moved = True
        self.limit = max(1, min(limit, self.most))
        self.since = now
        self.started = self.refused = 0.0
        self.goodput.clear()


def _alike(goodput: float, parts: int, before: float, parts_before: int) -> bool:
    """Return whether each connection carries about as much as each of another number of connections before."""
    now, then = goodput / parts, before / parts_before
    return ALIKE * then <= now <= then / ALIKE


def mean(values: Collection[float]) -> float:
    """Return the mean of one value at least. The module `statistics` takes 10 ms to import."""
    return sum(values) / len(values)

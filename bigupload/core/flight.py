"""Decides what is in flight: how many parts may be begun, and how many of them may write. Pure: time is passed in.

Bytes are *accepted* when the socket has taken them, *acknowledged* when the peer's kernel has them, and *stored* when
the response to their part has come (`core.stored_rate`). Only stored bytes survive a kill. Where responses follow their
bodies at once, goodput is what was acknowledged. Where they do not, something on the way takes bytes faster than it
passes them on, and goodput is what was stored.

| limit of parts | reason | who sets it |
|---|---|---|
| `fixed` | the user's `--concurrency` | the constructor |
| `most`, MOST | descriptors; more connections bring nothing | the constructor, `spread` |
| START, START_BYTES | nothing is stored yet: the path is unknown | the first samples |
| a trial's | goodput grew with it, or did not suffer | `sample` |
| the ceiling | the store refused more (503), or a whole body was sent again | `refused`, `sent_again` |
| the bound | a kill loses at most ten seconds, or one part | `sample`, `expect_parts` |
| for small files | as many as a process sends while it waits for a response | `expect_files`, `stored` |

Memory is not here: parts wait for room before they are hashed. Nor is the rate limit: it paces bytes, and
`expect_parts` gets the bound that follows from it.

**Trials.** A trial changes the limit, waits until new connections are up to speed, and compares goodput with what it
was before. A larger limit stays if goodput grew with it; a smaller one stays if goodput did not suffer. The first
trials double the limit; if the first parts were all stored within one measurement, the first trial multiplies it by
three. Later ones change it by a quarter, and each larger limit that helped is followed by a step
twice as large. The first trial of fewer parts is with as few as the first parts were, if those had more goodput: a
store that is best at a few parts shows it before more are in flight. The limit is not doubled while packets wait in a
queue in front of the link: more connections than fill a link take goodput from one another. If goodput halves at the
same limit, the search begins again by doubling.

**The bound.** In flight are at most the parts that goodput finishes in eight seconds, and at least one. If goodput
falls with fewer parts, because each connection carries little, the bound is lifted for a while, and tried again. What
is too much is paused, the newest first. It is not cancelled. A part whose connection is silent does not count. Where
responses are late, and parts take longer than the bound has seconds, twice as many are tried now and then: if they take
no longer, each needs as long by itself, and no bound below that number applies.

**Slow connections.** Where the bound is lifted, a kill loses half a part of each connection. `is_slow_for` says that a
part needs more than ten seconds of its connection. Then only smaller parts make a kill cost less. It must be the
connections that are slow: a trial has shown that each carries as much if there are more, or that fewer carry too
little. Fewer would help where they share a link. And they must be up to speed: for two seconds, they have not become
faster.

**Buffers.** A store that reads slowly has buffers, which take the first bytes of each new connection at once. What a
connection sends until the store's window is full is no goodput. Before the first response, there is no trial while they
have more than ten seconds of goodput. A larger limit that helps at first only is forgotten.
When parts are paused, the store first reads what they had sent: until then, the others get their share alone, and a
trial waits. Responses count as late until four in a row are not: a part that was nearly all in a buffer ends in time.

**Refusals.** A store that is asked for too much refuses a share of the requests. Then the limit falls to four fifths,
and the limit before, less one, is a ceiling. After a while one more than the ceiling is tried, and if the
store accepts that, the ceiling is gone.

`python -m benchmarks controller` simulates what each rule brings: benchmarks/README.md.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

from bigupload.core import stored_rate
from bigupload.core.averages import mean
from bigupload.core.stored_rate import Stored
from bigupload.records import dataclass

START = 16
"""Parts in flight at the start."""
START_FAR = 24
"""The same with a round trip of at least FAR: each connection needs many round trips until it is up to speed."""
FAR = 0.01
"""Seconds of the shortest round trip."""
START_BYTES = 64 << 20
"""Bytes of the parts that are begun before the first response, if the round trip is shorter than FAR: something near
may take them at memory speed, and pass them on slowly. At 0.8 MB/s, the first response comes after 84 s then."""
LEAP = 3
"""The limit is multiplied by that at once if the first parts were all stored within a window: where a window shows
nothing of the parts that it begins with, trials would be slower than the path."""
START_LEAST = 4
"""Parts that may be begun before the first response, however large they are."""
MOST = 128
"""The largest limit."""
WINDOW = 0.4
"""Seconds of one measurement."""
FILLED = 0.85
"""The share of the limit that is in flight on average while goodput is measured: between two parts a slot may be empty
for a moment, as never in the simulation. With fewer, it is not the limit that holds sending back."""
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
AIM = 8.0
"""Seconds in which goodput finishes the parts that the bound lets be in flight."""
CUT = 4
"""A trial leaves one in so many parts at least: with a few left, a long path would not be full again before the trial
is judged."""
PROPORTIONAL = 0.1
"""Goodput within this share of what it would be in proportion to the parts: each connection carries what it can."""
REST = 60.0
"""Seconds until the bound, or its absence, is tried again. Each time that this changes nothing, it is twice as
long, up to LONGEST_REST times this."""
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
AT_SPEED = 6
"""Windows in which connections that are up to speed have not become faster: more than two seconds, or eight round trips
of 300 ms. Until then, they may be slow only because they have just begun."""
SILENT = 1.0
"""Seconds without a byte acknowledged after which a part that writes is silent: packets were lost, and TCP waits, twice
as long each time, before it tries again. Meanwhile, a part that is paused writes in its place."""
SMALL = 256 * 1024
"""Bytes. The response to a larger PUT waits for the link."""
SMALL_AT_ONCE = 64
"""Small files in flight before any response. They are no more than a few parts together."""
SMALL_A_SECOND = 3000
"""Small files that one process sends a second at most. With fewer in flight than that takes, it waits for responses."""
SMALL_JUDGED = 16
"""Responses to small files over connections that were open already. After this many, the quickest decides."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample of the parts in flight."""

    now: float
    """Seconds."""
    acknowledged: int
    """Bytes of all parts so far, or accepted ones if the system reports no more."""
    writing: int
    """Parts in flight that are not paused."""
    part_size: float = 0.0
    """The size in bytes of all parts in flight, on average; 0: there is none."""
    is_late: bool = False
    """Whether the response to a whole body is late that has not come yet."""
    left: float = math.inf
    """Bytes that the first part to end has left to write; 0 if one waits for its response."""
    round_trip: float = 0.0
    """The shortest one in seconds; 0: not known."""
    buffered: float = 0.0
    """Bytes of the parts in flight that the store's kernel may have, and the store has not read."""
    bottleneck: Bottleneck = Bottleneck.UNKNOWN
    """It matters only if `Flight.doubles`."""


@dataclass(slots=True)
class _Window:
    """The measurement that is under way."""

    since: float
    done: int
    until: float
    stored: int
    part_seconds: float = 0.0
    """Parts in flight, times seconds."""
    reached: bool = False
    """Whether as many parts were in flight as may be."""

    def goes_on(self, now: float, writing: int, limit: int) -> bool:
        """Measure until now. Returns whether nothing was amiss in between."""
        took = now - self.until
        self.part_seconds += writing * took
        self.until = now
        self.reached = self.reached or writing >= limit
        return took <= stored_rate.PAUSE

    def filled(self, limit: int) -> bool:
        """Whether the limit is what holds sending back."""
        return self.reached and self.part_seconds >= FILLED * limit * (self.until - self.since)


@dataclass(frozen=True, slots=True)
class _Trial:
    """The limit and the goodput before the trial that is under way."""

    limit: int
    goodput: float


class _Trials:
    """The limit with the best goodput."""

    def __init__(self, limit: int, most: int) -> None:
        self.limit = limit
        self.most = most
        self.moved = False
        self.since = 0.0
        """When the limit changed."""
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
        self._first = _Trial(parts, goodput)
        limit = min(self.most, LEAP * self.limit)
        if leap and limit > self.limit:
            self.trial = _Trial(self.limit, goodput)
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
        change = self.limit / self.trial.limit
        if change > 1 and average >= self.trial.goodput * change**WORTH:
            self.proportional = _alike(average, self.limit, self.trial.goodput, self.trial.limit)
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
        trial = _Trial(self.limit, goodput)
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


@dataclass(slots=True)
class _BoundTrial:
    """A number of parts that is tried, and what there was before it."""

    parts: int
    before: int
    limit: int | None
    goodput: float
    since: float
    drains: float
    """Seconds until what those parts had sent that are paused now is read: until then, the others get their share."""


@dataclass(frozen=True, slots=True)
class _Doubling:
    """A trial of twice as many parts."""

    parts: int
    took: float
    """Seconds that parts were in flight before it."""
    began: float


class _Delay:
    """Finds parts that are in flight for long, though they do not wait for one another.

    What scans each body, or passes it on slowly, may need longer for one than the bound has seconds, and take as long
    for many at a time. Then goodput falls with the number of parts, and what it affords falls with goodput.
    """

    def __init__(self, now: float) -> None:
        self.parts = 1
        """Parts that may be in flight, though goodput does not finish them in time."""
        self._usual = self._until = 0.0
        """How long parts were in flight when that was found, and until when it is believed."""
        self._since = now
        """Parts that begin from now on count; infinite: a trial has too few in flight yet."""
        self._took: list[float] = []
        """How long they were in flight: for each of those that were there at the same time."""
        self._longer = 0
        """How many of the latest parts, in a row, were in flight for far longer than that."""
        self._in_flight = 0
        """The most since then."""
        self._doubling: _Doubling | None = None
        self._again_at = -math.inf

    @property
    def limit(self) -> int:
        """Parts that may be in flight now."""
        return self.parts if self._doubling is None else self._doubling.parts

    def sampled(self, now: float, in_flight: int) -> None:
        """Note how many parts are in flight."""
        self._in_flight = max(self._in_flight, in_flight)
        doubling = self._doubling
        if doubling is None:
            return
        if math.isfinite(self._since):
            if not self._took and now - self._since > 2.5 * doubling.took:  # one that began then is not stored yet
                self._measure(now, rest=LONGEST_REST * (now - doubling.began))
        elif in_flight >= doubling.parts:
            self._since = now
        elif now - doubling.began > REST:  # there are no more
            self._measure(now, rest=REST)

    def stored(self, now: float, took: float, most: int) -> None:
        """Note that a part was stored.

        Args:
            now: When.
            took: Seconds that it was in flight, without those in which it was held.
            most: Parts that may be in flight without a bound.
        """
        self._longer = self._longer + 1 if took > 2 * self._usual else 0
        if self._longer >= stored_rate.STORED_PARTS and self.parts > 1:  # now they wait for one another
            self.parts = 1
            self._measure(now)
        if now - took < self._since:
            return
        self._took.append(took)
        if not 0 < self._in_flight <= len(self._took):
            return
        average, in_flight, doubling = mean(self._took), self._in_flight, self._doubling
        if doubling is not None:
            length = now - doubling.began
            if average > 1.5 * doubling.took:  # they wait for one another
                self._measure(now, rest=LONGEST_REST * length)
                return
            self.parts = doubling.parts if 2 * doubling.parts <= most else most
            self._usual, self._until = average, now + LONGEST_REST * max(REST, length)
            self._measure(now)
        elif self.parts > 1 and now >= self._until:
            self.parts //= 2  # is it still so?
            self._measure(now)
            return
        self._took.clear()
        self._in_flight = 0
        # A queue that wavers, or was longer at the start, has more than the bound says. One part cannot have less.
        usual = 1.5 * AIM if in_flight > self.parts == 1 else AIM
        if average <= usual or 2 * in_flight > most:
            return
        if in_flight == 1 and math.isinf(self._again_at):  # it may just be slow, and have more than it should
            self._again_at = now + LONGEST_REST * 2 * average
        if now >= self._again_at:
            self._since, self._doubling = math.inf, _Doubling(2 * in_flight, average, now)

    def _measure(self, now: float, *, rest: float = 0.0) -> None:
        """Measure anew, and make no trial for so many seconds."""
        self._doubling = None
        self._since, self._again_at = now, now + rest
        self._in_flight = 0
        self._took.clear()


class _Bound:
    """The bound that makes a kill cost little. `limit`: None without a bound."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.trial: _BoundTrial | None = None
        self._goodput: list[float] = []
        """The goodput of each window since the number of parts changed."""
        self.average = 0.0
        self._rest = REST
        self._again_at = math.inf
        """When more parts are tried, or a bound that was lifted."""
        self._open = False
        """Whether no bound is tried until then, because more parts carry more."""
        self._proportional = False
        """Whether a trial showed that it is the connections that carry little, and not a link that they share."""
        self._helped_by = 0.0
        """The goodput of the larger limit that helped."""
        self._since_then: list[float] = []
        """The goodput of each window since then."""
        self._delay: _Delay | None = None
        self._probe_until = -math.inf
        """Until then a little more is accepted than the store has got lately: perhaps it gets more then."""

    def expect(self, now: float, goodput: float, part_size: float) -> None:
        """Begin with a bound, because goodput will not be larger."""
        if self.limit is None and not self.average:
            self.limit = _affordable(goodput, part_size)
            self._again_at = now + self._rest

    @property
    def is_lifted(self) -> bool:
        """Whether there is no bound because each connection carries what it can, however many there are."""
        return self._open and self._proportional

    def helped(self, now: float, goodput: float, *, proportional: bool) -> None:
        """A larger limit has more goodput: no bound is tried for a while, unless goodput soon falls again."""
        self._open, self._again_at = True, now + self._rest
        self._proportional = proportional
        self._helped_by = goodput
        self._since_then.clear()

    def passed(self, goodput: float) -> None:
        """Note the goodput of a window, also in an outage."""
        if not self._open or not self._helped_by:
            return
        self._since_then = [*self._since_then[1 - LASTING :], goodput]
        lately = mean(self._since_then)
        if len(self._since_then) == LASTING and 0 < lately < SUNK * self._helped_by:
            self._open, self._helped_by, self.average = False, 0.0, lately

    def stored(self, now: float, rate: float, part_size: float) -> None:
        """Take the rate of the stored, where that is less than what is accepted. It bounds what is accepted at once.

        Parts that are stored in lumps would decide a trial by chance. So there are no trials, but now and then a
        quarter more is accepted, which is ten seconds of the rate, and at least one part more. If each connection to
        the store carries little, the rate grows with that, and the bound with the rate.
        """
        affordable, took = _affordable(rate, part_size), 2 * stored_rate.STORED_PARTS * part_size / max(1.0, rate)
        if now >= self._again_at:
            self._probe_until = now + took
        if math.isinf(self._again_at) or now >= self._again_at:
            self._again_at = now + max(REST, LONGEST_REST * took)
        self.limit = affordable + (max(1, affordable // 4) if now < self._probe_until else 0)
        if self._delay is not None:
            self.limit = max(self.limit, self._delay.limit)
        self.average = rate

    def part_was_late(self, now: float, took: float, most: int) -> None:
        """Note that a part was stored whose response was late. See `_Delay.stored`."""
        if self._delay is None:
            self._delay = _Delay(now)
        self._delay.stored(now, took, most)

    def sampled(self, now: float, writing: int) -> None:
        """Note how many parts are in flight."""
        if self._delay is not None:
            self._delay.sampled(now, writing)

    def forget(self) -> None:
        """Forget everything: goodput is measured in another way from now on."""
        self._goodput.clear()
        self.limit = self.trial = None
        self.average = self._helped_by = 0.0
        self._open = False
        self._again_at = math.inf
        self._delay = None

    def interrupt(self, now: float) -> None:
        """Drop the measurements: they were not goodput. A trial is measured anew."""
        self._goodput.clear()
        if self.trial is not None:
            self.trial.since = now

    def measured(self, now: float, goodput: float, sample: Sample, part_size: float, *, may_begin: bool) -> None:
        """Take the goodput of a window that ends with a sample, and decide.

        `part_size`: of the latest parts, in bytes. `may_begin`: whether a trial may begin.
        """
        if now >= self._again_at and self._open:
            self._open = False
        self._goodput.append(goodput)
        trial = self.trial
        if trial is not None:
            if not self._judge(trial, now):
                return
        elif len(self._goodput) < 2:
            return
        elif self._goodput[-1] > SETTLED * self._goodput[-2]:
            if self.limit is not None:  # a link that is faster now: new connections fill it sooner than an old one
                self.limit = max(self.limit, _affordable(self._goodput[-2], part_size))
            return
        latest = mean(self._goodput[-2:]) if self._goodput else goodput
        self.average += (latest - self.average) * (AVERAGED if self.average else 1.0)
        if self.trial is None and may_begin:
            self._look(now, latest, sample, part_size)

    def _look(self, now: float, goodput: float, sample: Sample, part_size: float) -> None:
        parts = sample.writing
        affordable = _affordable(self.average, part_size)
        if self.limit is not None and affordable > self.limit:
            self.limit = affordable  # a faster link
        if self.limit is not None and now >= self._again_at and parts >= self.limit:
            self._begin(now, 2 * self.limit, self.limit, goodput, 0.0)
        elif parts > 1 and parts * part_size > stored_rate.HORIZON * self.average and not self._open:
            fewer = max(affordable, -(-parts // CUT))
            waits = 2 * sample.buffered  # the system has about as much to send yet
            drains = min(REST, waits / max(1.0, min(goodput, self.average)))
            self._begin(now, fewer, parts, goodput, drains)

    def _begin(self, now: float, parts: int, before: int, goodput: float, drains: float) -> None:
        self.trial = _BoundTrial(parts, before, self.limit, goodput, now, drains)
        self.limit = parts
        self._goodput.clear()

    def _judge(self, trial: _BoundTrial, now: float) -> bool:
        """Compare goodput with what it was, and with what it would be in proportion to the parts."""
        if len(self._goodput) < 2:
            return False
        goodput, proportional = mean(self._goodput[-2:]), trial.goodput * trial.parts / trial.before
        fewer = trial.parts < trial.before
        reached = goodput >= (trial.goodput + proportional) / 2
        hopeless = len(self._goodput) >= 3 and abs(goodput - min(proportional, trial.goodput)) <= PROPORTIONAL * goodput
        waits = now - trial.since < trial.drains + LASTING * WINDOW
        if not reached and waits and not (hopeless and not trial.drains):
            return False
        self.trial = None
        self._goodput.clear()
        if fewer == reached:  # the bound is right
            self.limit = trial.parts if fewer else trial.limit
            if not fewer:
                self._rest = min(LONGEST_REST * REST, 2 * self._rest)
        else:  # each connection carries what it can
            self.limit = trial.limit if fewer else None
            self._open, self._helped_by = True, 0.0 if fewer else goodput
            self._proportional = True
            self._since_then.clear()
            if fewer:
                self._rest = min(LONGEST_REST * REST, 2 * self._rest)
        self._again_at = now + max(self._rest, 0.0 if fewer else LONGEST_REST * (now - trial.since))
        return True


class _ConnectionRates:
    """What one connection carries."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        """Bytes a second of one connection, on average, in each of the latest windows."""

    def measured(self, rate: float) -> None:
        """Note the rate of a window."""
        self._rates = [*self._rates[1 - LASTING :], rate]

    def forget(self) -> None:
        """Forget what was measured: something was amiss."""
        self._rates.clear()

    @property
    def fastest(self) -> float | None:
        """The largest rate of the latest windows, in bytes a second; None: they are not up to speed yet."""
        latest, half = self._rates[-AT_SPEED:], AT_SPEED // 2
        if len(latest) < AT_SPEED or mean(latest[half:]) > SETTLED * mean(latest[:half]):
            return None
        return max(self._rates)


def _alike(goodput: float, parts: int, before: float, parts_before: int) -> bool:
    """Return whether each connection carries about as much as each of another number of connections before."""
    now, then = goodput / parts, before / parts_before
    return ALIKE * then <= now <= then / ALIKE


def _affordable(goodput: float, part_size: float) -> int:
    """Return how many parts goodput finishes in time."""
    return max(1, int(AIM * goodput / max(1.0, part_size)))


class Flight:
    """The limit of parts in flight to one store, for all uploads that share their slots."""

    def __init__(self, fixed: int | None = None, *, most: int | None = None) -> None:
        """Begin.

        Args:
            fixed: Parts in flight, which nothing changes; None: adapted to the path.
            most: The largest limit if it is adapted, if that is less than MOST.
        """
        self._fixed = fixed
        self._alone = min(MOST, most or MOST)
        self._machines = 1
        self._trials = _Trials(fixed or min(START, self._alone), self._alone)
        self._bound = _Bound()
        self._connections = _ConnectionRates()
        self.stored_parts = Stored()
        self._window: _Window | None = None
        self._by_stored = False
        """Whether goodput is what was stored."""
        self._is_known = False
        """Whether the round trip is known."""
        self._far = False
        self._ending = False
        """Whether the next part may begin, though the bound is one."""
        self._seems_lost = False
        """Whether the response to the only part may be lost: the next one shows it. Nothing else is sent until then."""
        self._on_time = -math.inf
        """The latest moment in which no response was late, or one came."""
        self._begun = 0
        self._part_size = 1.0
        """The size of the parts to come, or of those in flight, in bytes."""
        self._has_parts = False
        """Whether parts are to be sent, and not just small files."""
        self._first: tuple[float, int] | None = None
        """When the first parts began, and how many they are, until they are stored."""
        # Small files
        self._small_responded: float | None = None
        self._small_least = math.inf
        self._small_judged = 0

    # -- the answers

    @property
    def adapts(self) -> bool:
        """Whether the path changes the limit."""
        return self._fixed is None

    @property
    def limit(self) -> int:
        """Parts that may be begun, those in flight included. More may be in flight for a while after it fell."""
        if self._fixed is not None:
            return self._fixed
        limit = self._trials.limit
        if not self.stored_parts.parts:
            if self._by_stored:
                return 1
            if not self._far:
                limit = min(limit, max(START_LEAST, int(START_BYTES / self._part_size)) * self._machines)
        bound = self._bound.limit  # with one, the next part gets up to speed while this one ends
        if bound == 1 and (self._seems_lost if self._by_stored else self._ending):
            bound = 2
        return limit if bound is None else min(limit, bound)

    def writers(self, waiting: int) -> int:
        """Return how many parts may write, while `waiting` others wait for their responses."""
        if self._fixed is not None:
            return self._fixed
        return max(0 if waiting else 1, self.limit - waiting) if self._by_stored else self.limit

    @property
    def starts(self) -> bool:
        """Whether nothing is known of the path yet, so that samples should follow one another quickly."""
        return self._fixed is None and not self._is_known and not self.stored_parts.parts

    @property
    def doubles(self) -> bool:
        """Whether the next trial is to double the limit, if the link is not full."""
        return self._fixed is None and self._trials.doubles

    @property
    def responses_are_late(self) -> bool:
        """Whether something on the way has bytes that the store has not."""
        return self._by_stored

    def is_slow_for(self, part_size: int) -> bool:
        """Whether a part of `part_size` bytes needs more than ten seconds, because each connection carries little.

        Then a kill loses more than it should, however many parts are in flight.
        """
        rate = self._connections.fastest
        return self._bound.is_lifted and rate is not None and part_size > stored_rate.HORIZON * rate

    @property
    def part_in_time(self) -> int:
        """Bytes that a connection carries in five seconds; 0: it is not known.

        A kill loses half a part of each connection, but nearly all of it where connections begin and end together.
        """
        return int(stored_rate.HORIZON / 2 * (self._connections.fastest or 0.0))

    # -- the events

    def spread(self, machines: int) -> None:
        """Let `machines` machines send parts: each has as much room as one alone, from the start on."""
        self._machines = machines
        self._trials.most = self._alone * machines
        if self._fixed is None:
            start = min(self._start, self._alone) * machines
            self._trials.limit = min(self._trials.most, self._trials.limit if self._trials.moved else start)

    def expect_parts(self, now: float, part_size: int, rate: float | None = None) -> None:
        """Prepare for parts of `part_size` bytes. `rate`: the rate limit in bytes a second, if there is one."""
        if not self._has_parts:  # what small files have shown says nothing of them
            self._has_parts, self.stored_parts, self._window = True, Stored(), None
        self._part_size = max(1.0, part_size)
        self._trials.most = self._alone * self._machines
        self._trials.limit = min(self._trials.limit, self._fixed or self._trials.most)
        if rate is not None and self._fixed is None:
            self._bound.expect(now, rate, self._part_size)

    def expect_files(self) -> None:
        """Prepare for small files, if nothing was measured yet."""
        if self._fixed is None and self._window is None and not self._has_parts:
            self._trials.limit = min(SMALL_AT_ONCE, self._trials.most)

    def began(self) -> None:
        """One more request went out."""
        self._trials.started += 1

    def stored(self, now: float, size: int, *, began: float, accepted: float, wrote_for: float = 0.0) -> None:
        """A part, or a small file, was stored.

        Args:
            now: When its response came.
            size: Bytes.
            began: When its request began.
            accepted: When its last byte was accepted.
            wrote_for: Seconds that it took to write it.
        """
        stored = self.stored_parts
        if size > SMALL or not self._has_parts:  # what is small says nothing of large bodies that wait
            if not stored.parts and self._has_parts:
                self._first = began, self.limit
            stored.add(now, size, max(0.0, now - accepted), wrote_for=wrote_for)
            self._on_time = now
            if self._fixed is None and stored.late:  # what follows in its slot must be bounded
                self._measure(by_stored=True)
                rate, took = stored.rate, max(0.0, now - accepted) + wrote_for
                self._bound.part_was_late(now, took, self._trials.limit)
                self._bound.stored(now, rate, self._part_size)
            elif self._first is not None and stored.parts >= self._first[1]:
                self._judge_first(now, *self._first)
        if size <= SMALL and self._small_judged < SMALL_JUDGED:
            self._judge_small(now, began)

    def _judge_first(self, now: float, began: float, parts: int) -> None:
        """Note the goodput of the first parts. Widen the limit by a multiple if they were stored within a window."""
        self._first = None
        if self._fixed is None:
            leap = now - began <= WINDOW
            self._trials.begin(now, parts, self.stored_parts.bytes / max(1e-3, now - began), leap=leap)
            self._window = None if leap else self._window

    def _measure(self, *, by_stored: bool) -> None:
        """Let goodput be what was stored, or what was acknowledged. What was measured of the other says nothing."""
        if by_stored != self._by_stored:
            self._by_stored = by_stored
            self._window = None
            self._trials.goodput.clear()
            self._bound.forget()

    def refused(self, now: float) -> None:
        """The store refused a request with SlowDown."""
        if self._fixed is None:
            self._back_off(now, certain=False)

    def sent_again(self, now: float) -> None:
        """A whole body was accepted and is sent again, because no response came."""
        if self._fixed is None:
            self._back_off(now, certain=True)

    def _back_off(self, now: float, *, certain: bool) -> None:
        before = self._trials.limit
        self._trials.refuse(now, certain=certain)
        if self._trials.limit != before:
            self._window = None

    def _judge_small(self, now: float, began: float) -> None:
        """Widen the limit by the first responses: trials need seconds, in which thousands of small files are sent.

        Up to twice the largest limit of parts: a small file needs one descriptor where a part needs two.
        """
        self._small_least = min(self._small_least, now - began)
        if self._small_responded is None:
            self._small_responded = now
        self._small_judged += began >= self._small_responded
        trials = self._trials
        if self._small_judged < SMALL_JUDGED or self._fixed is not None or trials.moved or trials.refused:
            return
        wanted = max(SMALL_AT_ONCE, math.ceil(self._small_least * SMALL_A_SECOND))
        if wanted > trials.limit:
            if not self._has_parts:
                trials.most = 2 * self._alone * self._machines
            trials.limit = min(wanted, trials.most)
            trials.goodput.clear()
            self._window = None

    def sample(self, sample: Sample) -> None:
        """Take a measurement, and decide."""
        now, stored = sample.now, self.stored_parts
        stored.passed(now, in_flight=sample.writing > 0 or sample.is_late)
        if self._fixed is not None:
            return
        self._is_known = self._is_known or sample.round_trip > 0
        if not self._far and sample.round_trip >= FAR:
            self._far = True
            if not self._trials.moved and self._trials.limit == min(START, self._alone) * self._machines:
                self._trials.limit = min(START_FAR, self._alone) * self._machines
        late = stored.late or sample.is_late
        self._measure(by_stored=late)
        if not sample.is_late:
            self._on_time = now
        self._seems_lost = stored.seems_lost(now - self._on_time, self._part_size)
        average = self._bound.average
        most = min(stored_rate.LATE * average, stored_rate.HORIZON * average - self._part_size)
        self._ending = sample.left <= max(0.0, most)
        if sample.part_size:
            self._part_size = sample.part_size
        if late and stored.parts:
            self._bound.sampled(now, sample.writing)
            self._bound.stored(now, stored.rate, self._part_size)
        done = stored.bytes if late else sample.acknowledged
        window, trials = self._window, self._trials
        if window is None or not window.goes_on(now, sample.writing, self._trials.limit):
            self._window = _Window(now, done, now, stored.parts)
            self._bound.interrupt(now)
            self._connections.forget()
            if not self._trials.goodput:
                self._trials.since = now
            return
        parts = max(stored_rate.STORED_PARTS, trials.limit) if late else 0
        if now - window.since < WINDOW or stored.parts - window.stored < parts:
            return
        self._window = _Window(now, done, now, stored.parts)
        goodput = max(0.0, (done - window.done) / (now - window.since))
        if not late:
            self._connections.measured(goodput * (now - window.since) / max(1e-3, window.part_seconds))
        if not window.filled(trials.limit):
            trials.goodput.clear()
            trials.since = now
        elif not stored.parts and sample.buffered > stored_rate.HORIZON * goodput > 0:
            pass  # more parts would only fill more buffers
        elif trials.measured(now, goodput, sample.bottleneck):
            self._bound.helped(now, goodput, proportional=trials.proportional)
        self._bound.passed(goodput)
        if not goodput:  # an outage shows nothing of the bound
            self._bound.interrupt(now)
            return
        if late:
            return
        may_begin = trials.trial is None or not window.reached  # a limit that is not reached is not judged
        self._bound.measured(now, goodput, sample, self._part_size, may_begin=may_begin)

    @property
    def _start(self) -> int:
        return START_FAR if self._far else START

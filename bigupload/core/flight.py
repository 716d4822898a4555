"""Decides what is in flight: how many parts may be begun, and how many of them may write. Pure: time is passed in.

Bytes are *accepted* when the socket has taken them, *acknowledged* when the peer's kernel has them, and *stored* when
the response to their part has come (`core.stored_rate`). Only stored bytes survive a kill. Where responses follow
their bodies at once, goodput is what was acknowledged. Where they do not, something on the way takes bytes faster than
it passes them on, and goodput is what was stored.

| limit of parts | reason | who sets it |
|---|---|---|
| `fixed` | the user's `--concurrency` | the constructor |
| `most`, MOST | descriptors; more connections bring nothing | the constructor, `spread` |
| START, START_BYTES, SPARE | nothing is stored yet: the path is unknown | the first samples |
| a trial's | goodput grew with it, or did not suffer | `sample` |
| the ceiling | the store refused more (503), or a whole body was sent again | `refused`, `sent_again` |
| the bound | a kill loses at most ten seconds, or one part | `sample`, `expect_parts` |
| for small files | as many as a process sends while it waits for a response | `expect_files`, `stored` |

The trials and the ceiling are in `core.flight_trials`, the bound is in `core.flight_bound`. Memory is not here: parts
wait for room before they are hashed. Nor is the rate limit: it paces bytes, and `expect_parts` gets the bound that
follows from it.

**Buffers.** A store that reads slowly has buffers, which take the first bytes of each new connection at once. What a
connection sends until the store's window is full is not goodput. Before the first response, there is no trial while
they have more than a quarter of the parts in flight. A larger limit that helps at first only is forgotten. When parts
are paused, the store first reads what they had sent: until then, the others get their share alone, and a trial waits.
Responses count as late until four in a row are not: a part that was nearly all in a buffer ends in time.

`python -m benchmarks controller` simulates what each rule brings: benchmarks/README.md.
"""

from __future__ import annotations

import math

from bigupload.core import flight_trials, stored_rate
from bigupload.core.flight_bound import Bound, ConnectionRates
from bigupload.core.flight_trials import Bottleneck, Trials
from bigupload.core.stored_rate import Stored
from bigupload.records import dataclass

START = 16
"""Parts in flight at the start."""
START_FAR = 24
"""The same with a round trip of at least FAR: each connection needs many round trips until it is up to speed."""
SPARE = 1.25
"""Up to so many times START_FAR parts begin far away, and so many times START_BYTES near, if few would else be left for
the last round: the 25th part, alone, would take a third of the time of all. Simulated uploads of 128 to 300 MB over far
paths take 8 % less time, and where the store refuses requests, 3 % more. With 1.5, it would be 11 % less and 7 % more.
"""
FAR = 0.01
"""Seconds of the shortest round trip."""
START_BYTES = 64 << 20
"""Bytes of the parts that are begun before the first response, if the round trip is shorter than FAR: something near
may take them at memory speed, and pass them on slowly. At 0.8 MB/s, the first response comes after 84 s then,
or 105 s with SPARE."""
START_LEAST = 4
"""Parts that may be begun before the first response, however large they are."""
MOST = 128
"""The largest limit."""
BUFFERED = 0.25
"""If a store's buffers have more than this share of the parts in flight before the first response, there is no trial:
while new connections fill their buffers, goodput is that of the link, and says nothing of the store."""
FILLED = 0.85
"""The share of the limit that is in flight on average while goodput is measured: between two parts a slot may be empty
for a moment, as never in the simulation. With fewer, it is not the limit that holds sending back."""
SILENT = 1.0
"""Seconds without a byte acknowledged after which a part that writes is silent: packets were lost, and TCP waits, twice
as long each time, before it tries again. Meanwhile, a part that is paused writes in its place."""
FEWER = 0.7
"""If no part takes the places of others, and only this share of them is left, the rest search for the link's rate."""
SMALL = 256 * 1024
"""Bytes. The response to a larger PUT waits for the link."""
SMALL_AT_ONCE = 64
"""Small files in flight before any response. They are no more than a few parts together."""
SMALL_A_SECOND = 3000
"""Small files that one process sends a second at most. With fewer in flight than that takes, it waits for responses."""
SMALL_JUDGED = 16
"""Responses to small files over connections that were open already. After this many, the quickest decides."""


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
    goodput: float = 0.0
    """Bytes a second, once it has ended."""

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
        self._trials = Trials(fixed or min(START, self._alone), self._alone)
        self._bound = Bound()
        self._connections = ConnectionRates()
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
        self._count = 0
        """The number of parts to be sent by the upload that began last; 0: it is not known."""
        self._first: tuple[float, int] | None = None
        """The time at which the first parts began, and their number, until they are stored."""
        self._searched_with = 0
        """The most parts that wrote at a time since the rest last searched for the link's rate."""
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
                near = max(START_LEAST, int(START_BYTES / self._part_size))
                limit = min(limit, _even(self._count, near) * self._machines)
        bound = self._bound.limit  # with one, the next part gets up to speed while this one ends
        if bound == 1 and (self._seems_lost if self._by_stored else self._ending):
            bound = 2
        return limit if bound is None else min(limit, bound)

    def writers(self, waiting: int) -> int:
        """Return the number of parts that may write, while `waiting` others wait for their responses."""
        if self._fixed is not None:
            return self._fixed
        return max(0 if waiting else 1, self.limit - waiting) if self._by_stored else self.limit

    def searches(self, writing: int, *, ending: bool) -> bool:
        """Return whether the parts that write search for the link's rate again, since others have left them room.

        Where no part waits, as at the end of an upload, those that are left have connections that were some of many. By
        itself, BBR goes up from its share by a quarter in eight round trips.

        Args:
            writing: Parts that write now.
            ending: Whether no part waits to take the place of one that ends.
        """
        if ending and 0 < writing <= FEWER * self._searched_with:
            self._searched_with = writing
            return True
        self._searched_with = max(self._searched_with, writing)
        return False

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

    def expect_parts(self, now: float, part_size: int, rate: float | None = None, *, count: int = 0) -> None:
        """Prepare for parts.

        Args:
            now: Seconds.
            part_size: Their size in bytes.
            rate: The rate limit in bytes a second, if there is one.
            count: How many they are; 0: nobody knows.
        """
        self._count = count
        if not self._has_parts:  # measurements of small files do not hold for them
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
        if size > SMALL or not self._has_parts:  # small bodies show nothing about large ones that wait
            if not stored.parts and self._has_parts:
                self._first = began, self.limit
            stored.add(now, size, max(0.0, now - accepted), wrote_for=wrote_for)
            self._on_time = now
            if self._fixed is None and stored.late:  # the next part in its slot must be bounded
                self._measure(now, by_stored=True)
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
            leap = now - began <= flight_trials.WINDOW
            self._trials.begin(now, parts, self.stored_parts.bytes / max(1e-3, now - began), leap=leap)
            self._window = None if leap else self._window

    def _measure(self, now: float, *, by_stored: bool) -> None:
        """Let goodput be what was stored, or what was acknowledged. What was measured of the other says nothing.

        But a store that was late begins with a bound by what it stored: a path that is fast again first fills the
        buffers of new connections, at the rate of the link.
        """
        if by_stored != self._by_stored:
            self._by_stored = by_stored
            self._window = None
            self._trials.goodput.clear()
            self._bound.forget()
            if not by_stored and self.stored_parts.parts:
                self._bound.expect(now, self.stored_parts.rate, self._part_size)

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
        self.stored_parts.passed(sample.now, in_flight=sample.writing > 0 or sample.is_late)
        if self._fixed is not None:
            return
        self._look(sample)
        if (window := self._observe(sample)) is not None:
            self._judge(sample, window)
            self._act(sample, window)

    def _look(self, sample: Sample) -> None:
        """Take what a measurement shows of the path at once."""
        now, stored = sample.now, self.stored_parts
        self._is_known = self._is_known or sample.round_trip > 0
        if not self._far and sample.round_trip >= FAR:
            self._far = True
            if not self._trials.moved and self._trials.limit == min(START, self._alone) * self._machines:
                self._trials.limit = min(self._start, self._alone) * self._machines
        self._measure(now, by_stored=stored.late or sample.is_late)
        if not sample.is_late:
            self._on_time = now
        self._seems_lost = stored.seems_lost(now - self._on_time, self._part_size)
        average = self._bound.average
        most = min(stored_rate.LATE * average, stored_rate.HORIZON * average - self._part_size)
        self._ending = sample.left <= max(0.0, most)
        if sample.part_size:
            self._part_size = sample.part_size
        if self._by_stored and stored.parts:
            self._bound.sampled(now, sample.writing)
            self._bound.stored(now, stored.rate, self._part_size)

    def _observe(self, sample: Sample) -> _Window | None:
        """Continue the measurement. Returns it if it has ended, and begins another one."""
        now, stored, window = sample.now, self.stored_parts, self._window
        done = stored.bytes if self._by_stored else sample.acknowledged
        if window is not None and window.goes_on(now, sample.writing, self._trials.limit):
            parts = max(stored_rate.STORED_PARTS, self._trials.limit) if self._by_stored else 0
            if now - window.since < flight_trials.WINDOW or stored.parts - window.stored < parts:
                return None
            window.goodput = max(0.0, (done - window.done) / (now - window.since))
        else:
            window = None
            self._bound.interrupt(now)
            self._connections.forget()
            if not self._trials.goodput:
                self._trials.since = now
        self._window = _Window(now, done, now, stored.parts)
        return window

    def _judge(self, sample: Sample, window: _Window) -> None:
        """Judge the limit by the goodput of a window: another one may be better."""
        now, trials = sample.now, self._trials
        fills_buffers = not self.stored_parts.parts and sample.buffered > BUFFERED * sample.writing * self._part_size
        if not window.filled(trials.limit):
            trials.goodput.clear()
            trials.since = now
        elif not fills_buffers and trials.measured(now, window.goodput, sample.bottleneck):
            self._bound.helped(now, window.goodput, proportional=trials.proportional)

    def _act(self, sample: Sample, window: _Window) -> None:
        """Bound what a kill loses, by the goodput of a window."""
        now, goodput = sample.now, window.goodput
        self._bound.passed(goodput)
        if not self._by_stored:
            self._connections.measured(goodput * (now - window.since) / max(1e-3, window.part_seconds))
        if not goodput:  # an outage shows nothing of the bound
            self._bound.interrupt(now)
        elif not self._by_stored:
            may_begin = self._trials.trial is None or not window.reached  # a limit that is not reached is not judged
            self._bound.measured(
                now, goodput, self._part_size, writing=sample.writing, buffered=sample.buffered, may_begin=may_begin
            )

    @property
    def _start(self) -> int:
        return _even(self._count, START_FAR) if self._far else START


def _even(count: int, at_once: int) -> int:
    """Return how many of `count` parts begin now, at least `at_once`: one or two rounds have the same number each.

    With more rounds, trials change the number before the last one.
    """
    rounds = max(1, round(count / at_once))
    share = -(-count // rounds)
    return share if rounds <= 2 and at_once < share <= SPARE * at_once else at_once

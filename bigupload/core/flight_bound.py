"""Bounds the parts in flight, so that a kill loses at most ten seconds, or one part. Pure: time is passed in.

In flight are at most the parts that goodput finishes in eight seconds, and at least one. If goodput falls with fewer
parts, because each connection carries little, the bound is lifted for a while, and tried again. What is too much is
paused, the newest first. It is not cancelled. A part whose connection is silent does not count. Where responses are
late, and parts take longer than the bound has seconds, twice as many are tried now and then: if they take no longer,
each needs as long by itself, and no bound below that number applies.

Where the bound is lifted, a kill loses half a part of each connection. `Flight.is_slow_for` says that a part needs
more than ten seconds of its connection. Then only smaller parts make a kill cost less. It must be the connections that
are slow: a trial has shown that each carries as much if there are more, or that fewer carry too little. Fewer would
help where they share a link. And they must be up to speed: for two seconds, they have not become faster.
"""

from __future__ import annotations

import enum
import math

from bigupload.core import flight_trials, stored_rate
from bigupload.core.flight_trials import mean
from bigupload.records import dataclass

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
AT_SPEED = 6
"""Windows in which connections that are up to speed have not become faster: more than two seconds, or eight round trips
of 300 ms. Until then, they may be slow only because they have just begun."""


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


class _Phase(enum.Enum):
    """The phase of `_Delay`: between two trials of twice as many parts, or in one."""

    MEASURING = "measure how long parts are in flight"
    FILLING = "wait until twice as many are in flight"
    COMPARING = "measure how long each of these is in flight"


_TRANSITIONS = {
    _Phase.MEASURING: {"too long": _Phase.FILLING, "outdated": _Phase.MEASURING, "queued": _Phase.MEASURING},
    _Phase.FILLING: {"full": _Phase.COMPARING, "no more": _Phase.MEASURING, "queued": _Phase.MEASURING},
    _Phase.COMPARING: {"as long": _Phase.MEASURING, "longer": _Phase.MEASURING, "queued": _Phase.MEASURING},
}
"""The next phase, by what `_Delay` has found. A missing cell cannot happen."""


class _Delay:
    """Finds parts that are in flight for long, though they do not wait for one another.

    What scans each body, or passes it on slowly, may need longer for one than the bound has seconds, and take as long
    for many at a time. Then goodput falls with the number of parts, and what it affords falls with goodput.
    """

    def __init__(self, now: float) -> None:
        self.parts = 1
        """Parts that may be in flight, though goodput does not finish them in time."""
        self._phase = _Phase.MEASURING
        self._usual = self._until = 0.0
        """The time for which parts were in flight when that was found, and the time until which it is believed."""
        self._tried, self._before, self._began = 1, 0.0, now
        """The latest trial: its parts, the time for which parts were in flight before it, and its beginning."""
        self._since, self._again_at = now, -math.inf
        """Parts that begin from `_since` on count. A trial may begin from `_again_at` on."""
        self._took: list[float] = []
        """The time for which each was in flight, of those that were there at the same time."""
        self._in_flight = 0
        """The most since then."""
        self._longer = 0
        """The number of the latest parts, in a row, that were in flight for far longer than usual."""

    @property
    def limit(self) -> int:
        """Parts that may be in flight now."""
        return self.parts if self._phase is _Phase.MEASURING else self._tried

    def sampled(self, now: float, in_flight: int) -> None:
        """Note how many parts are in flight."""
        self._in_flight = max(self._in_flight, in_flight)
        if self._phase is _Phase.FILLING and in_flight >= self._tried:
            self._found("full", now)
        elif self._phase is _Phase.FILLING and now - self._began > REST:
            self._found("no more", now, rest=REST)
        elif self._phase is _Phase.COMPARING and not self._took and now - self._since > 2.5 * self._before:
            self._found("longer", now, rest=flight_trials.LONGEST_REST * (now - self._began))

    def stored(self, now: float, took: float, most: int) -> None:
        """Note that a part was stored.

        Args:
            now: When.
            took: Seconds that it was in flight, without those in which it was paused.
            most: Parts that may be in flight without a bound.
        """
        self._longer = self._longer + 1 if took > 2 * self._usual else 0
        if self._longer >= stored_rate.STORED_PARTS and self.parts > 1:
            self.parts = 1
            self._found("queued", now)
        if self._phase is _Phase.FILLING or now - took < self._since:
            return
        self._took.append(took)
        if 0 < self._in_flight <= len(self._took):
            self._judge(now, mean(self._took), self._in_flight, most)

    def _judge(self, now: float, average: float, in_flight: int, most: int) -> None:
        """Judge parts that were in flight at the same time, by the average time for which they were."""
        length = now - self._began
        if self._phase is _Phase.COMPARING and average > 1.5 * self._before:  # they wait for one another
            self._found("longer", now, rest=flight_trials.LONGEST_REST * length)
            return
        if self._phase is _Phase.COMPARING:
            self.parts = self._tried if 2 * self._tried <= most else most
            self._usual, self._until = average, now + flight_trials.LONGEST_REST * max(REST, length)
            self._found("as long", now)
        elif self.parts > 1 and now >= self._until:
            self.parts //= 2
            self._found("outdated", now)
            return
        self._took, self._in_flight = [], 0
        # A queue that wavers, or was longer at the start, has more than the bound says. One part cannot have less.
        usual = 1.5 * AIM if in_flight > self.parts == 1 else AIM
        too_long = average > usual and 2 * in_flight <= most
        if too_long and in_flight == 1 and math.isinf(self._again_at):  # it may be slow, and have more than it should
            self._again_at = now + flight_trials.LONGEST_REST * 2 * average
        if too_long and now >= self._again_at:
            self._tried, self._before, self._began = 2 * in_flight, average, now
            self._found("too long", now)

    def _found(self, finding: str, now: float, *, rest: float = 0.0) -> None:
        """Enter the next phase. `rest`: seconds without another trial."""
        self._phase = _TRANSITIONS[self._phase][finding]
        self._since, self._again_at = now, now + rest
        if self._phase is not _Phase.COMPARING:
            self._took, self._in_flight = [], 0


class Bound:
    """The bound that makes a kill cost little. `limit`: None without a bound."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.trial: _BoundTrial | None = None
        self._goodput: list[float] = []
        """The goodput of each window since the number of parts changed."""
        self.average = 0.0
        self._rest = REST
        self._again_at = math.inf
        """The time at which more parts are tried, or a bound that was lifted."""
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
        self._since_then = [*self._since_then[1 - flight_trials.LASTING :], goodput]
        lately = mean(self._since_then)
        if len(self._since_then) == flight_trials.LASTING and 0 < lately < flight_trials.SUNK * self._helped_by:
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
            self._again_at = now + max(REST, flight_trials.LONGEST_REST * took)
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
        """Drop the measurements: they were not goodput. A trial is measured again."""
        self._goodput.clear()
        if self.trial is not None:
            self.trial.since = now

    def measured(
        self, now: float, goodput: float, part_size: float, *, writing: int, buffered: float, may_begin: bool
    ) -> None:
        """Take the goodput of a window, and decide.

        Args:
            now: When it ends.
            goodput: Bytes a second.
            part_size: Of the latest parts, in bytes.
            writing: Parts in flight that are not paused.
            buffered: Bytes of the parts in flight that the store's kernel may have, and the store has not read.
            may_begin: Whether a trial may begin.
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
        elif self._goodput[-1] > flight_trials.SETTLED * self._goodput[-2]:
            if self.limit is not None:  # a link that is faster now: new connections fill it sooner than an old one
                self.limit = max(self.limit, _affordable(self._goodput[-2], part_size))
            return
        latest = mean(self._goodput[-2:]) if self._goodput else goodput
        self.average += (latest - self.average) * (flight_trials.AVERAGED if self.average else 1.0)
        if self.trial is None and may_begin:
            self._look(now, latest, part_size, writing, buffered)

    def _look(self, now: float, goodput: float, part_size: float, parts: int, buffered: float) -> None:
        affordable = _affordable(self.average, part_size)
        if self.limit is not None and affordable > self.limit:
            self.limit = affordable  # a faster link
        if self.limit is not None and now >= self._again_at and parts >= self.limit:
            self._begin(now, 2 * self.limit, self.limit, goodput, 0.0)
        elif parts > 1 and parts * part_size > stored_rate.HORIZON * self.average and not self._open:
            fewer = max(affordable, -(-parts // CUT))
            waits = 2 * buffered  # the system has about as much to send yet
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
        waits = now - trial.since < trial.drains + flight_trials.LASTING * flight_trials.WINDOW
        if not reached and waits and not (hopeless and not trial.drains):
            return False
        self.trial = None
        self._goodput.clear()
        if fewer == reached:  # the bound is right
            self.limit = trial.parts if fewer else trial.limit
        else:  # each connection carries all that it can
            self.limit = trial.limit if fewer else None
            self._open, self._helped_by = True, 0.0 if fewer else goodput
            self._proportional = True
            self._since_then.clear()
        if not reached:  # the trial has changed nothing
            self._rest = min(flight_trials.LONGEST_REST * REST, 2 * self._rest)
        self._again_at = now + max(self._rest, 0.0 if fewer else flight_trials.LONGEST_REST * (now - trial.since))
        return True


class ConnectionRates:
    """The rates of single connections."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        """Bytes a second of one connection, on average, in each of the latest windows."""

    def measured(self, rate: float) -> None:
        """Note the rate of a window."""
        self._rates = [*self._rates[1 - flight_trials.LASTING :], rate]

    def forget(self) -> None:
        """Forget what was measured: something was amiss."""
        self._rates.clear()

    @property
    def fastest(self) -> float | None:
        """The largest rate of the latest windows, in bytes a second; None: they are not up to speed yet."""
        latest, half = self._rates[-AT_SPEED:], AT_SPEED // 2
        if len(latest) < AT_SPEED or mean(latest[half:]) > flight_trials.SETTLED * mean(latest[:half]):
            return None
        return max(self._rates)


def _affordable(goodput: float, part_size: float) -> int:
    """Return the number of parts that goodput finishes in time."""
    return max(1, int(AIM * goodput / max(1.0, part_size)))

"""Measures what is stored: at what rate, and whether a response is late or overdue. Pure: time is passed in.

A part is *stored* when its response has come. Until then, something on the way may have it: a proxy that takes bodies
faster than it passes them on, or the buffers of a store that reads slowly. `core.flight` decides what to do about it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

HORIZON = 10.0
"""Seconds of goodput that a kill may lose. The rate of the stored is that of the latest seconds, as many."""
PAUSE = 1.0
"""Seconds between two samples. After a longer time, nothing was sent in between, or the machine slept."""
STORED_PARTS = 4
"""The number of parts that are stored in one measurement, if goodput counts stored bytes."""
REMEMBERED = 4096
"""Samples in which something was stored: seven minutes of them at least."""
LATE = 1.0
"""Seconds between the last byte of a body and its response. If it takes longer, and longer than to write the body, the
response is late."""
SLOWEST = 1e6
"""Bytes a second, of which half: how slowly a backlog drains at least, unless late responses show a lower rate. Small
files have a low rate because of their responses."""
NEVER = 3
"""A store that has stored nothing yet has this many times the timeout at most."""
FILLS_WITHIN = 8.0
"""Seconds after which a window that becomes full is not a sign of a buffer that was filled first. 24 connections that
fill buffers of 4 MB over a link of 16 MB/s need six."""


class Filling:
    """Finds the bytes of one body that fill the buffer of a store that reads slowly. They are not goodput."""

    __slots__ = ("_from", "_seen", "_since", "bytes")

    def __init__(self, now: float, *, was_full: bool = False) -> None:
        """Begin a body. `was_full`: the window was full for the bodies before, so that this is no new connection."""
        self._since = now
        self._from: int | None = None if was_full else 0
        """The acknowledged bytes when the buffer was empty; None: it is not being filled."""
        self._seen = 0
        self.bytes = 0
        """The bytes in the buffer."""

    def update(self, now: float, acknowledged: int, is_full: Callable[[], bool], *, paused: bool) -> int:
        """Return the bytes that have turned out not to be goodput since the last look.

        Args:
            now: Seconds.
            acknowledged: Bytes so far.
            is_full: Whether the store's window is full.
            paused: Whether nothing is sent, so that the buffer becomes empty.
        """
        if paused:  # its buffer becomes empty. Bytes still in the send buffer are not goodput of the parts that write
            more = acknowledged - self._seen if is_full() else 0
            self._since, self._from, self._seen = now, acknowledged, acknowledged
            return more
        self._seen = acknowledged
        if self._from is None:
            return 0
        if now - self._since > FILLS_WITHIN:
            self._from = None
        elif is_full():
            self.bytes, self._from = acknowledged - self._from, None
            return self.bytes
        return 0


class Stored:
    """The rate at which parts become stored, and whether the response to a part is overdue."""

    def __init__(self) -> None:
        self._busy = 0.0
        """Seconds in which something was in flight."""
        self._sampled = -math.inf
        self._before: list[tuple[float, int, int, float]] = [(0.0, 0, 0, 0.0)]
        """Busy seconds, and the bytes and parts that were stored by then, with the longest wait of the parts since the
        entry before. It has an entry for each sample in which something was stored."""
        self.bytes = 0
        self.parts = 0
        self.late = False
        """Whether one of the latest four responses was late."""
        self._in_time = 0
        """Responses since the last late one."""
        self._at = -math.inf
        """The time at which the latest part was stored."""
        self._rate_then = 0.0
        self._has_news = False
        """Whether parts were stored since that rate was noted."""
        self.accepted = -math.inf
        """The latest time at which a part that is stored had been accepted."""

    def passed(self, now: float, *, in_flight: bool) -> None:
        """Note that time passes. Time without anything in flight, or in which the machine slept, does not count."""
        self._record_rate()
        if in_flight and 0 < now - self._sampled <= PAUSE:
            self._busy += now - self._sampled
        self._sampled = now

    def add(self, now: float, size: int, wait: float, *, wrote_for: float = 0.0) -> None:
        """Note that a part was stored.

        Args:
            now: When.
            size: Bytes.
            wait: Seconds since its last byte was accepted.
            wrote_for: Seconds that it took to write it.
        """
        late = is_late(wait, wrote_for)
        self._in_time = 0 if late else self._in_time + 1
        self.late = late or (self.late and self._in_time < STORED_PARTS)
        self.bytes += size
        self.parts += 1
        self._at, self.accepted = now, max(self.accepted, now - wait)
        longest = wait
        if len(self._before) > 1 and self._before[-1][0] == self._busy:
            longest = max(longest, self._before.pop()[3])
        self._before.append((self._busy, self.bytes, self.parts, longest))
        if len(self._before) > 2 * REMEMBERED:
            del self._before[:REMEMBERED]
        self._has_news = True

    def _record_rate(self) -> None:
        """Note the rate as of the latest part. Not for each part: thousands of small files are stored a second."""
        if self._has_news:
            self._rate_then, self._has_news = self.rate, False

    @property
    def rate(self) -> float:
        """Bytes a second, over ten seconds, the latest four parts, or the longest wait of these, whichever is longer.

        Parts that waited together end together: they count for all the time that they have waited. 0 before the first
        part.
        """
        before, latest = self._before, self._busy - HORIZON
        since, index = latest, len(before) - 1
        while index and (before[index][0] > latest or self.parts - before[index][2] < STORED_PARTS):
            at, *_, wait = before[index]
            index -= 1
            since = min(since, at - wait, before[index][0] if at <= latest else since)
        index = max(0, bisect.bisect_right(before, since, key=lambda entry: entry[0]) - 1)
        return (self.bytes - before[index][1]) / max(self._busy - before[index][0], 1e-3)

    @property
    def latest_rate(self) -> float:
        """The rate as of the latest part: it does not fall until the next one."""
        self._record_rate()
        return self._rate_then

    def seems_lost(self, late_for: float, backlog: float) -> bool:
        """Return whether a response may be lost that is late for so long: twice its backlog could have been stored."""
        return late_for * self._rate_then >= 2 * backlog > 0

    def overdue(self, accepted: float, now: float, *, timeout: float, backlog: int) -> bool:
        """Return whether the response to a whole body is overdue.

        It is not while other parts become stored, nor before the backlog can have drained. But it is if parts that were
        accepted much later have been stored.

        Args:
            accepted: When its last byte was accepted.
            now: Seconds.
            timeout: Seconds that the store may take to respond.
            backlog: Bytes that were accepted and are not stored.
        """
        if self.accepted - accepted > timeout:
            return True
        self._record_rate()
        silent = now - max(accepted, self._at)
        rate = self._rate_then if self.late else max(self._rate_then, SLOWEST)
        drained = silent * rate >= 2 * backlog
        return silent > timeout and (drained or (not self.parts and silent > NEVER * timeout))


def is_late(wait: float, wrote_for: float) -> bool:
    """Whether a response is late that has come, or has not come yet, so long after its body was accepted.

    A store may need a second for each response. But where a body is written in a moment and waits for long, something
    on the way has it.
    """
    return wait > max(LATE, wrote_for)

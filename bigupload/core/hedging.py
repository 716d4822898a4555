"""The stragglers among the parts in flight: a second PUT may finish earlier, if the store takes it.

One slow connection delays the whole upload at its end. A retry policy does not notice it, because its bytes do move.
"The tail at scale", https://research.google/pubs/the-tail-at-scale/, section "within-request short-term adaptations".

S3 accepts any number of PUTs of one part, and the last one counts. A store that takes parts as streams may refuse both
PUTs, or the whole upload. Then no more parts are sent twice, and those that were are sent again, each alone.

Pure: time is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from bigupload.records import dataclass

_KNOWN = 4
"""Parts that must have arrived before the usual time of a part is known."""
_REMEMBERED = 32
"""Parts that arrived last, by which the usual time is computed."""
_FAR = 4.0
"""A straggler takes this many times the usual time. Parts that share a crowded path differ by a factor of 2 or 3."""
_FAR_AT_THE_END = 2.5
"""The same when no other part waits: then a hedge delays no part."""
_VERY_FAR = 10.0
"""A part that takes this many times the usual time is hedged after the usual time, and not only after twice that."""
_GRACE = 0.25
"""Seconds. A new connection costs more than a shorter delay."""
_SHARE = 20
"""One byte in this many of the file may be sent a second time, and one part in any case."""


@dataclass(frozen=True, slots=True)
class PutProgress:
    """The progress of one PUT: `sent` of `size` bytes after `seconds`. If all are sent, it waits for the response."""

    size: int
    sent: int
    seconds: float

    @property
    def share(self) -> float:
        """The share of its bytes that were sent, 0 to 1."""
        return self.sent / self.size if self.size else 1.0

    @property
    def projected(self) -> float:
        """Seconds that the PUT will take at least, at its present rate."""
        return self.seconds / self.share if self.share else float("inf")


class Pace:
    """The usual time of the parts of one upload."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    def arrived(self, seconds: float) -> None:
        """Note that a part took `seconds`, response included."""
        self._took.append(seconds)

    @property
    def usual(self) -> float | None:
        """Seconds that a part takes; None: that is not known yet."""
        return median(self._took) if len(self._took) >= _KNOWN else None

    def lagging(self, flights: Sequence[PutProgress], *, at_the_end: bool) -> list[int]:
        """Choose the stragglers.

        The usual time is what the last parts took, or what most parts in flight will take, whichever is more: if all
        parts have become slow, none is a straggler. At the end only the stragglers may be left, and comparing them with
        each other would show nothing.

        Args:
            flights: The PUTs in flight.
            at_the_end: Whether no other part waits to be sent.

        Returns:
            Indices into `flights`, the slowest first.
        """
        if len(self._took) < _KNOWN:
            return []
        usual = median(self._took)
        if not at_the_end:
            usual = max(usual, self._most_will_take(flights))
        far = (_FAR_AT_THE_END if at_the_end else _FAR) * usual
        late = [
            index
            for index, flight in enumerate(flights)
            if flight.projected > far
            and flight.seconds > (1 if flight.projected > _VERY_FAR * usual else 2) * usual + _GRACE
        ]
        return sorted(late, key=lambda index: flights[index].share)

    def _most_will_take(self, flights: Sequence[PutProgress]) -> float:
        moving = [flight.projected for flight in flights if flight.sent]
        return median(moving) if len(moving) > 2 else 0.0


class Budget:
    """The number of bytes that may be sent a second time."""

    def __init__(self, size: int, part_size: int) -> None:
        self._left = max(part_size, size // _SHARE)

    def has(self, count: int) -> bool:
        """Whether `count` bytes are left."""
        return count <= self._left

    def take(self, count: int) -> bool:
        """Reserve `count` bytes. False if fewer are left."""
        if not self.has(count):
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """Return `count` reserved bytes that were not needed."""
        self._left += count


class HedgeSwitch:
    """Whether one run hedges, including its restarts. It stops when the store refuses a part that was sent twice."""

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self.parts: set[int] = set()
        """The part numbers that were sent twice under the present upload id."""
        self.refused_at_complete = False
        """Whether the store refused to complete this upload id after parts were sent twice."""

    def began(self, part: int) -> None:
        """Note that the part is sent a second time."""
        self.parts.add(part)

    def turn_off(self) -> bool:
        """Send no part twice from now on. Returns whether hedging was on."""
        was, self.on = self.on, False
        return was

    def restarted(self) -> None:
        """Forget the parts: the upload has a new id."""
        self.parts.clear()
        self.refused_at_complete = False


def median(values: Collection[float]) -> float:
    """Return the median of one value at least. The module `statistics` takes 10 ms to import."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

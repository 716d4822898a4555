"""Which parts in flight are so far behind the others that they are better sent again. Pure: time is passed in.

One slow connection of many holds up the whole upload at its end, and no retry policy sees it, since its bytes do move.
"The tail at scale", https://research.google/pubs/the-tail-at-scale/, section "within-request short-term adaptations".
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_KNOWN = 4
"""Parts must have arrived before anyone can say what is usual."""
_REMEMBERED = 32
_FAR = 4.0
"""Times as long as usual: parts that share a crowded path differ by two or three."""
_FAR_AT_THE_END = 2.5
"""The same where nothing else is left to send: a second try costs no part of its turn."""
_VERY_FAR = 10.0
"""What is so far behind is sent again as soon as it should have arrived, and not only after twice that."""
_GRACE = 0.25
"""Seconds: less is not worth a new connection."""
_SHARE = 20
"""A twentieth of the file may be sent a second time, or one part."""


@dataclass(frozen=True, slots=True)
class PutProgress:
    """One PUT: `sent` of `size` bytes after `seconds`; with all of them sent it waits for the answer."""

    size: int
    sent: int
    seconds: float

    @property
    def share(self) -> float:
        """Of its bytes, how much is sent."""
        return self.sent / self.size if self.size else 1.0

    @property
    def projected(self) -> float:
        """Seconds that it will have taken at the least, if it goes on like this."""
        return self.seconds / self.share if self.share else float("inf")


class Pace:
    """What is usual for the parts of one upload."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    def arrived(self, seconds: float) -> None:
        """A part was sent and answered in so long."""
        self._took.append(seconds)

    def lagging(self, flights: Sequence[PutProgress], *, at_the_end: bool) -> list[int]:
        """The indices of those to send again, the furthest behind first.

        Usual is what parts took lately, or what most of those in flight will take, whichever is more: where all of
        them have become slow, none lags. At the end, though, those that lag are all that is left to compare with.
        """
        if len(self._took) < _KNOWN:
            return []
        usual = statistics.median(self._took)
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
        return statistics.median(moving) if len(moving) > 2 else 0.0


class Budget:
    """How many bytes may be sent a second time."""

    def __init__(self, size: int, part_size: int) -> None:
        self._left = max(part_size, size // _SHARE)

    def has(self, count: int) -> bool:
        """Whether so many are left."""
        return count <= self._left

    def take(self, count: int) -> bool:
        """Reserve `count` bytes, if there are so many left."""
        if not self.has(count):
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """Of what was reserved, so many were not needed."""
        self._left += count

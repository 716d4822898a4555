"""The store's settings, and the fault of each part.

The seed, the part's number and its attempt decide its fault (the first request for a part in its upload is attempt 1).
Time and order do not matter. So every contestant meets the same bad parts at its first attempt, whatever its order and
its number of connections, and meets them again in a second run. A retry is drawn again with the same chances, even if
it overtakes the first attempt. Contestants with smaller parts have more bad parts, but the same share of bad bytes. An
object sent in one PUT counts as part 0.

A part may have several faults. Of SlowDown, error and hang only the first is applied. A straggler may be reset, and its
response may be lost.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_UNIT = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Times in seconds, rates in bytes a second, shares between 0 and 1."""

    rtt: float = 0.0
    """The round-trip time: once for a new connection, TLS, each request, and a `100 Continue`."""
    rate: float = 0.0
    """The rate of one connection, from a body's first byte; 0: unlimited."""
    total_rate: float = 0.0
    """The rate of all connections together, in turns of 64 KiB."""
    straggler_share: float = 0.0
    straggler_rate: float = 1e6
    slow_down_share: float = 0.0
    """The share of PUTs that get 503 SlowDown before their body is read."""
    error_share: float = 0.0
    """The share of PUTs that get 500 InternalError before their body is read."""
    reset_share: float = 0.0
    """The share of PUTs whose connection is reset somewhere in the body."""
    hang_share: float = 0.0
    """The share of PUTs of which nothing is read and that get no response, until the client closes the connection."""
    lost_answer_share: float = 0.0
    """The share of PUTs that are stored, and whose connection closes without a response."""
    most_in_flight: int = 0
    """The most PUTs at once; more get 503. 0: no limit."""
    finely: int = 0
    """1: count a body's bytes in steps of 16 KiB, not of 4 MiB."""
    seed: int = 1

    @property
    def paced(self) -> bool:
        return bool(self.rate or self.total_rate or self.straggler_share)


@dataclass(frozen=True)
class Fate:
    """The faults of one attempt at one part. `reset_at` is a share of its size."""

    slow_down: bool
    error: bool
    hang: bool
    reset_at: float | None
    straggler: bool
    lost_answer: bool


def fate(knobs: Knobs, number: int, attempt: int) -> Fate:
    """Return the faults, the same for the same arguments in every process."""
    digest = hashlib.blake2b(f"{knobs.seed}:{number}:{attempt}".encode(), digest_size=56).digest()
    drawn = [int.from_bytes(digest[at : at + 8]) / _UNIT for at in range(0, 56, 8)]
    return Fate(
        slow_down=drawn[0] < knobs.slow_down_share,
        error=drawn[1] < knobs.error_share,
        hang=drawn[2] < knobs.hang_share,
        reset_at=drawn[4] if drawn[3] < knobs.reset_share else None,
        straggler=drawn[5] < knobs.straggler_share,
        lost_answer=drawn[6] < knobs.lost_answer_share,
    )

"""What the store can play, and what becomes of each part.

A part's fate depends on the seed, its number and its attempt (the first request for it in its upload is 1), and not on
when or beside which others it arrives: every contestant meets the same bad parts at its first attempt, in whatever
order and by however many connections it sends them, and meets them again in a second run. A retry draws anew with the
same chances, also one that overtakes the first attempt. Contestants with smaller parts have more of them, and so more
bad ones, at the same share of the bytes. An object that goes in one PUT counts as part 0.

A bad part may be bad in several ways. The first of SlowDown, error and hang is played alone; a straggler may be reset,
and its answer may be lost.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_UNIT = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Times in seconds, rates in bytes a second, shares between 0 and 1."""

    rtt: float = 0.0
    """One for a new connection, one more for TLS, one for each request, and one for a `100 Continue`."""
    rate: float = 0.0
    """Of one connection, from a body's first byte; 0: as fast as it goes."""
    total_rate: float = 0.0
    """Of all connections together, in turns of 64 KiB."""
    straggler_share: float = 0.0
    straggler_rate: float = 1e6
    slow_down_share: float = 0.0
    """Of PUTs that are answered 503 SlowDown before their body is read."""
    error_share: float = 0.0
    """The same with 500 InternalError."""
    reset_share: float = 0.0
    """Of connections that are reset somewhere in the body."""
    hang_share: float = 0.0
    """Of PUTs of which nothing is read and that are never answered, until the other side gives up."""
    lost_answer_share: float = 0.0
    """Of PUTs that are stored, and whose connection closes without an answer."""
    most_in_flight: int = 0
    """503 for PUTs above this number, from their head to their answer; 0: no bound."""
    seed: int = 1

    @property
    def paced(self) -> bool:
        return bool(self.rate or self.total_rate or self.straggler_share)


@dataclass(frozen=True)
class Fate:
    """What becomes of one attempt at one part. `reset_at` is a share of its size."""

    slow_down: bool
    error: bool
    hang: bool
    reset_at: float | None
    straggler: bool
    lost_answer: bool


def fate(knobs: Knobs, number: int, attempt: int) -> Fate:
    """The same for the same arguments, in every process."""
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

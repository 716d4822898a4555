"""`--limit-rate`: one bucket that all parts and files of a command draw from. Clock and sleep are passed in."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

_BURST = 0.1
"""Seconds of sending that may be saved up: small enough that the limit holds within every second."""


class RateLimiter:
    """A queue in time: each `take` books the next free stretch of it and waits until that is over.

    Bookings are made without awaiting, so they are fair and can't be lost; a cancelled waiter's stretch stays empty.
    """

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    @property
    def slice(self) -> int:
        """How many bytes to take at a time: a tenth of a second's worth, between 4 KiB and 256 KiB."""
        return int(max(4096, min(256 * 1024, self._rate * _BURST)))

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may be sent."""
        now = self._clock()
        start = max(self._free_at, now - _BURST)
        self._free_at = start + count / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)

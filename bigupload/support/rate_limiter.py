"""The bandwidth limit of `--limit-rate`: all parts and files of one command share one limiter."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

_BURST = 0.1
"""Seconds of unused sending time that may be saved up: so short that the limit holds within every second."""


class RateLimiter:
    """A limiter that gives each caller the next free interval of time.

    An interval is booked without awaiting. So callers are served in order, and none is lost. The interval of a
    cancelled caller stays unused.
    """

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Start with no time saved up.

        Args:
            bytes_per_second: The limit.
            clock: A monotonic clock in seconds. Tests pass their own.
            sleep: Waits for a number of seconds. Tests pass their own.
        """
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    @property
    def slice(self) -> int:
        """Bytes to ask for at a time: a tenth of a second's worth, but between 4 KiB and 256 KiB."""
        return int(max(4096, min(256 * 1024, self._rate * _BURST)))

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may be sent."""
        now = self._clock()
        start = max(self._free_at, now - _BURST)
        self._free_at = start + count / self._rate
        if self._free_at > now:
            await self._sleep(self._free_at - now)

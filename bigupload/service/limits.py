"""How many requests each key may make of this process: the moving window of the library `limits`. Knows no HTTP."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from bigupload.errors import UsageError

_SHORTEST_WINDOW = 2
_LONGEST_WINDOW = 60
"""Seconds. In a short window few requests can come at once; a rate of a few digits needs a longer one to be exact."""
_SOON = 0.001
"""Seconds to wait at least, where the window moved on between two looks at it."""


class RequestRateLimit:
    """At most `requests` in any `window` seconds, of each key."""

    def __init__(self, rate: float) -> None:
        """`rate` is requests a second. As many may come at once as the window holds: mostly those of two seconds."""
        if not 0 < rate < math.inf:  # so that NaN is none either
            raise UsageError(f"not a limit: {rate:g} requests a second (it must be above 0)")
        self.window = _window(rate)
        """Seconds."""
        self.requests = max(1, math.floor(rate * self.window + 1e-9))
        self._limit = RateLimitItemPerSecond(self.requests, self.window)
        self._storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._latest = 0.0

    async def take(self, key_id: str) -> float:
        """0.0 where a request may be made now, else the seconds until one may; a refused request does not count."""
        await self._forget_a_future()
        if await self._limiter.hit(self._limit, key_id):
            return 0.0
        window = await self._limiter.get_window_stats(self._limit, key_id)
        return max(_SOON, window.reset_time - time.time())

    async def _forget_a_future(self) -> None:
        """The library goes by the time of day. Set back, it would refuse a key until the clock is where it was."""
        now = time.time()
        if now < self._latest - self.window:
            await self._storage.reset()
            self._latest = now
        self._latest = max(self._latest, now)


def _window(rate: float) -> int:
    """The shortest window in which the rate makes a whole number of requests."""
    for window in range(_SHORTEST_WINDOW, _LONGEST_WINDOW + 1):
        requests = rate * window
        if requests >= 1 and abs(requests - round(requests)) < 1e-6:
            return window
    return max(_LONGEST_WINDOW, math.ceil(1 / rate))

"""Limit each key's requests with the moving window of the library `limits`: in this process, or in all replicas.

Knows no HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from bigupload.errors import UsageError
from bigupload.service.shared import EngineAwayError

if TYPE_CHECKING:
    from bigupload.service.shared.engine import SharedEngine

_SHORTEST_WINDOW = 2
_LONGEST_WINDOW = 60
"""Seconds. A short window allows few requests at once. A rate with decimals needs a longer window to be exact."""
_SOON = 0.001
"""The shortest wait in seconds, used if the window moved between two checks."""


class RequestRateLimit:
    """At most `requests` of each key in any `window` seconds."""

    def __init__(self, rate: float, storage: MemoryStorage | RedisStorage | None = None) -> None:
        """Make it.

        Args:
            rate: Requests a second. Those of a whole window may come at once: usually those of two seconds.
            storage: Where the windows are; None: in this process.
        """
        if not 0 < rate < math.inf:  # rejects NaN too
            raise UsageError(f"not a limit: {rate:g} requests a second (it must be above 0)")
        self.window = _window(rate)
        """Seconds."""
        self.requests = max(1, math.floor(rate * self.window + 1e-9))
        self._limit = RateLimitItemPerSecond(self.requests, self.window)
        self._storage = MemoryStorage() if storage is None else storage
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._latest = 0.0

    async def take(self, key_id: str) -> float:
        """Return the seconds until a request is allowed; 0.0: now. A refused request does not count."""
        await self._forget_a_future()
        if await self._limiter.hit(self._limit, key_id):
            return 0.0
        window = await self._limiter.get_window_stats(self._limit, key_id)
        return max(_SOON, window.reset_time - time.time())

    async def _forget_a_future(self) -> None:
        """Use a monotonic clock. With the library's wall clock, setting the time back would block keys until it catches
        up. A shared window is forgotten by the engine's own clock, once it was not used for that long."""
        if not isinstance(self._storage, MemoryStorage):
            return
        now = time.time()
        if now < self._latest - self.window:
            await self._storage.reset()
            self._latest = now
        self._latest = max(self._latest, now)


def _window(rate: float) -> int:
    """Return the shortest window in which the rate gives a whole number of requests."""
    for window in range(_SHORTEST_WINDOW, _LONGEST_WINDOW + 1):
        requests = rate * window
        if requests >= 1 and abs(requests - round(requests)) < 1e-6:
            return window
    return max(_LONGEST_WINDOW, math.ceil(1 / rate))


class SharedRequestRate:
    """At most as many requests of each key as one `RequestRateLimit` allows, in all that share the engine.

    While the engine is away, each process limits by itself.
    """

    def __init__(self, rate: float, engine: SharedEngine, *, on_alone: Callable[[], None] = lambda: None) -> None:
        """Make it.

        Args:
            rate: Requests a second.
            engine: Holds the moving windows.
            on_alone: Called for each request to which only this process's limit was applied.
        """
        storage = RedisStorage(
            "redis://",
            implementation="redispy",
            key_prefix=f"{engine.prefix}:rate",
            connection_pool=engine.pool,  # type: ignore[arg-type]  # its types say less than its documentation
        )
        self._together = RequestRateLimit(rate, storage)
        self._alone = RequestRateLimit(rate)
        self._engine = engine
        self._on_alone = on_alone

    async def take(self, key_id: str) -> float:
        """Return the seconds until a request is allowed; 0.0: now. A refused request does not count."""
        try:
            return await self._engine.ask(lambda: self._together.take(key_id))
        except EngineAwayError:
            self._on_alone()
            return await self._alone.take(key_id)

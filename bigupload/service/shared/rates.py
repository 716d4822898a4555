"""Limit each key's requests in all replicas together; in each process by itself, while the engine is away."""

from __future__ import annotations

from collections.abc import Callable

from limits.aio.storage import RedisStorage

from bigupload.service.request_rate import RequestRateLimit
from bigupload.service.shared.away import EngineAwayError
from bigupload.service.shared.engine import SharedEngine


class SharedRequestRate:
    """At most as many requests of each key as one `RequestRateLimit` allows, in all that share the engine."""

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

"""The connection to Valkey or Redis, the *engine* of the state that replicas share, and whether it responds.

It is asked by requests, so it may not hold them up. The first call that fails marks it as away: from then on nobody
waits for it, until a probe in the background finds it again. What to do meanwhile is for its callers to know. Its
client is imported only where an engine is made: few services have one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bigupload import errors

T = TypeVar("T")

_WITHIN = 1.0
"""The time limit of a call, in seconds. In one network it takes less than a millisecond; this is for a busy machine."""
_FIRST_WITHIN = 3.0
"""The time limit of the first call, in seconds: it looks up a name and opens a connection, perhaps with TLS."""
_AGAIN_AFTER = 1.0
"""Seconds between two probes of an engine that is away."""
_CONNECTIONS = 32
"""The most connections of one process. Each call takes one for less than a millisecond."""
_PROBE = "return redis.call('set', KEYS[1], '1', 'EX', 60)"
"""Runs a script that writes, as the limits do: a replica that only reads, a full memory or a user who lacks a
permission is not an engine that can be used."""


class EngineAwayError(Exception):
    """The engine does not respond, or refuses. The caller does without it."""


def check_shared_url(url: str) -> None:
    """Raise UsageError if `url` is not a URL of an engine. The message never has the URL, which may have a password."""
    try:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        sound = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        sound = sound and (not database or database.isdecimal()) and not parts.fragment
    except ValueError:  # brackets, a port over 65535
        sound = False
    if not sound:
        raise errors.UsageError("`shared` is not a URL of Valkey or Redis: write it like redis://host:6379/0")


class SharedEngine:
    """Valkey or Redis, for one process. Use it as an async context manager."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        on_change: Callable[[str | None], None],
        within: float = _WITHIN,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Make it. It connects when it is entered.

        Args:
            url: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS.
            prefix: What the names of all keys begin with.
            on_change: Called with the reason when the engine stops responding, and with None when it is back.
            within: The time limit of a call, in seconds.
            sleep: Waits for seconds.

        Raises:
            UsageError: It is not a URL of an engine.
        """
        import redis.asyncio
        from redis import exceptions
        from redis.backoff import NoBackoff

        check_shared_url(url)
        self._failures: tuple[type[Exception], ...] = (exceptions.RedisError, OSError, TimeoutError)
        self.prefix = prefix
        self._on_change = on_change
        self._within = within
        self._sleep = sleep
        self._probing: asyncio.Task[None] | None = None
        secure: dict[str, Any] = {"ssl_check_hostname": True} if url.startswith("rediss:") else {}
        try:
            self.pool = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=within,
                # One more try, because the engine closes connections that were idle, or when it restarts.
                retry=redis.asyncio.retry.Retry(NoBackoff(), 1),
                **secure,
            )
            self.pool.connection_class(**self.pool.connection_kwargs)  # a setting that it does not know
        except (ValueError, TypeError) as e:
            raise errors.UsageError("`shared` has an unknown setting in its query") from e
        self.client = redis.asyncio.Redis(connection_pool=self.pool)

    @property
    def away(self) -> bool:
        """Whether it does not respond, as far as is known."""
        return self._probing is not None

    async def __aenter__(self) -> SharedEngine:
        """Connect. An engine that does not respond is away; one that refuses is a mistake in the settings.

        Raises:
            ServiceError: The engine responds, and refuses: the password, the database's number, the user's rights.
        """
        try:
            async with asyncio.timeout(_FIRST_WITHIN):
                await self._probe()
        except self._failures as e:
            if _is_refusal(e):
                await self._close()
                raise errors.ServiceError(f"Valkey or Redis at `shared` refuses the service: {self._told(e)}") from None
            self._lost(e)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await a call to the engine.

        Raises:
            EngineAwayError: It did not respond in time, it refuses, or it is away already. The call may have
                been done all the same.
        """
        if self.away:
            raise EngineAwayError
        try:
            async with asyncio.timeout(self._within):
                return await call()
        except self._failures as e:
            self._lost(e)
            raise EngineAwayError from e

    def _lost(self, error: Exception) -> None:
        if self._probing is None:  # of several calls that fail together, the first one reports
            self._probing = asyncio.create_task(self._until_back())
            self._on_change(self._told(error))

    def _told(self, error: Exception) -> str:
        """The error for the log. The library's texts have the host and the port, and never the password."""
        return f"it did not respond within {self._within:g} s" if isinstance(error, TimeoutError) else str(error)

    async def _until_back(self) -> None:
        while True:
            await self._sleep(_AGAIN_AFTER)
            with contextlib.suppress(Exception):  # whatever it is, it must not end the search
                async with asyncio.timeout(self._within):
                    await self._probe()
                break
        self._probing = None
        self._on_change(None)

    async def _probe(self) -> None:
        await self.client.eval(_PROBE, 1, f"{self.prefix}:probe")

    async def _close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})
        with contextlib.suppress(*self._failures):
            await self.client.aclose()
            await self.pool.disconnect()


def _is_refusal(error: Exception) -> bool:
    from redis import exceptions

    refusals = exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError
    return isinstance(error, refusals) or (isinstance(error, exceptions.ResponseError) and "DB index" in str(error))

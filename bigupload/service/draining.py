"""Stop without breaking requests: count the requests in flight and wait for their end."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web


class RequestsInFlight:
    """The requests in flight."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether responses tell the client that the connection accepts no more requests."""
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._count == 0:
            self._none.set()

    async def drain(self, server: asyncio.Server, *, within: float) -> None:
        """Accept no more connections, and finish the requests in flight, for up to `within` seconds.

        aiohttp's own shutdown would wait without reading the rest of a body that is still arriving.
        """
        server.close()
        self.stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()


IN_FLIGHT = web.AppKey("in_flight", RequestsInFlight)

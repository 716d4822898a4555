"""A stop that breaks no request: counts the requests in flight and waits for their end. Knows nothing of their work."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web


class RequestsInFlight:
    """The requests that are being answered."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether responses say that their connection takes no more requests."""
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
        """Take no more connections, and answer the requests in flight, for up to `within` seconds.

        aiohttp's own shutdown would wait, and read nothing more of a body that is still being sent.
        """
        server.close()
        self.stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()


IN_FLIGHT = web.AppKey("in_flight", RequestsInFlight)

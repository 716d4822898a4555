"""Stop without breaking requests: let load balancers notice first, then finish the requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web


class RequestsInFlight:
    """The requests in flight."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether the service was asked to stop: `/readyz` fails, and each response ends its connection."""
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

    async def drain(
        self,
        server: asyncio.Server,
        *,
        delay: float,
        within: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Serve on for `delay` seconds, accept no more connections, and finish the requests in flight.

        During the delay, a load balancer sees that `/readyz` fails and sends new requests elsewhere. Each response
        says `Connection: close` meanwhile: a connection that was closed while it is idle could just be sending the next
        request. aiohttp's own shutdown would wait without reading the rest of a body that is still arriving.

        Args:
            server: What accepts the connections.
            delay: Seconds to go on accepting connections.
            within: The most seconds to wait for the requests in flight after that.
            sleep: Waits for the delay.
        """
        self.stopping = True
        if delay > 0:
            await sleep(delay)
        server.close()
        await self.finished(within=within)

    async def finished(self, *, within: float) -> None:
        """Wait until no request is in flight, for up to `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()


IN_FLIGHT = web.AppKey("in_flight", RequestsInFlight)

"""A stop that breaks no request: which are under way, and the wait for their end. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web


class UnderWay:
    """The requests that are being answered."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether answers say that their connection takes no more requests."""
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

    async def drain(self, site: web.BaseSite, *, within: float) -> None:
        """Take no more connections, and answer what there is, for up to `within` seconds.

        aiohttp's own shutdown would wait, and read nothing more of a body that is still on its way.
        """
        await site.stop()
        self.stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()


UNDER_WAY = web.AppKey("under_way", UnderWay)

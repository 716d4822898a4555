"""The site, and what must not be reached beside it.

The site is at 127.0.0.2, so most tests allow private hosts. Those of the attack don't, but for that one address, which
stands for the public internet; at 127.0.0.1 listens a vault that counts who connects. Names are resolved by the tests'
own resolver, never by a name server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.service.direct_url.support import SITE, Site


@pytest.fixture
async def vault() -> AsyncIterator[list[int]]:
    """What must not be reached, on this machine: [its port]; a further number for each connection."""
    reached: list[int] = []

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(1)
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    reached.append(server.sockets[0].getsockname()[1])
    async with server:
        yield reached


@pytest.fixture
async def site(vault: list[int]) -> AsyncIterator[Site]:
    """On the port that the vault has too: only the address tells them apart."""
    site = Site(vault[0])
    runner = web.ServerRunner(web.Server(site.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, SITE, site.port).start()
    yield site
    await runner.cleanup()

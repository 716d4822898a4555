"""An upload inside a program whose own threads are all busy, perhaps waiting for this very upload."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator

import anyio.to_thread
import pytest

import bigupload

from .stopped import SIZE
from .support import World


@pytest.fixture
async def busy() -> AsyncIterator[None]:
    """The event loop's executor and anyio's threads, one of each, and both taken."""
    release = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, release.wait)
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 1
    await limiter.acquire_on_behalf_of(busy)
    try:
        yield
    finally:
        limiter.release_on_behalf_of(busy)
        limiter.total_tokens = before
        release.set()
        await held


@pytest.mark.usefixtures("busy")
async def test_nothing_waits_for_the_hosts_threads(world: World) -> None:
    """As when all of a web server's threads wait for uploads: each would wait for a thread, for ever."""
    path = world.file(SIZE)
    await world.upload(path)
    assert world.holds(path)
    assert (await world.resume()).verified is bigupload.Verified.FULL_OBJECT
    assert (await bigupload.list_uploads(state_dir=world.directory))[0].status == "completed"

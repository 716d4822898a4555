"""An upload inside a program whose own threads are all busy, perhaps waiting for this very upload."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

import bigupload
from bigupload.http.connection_pool import Addresses
from bigupload.stores.local_store import LocalStore

from .stopped import SIZE
from .support import BUCKET, World, write


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
    assert (await bigupload.list_uploads(uploader=bigupload.Uploader(state_dir=world.directory)))[
        0
    ].status == "completed"


@pytest.mark.usefixtures("busy")
async def test_a_name_is_resolved(world: World) -> None:
    """A store has a name, as a rule."""
    path = world.file(SIZE)
    url = world.s3.url.replace("127.0.0.1", "localhost")
    await world.upload(path, options=bigupload.S3Options(endpoint_url=url, region=world.s3.region))
    assert world.holds(path)


@pytest.mark.usefixtures("busy")
async def test_an_object_is_verified(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    for prove in (bigupload.verify, bigupload.read_back):
        assert (await prove(path, f"s3://{BUCKET}/key", s3=world.options())).size == SIZE


@pytest.mark.usefixtures("busy")
async def test_the_local_store_is_found(weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(weed.data_dir))
    result = await bigupload.upload(write(tmp_path / "file", 100), s3=bigupload.S3Options(local=True))
    assert result.verified is bigupload.Verified.FULL_OBJECT


async def test_a_lookup_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` waits for the threads of the loop, and Python for those of every executor, when they end."""
    asked, release = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        asked.set()
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    addresses = Addresses()
    task = asyncio.create_task(addresses.of("store.test", 443))
    try:
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        addresses.close()
        await asyncio.get_running_loop().shutdown_default_executor()
    finally:
        release.set()

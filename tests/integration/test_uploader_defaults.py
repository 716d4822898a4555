"""What an `Uploader` is told once for all of its calls, and targets without a keyword."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bigupload
from bigupload import RetryPolicy, StoreUnreachable, Uploader, UploadResult, Verified

from .support import World


async def test_each_call_takes_the_s3_of_its_uploader(world: World) -> None:
    directory = world.directory / "files"
    directory.mkdir()
    path = directory / "a"
    path.write_bytes(b"a")
    async with Uploader(s3=world.options(), state_dir=world.directory / "state") as uploader:
        assert (await uploader.upload(path, "s3://bucket/key")).verified is Verified.FULL_OBJECT
        assert (await uploader.start(path, "s3://bucket/started")).key == "started"
        async with contextlib.aclosing(uploader.upload_many([path], "s3://bucket/many/")) as outcomes:
            assert [type(each) async for each in outcomes] == [UploadResult]
        assert (await uploader.sync(directory, "s3://bucket/sync/")).uploaded == 1
        assert (await uploader.verify(path, "s3://bucket/key")).verified is Verified.FULL_OBJECT
        assert (await uploader.read_back(path, "s3://bucket/key")).verified == "read-back"
        await uploader.abort_orphans("s3://bucket/")
        await uploader.upload(path, "s3://bucket/own", s3=world.options(content_type="text/x-own"))
    stored = world.s3.objects["bucket"]
    assert set(stored) == {"key", "started", "many/a", "sync/a", "own"}
    assert stored["own"].headers["content-type"] == "text/x-own", "a call's own goes before"


async def test_each_call_uses_the_proxies_of_its_uploader(world: World) -> None:
    path, url = world.file(10), "s3://bucket/key"
    options: dict[str, Any] = {"s3": world.options(), "state_dir": world.directory / "state"}
    nobody = {"http": "http://127.0.0.1:1"}
    async with Uploader(retry=RetryPolicy(attempts=1), proxies=nobody, **options) as uploader:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: uploader.upload(path, url),
            lambda: uploader.upload(path, url, skip_existing=True),
            lambda: uploader.upload(path, url, skip_existing=True, manifest=world.directory / "manifest"),
            lambda: uploader.verify(path, url),
            lambda: uploader.read_back(path, url),
            lambda: uploader.share(url),
            lambda: uploader.abort_orphans("s3://bucket/"),
        ]
        for call in calls:
            with pytest.raises(StoreUnreachable, match="can't connect to the proxy 127"):
                await call()


async def test_a_function_takes_its_target_second(world: World) -> None:
    path = world.file(10)
    await bigupload.upload(
        path, "s3://bucket/key", s3=world.options(), uploader=bigupload.Uploader(state_dir=world.directory / "state")
    )
    assert world.holds(path, "key")

"""What an `Uploader` is told once for all of its calls, and targets without a keyword."""

from __future__ import annotations

import contextlib

import bigupload
from bigupload import Uploader, UploadResult, Verified

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


async def test_a_function_takes_its_target_second(world: World) -> None:
    path = world.file(10)
    await bigupload.upload(path, "s3://bucket/key", s3=world.options(), state_dir=world.directory / "state")
    assert world.holds(path, "key")

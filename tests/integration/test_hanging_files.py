"""A file on a network file system that hangs: no command is stuck in it, whatever it does with the file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import bigupload
from bigupload.core.rate_meter import RateMeter
from bigupload.sources.file import FileSource

from .support import BUCKET, PART, World, of_function

Command = Callable[[World], Awaitable[Any]]


class Hanging:
    """A method that waits until `release`, in whatever thread it is called."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self._released = threading.Event()

    def __call__(self, *_: Any) -> None:
        self.called.set()
        self._released.wait(10)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.release()


def upload(world: World) -> Awaitable[Any]:
    return world.upload(world.directory / "file.bin")


def verify(world: World) -> Awaitable[Any]:
    return bigupload.verify(world.directory / "file.bin", f"s3://{BUCKET}/key", s3=world.options())


def read_back(world: World) -> Awaitable[Any]:
    return bigupload.read_back(world.directory / "file.bin", f"s3://{BUCKET}/key", s3=world.options())


async def assert_cancellable(command: Awaitable[Any], hanging: Hanging) -> None:
    task = asyncio.ensure_future(command)
    assert await asyncio.to_thread(hanging.called.wait, 60)  # the event loop turns meanwhile
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)


@pytest.mark.parametrize("command", [upload, verify, read_back])
async def test_a_check_that_hangs_is_left_behind(
    world: World, hanging: Hanging, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    assert world.file(2 * PART) == world.directory / "file.bin"
    await world.upload(world.directory / "file.bin")
    monkeypatch.setattr("bigupload.sources.file.is_on_local_disk", lambda _: False)
    monkeypatch.setattr(FileSource, "check", hanging)
    await assert_cancellable(command(world), hanging)


@pytest.mark.parametrize("command", [upload, verify, read_back])
async def test_a_read_that_hangs_is_left_behind(
    world: World, hanging: Hanging, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    world.file(2 * PART)
    if command is not upload:
        await world.upload(world.directory / "file.bin")
    monkeypatch.setattr(FileSource, "read_into", hanging)
    await assert_cancellable(command(world), hanging)


@pytest.mark.parametrize("command", [upload, verify, read_back])
async def test_an_open_that_hangs_is_left_behind(
    world: World, hanging: Hanging, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    world.file(2 * PART)
    await world.upload(world.directory / "file.bin")
    monkeypatch.setattr(FileSource, "_require_true_size", hanging)
    await assert_cancellable(command(world), hanging)


async def test_a_read_that_hangs_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    released, told, read = threading.Event(), asyncio.Event(), FileSource.read_into

    def hanging(self: FileSource, buffer: memoryview, offset: int) -> int:
        assert released.wait(60)
        return read(self, buffer, offset)

    def on_event(event: bigupload.Event) -> None:
        if isinstance(event, bigupload.Progress) and event.source_hangs_for is not None:
            assert (event.bytes_in_flight, event.seconds_left) == (0, None)
            told.set()

    monkeypatch.setattr("bigupload.engine.part_hashing._HANGS_AFTER", 0.0)
    monkeypatch.setattr(RateMeter, "seconds_left", lambda *_: 30.0)  # as just before the read began to hang
    monkeypatch.setattr(FileSource, "read_into", hanging)
    options = {"s3": world.options(), "part_size": PART, "manifest": world.manifest_path, "on_event": on_event}
    uploading = asyncio.ensure_future(
        bigupload.upload(world.file(2 * PART), to=f"s3://{BUCKET}/key", **of_function(options))
    )
    try:
        await asyncio.wait(
            {uploading, told_waiting := asyncio.ensure_future(told.wait())}, return_when="FIRST_COMPLETED"
        )
        assert told_waiting.done()
    finally:
        released.set()
    assert (await uploading).parts == 2

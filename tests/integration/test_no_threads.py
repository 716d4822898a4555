"""A system that lets this process start only so many threads (`ulimit -u`, a container's limit of pids): each number of
them is tried until the call needs no more."""

from __future__ import annotations

import _thread
import asyncio
import io
import re
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import bigupload
from bigupload import errors
from bigupload.support import daemon_threads
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import BUCKET, KIB, World, write

MANY = 40
"""More threads than any of these calls needs."""


async def _file(world: World) -> None:
    path = world.file(6 * KIB * 64)
    await world.upload(path, part_size=64 * KIB)
    await bigupload.verify(path, f"s3://{BUCKET}/key", s3=world.options())
    await bigupload.read_back(path, f"s3://{BUCKET}/key", s3=world.options())


async def _stream(world: World) -> None:
    await bigupload.upload(io.BytesIO(bytes(6 * KIB * 64)), to=f"s3://{BUCKET}/stream", s3=world.options())


async def _many(world: World) -> None:
    async with bigupload.Uploader() as uploader:
        files = bigupload.select_files(_tree(world))
        async for each in uploader.upload_many(files, to=f"s3://{BUCKET}/many/", s3=world.options()):
            if isinstance(each, bigupload.UploadFailed):
                raise each.error


async def _sync(world: World) -> None:
    async with bigupload.Uploader() as uploader:
        await uploader.sync(_tree(world), to=f"s3://{BUCKET}/many/", s3=world.options())


def _tree(world: World) -> Path:
    root = world.directory / "tree"
    root.mkdir(exist_ok=True)
    for number in range(5):
        write(root / str(number), 1000)
    return root


class Limited:
    """A thread's `start` that works so many times in this thread."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.refused = 0
        self._here = threading.current_thread()
        self._start = threading.Thread.start

    def __call__(self, thread: threading.Thread) -> None:
        if threading.current_thread() is self._here:  # the store has threads of its own
            if not self.left:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            self.left -= 1
        self._start(thread)


@pytest.mark.exhaustive
@pytest.mark.parametrize("call", [_file, _stream, _many, _sync])
def test_a_thread_that_can_t_be_started_is_one_line_of_bigupload_s(
    world: World, call: Callable[[World], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for most in range(MANY):
        with monkeypatch.context() as patch:
            limited = Limited(most)
            patch.setattr(daemon_threads, "_free", {})  # no thread of an earlier call waits for another one
            patch.setattr(threading.Thread, "start", lambda thread, limited=limited: limited(thread))
            try:
                asyncio.run(asyncio.wait_for(call(world), 30))  # type: ignore[arg-type]  # a coroutine
            except errors.BigUploadError as e:
                ends.append(e)
            if not limited.refused:
                break
        world.manifest_path.unlink(missing_ok=True)
    else:
        raise AssertionError("it never had enough")
    assert ends, "the first one has no thread at all"
    for e in ends:
        assert isinstance(e, errors.OutOfThreads), repr(e)
        assert e.exit_code == errors.EXIT_RESUMABLE
        assert "\n" not in str(e)


def test_a_writer_without_a_thread_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    def limited(thread: threading.Thread) -> None:
        (refused if thread.name == "bigupload writer" else start)(thread)  # the store has threads of its own

    for where, name, starting in ((_thread, "start_new_thread", refused), (threading.Thread, "start", limited)):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, starting)
            with pytest.raises(errors.OutOfThreads, match=r"ulimit -u"):
                bigupload.open_writer(f"s3://{BUCKET}/key", s3=world.options())
    with bigupload.open_writer(f"s3://{BUCKET}/key", s3=world.options()) as writer:
        writer.write(b"1")
    assert world.s3.objects[BUCKET]["key"].body == b"1"


_LIMITED = """
import resource, runpy, sys, threading
start, left, memory = threading.Thread.start, [int(sys.argv.pop(1))], int(sys.argv.pop(1))
if memory:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
def limited(thread):
    if not left[0]:
        raise RuntimeError("can't start new thread")
    left[0] -= 1
    start(thread)
threading.Thread.start = limited
runpy.run_module("bigupload", run_name="__main__", alter_sys=True)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(("most", "memory"), [*((most, 0) for most in range(5)), (0, 16 << 30)])
def test_the_command_says_it_in_one_line(s3: StrictS3, tmp_path: Path, most: int, memory: int) -> None:
    """A limit of memory takes a thread of its own."""
    path = write(tmp_path / "file", 12 * 1024 * KIB)
    call = ["upload", path, "--to", f"s3://{BUCKET}/key", "--endpoint-url", s3.url, "--progress", "none"]
    ended = Place(tmp_path).run(*call, command=[sys.executable, "-c", _LIMITED, str(most), str(memory)])
    if ended.code == 0:
        assert most >= 2
        return
    assert ended.code == 75
    assert re.search(r": the system lets this process start no further thread: allow more \(ulimit -u", ended.complaint)

"""A stream holds no more parts than its pool allows, and what it holds stays as it is."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from bigupload import errors
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import MIB, plan_stream
from bigupload.sources import part_pool, producers
from bigupload.sources.part_pool import Memory, PartPool
from bigupload.sources.stream import StreamSource
from tests.sources.streams import DATA, LIMITS, PLAN, cut, pool, read, stream_of
from tests.tools.waiting import until

# -- what is held


async def test_only_held_parts_can_be_read() -> None:
    stream = stream_of([DATA])
    assert (stream.kind, stream.stream) == (SourceKind.STREAM, stream)
    await stream.begin()
    head = bytearray(10)
    assert stream.read_into(memoryview(head), 0) == 10
    assert head == DATA[:10]
    first, second = await stream.next_part(PLAN), await stream.next_part(PLAN)
    assert first is not None
    assert second is not None
    assert (read(stream, first), read(stream, second)) == (DATA[:100], DATA[100:200])
    stream.release(first)
    stream.release(first)
    assert read(stream, second) == DATA[100:200]
    with pytest.raises(errors.SourceUnreadable, match="gone by"):
        stream.read_into(memoryview(bytearray(1)), 0)
    stream.close()
    with pytest.raises(errors.SourceUnreadable, match="gone by"):
        stream.view(100, 1)


async def test_it_can_begin_again_until_a_part_came() -> None:
    stream = stream_of([DATA])
    await stream.begin()
    assert await stream.rewind()
    await stream.next_part(PLAN)
    assert not await stream.rewind()


class Counted:
    """An iterable that notes how many bytes were taken from it."""

    def __init__(self, chunk: int) -> None:
        self.taken = 0
        self._chunk = chunk

    def __aiter__(self) -> Counted:
        return self

    async def __anext__(self) -> bytes:
        self.taken += self._chunk
        return bytes(self._chunk)


async def test_while_the_pool_is_full_nothing_is_read() -> None:
    source, parts = Counted(50), pool(memory=400)
    stream = stream_of(source, parts=parts)
    await stream.begin()
    plan = plan_stream(100, limits=LIMITS)
    held = [await stream.next_part(plan) for _ in range(4)]
    waiting = asyncio.create_task(stream.next_part(plan))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert source.taken <= 4096 + 50
    assert held[2] is not None
    stream.release(held[2])
    assert (await waiting) == plan.part(5)


async def test_streams_share_the_memory_and_none_waits_for_another() -> None:
    """One that stands still keeps its parts: others that have none are held in files."""
    parts = pool(memory=300)
    standing, other = stream_of(Counted(50), parts=parts), stream_of([DATA], parts=parts)
    plan = plan_stream(100, limits=LIMITS)
    await standing.begin()
    for _ in range(3):
        await standing.next_part(plan)
    assert b"".join(data for _, data in await cut(other, plan)) == DATA


async def test_a_part_larger_than_its_share_is_in_a_file_without_a_name(tmp_path: Path) -> None:
    stream = stream_of([DATA], parts=pool(memory=2000, directory=tmp_path))
    await stream.begin()
    plan = plan_stream(1000, limits=LIMITS)
    first = await stream.next_part(plan)
    assert first is not None
    assert stream.view(0, 10) is None
    assert read(stream, first) == DATA[:1000]
    assert list(tmp_path.iterdir()) == []
    await stream.next_part(plan)
    await stream.next_part(plan)
    waiting = asyncio.create_task(stream.next_part(plan))  # three files at most
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    stream.release(first)
    assert await waiting == plan.part(4)
    stream.close()


async def test_a_file_of_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_pool, "CHUNK", 7)
    found = await cut(stream_of([DATA], parts=pool(memory=1)), plan_stream(1000, limits=LIMITS))
    assert b"".join(data for _, data in found) == DATA


async def test_files_where_the_system_has_no_positioned_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_pool, "CHUNK", 7)
    for name in ("preadv", "pread", "pwritev", "pwrite"):
        monkeypatch.delattr(os, name)
    found = await cut(stream_of([DATA], parts=pool(memory=1)), PLAN)
    assert b"".join(data for _, data in found) == DATA


async def test_files_are_written_where_every_thread_of_a_framework_waits_for_the_upload() -> None:
    """As those of FastAPI do, whose handlers of `def` call the event loop from a thread."""

    async def upload() -> Any:
        return await cut(stream_of([DATA], parts=pool(memory=10)))

    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    with anyio.fail_after(30):
        found = await anyio.to_thread.run_sync(anyio.from_thread.run, upload, abandon_on_cancel=True)
    assert b"".join(data for _, data in found) == DATA


async def test_a_full_disk_can_be_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(errors.StreamInterrupted, match=r"No space left on device.*`temp_dir`") as caught:
        await cut(stream_of([DATA], parts=pool(memory=1, directory=tmp_path)))
    assert str(tmp_path) in str(caught.value)


async def test_too_many_open_files_are_not_called_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(errors.StreamInterrupted, match=r"too many files and connections open.*ulimit -n") as caught:
        await cut(stream_of([DATA], parts=pool(memory=1)))
    assert "space" not in str(caught.value)


async def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(errors.StreamInterrupted, match="No such file"):
        await cut(stream_of([DATA], parts=pool(memory=1, directory=tmp_path / "none")))


async def test_a_part_that_another_event_loop_releases_makes_room() -> None:
    memory = Memory(300)
    first, second = PartPool(memory=memory), PartPool(memory=memory)
    parts = [await first.hold(100, ()) for _ in range(3)]
    waits, got = threading.Event(), list[Any]()

    async def wait_for_room() -> None:
        asyncio.get_running_loop().call_soon(waits.set)
        got.append((await second.hold(100, "one")).view(0, 1))

    threading.Thread(target=lambda: asyncio.run(wait_for_room()), daemon=True).start()
    await until(waits.is_set)
    first.release(parts[0])
    await until(lambda: bool(got))
    assert got[0] is not None


async def test_memory_that_the_system_refuses_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = pool(memory=300)

    def refused(size: int) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(part_pool, "page_buffer", refused)
        with pytest.raises(MemoryError):
            await parts.hold(100, ())
    assert parts._memory._used == 0


async def test_the_memory_of_a_loop_that_was_left_is_free_once_its_parts_are_collected() -> None:
    memory = Memory(300)
    left = [await PartPool(memory=memory).hold(100, ()) for _ in range(3)]
    left.clear()
    gc.collect()
    assert (await PartPool(memory=memory).hold(100, ())).view(0, 1) is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads, from Python 3.12 on
async def test_a_forked_process_has_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_pool, "_shared", Memory(300))
    held = [await PartPool().hold(100, ()) for _ in range(3)]
    assert (await PartPool().hold(100, ())).view(0, 1) is None, "it is in a file"
    if not (child := os.fork()):
        os._exit(PartPool()._memory._used)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert PartPool()._memory._used == 100 * len(held)


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a system without huge pages")
async def test_memory_for_parts_is_asked_for_in_large_pages() -> None:
    """The first bytes into it cost a call of the kernel for each page."""
    part = await pool(memory=8 * MIB).hold(2 * MIB, ())
    view = part.view(0, part.size)
    assert view is not None
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    flags = _mapping_flags(address)
    assert "hg" in flags
    assert "sh" not in flags, "a shared mapping has pages of its own kind"


def _mapping_flags(address: int) -> list[str]:
    """What proc_pid_smaps(5) calls VmFlags, of the mapping that has an address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError("no such mapping")


# -- cancelling


async def test_a_cancel_does_not_wait_for_a_read_that_blocks() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as file, os.fdopen(writing, "wb", buffering=0) as writer:
        stream = stream_of(file)
        task = asyncio.create_task(stream.begin())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        writer.write(b"x")  # the thread that was left behind takes it, and ends


async def test_what_a_thread_writes_after_a_cancel_is_in_no_other_part() -> None:
    """The room of a part whose thread was left behind is used for nothing else."""
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    class Late(io.RawIOBase):
        def readinto(self, buffer: Any) -> int:
            entered.set()
            release.wait(10)
            buffer[:] = b"!" * len(buffer)
            done.set()
            return len(buffer)

    parts = pool(memory=300)
    late = StreamSource("late", producers.of_file(Late()), parts)
    plan = plan_stream(100, limits=LIMITS)
    task = asyncio.create_task(late.next_part(plan))
    assert await anyio.to_thread.run_sync(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = stream_of([DATA], parts=parts)
    await other.begin()
    held = [await other.next_part(plan) for _ in range(3)]
    release.set()
    await until(done.is_set)
    for part in held:
        assert part is not None
        assert read(other, part) == DATA[part.offset : part.offset + 100]


async def test_a_temporary_file_is_closed_after_the_thread_that_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor would else be another file's, into which the thread of a cancelled upload writes."""
    entered, release, files, pwrite = threading.Event(), threading.Event(), [], os.pwrite
    temporary = tempfile.TemporaryFile

    def late(fd: int, data: Any, offset: int) -> int:
        entered.set()
        release.wait(60)
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", late)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **more: files.append(temporary(**more)) or files[-1])
    stream = stream_of([DATA], parts=pool(memory=1))
    await stream.begin()
    task = asyncio.create_task(stream.next_part(PLAN))
    await until(entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stream.close()
    was_open = not files[0].closed
    release.set()
    assert was_open
    await until(lambda: files[0].closed)

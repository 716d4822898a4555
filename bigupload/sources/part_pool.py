"""The pool that holds the parts of streams until the store has them: in memory up to a limit, else in temporary files.

A temporary file has no name, so that nothing is left behind by a process that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator, Sized
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.ports import Unwatched
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import is_out_of_descriptors, reason_of
from bigupload.support.pages import page_buffer
from bigupload.support.systems import read_at, write_at
from bigupload.units import format_size

MEMORY = 96 * MIB
"""Bytes of parts in memory, of all streams of a process: six parts of a stream of unknown size. The command needs as
much for everything else, and stays below 200 MB (`python -m benchmarks pipe`)."""
_SHARE = 3
"""A part that is larger than this share of the memory goes into a file: with fewer parts, nothing would overlap."""
_OTHERS = 6
"""The share of the memory that a slow source leaves to others: a part of a stream of unknown size."""
_FILES = 3
"""Temporary files of one stream: one is filled while others are sent."""
CHUNK = MIB
_WRITERS = 4
"""Threads that write temporary files, of all streams."""


class Memory:
    """Memory for the parts of several pools, each of which may be used in another event loop and thread."""

    def __init__(self, size: int) -> None:
        """Hold nothing yet.

        Args:
            size: Bytes at most.
        """
        self.size = size
        self._lock = threading.Lock()
        self._used = 0
        self._free: list[mmap.mmap] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._collected: deque[int] = deque()
        """Sizes of parts that the garbage collector found. It may run while the lock is held: this needs none."""

    def take(self, size: int, waiting: asyncio.Future[None] | None) -> mmap.mmap | None:
        """Return a buffer; None if there is no room.

        Args:
            size: Its size in bytes.
            waiting: Done once there may be room, if there is none now.

        Raises:
            MemoryError: The system gives this process no more memory.
        """
        with self._lock:
            while self._collected:
                self._used -= self._collected.popleft()
            if self._used + size > self.size:
                if waiting is not None:
                    self._waiting.append(waiting)
                return None
            self._used += size
            for index, buffer in enumerate(self._free):
                if len(buffer) == size:  # its pages are in memory already
                    return self._free.pop(index)
            self._free.clear()
        try:
            return page_buffer(size)
        except BaseException:
            self.give_back(size, None)
            raise

    def give_back(self, size: int, buffer: mmap.mmap | None) -> None:
        """Free the room of a buffer, which others may use from now on; None: a thread may still write into it."""
        with self._lock:
            self._used -= size
            if buffer is not None:
                self._free.append(buffer)

    def wait(self, waiting: asyncio.Future[None]) -> None:
        """Let a future be done once a part is released."""
        with self._lock:
            self._waiting.append(waiting)

    def wake(self) -> None:
        """Let all that wait look again: which one has room depends on the sizes of their parts."""
        with self._lock:
            woken, self._waiting = self._waiting, []
        for each in woken:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                each.get_loop().call_soon_threadsafe(_look_again, each)

    def collected(self, size: int) -> None:
        """Free the room of a part that nothing refers to any more, as after the end of its event loop."""
        self._collected.append(size)

    def trim(self) -> None:
        """Give the system back what no part uses."""
        with self._lock:
            self._free.clear()


def _look_again(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _reset_after_fork() -> None:
    """In a process that was forked: it holds none of its parent's parts."""
    global _shared
    _shared = Memory(MEMORY)


_shared = Memory(MEMORY)
"""What the pools of this process have."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


class _InMemory:
    """The bytes of one part. Filled once from its beginning, then read by any thread."""

    def __init__(self, memory: Memory, buffer: mmap.mmap, size: int) -> None:
        self.size = size
        self._memory = memory
        self._buffer: mmap.mmap | None = buffer
        self._view = memoryview(buffer)[:size]

    def view(self, offset: int, size: int) -> memoryview:
        """A range of it, if it is in memory."""
        return self._view[offset : offset + size]

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. Blocking."""
        found = self.view(offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def space(self, offset: int) -> memoryview:
        """Return a buffer for the next bytes, those from `offset` on; for some of them, or all."""
        return self._view[offset:]

    async def filled(self, offset: int, size: int) -> None:
        """Mark `size` bytes of the last `space()` buffer as filled.

        Raises:
            StreamInterrupted: The bytes can't be stored.
        """

    def close(self, *, reuse: bool) -> None:
        """Free its room.

        Args:
            reuse: False if a thread may still write into it.
        """
        buffer, self._buffer = self._buffer, None
        self._memory.give_back(self.size, buffer if reuse else None)

    def __del__(self) -> None:
        if self._buffer is not None:
            self._memory.collected(self.size)


class _InFile:
    """The same in a temporary file."""

    def __init__(self, size: int, directory: Path | None, writers: asyncio.Semaphore) -> None:
        self.size = size
        self._directory = directory
        self._writers = writers
        self._buffer = memoryview(page_buffer(min(CHUNK, size)))
        self._file: Any = None
        self._lock = threading.Lock()
        self._users = 0
        """Threads that read or write the file. One whose caller was cancelled may be among them."""
        self._closed = False

    def view(self, offset: int, size: int) -> None:
        return None

    def read_into(self, buffer: memoryview, offset: int) -> int:
        done = 0
        try:
            with self._in_use():
                while done < len(buffer):
                    count = read_at(self._file.fileno(), buffer[done:], offset + done)
                    if not count:
                        break
                    done += count
        except OSError as e:
            raise self._failure("read", e) from e
        return done

    def space(self, offset: int) -> memoryview:
        return self._buffer[: self.size - offset]

    async def filled(self, offset: int, size: int) -> None:
        await run_in_daemon_thread(partial(self._write, offset, size), self._writers)

    def _write(self, offset: int, size: int) -> None:
        try:
            with self._in_use():
                if self._file is None:
                    import tempfile  # few uploads need one

                    self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115 - kept open
                done = 0
                while done < size:
                    done += write_at(self._file.fileno(), self._buffer[done:size], offset + done)
        except OSError as e:
            raise self._failure("write", e) from e

    def _failure(self, action: str, e: OSError) -> errors.StreamInterrupted:
        import tempfile

        where = self._directory or tempfile.gettempdir()
        advice = (
            "Try" if is_out_of_descriptors(e) else "Free some space, or name another directory with `temp_dir`, and try"
        )
        return errors.StreamInterrupted(
            f"can't {action} a part of {format_size(self.size)} in {where}, where parts wait for the store: "
            f"{reason_of(e)}. {advice} again with the same bytes"
        )

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_unused()

    def close(self, *, reuse: bool) -> None:
        with self._lock:
            self._closed = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        """Close after the last thread: the descriptor could otherwise become another file's, which it would write."""
        if self._closed and not self._users and self._file is not None:
            file, self._file = self._file, None
            file.close()


HeldPart: TypeAlias = _InMemory | _InFile


class PartPool:
    """Holds parts of several streams. Used in one event loop."""

    def __init__(self, directory: Path | None = None, *, memory: Memory | None = None) -> None:
        """Hold nothing yet.

        Args:
            directory: Where temporary files are made; None: where the system has its own.
            memory: Where parts are held; None: in that of all pools of the process.
        """
        self._memory = memory or _shared
        self._directory = directory
        # A separate thread: those of anyio may all be in a web framework's handlers, which wait for these uploads.
        self._writers = asyncio.Semaphore(_WRITERS)

    @property
    def share(self) -> int:
        """Bytes that a source should have in memory at most, if it is slow to fill them: others need some, too."""
        return self._memory.size - self._memory.size // _OTHERS

    def fits_in_memory(self, size: int) -> bool:
        """Whether a part of `size` bytes is held in memory, if there is room."""
        return size <= self._memory.size // _SHARE

    async def hold(self, size: int, held: Sized) -> HeldPart:
        """Make room for a part, and wait until there is some.

        Args:
            size: The part's size in bytes.
            held: The parts that the stream holds. If it holds none, it does not wait: those that have the memory may
                belong to streams that stand still.
        """
        while True:
            room = asyncio.get_running_loop().create_future()
            if not self.fits_in_memory(size):
                if len(held) < _FILES:
                    return _InFile(size, self._directory, self._writers)
                self._memory.wait(room)
            elif (buffer := self._memory.take(size, room if held else None)) is not None:
                return _InMemory(self._memory, buffer, size)
            elif not held:
                return _InFile(size, self._directory, self._writers)
            await room

    def release(self, part: HeldPart, *, reuse: bool = True) -> None:
        """Free a part's room.

        Args:
            part: What `hold` returned.
            reuse: False if a thread may still write into it.
        """
        part.close(reuse=reuse)
        self._memory.wake()

    def trim(self) -> None:
        """Give the system back what no part uses."""
        self._memory.trim()


class SourceOfHeldParts(Unwatched):
    """A source whose parts are held: those can be read, and before them its first bytes."""

    def __init__(self, name: str, size: int, pool: PartPool, head: bytes = b"") -> None:
        """Hold nothing.

        Args:
            name: The source's name.
            size: Its size in bytes.
            pool: Where its parts are held.
            head: Its first bytes, if they are known.
        """
        super().__init__(name, size)
        self._pool = pool
        self._held: dict[int, tuple[int, HeldPart]] = {}
        """By a part's number, its offset in the source, and its bytes."""
        self._head = head

    async def _add(self, part: Part) -> HeldPart:
        """Wait for room, and hold a part."""
        held = await self._pool.hold(part.size, self._held)
        self._held[part.number] = part.offset, held
        return held

    def _drop(self, number: int, *, reuse: bool = True) -> None:
        """Hold a part no longer. May be called again.

        Args:
            number: The part's.
            reuse: False if a thread may still write into it.
        """
        found = self._held.pop(number, None)
        if found is not None:
            self._pool.release(found[1], reuse=reuse)

    def release(self, part: Part) -> None:
        """Hold a part no longer. See `ports.Source.release`."""
        self._drop(part.number)

    def close(self) -> None:
        """Let all parts go, and give the system back what no part uses. May be called again."""
        for number in list(self._held):
            self._drop(number)
        self._pool.trim()

    def _at(self, offset: int) -> tuple[int, HeldPart] | None:
        """The part that has a byte, and the part's offset; None: none of them has it."""
        for begin, held in list(self._held.values()):  # a copy: threads read while the event loop adds and drops
            if begin <= offset < begin + held.size or (begin == offset and not held.size):
                return begin, held
        return None

    def _is_in_head(self, offset: int) -> bool:
        """Whether to read from the first bytes, because the part is not held."""
        return self._at(offset) is None and offset < len(self._head)

    def _holding(self, offset: int) -> tuple[int, HeldPart]:
        found = self._at(offset)
        if found is None:
            raise errors.SourceUnreadable(
                f"can't read {errors.IT} at byte {offset:,}: that part has gone by", it=self.path
            )
        return found

    def view(self, offset: int, size: int) -> memoryview | None:
        """The bytes of a range of a held part, if it is in memory. See `ports.Source.view`."""
        if not size:
            return memoryview(b"")
        begin, held = self._holding(offset)
        return held.view(offset - begin, size)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from a held part, or from the first bytes. See `ports.Source.read_into`."""
        if self._is_in_head(offset):
            found = self._head[offset : offset + len(buffer)]
            buffer[: len(found)] = found
            return len(found)
        begin, held = self._holding(offset)
        return held.read_into(buffer, offset - begin)

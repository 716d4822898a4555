"""Where the bytes of a stream come from: a file object, an iterable, an async iterable, or an async reader.

Each gives the next bytes into a buffer. Blocking ones do so in a daemon thread of their own, which a cancelled upload
leaves behind: what the thread takes from its file object or iterable after that is lost to others. `MarkedProducer`
checks the marker at the end of another producer's bytes.

`PushedBytes` has the bytes that a program writes, as an async reader. Small writes are collected. A large one is read
from the writer's own memory, which waits meanwhile: so no more than two blocks are here, whoever is slower.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import io
import sys
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

from bigupload import errors
from bigupload.core.part_plan import MIB
from bigupload.support.daemon_threads import DaemonThreadPool

_MOST = MIB
"""Bytes to ask a file object or reader for at a time."""

UNFINISHED = "Nothing was completed: make the same call again, with all of the bytes"
"""Advice for a stream that ended too early."""


class Producer(Protocol):
    """The bytes of a stream, in order."""

    @property
    def taken(self) -> int:
        """How many bytes were given until now, also by calls of `fill` that failed."""
        ...

    async def fill(self, buffer: memoryview) -> int:
        """Fill `buffer` with the next bytes. After a cancel, a thread may still write into it.

        Returns:
            How many there were; fewer than the buffer has only at the end.

        Raises:
            Exception: What the caller's object raised.
        """
        ...

    def close(self) -> None:
        """Read no more. What the caller gave stays as it is. May be called again."""
        ...


class _Chunks:
    """Bytes that came and found no room yet."""

    def __init__(self) -> None:
        self._rest = memoryview(b"")

    def __bool__(self) -> bool:
        return bool(self._rest)

    def put(self, chunk: object) -> None:
        self._rest = bytes_of_chunk(chunk)

    def take(self, buffer: memoryview) -> int:
        """Move as many bytes as possible into `buffer`."""
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        if not self._rest:  # a bytearray can't be emptied and filled again while it is viewed, even an empty part of it
            self._rest = memoryview(b"")
        return len(taken)


class _InThread:
    """Fills buffers in a thread, by a function that puts the next bytes into a buffer, and none at the end.

    It is always the same thread: what a generator opens may be bound to it, as a connection of sqlite3 is.
    """

    def __init__(self, read_into: Callable[[memoryview], int]) -> None:
        self.taken = 0
        self._read_into = read_into
        self._thread = DaemonThreadPool(1, "bigupload-stream")
        self._context = contextvars.copy_context()

    async def fill(self, buffer: memoryview) -> int:
        stopped = threading.Event()
        work = partial(self._context.run, self._fill, buffer, stopped)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            stopped.set()

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _fill(self, buffer: memoryview, stopped: threading.Event) -> int:
        done = 0
        while done < len(buffer) and not stopped.is_set():
            count = self._read_into(buffer[done : done + _MOST])
            if not count:
                break
            done += count
            self.taken += count
        return done


class _InLoop:
    """Fills buffers by an async function that returns the next bytes, and none at the end."""

    def __init__(self, read: Callable[[int], Awaitable[Any]]) -> None:
        self.taken = 0
        self._read = read
        self._chunks = _Chunks()

    async def fill(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            if not self._chunks:
                self._chunks.put(await self._read(min(_MOST, len(buffer) - done)))
                if not self._chunks:
                    break
            count = self._chunks.take(buffer[done:])
            done += count
            self.taken += count
        return done

    def close(self) -> None:
        pass


def of_file(file: Any) -> Producer:
    """The bytes of a file object, which may block, and may return fewer bytes than it is asked for.

    Raises:
        ConnectionError: By `fill`: it is the response of an HTTP server, and is shorter than its Content-Length.
    """
    if isinstance(file, io.RawIOBase | io.BufferedIOBase) and not overrides_read(file):

        def read_into(buffer: memoryview) -> int:
            count = file.readinto(buffer)
            if count is None:
                bytes_of_chunk(None)
            if not count:
                _require_all_of_response(file)
            return count or 0

        return _InThread(read_into)
    return _by_chunks(file.read, partial(_require_all_of_response, file))


def overrides_read(file: Any) -> bool:
    """Whether a class, or the object itself, has a `read` of its own and no other way to read.

    It may decrypt, count or limit what is read, and what its base class has, as `readinto` and `getvalue`, would not.
    """
    classes = type(file).__mro__
    of_read, of_readinto = (
        next((at for at, each in enumerate(classes) if name in vars(each)), len(classes))
        for name in ("read", "readinto")
    )
    return "read" in getattr(file, "__dict__", {}) or of_read < of_readinto


def _require_all_of_response(file: Any) -> None:
    """Raise ConnectionError if an HTTP response ended before its Content-Length.

    Python's own response then ends like a whole one: "ideally, we would raise IncompleteRead" (http/client.py). So does
    urllib3's before version 2, which requests gives as `response.raw`.
    """
    client = sys.modules.get("http.client")  # who has a response has imported it
    is_pythons = client is not None and isinstance(file, client.HTTPResponse)
    left = getattr(file, "length" if is_pythons else "length_remaining", None)
    if isinstance(left, int) and left > 0:
        raise ConnectionError(errno.ECONNABORTED, f"the connection ended {left:,} bytes before the response did")


def _by_chunks(read: Callable[[int], Any], at_end: Callable[[], None] = lambda: None) -> Producer:
    chunks = _Chunks()

    def read_into(buffer: memoryview) -> int:
        if not chunks:
            chunks.put(read(len(buffer)))
            if not chunks:
                at_end()
        return chunks.take(buffer)

    return _InThread(read_into)


def of_reader(read: Callable[[int], Awaitable[Any]]) -> Producer:
    """The bytes of an async `read`, as asyncio's and aiohttp's StreamReader have."""
    return _InLoop(read)


def of_iterable(chunks: Iterable[Any]) -> Producer:
    """The bytes of an iterable, which may block. Its empty chunks are no end."""
    iterator = iter(chunks)

    def read(_: int) -> Any:
        for chunk in iterator:
            if len(bytes_of_chunk(chunk)):
                return chunk
        return b""

    return _by_chunks(read)


def of_async_iterable(chunks: AsyncIterable[Any]) -> Producer:
    """The bytes of an async iterable. Its empty chunks are no end."""
    iterator = aiter(chunks)

    async def read(_: int) -> Any:
        async for chunk in iterator:
            if len(bytes_of_chunk(chunk)):
                return chunk
        return b""

    return _InLoop(read)


def bytes_of_chunk(chunk: object) -> memoryview:
    """View what a stream gave as bytes.

    Raises:
        UsageError: It is no bytes.
    """
    if isinstance(chunk, bytes | bytearray):
        return memoryview(chunk)
    if isinstance(chunk, memoryview):
        return memoryview(chunk.tobytes()) if not chunk.c_contiguous or not chunk.nbytes else chunk.cast("B")
    if isinstance(chunk, str):
        raise errors.UsageError("the stream gives text, not bytes: encode it")
    if chunk is None:
        raise errors.UsageError("the stream gives None, as a file object does that does not block: let it block")
    raise errors.UsageError(f"the stream gives {type(chunk).__name__}, not bytes")


class MarkedProducer:
    """The bytes of another producer without the marker at their end, which only a program that succeeded writes.

    It always holds back as many bytes as the marker has, because they may be the last ones.
    """

    def __init__(self, producer: Producer, marker: bytes, name: str) -> None:
        """Read nothing yet.

        Args:
            producer: Where the bytes come from.
            marker: The last bytes, at least one.
            name: The stream's name, for an error.
        """
        self._producer = producer
        self._marker = marker
        self._name = name
        self._held: bytes | None = None
        self._last = b""
        """The last byte that was given."""
        self._ended = False

    @property
    def taken(self) -> int:
        """See `producers.Producer.taken`."""
        return self._producer.taken

    async def fill(self, buffer: memoryview) -> int:
        """Fill `buffer`. See `producers.Producer.fill`.

        Raises:
            StreamInterrupted: The stream ended without the marker.
        """
        if self._ended:
            return 0
        if self._held is None:
            self._held = await self._read(len(self._marker))
            if len(self._held) < len(self._marker):
                self._require(self._held)
        size, kept = len(buffer), len(self._held)
        if size <= kept:
            more = await self._read(size)
            whole = self._held + more
            buffer[: len(more)] = whole[: len(more)]
            return self._end(whole[len(more) :], buffer, given=len(more))
        buffer[:kept] = self._held
        count = kept + await self._producer.fill(buffer[kept:])
        if count < size:
            return self._end(bytes(buffer[count - kept : count]), buffer, given=count - kept)
        more = await self._read(kept)
        missing = kept - len(more)
        return self._end(bytes(buffer[size - missing :]) + more, buffer, given=size - missing)

    def close(self) -> None:
        """Read no more."""
        self._producer.close()

    def _end(self, held: bytes, buffer: memoryview, *, given: int) -> int:
        """Hold these bytes back; they are the last ones if fewer bytes came than the buffer has."""
        self._held = held
        if given:
            self._last = bytes(buffer[given - 1 : given])
        if given < len(buffer):
            self._ended = True
            self._require(held)
        return given

    async def _read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: await self._producer.fill(memoryview(buffer))])

    def _require(self, held: bytes) -> None:
        if held == self._marker:
            return
        if self._last + held == self._marker + b"\n":
            raise errors.StreamInterrupted(
                f"{self._name} ends with the bytes of `end_marker` and a newline, which must not be there: echo "
                f"writes one, printf does not. {UNFINISHED}"
            )
        raise errors.StreamInterrupted(
            f"{self._name} does not end with the bytes of `end_marker`: did its writer fail? {UNFINISHED}"
        )


BLOCK = MIB
"""Bytes that are collected from small writes."""


class PushedBytes:
    """An async reader whose bytes are written by `push`. It ends only by `finish`.

    Used in one event loop, with one reader and any number of writers.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.position = 0
        """Bytes that were written until now."""
        self._collected = bytearray()
        self._given: bytes | bytearray | memoryview | None = None
        """What the reader has or gets; None once it is used up."""
        self._is_taken = False
        """Whether the reader has it."""
        self.finished = False
        """Whether it has ended by `finish`."""
        self._stopped = False
        self._broken = False
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def read(self, _: int, /) -> bytes | bytearray | memoryview:
        """Wait for the next bytes. What was returned before is used up, and may be changed by its owner.

        Returns:
            Any number of bytes; none after `finish`.
        """
        if self._is_taken:
            self._given, self._is_taken = None, False
            self._changed.set()
        while self._given is None:
            if self.finished:
                return b""
            await self._change()
        self._is_taken = True
        return self._given

    async def push(self, data: memoryview) -> bool:
        """Write bytes, and wait until they were read or collected. Writes are whole, in the order of the calls.

        Args:
            data: The bytes, which must not change before it returns.

        Returns:
            Whether they were written. They are not once nobody reads any more, nor after a write that was cancelled
            when a part of its bytes had gone.
        """
        async with self._turn:
            if len(self._collected) + len(data) < BLOCK:
                if self._is_readable:
                    self._collected += data
            elif await self._give_collected():
                if len(data) < BLOCK:
                    self._collected += data
                else:
                    await self._give(data)
            if self._is_readable:
                self.position += len(data)
            return self._is_readable

    async def finish(self) -> bool:
        """End the stream here. The reader gets what is left, and then the end.

        Returns:
            Whether it ended: it does not once nobody reads any more, nor after a write that was cancelled half-way.
        """
        async with self._turn:
            if await self._give_collected():
                self.finished = True
                self._changed.set()
            return self.finished

    def stop(self) -> None:
        """Nobody reads any more: what waits, and every later write, returns False."""
        self._stopped = True
        self._changed.set()

    @property
    def _is_readable(self) -> bool:
        return not (self._stopped or self._broken or self.finished)

    async def _give_collected(self) -> bool:
        """Give the reader what was collected. Returns whether somebody reads."""
        while self._given is not None and self._is_readable:
            await self._change()
        if self._collected and self._is_readable:
            self._given, self._collected = self._collected, bytearray()
            self._changed.set()
        return self._is_readable

    async def _give(self, data: memoryview) -> None:
        """Give the reader bytes that are not ours, and wait until it has used them up."""
        await self._used_up()
        if not self._is_readable:
            return
        self._given = data
        self._changed.set()
        try:
            await self._used_up()
        except BaseException:
            if self._is_taken:
                self._broken = True  # nobody knows how many of them were read
            elif self._given is data:
                self._given = None
            raise

    async def _used_up(self) -> None:
        while self._given is not None and self._is_readable:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

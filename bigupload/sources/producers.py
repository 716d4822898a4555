"""The producers of the bytes of a stream: a file object, an iterable, an async iterable, or an async reader.

Each gives the next bytes into a buffer. Blocking ones do so in a daemon thread of their own, which a cancelled upload
leaves behind: what the thread takes from its file object or iterable after that is lost to others. `MarkedProducer`
checks the marker at the end of another producer's bytes.

`PushedBytes` has the bytes that a program writes. Whoever writes copies them into the reader's buffer.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import io
import queue
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

UNFINISHED = "Nothing was completed: try again, with all of the bytes"
"""Advice for a stream that ended too early."""


class Producer(Protocol):
    """The bytes of a stream, in order."""

    @property
    def taken(self) -> int:
        """The number of bytes that were given until now, also by calls of `fill` that failed."""
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
    client = sys.modules.get("http.client")  # a caller with a response has imported it
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
    """The bytes of an iterable, which may block. Its empty chunks do not end it."""
    iterator = iter(chunks)

    def read(_: int) -> Any:
        for chunk in iterator:
            if len(bytes_of_chunk(chunk)):
                return chunk
        return b""

    return _by_chunks(read)


def of_async_iterable(chunks: AsyncIterable[Any]) -> Producer:
    """The bytes of an async iterable. Its empty chunks do not end it."""
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
        UsageError: It is not bytes.
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
                f"{errors.IT} ends with the bytes of `end_marker` and a newline, which must not be there: echo "
                f"writes one, printf does not. {UNFINISHED}",
                it=self._name,
            )
        raise errors.StreamInterrupted(
            f"{errors.IT} does not end with the bytes of `end_marker`: did its writer fail? {UNFINISHED}", it=self._name
        )


_NOWHERE = memoryview(bytearray())
_REST = MIB
"""Bytes that tasks write before other tasks run, although they need not wait."""


class PushedBytes:
    """The bytes that a program writes. It copies them straight into the reader's buffer, and waits while there is none.

    So each byte is copied once, and two threads meet only when a buffer is there, and when it is full. The reader is in
    an event loop. The writer, one at a time, is in another thread (`push`), or a task of that loop (`push_in_loop`).
    The bytes end only by `finish`.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.taken = 0
        self._lock = threading.Lock()
        """Guards what is below. Nobody waits while they have it."""
        self._buffer = _NOWHERE
        """The reader's. It has no bytes while the reader does something else."""
        self._filled = 0
        """Bytes in it."""
        self._wake_reader: Callable[[], object] = int
        """Lets `fill` return."""
        self._finished = False
        self._refusal: BaseException | None = None
        """The error that every write raises from now on."""
        self.torn = False
        """Whether a write was interrupted: then nobody knows which of its bytes went."""
        self._changed: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Has something once there may be room, or will never be any. A signal's handler may raise in the writer at any
        point: unlike those of `threading`, this wait is one call of C, which that leaves as it was."""
        self._changed_in_loop = asyncio.Event()
        self._writing = asyncio.Lock()
        self._writers = 0
        """Tasks that have the lock, or wait for it."""
        self._since_rest = 0
        """Bytes that tasks have written since other tasks could run."""

    async def fill(self, buffer: memoryview) -> int:
        """Wait until `buffer` is full, or the bytes have ended. Once it has returned, nothing is written into it."""
        is_over = asyncio.Event()
        with self._lock:
            if self._finished:
                return 0
            self._buffer, self._filled = buffer, 0
            self._wake_reader = partial(asyncio.get_running_loop().call_soon_threadsafe, is_over.set)
            self._wake_writer()
        try:
            await is_over.wait()
        finally:
            with self._lock:
                count, self._buffer, self._filled, self._wake_reader = self._filled, _NOWHERE, 0, int
        return count

    def close(self) -> None:
        """Do nothing. Who ends the upload calls `stop`, with what ended it."""

    def push(self, data: memoryview) -> None:
        """Write bytes, in another thread than the reader's. Blocking.

        Raises:
            ValueError: The bytes were finished.
            BaseException: What `stop` was called with; UploadCancelled after a write that was interrupted half-way.
        """
        if self.torn:
            self.stop(_interrupted())
        try:
            while (count := self._copy(data)) < len(data):
                data = data[count:]
                if not count:
                    self._changed.get()
        except BaseException:
            self.torn = True
            raise

    async def push_in_loop(self, data: memoryview) -> None:
        """Write bytes, in the reader's loop. Writes are whole, in the order of the calls. Raises what `push` raises."""
        self._since_rest += len(data)
        if not self._writers and self._since_rest < _REST and len(data) <= len(self._buffer) - self._filled:
            self._copy(data)
            return
        self._writers += 1
        try:
            async with self._writing:
                if self._since_rest >= _REST:
                    self._since_rest = 0
                    await asyncio.sleep(0)
                await self._push_locked(data)
        finally:
            self._writers -= 1

    async def _push_locked(self, data: memoryview) -> None:
        rest = data
        try:
            while (count := self._copy(rest)) < len(rest):
                rest = rest[count:]
                await self._changed_in_loop.wait()
        except BaseException:
            if len(rest) < len(data):
                self.stop(_interrupted())
            raise

    async def finish(self) -> None:
        """End the bytes here, after all writes that wait. Raises what a write would raise."""
        async with self._writing:
            if self.torn:
                self.stop(_interrupted())
            with self._lock:
                if self._refusal is not None:
                    raise self._refusal
                self._finished = True
                self._refusal = ValueError("write to a closed writer")
                self._wake_reader()

    def stop(self, failure: BaseException) -> None:
        """Let what waits, and every later write, raise an error. The first one counts."""
        with self._lock:
            if self._refusal is None:
                self._refusal = failure
            self._wake_writer()

    def _copy(self, data: memoryview) -> int:
        """Copy what there is room for, _MOST bytes at most: no other thread runs meanwhile. Returns how many."""
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            begin, room = self._filled, len(self._buffer) - self._filled
            count = min(len(data), room, _MOST)
            self._filled = begin + count
            self._buffer[begin : self._filled] = data[:count]
            self.taken += count
            if count == room:
                self._changed_in_loop.clear()
                if count:
                    self._wake_reader()
            return count

    def _wake_writer(self) -> None:
        if self._changed.empty():
            self._changed.put(None)
        self._changed_in_loop.set()


def _interrupted() -> errors.UploadCancelled:
    return errors.UploadCancelled("nothing was committed, because a write was interrupted half-way")

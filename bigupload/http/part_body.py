"""The body of a part's PUT on its way into the socket: without a copy over http, encrypted in threads over https.

What experiments showed, and why this module looks as it does:

- The kernel sends the file (`os.sendfile`) through a duplicate of the socket's descriptor, driven by the event loop's
  writable callback. `loop.sendfile` would stop the transport from reading, and so miss the response of a store that
  refuses a part before it has read it. With the duplicate, reading continues, and an early response ends the sending
  at once. It also works where `loop.sendfile` does not exist (uvloop). What is in memory is written to it, too.
- `sendfile` of a range that is not in the page cache waits for the disk. So such a range is sent from a thread.
- An error of `sendfile` does not say whether the file or the socket failed. Copying from there on does. So it does for
  a file system whose `sendfile` sends nothing, or says EAGAIN each time: the socket was writable before each call.
- A write error is not the request's result: a store that responds 503 and closes makes the write fail while its
  response waits in the receive buffer. So the body ends quietly, and the result is what the reading side finds.
- Where asyncio itself writes (no sendfile; https with a rate limit, or with a transport that `_compat` can't open), a
  write error discards what could still be read. So the socket is checked for a response before each write; and as one
  may still arrive, asyncio is made to read once more before it closes (`_compat.read_before_closing`).
- From Python 3.12 on, the plain transport keeps a view of what it has not sent. A reused buffer may be filled again
  only when the transport is empty, hence the high-water mark of 0. TLS copies.

Bodies share the rate limit, buffers and threads of a `BodyResources`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.http import socket_tuning
from bigupload.http._compat import TlsEncryptor, read_before_closing
from bigupload.http.connection import Connection
from bigupload.http.http_errors import out_of_descriptors
from bigupload.http.response_head import ResponseHead
from bigupload.ports import Source
from bigupload.support.cancellation import retrieve, run_shielded
from bigupload.support.daemon_threads import DaemonThreadPool
from bigupload.support.pages import is_cached, page_buffer, read_cached, thread_buffer
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.systems import watches_descriptors

R = TypeVar("R")

_ENCRYPTING_THREADS = 4
"""Each thread encrypts about 2 GB/s, so that more would only compete for cores with the rest of the process."""
_READING_THREADS = 32
"""Threads that wait for disks. A hung file system occupies one for each part in flight, and they cost only memory."""
ABANDON_AFTER = 2.0
"""Seconds that a cancelled request waits for its thread. A thread that takes longer hangs in a file system."""


class BodyResources:
    """Shared by all request bodies of one transport. Used in the event loop's thread only."""

    def __init__(self, limiter: RateLimiter | None, congestion_control: str) -> None:
        """Start without buffers and threads: both are made when they are first needed.

        Args:
            limiter: The bandwidth limit, or None.
            congestion_control: What `socket_tuning.tune_for_path` does to each connection.
        """
        self.limiter = limiter
        self._congestion_control = congestion_control
        self._buffers: list[memoryview] = []
        self._tuned: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._pools: dict[str, DaemonThreadPool] = {}
        self._abandoned = False

    def take_buffer(self, size: int) -> memoryview:
        """A buffer of at least `size` bytes, for one body at a time."""
        if self._buffers and len(self._buffers[-1]) >= size:
            return self._buffers.pop()
        return memoryview(page_buffer(size))

    def give_back(self, buffer: memoryview) -> None:
        """Let another body use `buffer`. No thread and no socket may still need it."""
        self._buffers.append(buffer)

    def tune(self, transport: asyncio.WriteTransport) -> None:
        """Choose a connection's congestion control, once: by the round trip of the handshake."""
        if transport not in self._tuned:
            with contextlib.suppress(TypeError):  # uvloop's transports allow no weak references
                self._tuned.add(transport)
            socket_tuning.tune_for_path(transport.get_extra_info("socket"), self._congestion_control)

    def compute(self, work: Callable[[], R]) -> asyncio.Future[R]:
        """Run `work`, which needs a core, in one of at most as many threads as there are cores."""
        return self._run("bigupload-encrypt", min(_ENCRYPTING_THREADS, os.cpu_count() or 1), work)

    def wait_for_disk(self, work: Callable[[], R]) -> asyncio.Future[R]:
        """Run `work`, which may wait long for a file system, in a thread that no computation waits for."""
        return self._run("bigupload-read", _READING_THREADS, work)

    def _run(self, name: str, threads: int, work: Callable[[], R]) -> asyncio.Future[R]:
        if name not in self._pools:
            self._pools[name] = DaemonThreadPool(threads, name)
        return asyncio.get_running_loop().run_in_executor(self._pools[name], work)

    def abandon(self) -> None:
        """Note that a thread hangs in a file system and that nobody waits for it any more."""
        self._abandoned = True

    def close(self) -> None:
        """End the threads. They have nothing to do, except for those that hang."""
        while self._pools:
            self._pools.popitem()[1].shutdown(wait=not self._abandoned)


class ThreadWork:
    """One body's work in threads, a piece at a time. A request that is cancelled waits for it, but not for ever."""

    def __init__(self, on_hang: Callable[[], None]) -> None:
        """Run nothing yet. `on_hang` is called when work has not ended `ABANDON_AFTER` seconds after a cancel."""
        self._on_hang = on_hang
        self._future: asyncio.Future[Any] | None = None
        self.abandoned = False
        """Whether a thread hangs, and nobody waits for it any more."""

    async def run(
        self,
        start: Callable[[Callable[[], R]], asyncio.Future[R]],
        work: Callable[[], R],
        on_cancel: Callable[[], None],
    ) -> R:
        """Run `work` in the thread that `start` chooses, and wait for its result.

        Args:
            start: Starts a function in a thread.
            work: The function.
            on_cancel: Called when the caller is cancelled. It asks the work to end soon. It is not kept: a body that
                owns this object would else be in a cycle, and stay in memory until the garbage collector comes.

        Raises:
            asyncio.CancelledError: The caller was cancelled. The work has ended, or is abandoned.
            Exception: What `work` raised.
        """
        future = self._future = start(work)
        future.add_done_callback(retrieve)
        try:
            await asyncio.wait([future])  # a cancelled wait leaves the thread running
        except asyncio.CancelledError:
            on_cancel()
            await run_shielded(asyncio.wait([future], timeout=ABANDON_AFTER))
            if not future.done():
                self.abandoned = True
                self._on_hang()
            raise
        finally:
            if future.done():
                self._future = None
        return future.result()

    def call_when_ended(self, callback: Callable[[], None]) -> None:
        """Call `callback` when no work runs any more: at once, except after a hang."""
        if self._future is None:
            callback()
        else:
            self._future.add_done_callback(lambda _: callback())


LOOK_AHEAD = 4 * MIB
"""Bytes for which the page cache is asked at a time."""
PLAIN_BUFFER = MIB
TLS_BUFFER = 512 * 1024
"""Bytes that a thread encrypts at a time. Each piece waits for Python's lock: 256 KiB take 7 % more CPU time on a busy
machine. 1 MiB does not stay in the core's cache."""
_SLICE = LOOK_AHEAD
"""Bytes to send before the event loop gets a turn: it sees a response also where the kernel takes all at once."""
_REFUSALS = 3
"""How often in a row `sendfile` may say EAGAIN although the socket is writable: memory for sockets may be short for a
moment."""
_TRICKLE_EVERY, _TRICKLE = 10.0, 8 * 1024
"""Seconds after which a paused body sends some bytes, and how many: S3 closes a connection that has sent no byte
of its body for 20 s, and Apache, by default, one with less than 500 bytes a second."""
RESPONSE_AFTER_WRITE_ERROR = 5.0
"""Seconds to wait for a response on a connection that can't be written to any more."""


class PartBytes:
    """A range of a source. Positions count from the beginning of the part."""

    def __init__(self, source: Source, part: Part) -> None:
        self._source = source
        self.offset = part.offset
        """Where the part begins in the source."""
        self.size = part.size
        self.view = source.view(part.offset, part.size)
        """The whole part, if it is in memory."""
        self.cached_until = 0 if self.view is None else part.size
        """Up to where the part was in memory or in the page cache, when that was last asked."""

    def fileno(self) -> int | None:
        """The source's descriptor, if it has one."""
        return self._source.fileno()

    def at_hand(self, position: int) -> bool:
        """Whether the next bytes can be read without waiting. The page cache is asked once for each `LOOK_AHEAD`."""
        if self.view is not None or position < self.cached_until:
            return True
        fd = self.fileno()
        if fd is None:
            return False
        size = min(LOOK_AHEAD, self.size - position)
        if size and not is_cached(fd, self.offset + position, size):
            return False
        self.cached_until = position + size
        return True

    def read_at_hand(self, buffer: memoryview, position: int) -> int:
        """Fill `buffer` with what needs no waiting. Returns how many bytes that was."""
        if self.view is not None:
            buffer[:] = self.view[position : position + len(buffer)]
            return len(buffer)
        fd = self.fileno()
        return read_cached(fd, buffer, self.offset + position) if fd is not None else 0

    def read(self, buffer: memoryview, position: int) -> int:
        """Fill `buffer`. Blocking. See `ports.Source.read_into`."""
        return self._source.read_into(buffer, self.offset + position)

    def chunk(self, buffer: memoryview, position: int, size: int) -> memoryview:
        """The next `size` bytes, in `buffer` if they had to be read. Blocking.

        Raises:
            SourceChanged: The source ends before that.
        """
        if self.view is not None:
            return self.view[position : position + size]
        if self.read(buffer[:size], position) < size:
            raise self.became_shorter()
        return buffer[:size]

    def became_shorter(self) -> errors.SourceChanged:
        """Return the error for a source that ends within the part."""
        return errors.SourceChanged(
            f"{self._source.path} became shorter while it was uploaded: {errors.UPLOAD_AS_IT_IS}", same_size=False
        )


class PartBody:
    """A range of a source on its way. It is the `ports.Gauge` of its own sending."""

    def __init__(self, source: Source, part: Part, resources: BodyResources) -> None:
        self._length = part.size
        self._bytes = PartBytes(source, part)
        self._resources = resources
        self._written = 0
        """Bytes handed to the kernel or to TLS."""
        self._encrypted = memoryview(b"")
        """TLS records that the socket has not taken yet."""
        self._refusals = 0
        """How often in a row `sendfile` said EAGAIN."""
        self._allowed = 0
        """Up to where it may be written now: less than all with a rate limit, or while it is paused."""
        self._rate_limited = False
        self._is_paused = False
        self._released = asyncio.Event()
        self._stopping: Any = False  # not bool: mypy holds that what a thread has just read can't change meanwhile
        self._sent_when_stopped = 0
        self._sent = 0
        self._socket: Any = None
        self._transport: asyncio.WriteTransport | None = None
        self._peer: object = None  # a closed TLS transport of asyncio raises AttributeError if it is asked
        self._ended: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        """The same, while the socket is written to."""
        self._threads = ThreadWork(resources.abandon)
        self.failure: errors.BigUploadError | None = None
        """A failure of the source. The store's response means nothing then."""

    async def exchange(self, connection: Connection, head: bytes) -> ResponseHead:
        """Send the head of the PUT and the body, and return the response, which may come before all is sent.

        Afterwards, nothing of the body is sent any more, and no thread works for it, except for one that hangs in the
        source's file system. That one is abandoned, and can't send anything.

        Raises:
            OSError: There is no response, or `failure` says why.
        """
        sending = asyncio.create_task(self._send(connection, head))
        sending.add_done_callback(retrieve)
        try:
            response = await connection.head()
        finally:
            self.stop()
            if not sending.done():
                sending.cancel()
                await run_shielded(asyncio.wait([sending]))
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise ConnectionAbortedError(errno.ECONNABORTED, type(error).__name__) from error
        return response

    async def _send(self, connection: Connection, head: bytes) -> None:
        transport = self._transport = connection.transport
        self._peer = transport.get_extra_info("peername")
        self._socket = transport.get_extra_info("socket")
        try:
            # The headers leave at once, so that a store which refuses them can say so while the body is sent.
            connection.write(head)
            if self._length == 0:
                return
            read_before_closing(transport)
            # A body that is broken off is reset: the bytes that the kernel still has would delay other parts.
            socket_tuning.set_discard(self._socket, discard=True)
            self._resources.tune(transport)
            await self._write_body(connection)
        except OSError:
            await self._wait_for_response()
        except asyncio.CancelledError:
            # There is a response, perhaps before a thread's last write was noticed. If all was written, the connection
            # can serve another request.
            if not self.complete:
                transport.abort()
                raise
        except BaseException as e:
            # Half a body was sent, and the buffer will be reused: nothing of it may be sent any more.
            transport.abort()
            if not isinstance(e, errors.BigUploadError):
                raise
            self.failure = e
            self.stop()
        finally:
            socket_tuning.set_discard(self._socket, discard=not self.complete)

    # -- ports.Gauge

    def sent(self) -> int:
        if self._stopping:
            return self._written if self.complete else self._sent_when_stopped
        written = self._written  # read first: a worker thread may write more meanwhile
        unsent = len(self._encrypted) + socket_tuning.unsent(self._socket)
        if self._transport is not None and not self._transport.is_closing():
            unsent += self._transport.get_write_buffer_size()
        self._sent = max(self._sent, written - unsent)  # for a moment, the same bytes may be counted in two places
        return self._sent

    def address(self) -> str | None:
        return socket_tuning.address_text(self._peer)

    def round_trip_times(self) -> tuple[float, float]:
        return socket_tuning.round_trip_times(self._socket)

    def window_is_full(self) -> bool:
        return socket_tuning.window_is_full(self._socket)

    def paused(self) -> bool:
        return self._rate_limited or self._is_paused

    def set_paused(self, *, paused: bool) -> bool:
        if paused != self._is_paused:
            self._is_paused = paused
            if paused:
                self._released.clear()
                self._allowed = self._written
                if self._writing is not None:
                    _settle(self._writing, None)
            else:
                self._released.set()
                self.search_again()
        return paused

    def search_again(self) -> None:
        socket_tuning.search_again(self._socket)

    # -- the end

    @property
    def complete(self) -> bool:
        """Whether the whole body was handed to the kernel (or to asyncio's TLS)."""
        return self._written == self._length and not self._encrypted

    def stop(self) -> None:
        """Send no more, because a response is there or nobody waits for one. The socket may serve another request."""
        if not self._stopping:
            self._sent_when_stopped = self.sent()
            self._stopping = True
        self._released.set()
        if self._ended is not None:
            _settle(self._ended, None)

    # -- the ways to write a body

    async def _write_body(self, connection: Connection) -> None:
        transport = connection.transport
        tls = transport.get_extra_info("sslcontext") is not None
        if not tls:
            transport.set_write_buffer_limits(high=0)
            await connection.drain()
        # A descriptor to duplicate, and an event loop that watches it: the one of Windows does not.
        can_watch = self._socket is not None and watches_descriptors(asyncio.get_running_loop())
        in_memory = self._bytes.view is not None
        try:
            if can_watch and tls and self._resources.limiter is None:  # a thread would have to wait for the limit
                encryptor = TlsEncryptor.of(transport)
                if encryptor is not None and encryptor.idle:
                    await self._send_encrypted(encryptor)
                    return
            elif can_watch and not tls and hasattr(os, "sendfile") and (in_memory or self._bytes.fileno() is not None):
                await self._send_plain()
                return
        except ConnectionError:
            raise
        except OSError as e:
            # EINVAL, ENOSYS: no sendfile from this file system. EIO, ESTALE: copying meets it again. EMFILE: no `dup`.
            if (tls or in_memory) and not out_of_descriptors(e):
                raise
        await self._copy(connection, TLS_BUFFER if tls else PLAIN_BUFFER)

    async def _send_plain(self) -> None:
        """Send without a copy: what is at hand in the event loop, else by `os.sendfile` in a thread."""
        with self._socket_copy() as fd:
            while self._written < self._length and not self._stopping:
                await self._allow(self._length - self._written)
                while self._written < self._allowed and not self._stopping:
                    await self._when_writable(fd, partial(self._send_at_hand, fd))
                    if self._written < self._allowed and not self._stopping:
                        send = partial(self._send_slices, fd, min(self._allowed, self._written + _SLICE))
                        await self._threads.run(self._resources.wait_for_disk, send, self.stop)

    def _send_at_hand(self, fd: int) -> bool:
        """Send bytes that the socket accepts and that need no waiting. Returns whether it is done or must stop here."""
        if self._written >= self._allowed or not self._bytes.at_hand(self._written):
            return True
        self._send_slice(fd, min(self._allowed, self._bytes.cached_until))
        return self._written >= self._allowed or self._stopping

    def _send_slice(self, fd: int, until: int) -> bool:
        """Send what the socket takes now. Returns whether nothing is left to do up to `until` (bytes of the part)."""
        if self._stopping:
            return True
        start, stop = self._written, min(until, self._written + _SLICE)
        if self._bytes.view is not None:
            count = os.write(fd, self._bytes.view[start:stop])
        else:
            source = self._bytes.fileno()
            assert source is not None
            try:
                count = os.sendfile(fd, source, self._bytes.offset + start, stop - start)
            except BlockingIOError:
                self._refusals += 1
                if self._refusals < _REFUSALS:
                    raise
                count = 0
            if count == 0:  # also where the file became shorter, which copying notices
                raise OSError(errno.EINVAL, "sendfile sends nothing of this file")
            self._refusals = 0
        self._written += count
        return self._written == until

    def _send_slices(self, fd: int, until: int) -> None:
        """In a thread: send up to `until`, as far as the socket takes it now."""
        with contextlib.suppress(BlockingIOError):
            while not self._send_slice(fd, until):
                pass

    async def _send_encrypted(self, encryptor: TlsEncryptor) -> None:
        """Threads read, encrypt and write, each time that the socket can take more."""
        with self._socket_copy() as fd:
            while not self.complete:
                if self._written >= self._allowed and not self._encrypted:
                    await self._allow(self._length - self._written)
                await self._when_writable(fd, _yes)
                if self._stopping:
                    return
                at_hand = self._bytes.at_hand(self._written)
                start = self._resources.compute if at_hand else self._resources.wait_for_disk
                encryptor.pause_reading()
                try:
                    await self._threads.run(start, partial(self._encrypt_slice, encryptor, fd), self.stop)
                finally:
                    encryptor.resume_reading()

    def _encrypt_slice(self, encryptor: TlsEncryptor, fd: int) -> None:
        """In a thread: encrypt and write as much as the socket takes now, at most a slice."""
        buffer = thread_buffer(TLS_BUFFER)
        until = min(self._allowed, self._written + _SLICE)
        while not self._stopping:
            while self._encrypted:
                try:
                    self._encrypted = self._encrypted[os.write(fd, self._encrypted) :]
                except BlockingIOError:
                    return
            if self._written >= until:
                return
            chunk = self._bytes.chunk(buffer, self._written, min(len(buffer), until - self._written))
            if self._stopping:  # the read may have taken hours, and the connection may be closed
                return
            self._encrypted = memoryview(encryptor.encrypt(chunk))
            self._written += len(chunk)

    async def _copy(self, connection: Connection, size: int) -> None:
        """Read into a buffer of `size` bytes and let asyncio write it, where there is no better way."""
        buffer = self._resources.take_buffer(size)
        try:
            while self._written < self._length and not await self._responded():
                step = await self._allow(min(size, self._length - self._written))
                chunk = buffer[:step]
                count = self._bytes.read_at_hand(chunk, self._written)
                if count < step:
                    read = partial(self._bytes.read, chunk[count:], self._written + count)
                    count += await self._threads.run(self._resources.wait_for_disk, read, self.stop)
                if count < step:
                    raise self._bytes.became_shorter()
                self._written += step  # before it is written: `sent` subtracts what the transport has not sent yet
                try:
                    connection.write(chunk)
                    await connection.drain()
                except BaseException:
                    self._written -= step  # it is unknown how much of it was sent
                    raise
        finally:
            if not self._threads.abandoned:
                self._resources.give_back(buffer)

    # -- waiting

    async def _when_writable(self, fd: int, send: Callable[[], bool]) -> None:
        """Call `send` in the event loop each time that the socket can take more.

        Ends when `send` returns True or raises, or when a response is there.
        """
        loop = asyncio.get_running_loop()
        ended = self._ended = self._writing = loop.create_future()

        def on_writable() -> None:
            try:
                if send():
                    _settle(ended, None)
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, errors.BigUploadError) as e:
                _settle(ended, e)

        loop.add_writer(fd, on_writable)
        try:
            await ended
        finally:
            loop.remove_writer(fd)
            self._writing = None
            retrieve(ended)

    @contextlib.contextmanager
    def _socket_copy(self) -> Iterator[int]:
        """A duplicate of the socket's descriptor. It is closed when neither the body nor a thread needs it."""
        copy = socket.socket(fileno=os.dup(self._socket.fileno()))
        try:
            yield copy.fileno()
        finally:
            if self._threads.abandoned:
                with contextlib.suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)  # so that a sendfile that hangs on the file sends nothing later
            self._threads.call_when_ended(copy.close)

    async def _wait_for_response(self) -> None:
        """After a write error: give the reading side time to find a response, or the connection's end."""
        if self._stopping:
            return
        self._ended = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._ended], timeout=RESPONSE_AFTER_WRITE_ERROR)
        if not self._ended.done() and self._transport is not None:
            self._transport.abort()

    async def _responded(self) -> bool:
        """Whether the store has responded. If so, the event loop reads the response before anything else is written."""
        if not self._stopping and socket_tuning.readable(self._socket):
            for _ in range(3):  # turns of the loop: to select the socket, to read it, to wake the reader
                await asyncio.sleep(0)
        return bool(self._stopping)

    async def _allow(self, wanted: int) -> int:
        """Wait until more bytes may be written, at most `wanted`, and allow them. Returns how many."""
        if self._is_paused:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TRICKLE_EVERY):
                    await self._released.wait()
            wanted = wanted if self._released.is_set() else min(wanted, _TRICKLE)
        limiter = self._resources.limiter
        if limiter is not None:
            wanted = min(wanted, limiter.slice)
            self._rate_limited = True
            try:
                await limiter.take(wanted)
            finally:
                self._rate_limited = False
        self._allowed = self._written + wanted
        return wanted


def _yes() -> bool:
    return True


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if not future.done():
        future.set_result(None) if error is None else future.set_exception(error)

"""A part's body on its way into the socket: without a copy over http, through one small buffer over https.

What was found by trying, and why this looks as it does:

- The kernel sends the file (`os.sendfile`) on a duplicate of the socket's descriptor, driven by the loop's writable
  callback. `loop.sendfile` would stop the transport's reading meanwhile, and so miss the answer of a store that
  refuses a part before it has read it; with the duplicate, reading goes on and an early answer ends the sending at
  once. It also works where `loop.sendfile` does not exist (uvloop).
- A write error is not an outcome: a store that answers 503 and closes makes the write fail while its answer lies in
  the receive buffer. The payload therefore ends quietly, and what the reading side finds is the outcome.
- Where the write is asyncio's (no sendfile; https with a rate limit, or where `_tls` has no way in), one that fails
  throws away what could still be read from the connection. So the socket is asked before each write whether an answer
  is there, and as that may come between the question and the write, asyncio is made to read once more before it gives
  up (`_hear_out`).
- From Python 3.12 the plain transport keeps a view of what it has not sent: a reused buffer may be filled again only
  when the transport is empty, hence the high-water mark of 0. TLS copies.
- aiohttp sends a PUT again by itself when the connection breaks, unless its payload is `consumed`: ours always is, for
  an attempt that nobody counts would evade the retry policy and the byte count.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.http import socket_tuning
from bigupload.http.tls_offload import LentTls
from bigupload.ports import Source
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.shielding import run_shielded

PLAIN_BUFFER = MIB
TLS_BUFFER = 256 * 1024
_SLICE = 4 * MIB
"""No more is moved at a time, so that the loop turns, and hears an answer, also where the kernel takes all at once."""
_buffers = threading.local()
_MOST_THREADS = 4
"""That encrypt: each does some 2 GB/s."""
LAST_WORDS = 5.0
"""Seconds to wait for an answer on a connection that can't be written any more."""


class BodyResources:
    """What the bodies of one transport share: the rate limit, the buffers, and the threads that encrypt."""

    def __init__(self, limiter: RateLimiter | None, congestion: str) -> None:
        self.limiter = limiter
        self._congestion = congestion
        self._buffers: list[bytearray] = []
        self._fitted: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._threads: ThreadPoolExecutor | None = None

    @contextlib.contextmanager
    def buffer(self, size: int) -> Iterator[memoryview]:
        """One that another body may have had before."""
        buffer = self._buffers.pop() if self._buffers else bytearray(max(TLS_BUFFER, size))
        view = memoryview(buffer)[:size]
        try:
            yield view
        finally:
            view.release()
            self._buffers.append(buffer)

    def fit(self, transport: asyncio.WriteTransport) -> None:
        """Once a connection: it keeps what it was given, however its round trips turn out."""
        if transport not in self._fitted:
            with contextlib.suppress(TypeError):  # uvloop's can't be remembered
                self._fitted.add(transport)
            socket_tuning.fit_to_path(transport.get_extra_info("socket"), self._congestion)

    def in_thread(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """`work` in one of as many threads as there are cores, for it does nothing but compute."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "bigupload-tls")
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads, which have nothing to do."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None


class PartBody(Payload):
    """A range of a file as an aiohttp body, and the gauge of its own sending."""

    def __init__(self, source: Source, part: Part, means: BodyResources) -> None:
        super().__init__(None)
        self._consumed = True
        self._size = self._length = part.size
        self._source = source
        self._offset = part.offset
        self._means = means
        self._handed = 0
        self._encrypted = memoryview(b"")
        """TLS records that the socket has not taken yet."""
        self._waiting = False
        self._stopped = False
        self._settled = 0
        self._sent = 0
        self._socket: Any = None
        self._transport: asyncio.WriteTransport | None = None
        self._ended: asyncio.Future[None] | None = None
        self._in_thread: asyncio.Future[None] | None = None
        self.failure: errors.BigUploadError | None = None
        """What went wrong on this side (the file can't be read): no answer of the store's means anything then."""

    # -- the gauge

    def sent(self) -> int:
        if self._stopped:
            return self._settled
        handed = self._handed  # read first: a thread that encrypts hands on more meanwhile
        unsent = len(self._encrypted) + socket_tuning.unsent(self._socket)
        if self._transport is not None and not self._transport.is_closing():
            unsent += self._transport.get_write_buffer_size()
        self._sent = max(self._sent, handed - unsent)  # the same bytes may just be counted in two places
        return self._sent

    def paused(self) -> bool:
        return self._waiting

    @property
    def complete(self) -> bool:
        """Whether the whole body was handed to the kernel (or to asyncio's TLS)."""
        return self._handed == self._length and not self._encrypted

    def stop(self) -> None:
        """An answer is there, or nobody waits for one: send no more. The socket may soon be another request's."""
        if not self._stopped:
            self._settled = self._handed if self.complete else self.sent()
            self._stopped = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def at_rest(self) -> None:
        """Stop, and wait until no thread works on it. aiohttp cancels what writes a body and does not wait for it."""
        self.stop()
        while self._in_thread is not None:
            await run_shielded(_end_of(self._in_thread))
            await asyncio.sleep(0)  # what waits in the writing task goes first

    # -- aiohttp's side

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("the body of a part is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        transport = writer.transport
        if transport is None:
            raise ConnectionResetError("the connection is gone")
        self._handed = self._sent = 0
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        if self._length == 0:
            return
        try:
            # Headers leave at once, so that a store which refuses them can say so while the body goes out.
            writer.send_headers()
            _hear_out(transport)
            self._means.fit(transport)
            if transport.get_extra_info("sslcontext") is None:
                transport.set_write_buffer_limits(high=0)
                await writer.drain()
                await (self._send_file() if self._can_watch("sendfile") else self._copy(writer, PLAIN_BUFFER))
            elif (tls := self._lent_tls(transport)) is not None:
                await self._send_encrypted(tls)
            else:
                await self._copy(writer, TLS_BUFFER)
        except OSError:
            await self._await_last_words()
        except BaseException as e:
            # Half a body is on its way and the buffer will be used again: nothing of it may still go out.
            transport.abort()
            if not isinstance(e, errors.BigUploadError):
                raise
            self.failure = e
            self.stop()

    def _can_watch(self, means: str) -> bool:
        """Whether the loop can watch the socket for us, and `os` has the means to feed it."""
        if self._socket is None or self._source.fileno() is None:
            return False
        loop_can_watch = not isinstance(asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ()))
        return loop_can_watch and getattr(os, means, None) is not None

    def _lent_tls(self, transport: asyncio.WriteTransport) -> LentTls | None:
        # A rate limit has nothing to gain from threads, and would have to be waited for in them.
        if self._means.limiter is not None or not self._can_watch("write"):
            return None
        tls = LentTls.of(transport)
        return tls if tls is not None and tls.idle else None

    async def _await_last_words(self) -> None:
        """The write failed: give the reading side time to find an answer. It takes the connection's end as well."""
        self._ended = asyncio.get_running_loop().create_future()
        if self._stopped:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended, LAST_WORDS)
        if not self._ended.done() and self._transport is not None:
            self._transport.abort()

    async def _send_file(self) -> None:
        """os.sendfile on a duplicate descriptor, each time that the socket can take more."""
        source = self._source.fileno()
        assert source is not None
        fd = os.dup(self._socket.fileno())
        try:
            while self._handed < self._length and not self._stopped:
                step = await self._allowance(self._length - self._handed)
                await self._whenever_writable(fd, partial(self._send_range, fd, source, self._handed + step))
        finally:
            os.close(fd)

    def _send_range(self, fd: int, source: int, until: int) -> bool:
        """Send what the socket takes now, up to `until` (bytes of the part). Whether that is reached."""
        count = os.sendfile(fd, source, self._offset + self._handed, min(_SLICE, until - self._handed))
        if count == 0:
            raise self._shorter()
        self._handed += count
        return self._handed == until

    async def _whenever_writable(self, fd: int, send: Callable[[], bool]) -> None:
        """Call `send` in the loop each time that `fd` can take more, until it says that it is done, or raises, or an
        answer is there."""
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()

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

    async def _send_encrypted(self, tls: LentTls) -> None:
        """Threads encrypt, each time that the socket can take more."""
        fd = os.dup(self._socket.fileno())
        try:
            while not self.complete:
                await self._whenever_writable(fd, lambda: True)
                if self._stopped:
                    return
                tls.hold()
                self._in_thread = self._means.in_thread(partial(self._encrypt_some, tls, fd))
                try:
                    await asyncio.wait([self._in_thread])  # which, cancelled, leaves it running
                except asyncio.CancelledError:
                    self.stop()
                    await run_shielded(_end_of(self._in_thread))
                    raise
                finally:
                    tls.let_go()
                    done, self._in_thread = self._in_thread, None
                done.result()
        finally:
            os.close(fd)

    def _encrypt_some(self, tls: LentTls, fd: int) -> None:
        """In a thread: as much as the socket takes at once, or a slice."""
        buffer = _thread_s_buffer()
        until = min(self._length, self._handed + _SLICE)
        while not self._stopped:
            while self._encrypted:
                try:
                    self._encrypted = self._encrypted[os.write(fd, self._encrypted) :]
                except BlockingIOError:
                    return
            if self._handed == until:
                return
            chunk = buffer[: min(len(buffer), until - self._handed)]
            if self._source.read_into(chunk, self._offset + self._handed) < len(chunk):
                raise self._shorter()
            self._encrypted = memoryview(tls.encrypt(chunk))
            self._handed += len(chunk)

    def _shorter(self) -> errors.SourceChanged:
        return errors.SourceChanged(f"{self._source.path} became shorter while it was uploaded", same_size=False)

    async def _copy(self, writer: AbstractStreamWriter, size: int) -> None:
        """Read into one buffer and have asyncio write that, where there is no better way."""
        with self._means.buffer(size) as view:
            while self._handed < self._length and not await self._answered():
                step = await self._allowance(min(len(view), self._length - self._handed))
                chunk = view[:step]
                if self._source.read_into(chunk, self._offset + self._handed) < step:
                    raise self._shorter()
                self._handed += step  # before it is written: the gauge takes off what is not sent yet
                try:
                    await writer.write(chunk)
                    await writer.drain()
                except BaseException:
                    self._handed -= step  # nobody knows how much of it went out
                    raise

    async def _answered(self) -> bool:
        """Whether the store has said something: then let the loop read it before anything else is written."""
        if self._stopped:
            return True
        if socket_tuning.readable(self._socket):
            for _ in range(3):  # to be selected, to be read, to wake the reader
                await asyncio.sleep(0)
        return self._stopped

    async def _allowance(self, wanted: int) -> int:
        limiter = self._means.limiter
        if limiter is None:
            return wanted
        step = min(wanted, limiter.slice)
        self._waiting = True
        try:
            await limiter.take(step)
        finally:
            self._waiting = False
        return step


def _thread_s_buffer() -> memoryview:
    """One a thread, whichever connection it works for: it stays in the core's own cache."""
    if not hasattr(_buffers, "buffer"):
        _buffers.buffer = bytearray(TLS_BUFFER)
    return memoryview(_buffers.buffer)


async def _end_of(work: asyncio.Future[None]) -> None:
    await asyncio.wait([work])


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _hear_out(transport: Any) -> None:
    """When a write fails, have the transport read once more before it gives the connection up.

    asyncio has no word for it: this hooks into its selector transports (the one below TLS, where there is TLS), and
    does nothing to loops that are built otherwise.
    """
    raw = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    give_up, read = getattr(raw, "_fatal_error", None), getattr(raw, "_read_ready", None)
    if give_up is None or read is None or getattr(give_up, "hears_out", False):
        return

    def hear_out(exc: BaseException, *message: str) -> None:
        raw._fatal_error = give_up  # whatever fails now is the end
        try:
            # From Python 3.12 on, a transport that has been closed already has nobody left to read for.
            if isinstance(exc, OSError) and getattr(raw, "_read_ready_cb", read) is not None:
                read()
        finally:
            give_up(exc, *message)

    hear_out.hears_out = True  # type: ignore[attr-defined]  # a mark on a function
    raw._fatal_error = hear_out

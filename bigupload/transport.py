"""The path of the bytes: one HTTP PUT a part, by aiohttp, without a copy over http and through one small buffer over
https.

What was found by trying, and why this looks as it does:

- The kernel sends the file (`os.sendfile`) on a duplicate of the socket's descriptor, driven by the loop's writable
  callback. `loop.sendfile` would stop the transport's reading meanwhile, and so miss the answer of a store that
  refuses a part before it has read it; with the duplicate, reading goes on and an early answer ends the sending at
  once. It also works where `loop.sendfile` does not exist (uvloop).
- A write error is not an outcome: a store that answers 503 and closes makes the write fail while its answer lies in
  the receive buffer. The payload therefore ends quietly, and what the reading side finds is the outcome.
- Where the write is asyncio's (https; no sendfile), one that fails throws away what could still be read from the
  connection. So the socket is asked before each write whether an answer is there, and as that may come between the
  question and the write, asyncio is made to read once more before it gives up (`_hear_out`).
- From Python 3.12 the plain transport keeps a view of what it has not sent: a reused buffer may be filled again only
  when the transport is empty, hence the high-water mark of 0. TLS copies.
- aiohttp sends a PUT again by itself when the connection breaks, unless its payload is `consumed`: ours always is, for
  an attempt that nobody counts would evade the retry policy and the byte count.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import yarl
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from bigupload import errors
from bigupload._http import MOST_ERROR_BYTES, fault_of_answer, fault_of_exception, new_session, proxy_of
from bigupload.planning import MIB, Part
from bigupload.ports import Gauge, PutAnswer, SignedRequest, Source
from bigupload.ratelimit import RateLimiter
from bigupload.retry import Fault, FaultKind

PLAIN_BUFFER = MIB
TLS_BUFFER = 256 * 1024
_SENDFILE_SLICE = 4 * MIB
"""One sendfile call moves no more, so that the loop turns also where the kernel takes all at once (loopback)."""
_LAST_WORDS = 5.0
"""Seconds to wait for an answer on a connection that can't be written any more."""


class HttpTransport:
    """Implements `ports.Transport`. One session for all uploads that share it; an async context manager."""

    def __init__(self, *, ca_bundle: Path | None = None, limiter: RateLimiter | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._limiter = limiter
        self._session: aiohttp.ClientSession | None = None
        self._buffers: list[bytearray] = []

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def put(
        self, request: SignedRequest, source: Source, part: Part, *, on_start: Callable[[Gauge], None]
    ) -> PutAnswer:
        if self._session is None:
            self._session = new_session(self._ca_bundle)
        payload = _PartPayload(source, part, self._limiter, self._buffers)
        on_start(payload)
        try:
            url = yarl.URL(request.url, encoded=True)  # as it was signed, byte for byte
            where = f"{url.host}:{url.port}"
            proxy, proxy_auth = proxy_of(url)
        except ValueError as e:
            raise _unusable(e) from None
        try:
            async with self._session.put(
                url,
                data=payload,
                headers=request.headers,
                allow_redirects=False,
                proxy=proxy,
                proxy_auth=proxy_auth,
            ) as response:
                payload.stop()
                body = b"" if response.status // 100 == 2 else await _error_body(response)
                if not payload.complete:
                    response.close()  # half a body was sent: nothing more can follow on this connection
                return _judge(response, body, payload, f"part {part.number}")
        except (aiohttp.ClientError, OSError) as e:
            if payload.failure is not None:
                raise payload.failure from None
            fault = fault_of_exception(e, where)
            raise fault from OSError(getattr(e, "errno", None), type(e).__name__)  # e's own text may hold the URL
        except ValueError as e:
            raise _unusable(e) from None
        finally:
            payload.stop()


def _unusable(e: Exception) -> errors.StoreRefused:
    return errors.StoreRefused(f"the store gave a URL that can't be used ({type(e).__name__})")


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    """What there is of it, soon: the status alone is an outcome too."""
    body = b""
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(_LAST_WORDS):
            while len(body) < MOST_ERROR_BYTES and (piece := await response.content.read(MOST_ERROR_BYTES)):
                body += piece
    return body


def _judge(response: aiohttp.ClientResponse, body: bytes, payload: _PartPayload, what: str) -> PutAnswer:
    if payload.failure is not None:
        raise payload.failure
    if response.status // 100 != 2:
        if response.status // 100 == 3:
            location = yarl.URL(response.headers.get("Location", "")).host or "elsewhere"
            raise Fault(FaultKind.FINAL, f"the store redirects {what} to {location}: use its own endpoint or region")
        raise fault_of_answer(response.status, response.headers, body, what)
    if not payload.complete:
        raise Fault(FaultKind.BROKEN, f"the store answered {response.status} to {what} before it had the whole of it")
    checksums = {k.lower(): v for k, v in response.headers.items() if k.lower().startswith("x-amz-checksum-")}
    etag = response.headers.get("ETag")
    if not etag:
        raise Fault(FaultKind.BROKEN, f"the store's answer to {what} has no ETag")
    return PutAnswer(etag, checksums)


class _PartPayload(Payload):
    """A range of a file as an aiohttp body, and the gauge of its own sending."""

    def __init__(self, source: Source, part: Part, limiter: RateLimiter | None, buffers: list[bytearray]) -> None:
        super().__init__(None)
        self._consumed = True
        self._size = self._length = part.size
        self._source = source
        self._offset = part.offset
        self._limiter = limiter
        self._buffers = buffers
        self._handed = 0
        self._waiting = False
        self._stopped = False
        self._settled = 0
        self._socket: Any = None
        self._transport: asyncio.WriteTransport | None = None
        self._ended: asyncio.Future[None] | None = None
        self.failure: errors.BigUploadError | None = None
        """What went wrong on this side (the file can't be read): no answer of the store's means anything then."""

    # -- the gauge

    def sent(self) -> int:
        if self._stopped:
            return self._settled
        unsent = _unsent_in_kernel(self._socket)
        if self._transport is not None and not self._transport.is_closing():
            unsent += self._transport.get_write_buffer_size()
        return max(0, self._handed - unsent)

    def paused(self) -> bool:
        return self._waiting

    @property
    def complete(self) -> bool:
        """Whether the whole body was handed to the kernel (or to TLS)."""
        return self._handed == self._length

    def stop(self) -> None:
        """An answer is there, or nobody waits for one: send no more. The socket may soon be another request's."""
        if not self._stopped:
            self._settled = self._handed if self.complete else self.sent()
            self._stopped = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    # -- aiohttp's side

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("the body of a part is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        transport = writer.transport
        if transport is None:
            raise ConnectionResetError("the connection is gone")
        self._handed = 0
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        if self._length == 0:
            return
        try:
            # Headers leave at once, so that a store which refuses them can say so while the body goes out.
            writer.send_headers()
            _hear_out(transport)
            if transport.get_extra_info("sslcontext") is None:
                transport.set_write_buffer_limits(high=0)
                await writer.drain()
                await (self._send_file() if self._can_sendfile() else self._copy(writer, PLAIN_BUFFER))
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

    def _can_sendfile(self) -> bool:
        if self._socket is None or self._source.fileno() is None:
            return False
        loop_can_watch = not isinstance(asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ()))
        return loop_can_watch and getattr(os, "sendfile", None) is not None

    async def _await_last_words(self) -> None:
        """The write failed: give the reading side time to find an answer. It takes the connection's end as well."""
        self._ended = asyncio.get_running_loop().create_future()
        if self._stopped:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended, _LAST_WORDS)
        if not self._ended.done() and self._transport is not None:
            self._transport.abort()

    async def _send_file(self) -> None:
        """os.sendfile on a duplicate descriptor, each time that the socket can take more."""
        loop = asyncio.get_running_loop()
        fd = os.dup(self._socket.fileno())
        try:
            while self._handed < self._length and not self._stopped:
                step = await self._allowance(self._length - self._handed)
                await self._send_range(loop, fd, self._handed + step)
        finally:
            os.close(fd)

    async def _send_range(self, loop: asyncio.AbstractEventLoop, fd: int, until: int) -> None:
        ended = self._ended = loop.create_future()
        source = self._source.fileno()
        assert source is not None

        def on_writable() -> None:
            try:
                count = os.sendfile(fd, source, self._offset + self._handed, min(_SENDFILE_SLICE, until - self._handed))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                _settle(ended, e)
                return
            self._handed += count
            if count == 0:  # the file ends early: it was truncated
                self.failure = errors.SourceChanged(
                    f"{self._source.path} became shorter while it was uploaded", same_size=False
                )
                _settle(ended, self.failure)
            elif self._handed == until:
                _settle(ended, None)

        loop.add_writer(fd, on_writable)
        try:
            await ended
        finally:
            loop.remove_writer(fd)

    async def _copy(self, writer: AbstractStreamWriter, size: int) -> None:
        """Read into one buffer and write that; for TLS, and where there is no sendfile."""
        buffer = self._buffers.pop() if self._buffers else bytearray(max(TLS_BUFFER, size))
        view = memoryview(buffer)[:size]
        try:
            while self._handed < self._length and not await self._answered():
                step = await self._allowance(min(len(view), self._length - self._handed))
                chunk = view[:step]
                if self._source.read_into(chunk, self._offset + self._handed) < step:
                    raise errors.SourceChanged(
                        f"{self._source.path} became shorter while it was uploaded", same_size=False
                    )
                self._handed += step  # before it is written: the gauge takes off what is not sent yet
                try:
                    await writer.write(chunk)
                    await writer.drain()
                except BaseException:
                    self._handed -= step  # nobody knows how much of it went out
                    raise
        finally:
            view.release()
            self._buffers.append(buffer)

    async def _answered(self) -> bool:
        """Whether the store has said something: then let the loop read it before anything else is written."""
        if self._stopped:
            return True
        if _readable(self._socket):
            for _ in range(3):  # to be selected, to be read, to wake the reader
                await asyncio.sleep(0)
        return self._stopped

    async def _allowance(self, wanted: int) -> int:
        if self._limiter is None:
            return wanted
        step = min(wanted, self._limiter.slice)
        self._waiting = True
        try:
            await self._limiter.take(step)
        finally:
            self._waiting = False
        return step


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
        if isinstance(exc, OSError):
            read()
        give_up(exc, *message)

    hear_out.hears_out = True  # type: ignore[attr-defined]  # a mark on a function
    raw._fatal_error = hear_out


def _readable(sock: Any) -> bool:
    if not hasattr(select, "poll") or sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _unsent_in_kernel(sock: Any) -> int:
    """Bytes that the peer's kernel has not acknowledged (SIOCOUTQ); 0 where nobody can tell."""
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        import fcntl
        import termios

        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (ImportError, AttributeError, OSError):
        return 0

"""One connection of HTTP/1.1 that carries one request after another.

asyncio's streams forget what they have received when a connection breaks, and aiohttp does. A store that refuses a
part early responds and closes: what it said counts, not how the connection ended. So here the bytes come first, and
then their end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from typing import cast

from bigupload.http._compat import unsent_by
from bigupload.http.origins import Route
from bigupload.http.response_head import MAX_HEAD, BodyReader, MalformedResponse, ResponseHead, end_of_head, parse_head
from bigupload.http.socket_tuning import readable

MOST_IDLE = 15.0
"""Seconds for which a connection is kept that nobody uses. Less than `RetryPolicy.stall_after`, so that a retry after a
stall finds no idle connection of the dead path."""
_BEGINNING = b"HTTP/1."
_MOST_WAITING = 4 * MAX_HEAD
"""Bytes that nobody has read, from which on nothing more is received until somebody reads."""


class Connection(asyncio.Protocol):
    """A connection, from when it is made until it is lost. Used by one request at a time."""

    transport: asyncio.Transport
    """Where the bytes of requests go, once there is a connection. In a proxy's tunnel, another one than at first."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the socket is closed."""
        self.unsent_when_heard = 0
        """Bytes that the kernel had not taken yet when something came last. It can't be asked later: a transport that
        breaks forgets what it has."""
        self.route: Route | None = None
        """Where it leads, once the pool has made it."""
        self.was_used = False
        """Whether it has carried a whole request and response before."""
        self._made = False
        self._received = bytearray()
        self._is_direct = False
        """Whether a body is waited for that has no chunks."""
        self._piece = b""
        """The bytes before `_received`. They are passed on without a copy: three of them double the CPU time."""
        self._over = False
        """Whether no more bytes will come."""
        self._broken: Exception | None = None
        self._is_full = False
        """Whether the transport wants no more bytes now."""
        self._is_paused = False
        """Whether nothing is received, because what came waits for its reader."""
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._idle_since = 0.0

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._made = True

    def data_received(self, data: bytes) -> None:
        if self._is_direct and not self._received and not self._piece:
            self._piece = data
        else:
            self._received += data
        self.unsent_when_heard = unsent_by(self.transport)
        if len(self._received) > _MOST_WAITING and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self._over = True
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over, self._broken = True, exc
        _wake(self._reader)
        _wake(self._writer)
        _wake(self.closed)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        _wake(self._writer)

    # -- its end, and between two requests

    def abort(self) -> None:
        """Close it at once. What was not sent is dropped."""
        self._over = True
        if self._made:
            self.transport.abort()

    def keep(self) -> bool:
        """Note that it is idle from now on. Returns whether another request can follow."""
        self._idle_since, self.was_used = time.monotonic(), True
        return self.is_clean

    @property
    def is_clean(self) -> bool:
        """Whether nothing came that belongs to no response, nor the connection's end."""
        return not (self._over or self._received or self._piece or self.transport.is_closing())

    @property
    def is_usable(self) -> bool:
        """Whether an idle connection is. The event loop may not have read yet that the store has closed it."""
        return self.is_recent and self.is_clean and not readable(self.transport.get_extra_info("socket"))

    @property
    def is_recent(self) -> bool:
        """Whether it was idle for MOST_IDLE at most."""
        return time.monotonic() - self._idle_since <= MOST_IDLE

    # -- sending

    def write(self, data: bytes | memoryview) -> None:
        """Send some bytes, after all that was given before. Raises ConnectionError if the connection is closed."""
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)

    def write_both(self, head: bytes, body: memoryview) -> None:
        """Send a head and a small body together, without a copy of the body if the kernel takes it at once.

        The transport would copy them into one buffer, whose memory is new each time. What the kernel does not take is
        copied, as a transport may keep what it is given.

        Raises:
            ConnectionError: The connection is closed.
        """
        transport, sent = self.transport, 0
        if transport.is_closing():
            raise ConnectionResetError
        sock = transport.get_extra_info("socket")
        is_plain = sock is not None and transport.get_extra_info("sslcontext") is None
        if is_plain and hasattr(os, "writev") and not transport.get_write_buffer_size():
            with contextlib.suppress(OSError):  # the transport meets it again, and ends the connection
                sent = os.writev(sock.fileno(), (head, body))
        if sent < len(head) + len(body):
            transport.write(b"".join((head[sent:], body[max(0, sent - len(head)) :])))

    async def drain(self) -> None:
        """Wait until the transport takes more. Raises ConnectionError if the connection is closed."""
        if self.transport.is_closing():
            await asyncio.sleep(0)  # it may have been lost in this turn of the loop: then the reader hears of it first
            raise ConnectionResetError
        if self._is_full:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer
            if self._over and self.transport.is_closing():
                raise ConnectionResetError

    # -- receiving

    async def head(self, *, has_body: bool = True) -> ResponseHead:
        """Wait for the head of a response. Interim responses are left out. `has_body`: as for `parse_head`.

        Raises:
            OSError: The connection ended before that, or what came is not a response.
        """
        interim = 0
        while True:
            while (end := end_of_head(self._received)) is None:
                too_much = interim + len(self._received) > MAX_HEAD
                if too_much or not _BEGINNING.startswith(self._received[: len(_BEGINNING)]):
                    raise MalformedResponse(bytes(self._received[:100]))
                await self._more()
            head = parse_head(bytes(self._received[: end[0]]), has_body=has_body)
            del self._received[: end[1]]
            if head.status >= 200:
                return head
            interim += end[1]

    async def read(self, body: BodyReader, most: int) -> bytes:
        """Wait for the next bytes of a response's body, at most `most`; none at its end.

        Raises:
            OSError: The connection ended before that, or a chunk is malformed.
        """
        while not body.ended:
            if self._piece:
                piece, self._piece = body.cut(self._piece, most)
                return piece
            if (piece := body.take(self._received, most)) or body.ended:
                return piece
            self._is_direct = not body.chunked
            try:
                await self._more()
            except OSError:
                if not body.until_close or self._broken is not None:
                    raise
                body.ended = True
            finally:
                self._is_direct = False
        return b""

    def finish(self, body: BodyReader) -> None:
        """Take the end of a body of which all bytes were read: of one in chunks, its last one may be here already."""
        if body.chunked and not body.ended:
            with contextlib.suppress(OSError):
                body.take(self._received, 1)

    async def _more(self) -> None:
        """Wait for more bytes. Raises OSError if there will be none."""
        if self._over:
            closed = ConnectionAbortedError(errno.ECONNABORTED, "closed without a response")
            raise self._broken if isinstance(self._broken, OSError) else closed
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)

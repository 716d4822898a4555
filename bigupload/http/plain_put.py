"""One PUT of a few bytes by `http.client`, in a thread: for a process that sends nothing else, and exits.

To import aiohttp takes longer than all of a small upload. Who sends more than one thing at a time needs it: threads
are slower than its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import anyio

from bigupload.core.part_plan import Part
from bigupload.http import socket_tuning
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_connecting, fault_of_socket
from bigupload.http.part_bytes import PartBytes
from bigupload.http.plain_connections import PlainConnections
from bigupload.http.put_messages import head_of_put, judge, split_url, unusable
from bigupload.http.trust import CaBundle
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.daemon_threads import run_in_daemon_thread

MOST_BYTES = 64 * 1024
"""Bytes of a body. The kernel takes them at once, and none of what `socket_tuning` does matters for so few."""
_REST_WITHIN = 5.0
"""Seconds to wait for a response's body. Its status alone is a result, too."""


class PlainBody:
    """A body on its way. It is the `ports.Gauge` of its own sending."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.complete = False
        """Whether the kernel has taken all of it."""
        self._sock: socket.socket | None = None
        self._peer: object = None
        self._abandoned = self._begun = False
        self._lock = threading.Lock()
        """Held by whoever decides whose the connection is."""

    def connected(self, sock: socket.socket) -> None:
        """There is a connection. Called in the thread.

        Raises:
            OSError: Nobody waits for the response any more.
        """
        self._peer = sock.getpeername()
        with self._lock:
            self._sock = sock
            if self._abandoned:
                raise OSError
            self._begun = True

    def disconnected(self) -> None:
        """The connection is another one's from now on. Called in the thread."""
        with self._lock:
            self._sock = None

    def abandon(self) -> None:
        """End the thread: nobody waits for the response any more. What is not sent yet is in vain."""
        with self._lock:
            self._abandoned = True
            if self._sock is None:
                return
            socket_tuning.set_discard(self._sock, discard=True)
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # TLS's own would take its session from the thread

    # -- ports.Gauge

    def sent(self) -> int:
        # So few bytes are with the kernel from the start: also those of a PUT that is cancelled meanwhile may arrive.
        with self._lock:  # the thread closes no connection meanwhile
            return max(0, self.size - socket_tuning.unsent(self._sock)) if self._begun else 0

    def address(self) -> str | None:
        return socket_tuning.address_text(self._peer)

    def round_trips(self) -> float:
        return 0.0  # over before that matters

    def round_trip_times(self) -> tuple[float, float]:
        return 0.0, 0.0

    def paused(self) -> bool:
        return False


class PlainPuts:
    """Such PUTs to one origin, one at a time."""

    def __init__(self, origin: str, ca_bundle: CaBundle) -> None:
        """Send nothing yet.

        Args:
            origin: The URL of the origin, to which there is no proxy.
            ca_bundle: Which certificates to trust. False can't be used here.
        """
        self._connections = PlainConnections(origin, ca_bundle)
        self._threads = anyio.CapacityLimiter(1)

    @property
    def is_busy(self) -> bool:
        """Whether there is one, or the thread of one that was cancelled has not ended yet."""
        return self._threads.borrowed_tokens > 0

    def close(self) -> None:
        """Close the connections. One in use is closed when its PUT ends."""
        self._connections.close()

    async def put(
        self, request: SignedRequest, source: Source, part: Part, on_start: Callable[[Gauge], None]
    ) -> PutResponse:
        """Send one part of at most MOST_BYTES. See `ports.Transport.put`."""
        body = PlainBody(part.size)
        on_start(body)
        try:
            target = split_url(request.url)[1]
            head = head_of_put(target, self._connections.host, request.headers, part.size)
        except ValueError as e:
            raise unusable(e) from None
        what = request.subject or f"part {part.number}"
        send = partial(self._send, head, PartBytes(source, part), body, what)
        try:
            return await run_in_daemon_thread(send, self._threads)
        except asyncio.CancelledError:
            body.abandon()
            raise

    def _send(self, head: bytes, data: PartBytes, body: PlainBody, what: str) -> PutResponse:
        content = data.chunk(memoryview(bytearray(data.size)), 0, data.size)
        where = self._connections.host
        try:
            connection = self._connections.take(None)
        except OSError as e:
            raise fault_of_connecting(e, where) from None
        except UnicodeError as e:  # the host's name can't be one
            raise unusable(e) from None
        try:
            response, found = _exchange(connection.sock, head + content, body)
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise fault_of_socket(e, where) from None
        if response.isclosed() and not response.length and not response.will_close and body.complete:
            self._connections.give_back(connection)
        else:  # half a body was sent, or half a response is left: nothing more can follow on this connection
            response.close()
            connection.close()
        headers = cast("Mapping[str, str]", response.headers)  # it has all that is read of one
        return judge(response.status, headers, found, what, complete=body.complete)


def _exchange(sock: socket.socket, data: bytes, body: PlainBody) -> tuple[http.client.HTTPResponse, bytes]:
    """Send a request, and read the response as far as it is wanted.

    Raises:
        OSError: There is no response.
        http.client.HTTPException: It is none.
    """
    try:
        body.connected(sock)
        with contextlib.suppress(OSError):  # a store that refuses a request early may have closed: there is a response
            sock.sendall(data)
            body.complete = True
        response = http.client.HTTPResponse(sock, method="PUT")
        try:
            response.begin()
            if response.status < 200:  # after an interim response, which nobody asked for, `http.client` reads no other
                raise http.client.BadStatusLine(str(response.status))
            return response, _rest(sock, response)
        except BaseException:
            response.close()
            raise
    finally:
        body.disconnected()


def _rest(
    sock: socket.socket, response: http.client.HTTPResponse, clock: Callable[[], float] = time.monotonic
) -> bytes:
    """What arrives of a response's body within a few seconds. The response is closed if that is all of it."""
    found, left = b"", _REST_WITHIN
    until = clock() + left
    with contextlib.suppress(OSError, http.client.HTTPException):
        while left > 0:
            sock.settimeout(left)
            piece = response.read1(MAX_ERROR_BODY - len(found))
            if not piece:
                break
            found += piece
            left = until - clock()
    if response.length == 0:
        response.close()  # not its connection
    return found

"""One request as a connection in memory: ASGI's messages on one side, the service's protocol of HTTP/1.1 on the other.

Neither a request's nor a response's body is held: while the service does not read, no more of the request is received,
and while the client does not read, the service waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bigupload.service.app import ROOT_PATH
from bigupload.service.asgi.http_messages import RequestHead, ResponseParser, request_head, root_path

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SCOPE = "bigupload.asgi.scope"
"""The name by which a request's `get_extra_info` has the ASGI scope."""
_ENCRYPTED = object()
"""In place of an SSLContext: a request is https where there is one."""
_HIGH_WATER = 64 * 1024
"""Bytes of a response that wait for the client before the service waits, too. As much as asyncio's sockets have."""


class MemoryTransport(asyncio.Transport):
    """The service's end of the connection."""

    def __init__(self, protocol: asyncio.Protocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._protocol = protocol
        self._unsent = bytearray()
        self._written = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self._writing_is_paused = False
        self._closing = False
        self._lost = False

    # -- for the bridge

    def connect(self) -> None:
        """Begin."""
        self._protocol.connection_made(self)

    async def receive(self, data: bytes) -> None:
        """Hand bytes of the request to the service, once it reads."""
        await self._reads.wait()
        if not self._lost:
            self._protocol.data_received(data)

    async def written(self) -> bytes:
        """Wait for bytes of the response; none: the connection is closed, and all was taken."""
        await self._written.wait()
        data = bytes(self._unsent)
        self._unsent.clear()
        if not self._closing:
            self._written.clear()
        if self._writing_is_paused:
            self._writing_is_paused = False
            self._protocol.resume_writing()
        return data

    def lose(self) -> None:
        """End the connection, also for the service. Idempotent."""
        self.close()
        self._reads.set()
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(None)

    # -- for the protocol

    def is_reading(self) -> bool:
        return self._reads.is_set()

    def pause_reading(self) -> None:
        if not self._closing:
            self._reads.clear()

    def resume_reading(self) -> None:
        self._reads.set()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        self._unsent += data
        self._written.set()
        if len(self._unsent) > _HIGH_WATER and not self._writing_is_paused:
            self._writing_is_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._written.set()

    def abort(self) -> None:
        self._unsent.clear()
        self.close()


async def exchange(make: Callable[[], asyncio.Protocol], scope: Scope, receive: Receive, send: Send) -> None:
    """Let the service answer one request.

    A client that disconnects ends the connection, as on a socket. What the service has begun goes on: a complete that
    the store is at is finished.

    Args:
        make: Makes the service's protocol of one connection.
        scope: ASGI's, of the type "http".
        receive: ASGI's.
        send: ASGI's.

    Raises:
        MalformedScope: The request can't be written as HTTP/1.1.
    """
    head = request_head(scope)
    transport = MemoryTransport(make(), _extra(scope))
    transport.connect()
    feeding = asyncio.create_task(_feed(transport, head, receive))
    feeding.add_done_callback(lambda _: transport.lose())  # the client is gone, or the host has failed
    try:
        await _answer(transport, scope["method"], send, feeding)
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
        transport.lose()


def _extra(scope: Scope) -> dict[str, Any]:
    extra: dict[str, Any] = {SCOPE: scope, ROOT_PATH: root_path(scope)}
    if scope.get("client"):
        extra["peername"] = tuple(scope["client"])
    if scope.get("server"):
        extra["sockname"] = tuple(scope["server"])
    if scope.get("scheme") == "https":
        extra["sslcontext"] = _ENCRYPTED
    return extra


async def _feed(transport: MemoryTransport, head: RequestHead, receive: Receive) -> None:
    """Hand the request to the service, up to the client's disconnect."""
    await transport.receive(head.data)
    rest = head.length
    ended = False
    while (message := await receive())["type"] != "http.disconnect":
        if ended:
            continue
        body, ended = message.get("body") or b"", not message.get("more_body", False)
        if rest is None:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            await transport.receive(framed + (b"0\r\n\r\n" if ended else b""))
            continue
        body = body[:rest]  # more would be read as another request
        rest -= len(body)
        if body:
            await transport.receive(body)
        if ended and rest:
            return  # shorter than declared, as if the client had left


async def _answer(transport: MemoryTransport, method: str, send: Send, feeding: asyncio.Task[None]) -> None:
    response, started = ResponseParser(method), False
    while not response.complete:
        data = await transport.written()
        if data:
            body = response.feed(data)
        else:
            body = b""
            response.end()
            if not response.complete:
                if feeding.done():
                    return  # nobody is there to read the rest
                raise ConnectionError("the service closed the connection before the end of its response")
        if response.status is None:
            continue
        if not started:
            started = True
            await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        if body or response.complete:
            await send({"type": "http.response.body", "body": body, "more_body": not response.complete})

"""One PUT of a few bytes in memory, over aiohttp's connections and with its parser, but without its requests.

aiohttp's request, writer task and response cost 120 µs of CPU more than the bytes themselves, which is most of what a
small file costs. So here the head and the body are given to the transport as they are, and aiohttp's `ResponseHandler`
parses the response. Connections are those of the session's connector: its pool, name resolution and TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import yarl

from bigupload.core.part_plan import MIB
from bigupload.http import socket_tuning
from bigupload.http._compat import read_before_closing, tls_internals
from bigupload.http.connections import timeouts
from bigupload.http.put_messages import head_of_put, split_url
from bigupload.http.send_resources import SendResources

MOST_BYTES = MIB
"""Bytes of a body. The transport copies what the kernel does not take at once."""
_MOST_RESPONSE = 64 * 1024
"""Bytes of a 2xx response's body that are read, so that the connection can be used again."""
_TIMEOUTS = timeouts()


class MemoryBody:
    """A body on its way. It is the `ports.Gauge` of its own sending."""

    failure = None
    """Bytes in memory can be read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.complete = False
        """Whether the whole body was handed to the kernel or to TLS."""
        self._sent = 0
        """Of a body that was broken off."""
        self._transport: Any = None
        self._raw: Any = None
        """The transport below TLS, which takes the records of all of the body at once."""
        self._socket: Any = None
        self._peer: object = None

    def began(self, transport: asyncio.WriteTransport) -> None:
        """The transport has the bytes, and sends them."""
        self._transport = transport
        internals = tls_internals(transport)
        self._raw = None if internals is None else internals.raw_transport
        self._socket = transport.get_extra_info("socket")
        self._peer = transport.get_extra_info("peername")

    def ended(self, *, broken_off: bool = False) -> None:
        """There is a response, or nobody waits for one any more. What is not sent then is in vain."""
        if broken_off:
            self._sent = self.sent()
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self.complete = not broken_off and not self._buffered(transport)
        if not self.complete:
            socket_tuning.set_discard(self._socket, discard=True)
            transport.abort()

    def _buffered(self, transport: Any) -> int:
        """Bytes that the kernel has not taken."""
        below: int = 0 if self._raw is None else self._raw.get_write_buffer_size()
        return below + int(transport.get_write_buffer_size())

    # -- ports.Gauge

    def sent(self) -> int:
        if self._transport is None:
            return self.size if self.complete else self._sent
        return max(0, self.size - self._buffered(self._transport) - socket_tuning.unsent(self._socket))

    def address(self) -> str | None:
        return socket_tuning.address_text(self._peer)

    def round_trips(self) -> float:
        return 0.0  # over before that matters

    def round_trip_times(self) -> tuple[float, float]:
        return 0.0, 0.0

    def paused(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class MemoryResponse:
    """A response: its status, its headers, and the first bytes of its body, which a 2xx response has not."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class MemoryPuts:
    """PUTs over the connections of one session."""

    def __init__(self, session: aiohttp.ClientSession, resources: SendResources) -> None:
        """Open no connection yet.

        Args:
            session: Its connector has the connections.
            resources: What bodies share.
        """
        self._session = session
        self._resources = resources
        self._origins: dict[str, aiohttp.ClientRequest] = {}

    async def put(
        self, url: str, headers: Mapping[str, str], view: memoryview, body: MemoryBody, error_within: float
    ) -> MemoryResponse:
        """Send one body.

        Args:
            url: Sent as it is, byte for byte.
            headers: All but Host and Content-Length.
            view: The bytes.
            body: Their gauge.
            error_within: Seconds to wait for the body of an error response. Its status alone is a result, too.

        Raises:
            aiohttp.ClientError: There is no response.
            OSError: As ClientError.
            ValueError: The URL or a header can't be sent.
        """
        origin, target = split_url(url)
        request = self._request(origin)
        data = b"".join((head_of_put(target, request.headers["Host"], headers, len(view)), view))
        assert self._session.connector is not None
        connection = await self._session.connector.connect(request, traces=[], timeout=_TIMEOUTS)
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            read_before_closing(transport)
            self._resources.tune(transport)
            body.began(transport)
            transport.write(data)
            message, content = await protocol.read()
            while 100 <= message.code < 200:  # an interim response, which nobody asked for
                message, content = await protocol.read()
            body.ended()
            found = await _read(message.code, content, error_within)
        except BaseException as e:
            body.ended(broken_off=True)
            connection.close()
            if isinstance(e, aiohttp.http.HttpProcessingError):
                raise aiohttp.ClientPayloadError("no valid HTTP response") from None
            raise
        if body.complete and content.is_eof():
            connection.release()
        else:  # half a body was sent, or half a response is left: nothing more can follow on this connection
            connection.close()
        return MemoryResponse(message.code, message.headers, found)

    def _request(self, origin: str) -> aiohttp.ClientRequest:
        """What the connector needs to know of an origin, and the Host header."""
        if origin not in self._origins:
            url = yarl.URL(f"{origin}/", encoded=True)
            loop = asyncio.get_running_loop()
            self._origins[origin] = aiohttp.ClientRequest("PUT", url, loop=loop, session=self._session)
        return self._origins[origin]


async def _read(status: int, content: aiohttp.StreamReader, error_within: float) -> bytes:
    """Read the body of a response, of an error's what arrives in time."""
    found = b""
    if content.is_eof() and not content.total_bytes:
        return found
    try:
        async with asyncio.timeout(error_within):
            while len(found) < _MOST_RESPONSE and (piece := await content.read(_MOST_RESPONSE)):
                found += piece
    except (aiohttp.ClientError, OSError):
        pass
    return b"" if status // 100 == 2 else found

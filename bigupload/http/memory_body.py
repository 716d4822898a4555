"""A small body in memory: it goes to the transport together with the head of its PUT, without a task of its own."""

from __future__ import annotations

from typing import Any

from bigupload.core.part_plan import MIB
from bigupload.http import socket_tuning
from bigupload.http._compat import read_before_closing, tls_internals
from bigupload.http.connection import Connection
from bigupload.http.response_head import ResponseHead
from bigupload.http.send_resources import SendResources

MOST_BYTES = MIB
"""Bytes of a body. The transport copies what the kernel does not take at once."""


class MemoryBody:
    """A body on its way. It is the `ports.Gauge` of its own sending."""

    failure = None
    """Bytes in memory can be read."""

    def __init__(self, view: memoryview, resources: SendResources) -> None:
        self.complete = False
        """Whether the whole body was handed to the kernel or to TLS."""
        self._view = view
        self._size = len(view)
        self._resources = resources
        self._sent = 0
        """Of a body that was broken off."""
        self._transport: Any = None
        self._raw: Any = None
        """The transport below TLS, which takes the records of all of the body at once."""
        self._socket: Any = None
        self._peer: object = None

    async def exchange(self, connection: Connection, head: bytes) -> ResponseHead:
        """Send the head of the PUT and the body, and return the response. See `PartBody.exchange`."""
        try:
            self._begin(connection)
            connection.write(b"".join((head, self._view)))
            response = await connection.head()
        except BaseException:
            self._end(broken_off=True)
            raise
        self._end()
        return response

    def _begin(self, connection: Connection) -> None:
        transport = connection.transport
        read_before_closing(transport)
        self._resources.tune(transport)
        internals = tls_internals(transport)
        self._transport = transport
        self._raw = None if internals is None else internals.raw_transport
        self._socket = transport.get_extra_info("socket")
        self._peer = transport.get_extra_info("peername")

    def _end(self, *, broken_off: bool = False) -> None:
        """There is a response, or nobody waits for one any more. What is not sent then is in vain."""
        if broken_off:
            self._sent = self.sent()
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self.complete = not broken_off and not self._buffered(transport)
        if not self.complete:
            socket_tuning.set_discard(self._socket, discard=True)

    def _buffered(self, transport: Any) -> int:
        """Bytes that the kernel has not taken."""
        below: int = 0 if self._raw is None else self._raw.get_write_buffer_size()
        return below + int(transport.get_write_buffer_size())

    # -- ports.Gauge

    def sent(self) -> int:
        if self._transport is None:
            return self._size if self.complete else self._sent
        return max(0, self._size - self._buffered(self._transport) - socket_tuning.unsent(self._socket))

    def address(self) -> str | None:
        return socket_tuning.address_text(self._peer)

    def round_trips(self) -> float:
        return 0.0  # over before that matters

    def round_trip_times(self) -> tuple[float, float]:
        return 0.0, 0.0

    def paused(self) -> bool:
        return False

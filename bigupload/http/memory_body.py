"""A small body in memory: it goes to the transport together with the head of its PUT, without a task of its own."""

from __future__ import annotations

import contextlib
from typing import Any

from bigupload.core.part_plan import MIB
from bigupload.http import socket_tuning
from bigupload.http._compat import read_before_closing, unsent_by
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
        self._socket: Any = None
        self._peer: object = None

    async def exchange(self, connection: Connection, head: bytes) -> ResponseHead:
        """Send the head of the PUT and the body, and return the response. See `PartBody.exchange`."""
        transport = connection.transport
        read_before_closing(transport)
        self._resources.tune(transport)
        self._peer = transport.get_extra_info("peername")
        self._socket = transport.get_extra_info("socket")
        self._transport = transport
        is_first = connection.is_clean  # else the store spoke before: it can't know the body
        try:
            with contextlib.suppress(OSError):  # perhaps it said why it closed
                connection.write(b"".join((head, self._view)))
            response = await connection.head()
            self.complete = is_first and not connection.unsent_when_heard
            return response
        finally:  # what is not sent now is in vain
            if not self.complete:
                self._sent = self.sent()
                socket_tuning.set_discard(self._socket, discard=True)
            self._transport = None

    # -- ports.Gauge

    def sent(self) -> int:
        if self._transport is None:
            return self._size if self.complete else self._sent
        return max(0, self._size - unsent_by(self._transport) - socket_tuning.unsent(self._socket))

    def address(self) -> str | None:
        return socket_tuning.address_text(self._peer)

    def round_trips(self) -> float:
        return 0.0  # over before that matters

    def round_trip_times(self) -> tuple[float, float]:
        return 0.0, 0.0

    def window_is_full(self) -> bool:
        return False

    def paused(self) -> bool:
        return False

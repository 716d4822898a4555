"""Connections of `http.client` to one origin, for requests in threads: without aiohttp, see `trust`."""

from __future__ import annotations

import functools
import http.client
import ssl
import time

from bigupload.http.origins import WebOrigin, origin_of
from bigupload.http.socket_tuning import CONNECT_TIMEOUT, readable, send_keepalives
from bigupload.http.trust import CaBundle, context_of

_MOST_IDLE = 15.0
"""Seconds for which a connection is kept that nobody uses."""


class PlainConnections:
    """Makes connections, and keeps those that can be used again. Thread-safe."""

    def __init__(self, origin: str, ca_bundle: CaBundle) -> None:
        """Connect to nothing yet.

        Args:
            origin: The URL of the origin. Its path does not count.
            ca_bundle: Which certificates to trust. False can't be used here.
        """
        self._url = origin
        self._ca_bundle = ca_bundle
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        """Connections to be used again, and since when they are idle."""
        self._closed = False

    @property
    def host(self) -> str:
        """The header Host: the origin's host and, if it is not the default, its port."""
        return self._origin.header

    def take(self, within: float | None) -> http.client.HTTPConnection:
        """Return a connection: one that was given back, or a new one. Blocking.

        Args:
            within: The timeout of each read and write in seconds; None: no limit.

        Raises:
            OSError: There is no connection.
            UnicodeError: The host's name can't be one.
            UsageError: The CA bundle can't be used.
        """
        while (idle := self._pop()) is not None:
            connection, since = idle
            if time.monotonic() - since < _MOST_IDLE and not readable(connection.sock):
                connection.sock.settimeout(within)
                return connection
            connection.close()  # it was idle for long, or the store has closed it
        return self._connect(within)

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        """Keep a connection on which a whole response was read."""
        self._idle.append((connection, time.monotonic()))
        if self._closed:  # meanwhile
            self.close()

    def close(self) -> None:
        """Close the connections. Those in use are closed when they are given back."""
        self._closed = True
        while (idle := self._pop()) is not None:
            idle[0].close()

    def _pop(self) -> tuple[http.client.HTTPConnection, float] | None:
        try:
            return self._idle.pop()
        except IndexError:  # perhaps another thread took the last one
            return None

    def _connect(self, within: float | None) -> http.client.HTTPConnection:
        host, port = self._origin.host, self._origin.port
        timeout = CONNECT_TIMEOUT if within is None else min(CONNECT_TIMEOUT, within)
        connection = (
            http.client.HTTPConnection(host, port, timeout=timeout)
            if self._origin.scheme == "http"
            else http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
        )
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        send_keepalives(connection.sock)
        connection.sock.settimeout(within)
        return connection

    @functools.cached_property
    def _origin(self) -> WebOrigin:
        return origin_of(self._url)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        return context_of(self._ca_bundle)

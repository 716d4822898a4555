"""The connection pools of the adapters that use aiohttp: name resolution, sockets, TLS and timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection

from bigupload.http.connection import MOST_IDLE
from bigupload.http.connection_pool import CONNECT_WITHIN
from bigupload.http.names import KEPT, NameLookups
from bigupload.http.socket_tuning import CONNECT_TIMEOUT, new_socket
from bigupload.http.trust import CaBundle, ssl_context

_TURNS_TO_CLOSE = 20
"""Turns of the event loop that a transport may take to notice that its socket was shut down. asyncio takes three."""


class RotatingResolver(aiohttp.ThreadedResolver):
    """The system's name resolution. Each result starts one address later than the one before.

    aiohttp goes through the addresses of a result in turn for as long as it keeps the result. But each new result
    would start with the same address. Where connections are rare they would all go there, those of retries included.

    The system's resolution is used also where aiodns is installed: aiodns reads the name servers once, and another
    network has others.
    """

    def __init__(self) -> None:
        super().__init__(cast("asyncio.AbstractEventLoop", NameLookups()))
        self._resolved = -1

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        self._resolved += 1
        first = self._resolved % len(found) if found else 0
        return found[first:] + found[:first]


class _Connector(aiohttp.TCPConnector):
    """Resolves a name again as soon as none of its addresses accepts a connection. Leaves no socket open."""

    def __init__(self, **options: Any) -> None:
        super().__init__(socket_factory=self._new_socket, **options)
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def _new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = new_socket(address)
        self._sockets.add(made)
        return made

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections, those included that aiohttp has given up.

        A TLS connection whose request or handshake was cancelled sends close_notify, and asyncio waits 30 seconds for
        the store's. With its socket shut down, its transport reads the end, and closes.
        """
        await super().close(abort_ssl=abort_ssl)
        for each in self._sockets:
            with contextlib.suppress(OSError):  # closed, or not connected yet
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(_TURNS_TO_CLOSE):
            if all(each.fileno() == -1 for each in self._sockets):
                break
            await asyncio.sleep(0)

    async def connect(self, *arguments: Any, **more: Any) -> Connection:
        try:
            return await super().connect(*arguments, **more)
        except (aiohttp.ClientError, OSError):
            self.clear_dns_cache()
            raise


def new_session(ca_bundle: CaBundle, *, with_system: bool = False) -> aiohttp.ClientSession:
    """Make a connection pool.

    Args:
        ca_bundle: Which certificates to trust.
        with_system: Whether to trust the system's certificates, too, if there is a file of others.

    Raises:
        UsageError: The CA bundle can't be used.
    """
    connector = _Connector(
        limit=0,
        # aiohttp keeps one context with the system's certificates. Reading them takes long.
        ssl=ssl_context(ca_bundle, with_system=with_system) if isinstance(ca_bundle, Path) else ca_bundle is None,
        resolver=RotatingResolver(),
        ttl_dns_cache=KEPT,
        keepalive_timeout=MOST_IDLE,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeouts(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
    )


def timeouts(*, total: float | None = None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
    """The timeouts of one request.

    Args:
        total: Seconds for the whole request; None: no limit.
        sock_read: Seconds from one piece of the response to the next; None: no limit.
    """
    return aiohttp.ClientTimeout(total=total, connect=CONNECT_WITHIN, sock_connect=CONNECT_TIMEOUT, sock_read=sock_read)

"""Makes connections: names, several addresses, the user's proxy, TLS. Keeps those that can be used again."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
import time
from typing import Any

import aiohappyeyeballs

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.connection import MOST_IDLE, Connection
from bigupload.http.http_errors import fault_of_connecting, fault_of_proxy, tls_connection_lost
from bigupload.http.names import Addresses
from bigupload.http.origins import Proxy, WebOrigin, origin_of, unusable
from bigupload.http.socket_tuning import CONNECT_TIMEOUT, new_socket
from bigupload.http.trust import CaBundle, context_of

CONNECT_WITHIN = 20.0
"""Seconds for the name's resolution, connecting, the proxy's answer and the TLS handshake. Less than
`RetryPolicy.stall_after`: else an outage would be taken for a stall."""
_NEXT_ADDRESS_AFTER = 0.25
"""Seconds that an address may take before the next one is tried beside it: RFC 8305."""
_NEVER = 2 * CONNECT_WITHIN
"""Seconds after which asyncio ends a handshake, in its own words. CONNECT_WITHIN ends it before."""
_NOT_KEPT_FOR = 60.0
"""Seconds for which no connection is kept after one was closed in place of a response to its second request."""
_CLOSED_WITHIN = 20
"""Turns of the event loop that a transport may take to close its socket. asyncio takes three."""


class ConnectionPool:
    """The connections of one client."""

    def __init__(self, ca_bundle: CaBundle, *, with_system: bool = False) -> None:
        """Connect to nothing yet.

        Args:
            ca_bundle: Which certificates to trust.
            with_system: Whether to trust the system's, too, if there is a file of others.
        """
        self._ca_bundle = ca_bundle
        self._with_system = with_system
        self._addresses = Addresses()
        self._kept: dict[tuple[WebOrigin, Proxy], list[Connection]] = {}
        self._coming: dict[tuple[WebOrigin, Proxy], list[asyncio.Task[Connection]]] = {}
        """Connections that are being made ahead, and that nobody waits for."""
        self._ahead: set[asyncio.Task[Connection]] = set()
        """All that are being made ahead."""
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        """Closes what has been idle for long, while anything is kept."""
        self._closed = False
        self._unkept: dict[object, float] = {}
        """The routes whose connections are not kept, and until when."""
        self.loop = asyncio.get_running_loop()

    async def take(self, origin: WebOrigin, proxy: Proxy, *, fresh: bool) -> Connection:
        """Return a connection: one that was given back, or a new one.

        Args:
            origin: Where it leads.
            proxy: The proxy on the way, if there is one.
            fresh: Whether it is to be a new one.

        Raises:
            Fault: There is no connection.
            StoreRefused: The host's name can't be one.
            UsageError: The CA bundle can't be used.
        """
        kept = self._kept.get((origin, proxy), [])
        while kept and not fresh:
            connection = kept.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        route = (origin, proxy)
        if fresh or not self._coming.get(route):
            return await self._connect(origin, proxy)
        task = self._coming[route].pop(0)
        try:
            await asyncio.wait([task])  # a cancelled wait leaves it to others
            if task.cancelled():
                raise Fault(FaultKind.BROKEN, f"the connections to {origin.where} were closed")
        except asyncio.CancelledError:
            self._coming[route].append(task)
            if task.done():
                self._keep(task, origin, proxy)
            raise
        return task.result()

    def connect_ahead(self, origin: WebOrigin, proxy: Proxy, count: int) -> None:
        """Begin to make connections, unless there are as many.

        Args:
            origin: Where they lead.
            proxy: The proxy on the way, if there is one.
            count: How many are wanted. Those that there are count: a request that is under way leaves its own behind.
        """
        if self._ahead or self._closed:
            return
        coming = self._coming[origin, proxy] = []
        for _ in range(count - sum(each.route == (origin, proxy) for each in self._open)):
            task = asyncio.create_task(self._connect(origin, proxy))
            task.add_done_callback(lambda done: self._keep(done, origin, proxy))
            self._ahead.add(task)
            coming.append(task)

    def _keep(self, done: asyncio.Task[Connection], origin: WebOrigin, proxy: Proxy) -> None:
        """Keep a connection that was made ahead, if nobody waits for it."""
        self._ahead.discard(done)
        if done in self._coming[origin, proxy]:
            self._coming[origin, proxy].remove(done)
            if not done.cancelled() and done.exception() is None:
                self.give_back(done.result(), origin, proxy)

    def give_back(self, connection: Connection, origin: WebOrigin, proxy: Proxy) -> None:
        """Keep a connection on which a whole response was read."""
        if self._closed or time.monotonic() < self._unkept.get(connection.route, 0.0) or not connection.keep():
            connection.abort()
            return
        self._kept.setdefault((origin, proxy), []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(MOST_IDLE, self._close_idle)

    def forget(self, origin: WebOrigin, proxy: Proxy) -> None:
        """Close a route's idle connections: one of them failed, and the others may lead over the same dead path."""
        for connection in self._kept.pop((origin, proxy), []):
            connection.abort()

    def failed(self, connection: Connection, e: OSError) -> None:
        """Learn how a request failed. If its connection was used before and was just closed, none is kept for a while.

        There are servers that close after one response, and do not say so: without this, the request that finds out by
        its next attempt would find a connection that another one has just given back.
        """
        if connection.was_used and isinstance(e, ConnectionAbortedError):
            self._unkept[connection.route] = time.monotonic() + _NOT_KEPT_FOR

    def _close_idle(self) -> None:
        self._sweep = None
        for route, connections in list(self._kept.items()):
            for connection in connections:
                if not connection.is_recent:
                    connection.abort()
            self._kept[route] = [each for each in connections if each.is_clean]
            if not self._kept[route]:
                del self._kept[route]
        if self._kept and not self._closed:
            self._sweep = asyncio.get_running_loop().call_later(MOST_IDLE, self._close_idle)

    def close(self) -> None:
        """Close all connections, those included that are in use. Sockets close within turns of the event loop."""
        self._closed = True
        self._addresses.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._ahead:
            task.cancel()
        for connection in list(self._open):
            connection.abort()

    async def aclose(self) -> None:
        """Close all connections, and wait for their sockets. All is under way before the first wait."""
        self.close()
        if self._ahead:
            await asyncio.wait(self._ahead)
        self.close()  # what was made meanwhile
        for _ in range(_CLOSED_WITHIN):
            if not self._open:
                break
            await asyncio.sleep(0)

    async def _connect(self, origin: WebOrigin, proxy: Proxy) -> Connection:
        to = origin if proxy.url is None else origin_of(proxy.url)
        where, is_proxy = to.where, proxy.url is not None
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                connection = await self._connect_to(to)
                if proxy.url is not None and origin.scheme == "https":
                    where, is_proxy = origin.where, False
                    await self._tunnel(connection, origin, proxy)
        except OSError as e:
            self._addresses.forget()
            raise fault_of_connecting(e, where, proxy=is_proxy) from None
        except UnicodeError as e:
            raise unusable(e) from None
        connection.route = origin, proxy
        return connection

    async def _connect_to(self, to: WebOrigin) -> Connection:
        """Connect to one of the addresses: to the next one, if TLS breaks off or takes too long at the first."""
        tls: dict[str, Any] = {}
        if to.scheme == "https":
            tls = {"ssl": self._context, "server_hostname": to.host.rstrip("."), "ssl_handshake_timeout": _NEVER}
        rows = await self._addresses.of(to.host, to.port)
        while True:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                sock = await aiohappyeyeballs.start_connection(
                    rows, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, socket_factory=new_socket
                )
            peer = _peer_of(sock)
            try:
                return await self._opened(sock, tls)
            except OSError as e:
                rows = [row for row in rows if row[4][:2] != peer]
                if not rows or (isinstance(e, ssl.SSLError) and not tls_connection_lost(e)):
                    raise

    async def _opened(self, sock: socket.socket, tls: dict[str, Any]) -> Connection:
        connection = Connection()
        self._open.add(connection)
        connection.closed.add_done_callback(lambda _: self._open.discard(connection))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock, **tls)
        except BaseException:
            self._give_up(connection)
            raise
        return connection

    async def _tunnel(self, connection: Connection, origin: WebOrigin, proxy: Proxy) -> None:
        """Have a proxy lead a connection to an origin, and begin TLS with that."""
        headers = {"Host": origin.where, **proxy.headers}
        lines = [f"CONNECT {origin.where} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        try:
            connection.write("\r\n".join(lines).encode())
            response = await connection.head()
            if response.status // 100 != 2:
                raise fault_of_proxy(response.status, origin.where)
            if not connection.is_clean:  # what the proxy says now would count as the store's word
                raise ConnectionAbortedError(errno.ECONNABORTED, "the proxy sent more than a tunnel")
            connection.transport = await self._begin_tls(connection, origin)
        except BaseException:
            self._give_up(connection)
            raise

    async def _begin_tls(self, connection: Connection, origin: WebOrigin) -> asyncio.Transport:
        try:
            transport = await asyncio.get_running_loop().start_tls(
                connection.transport, connection, self._context,
                server_hostname=origin.host.rstrip("."), ssl_handshake_timeout=_NEVER,
            )  # fmt: skip
        except OSError:
            raise
        except Exception as e:  # of asyncio, for TLS within TLS: Python 3.11 raises a TypeError if the inner one fails
            raise ConnectionAbortedError(errno.ECONNABORTED, f"TLS broke off ({type(e).__name__})") from None
        if transport is None:  # it was lost meanwhile
            raise ConnectionAbortedError(errno.ECONNABORTED, "TLS broke off")
        return transport

    def _give_up(self, connection: Connection) -> None:
        """Close a connection that was not made. asyncio does not tell when one is lost before TLS has begun."""
        connection.abort()
        self._open.discard(connection)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        return context_of(self._ca_bundle, with_system=self._with_system)


def _peer_of(sock: socket.socket) -> Any:
    """The address and port that a socket is connected to. A socket that the peer has reset already is closed.

    Raises:
        OSError: It is not connected any more.
    """
    try:
        return sock.getpeername()[:2]
    except OSError:
        sock.close()
        raise

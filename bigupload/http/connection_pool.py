"""Makes connections: names, several addresses, the user's proxy, TLS. Keeps those that can be used again.

The system looks names up, in threads: its resolver knows the network's present name servers. A resolver that reads them
once, as c-ares does, would ask those of a network that was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http import early
from bigupload.http.connection import MOST_IDLE, Connection
from bigupload.http.http_errors import fault_of_connecting, fault_of_proxy, tls_connection_lost
from bigupload.http.origins import Route, WebOrigin, origin_of, unusable
from bigupload.http.socket_tuning import CONNECT_TIMEOUT, new_socket
from bigupload.support.cancellation import retrieve
from bigupload.support.daemon_threads import run_in_daemon_thread

AddressRow: TypeAlias = tuple[Any, ...]
"""One row of `socket.getaddrinfo`."""
KEPT = 10
"""Seconds for which the addresses of a name are kept: a store that has moved is found within them."""
_LOOKUPS = 8
"""Lookups of names at a time, those included that were left behind."""
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

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        """Connect to nothing yet.

        Args:
            context: Returns what connections over TLS trust, quickly from the second call on. May raise UsageError.
        """
        self._context = context
        self._addresses = Addresses()
        self._kept: dict[Route, list[Connection]] = {}
        self._coming: defaultdict[Route, list[asyncio.Task[Connection]]] = defaultdict(list)
        """Connections that are being made ahead, and that nobody waits for."""
        self._ahead: set[asyncio.Task[Connection]] = set()
        """All that are being made ahead."""
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        """Closes what has been idle for long, while anything is kept."""
        self._closed = False
        self._unkept: dict[Route | None, float] = {}
        """The routes whose connections are not kept, and until when."""
        self.loop = asyncio.get_running_loop()

    async def take(self, route: Route, *, fresh: bool) -> Connection:
        """Return a connection: one that was given back, or a new one. `fresh`: a new one alone will do.

        Raises:
            Fault: There is no connection.
            StoreRefused: The host's name can't be one.
            UsageError: The CA bundle can't be used.
        """
        kept = self._kept.get(route, [])
        while kept and not fresh:
            connection = kept.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        coming = self._coming[route]
        if fresh or not coming:
            return await self._connect(route)
        task = coming.pop(0)
        try:
            await asyncio.wait([task])  # a cancelled wait leaves it to others
            if task.cancelled():
                raise Fault(FaultKind.BROKEN, f"the connections to {route.origin.where} were closed")
        except asyncio.CancelledError:
            self._coming[route].append(task)
            if task.done():
                self._keep(task, route)
            raise
        return task.result()

    def connect_ahead(self, route: Route, count: int) -> None:
        """Begin to make connections until there are `count`. Those in use count: each is kept after its request."""
        if self._ahead or self._closed:
            return
        for _ in range(count - sum(each.route == route for each in self._open)):
            task = asyncio.create_task(self._connect(route))
            task.add_done_callback(functools.partial(self._keep, route=route))
            self._ahead.add(task)
            self._coming[route].append(task)

    def _keep(self, done: asyncio.Task[Connection], route: Route) -> None:
        """Keep a connection that was made ahead, if nobody waits for it."""
        self._ahead.discard(done)
        if done in self._coming[route]:
            self._coming[route].remove(done)
            if not done.cancelled() and done.exception() is None:
                self.give_back(done.result())

    def give_back(self, connection: Connection) -> None:
        """Keep a connection on which a whole response was read."""
        route = connection.route
        if route is None or self._closed or time.monotonic() < self._unkept.get(route, 0.0) or not connection.keep():
            connection.abort()
            return
        self._kept.setdefault(route, []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(MOST_IDLE, self._close_idle)

    def forget(self, route: Route) -> None:
        """Close a route's idle connections: one of them failed, and the others may lead over the same dead path."""
        for connection in self._kept.pop(route, []):
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

    # -- making a connection

    async def _connect(self, route: Route) -> Connection:
        origin, proxy = route
        to = origin if proxy.url is None else origin_of(proxy.url)
        where, is_proxy, is_tls = to.where, proxy.url is not None, to.scheme == "https"
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                tunnel = is_proxy and origin.scheme == "https"
                connection = await self._connect_to(to)
                if tunnel:
                    where, is_proxy, is_tls = origin.where, False, False
                    await self._tunnel(connection, route)
                    is_tls = True
                    connection.transport = await self._begin_tls(connection, origin)
        except OSError as e:
            self._addresses.forget()
            raise fault_of_connecting(e, where, proxy=is_proxy, tls=is_tls) from None
        except UnicodeError as e:
            raise unusable(e) from None
        connection.route = route
        return connection

    async def _connect_to(self, to: WebOrigin) -> Connection:
        """Connect to one of the addresses: to the next one, if TLS breaks off or takes too long at the first.

        Raises:
            OSError: All failed. It is that of the first address that could be reached, if one could: it tells more of
                the store than an address that refuses, or does not answer.
        """
        tls = {"ssl": self._context(), **_tls_to(to)} if to.scheme == "https" else {}
        if (sock := await early.take(to.host, to.port)) is not None:
            with contextlib.suppress(OSError):  # it is tried again, at all addresses
                return await self._opened(sock, tls)
        rows = await self._addresses.of(to.host, to.port)
        import aiohappyeyeballs  # a command connects ahead, to the first address

        reached: OSError | None = None
        while rows:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    sock = await aiohappyeyeballs.start_connection(
                        rows, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, socket_factory=new_socket
                    )
            except OSError:
                if reached is None:
                    raise
                break
            peer = _peer_of(sock)
            try:
                return await self._opened(sock, tls)
            except OSError as e:
                left = [row for row in rows if row[4][:2] != peer]
                rows = left if len(left) < len(rows) else []  # 0.0.0.0 is reached at 127.0.0.1
                if isinstance(e, ssl.SSLError) and not tls_connection_lost(e):
                    raise
                reached = reached or e
        assert reached is not None  # a name has at least one address
        raise reached  # here, where no other error is its context

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

    async def _tunnel(self, connection: Connection, route: Route) -> None:
        """Have a proxy lead a connection to an origin."""
        where = route.origin.where
        headers = {"Host": where, **route.proxy.headers}
        lines = [f"CONNECT {where} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        try:
            connection.write("\r\n".join(lines).encode())
            response = await connection.head()
            if response.status // 100 != 2:
                raise fault_of_proxy(response.status, where, route.proxy)
            if not connection.is_clean:  # what the proxy says now would count as the store's word
                raise ConnectionAbortedError(errno.ECONNABORTED, "the proxy sent more than a tunnel")
        except BaseException:
            self._give_up(connection)
            raise

    async def _begin_tls(self, connection: Connection, origin: WebOrigin) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        try:
            try:
                transport = await loop.start_tls(connection.transport, connection, self._context(), **_tls_to(origin))
            except OSError:
                raise
            except Exception as e:  # of asyncio, for TLS within TLS: Python 3.11's TypeError if the inner one fails
                raise _tls_broke_off() from e
            if transport is None:  # it was lost meanwhile
                raise _tls_broke_off()
        except BaseException:
            self._give_up(connection)
            raise
        return transport

    def _give_up(self, connection: Connection) -> None:
        """Close a connection that was not made. asyncio does not report one that is lost before TLS has begun."""
        connection.abort()
        self._open.discard(connection)


def _tls_to(origin: WebOrigin) -> dict[str, Any]:
    return {"server_hostname": origin.host.rstrip("."), "ssl_handshake_timeout": _NEVER}


def _tls_broke_off() -> OSError:
    return ConnectionAbortedError(errno.ECONNABORTED, "TLS broke off")


def _peer_of(sock: socket.socket) -> Any:
    """The address and port that a socket is connected to. If the peer has reset it already, close it, and raise."""
    try:
        return sock.getpeername()[:2]
    except OSError as e:
        sock.close()
        if e.errno == errno.ENOTCONN:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
        raise


class Addresses:
    """The addresses of the names that one pool connects to, each in turn."""

    def __init__(self) -> None:
        self._limiter = asyncio.Semaphore(_LOOKUPS)
        self._known: dict[tuple[str, int], tuple[list[AddressRow], float]] = {}
        """The rows, and when they were looked up."""
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddressRow]]] = {}
        self._rotation = -1

    async def of(self, host: str, port: int) -> list[AddressRow]:
        """Return the addresses, rotated by one at each call, so that few connections use all of them, too.

        Raises:
            OSError: The name has no address.
            UnicodeError: The name can't be one.
        """
        if (row := _numeric(host, port)) is not None:
            return [row]
        key = host, port
        rows, since = self._known.get(key, ([], 0.0))
        if not rows or time.monotonic() - since > KEPT:
            if key not in self._asked:  # once for all who want to know at the same time
                task = self._asked[key] = asyncio.create_task(self._ask(key))
                task.add_done_callback(retrieve)
            rows = await asyncio.shield(self._asked[key])
        self._rotation += 1
        first = self._rotation % len(rows)
        return rows[first:] + rows[:first]

    def forget(self) -> None:
        """Look up each name again: an address did not work."""
        self._known.clear()

    def close(self) -> None:
        """Leave behind what is being looked up."""
        for task in self._asked.values():
            task.cancel()

    async def _ask(self, key: tuple[str, int]) -> list[AddressRow]:
        """Look a name up, in a thread of its own: the event loop's threads may all be waiting for uploads.

        A lookup whose caller is cancelled is left behind: it would hold the program's end for as long as the name
        servers do not answer.
        """
        ask = functools.partial(socket.getaddrinfo, *key, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        try:
            rows: list[AddressRow] = await run_in_daemon_thread(ask, self._limiter)
            self._known[key] = rows, time.monotonic()
            return rows
        finally:
            del self._asked[key]


def _numeric(host: str, port: int) -> AddressRow | None:
    """The row of an address that is written in place of a name."""
    for family, more in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *more)
    return None

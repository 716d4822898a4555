"""The HTTP client of everything that is sent from here: S3 calls, ranged GETs, web files, calls to a media service.

Parts go over the same connections (`put_transport`). Redirects are not followed, no cookie is kept, and no credential
is taken from ~/.netrc: a request carries what its caller gave, to where its caller said. Nothing is retried. Calls to a
store are logged without their URL's query, and without keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import cache, partial
from typing import NamedTuple

from bigupload import errors
from bigupload.core.checksums import strong_etag
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http._compat import read_before_closing
from bigupload.http.connection import Connection
from bigupload.http.connection_pool import CONNECT_WITHIN, ConnectionPool
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_connecting, fault_of_response, fault_of_socket
from bigupload.http.origins import CaBundle, Proxy, Route, context_of, origin_of, proxy_for, split_url, unusable
from bigupload.http.response_head import BodyReader, Headers, ResponseHead
from bigupload.ports import SignedRequest

_LOG = logging.getLogger("bigupload.stores")
MOST_BYTES = 8 * 1024 * 1024
"""The longest body of a response that is read as a whole. A thousand open uploads with keys of a kilobyte, URL-encoded,
are half of it."""
MOST_SECONDS = 900.0
"""The longest duration of such a response. Complete may send white space for minutes."""
_PIECE = 256 * 1024
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE"})
"""Methods whose requests have no Content-Length if they have no body."""


class HttpResponse(NamedTuple):
    """A response, with its whole body."""

    status: int
    headers: Headers
    body: bytes


class OpenResponse:
    """A response whose body is read piece by piece."""

    def __init__(self, connection: Connection, head: ResponseHead, where: str, within: float | None) -> None:
        """Begin behind the head. `within`: seconds that each further piece may take; None: no limit."""
        self.status, self.headers = head.status, head.headers
        self.where = where
        """The "host:port" that it comes from."""
        self.length = head.length
        """Bytes of the body; None: unknown until its end."""
        self.chunked = head.chunked
        self._keep = head.keep
        self._connection = connection
        self._body = BodyReader(head)
        self._within = within

    @property
    def proxy(self) -> Proxy | None:
        """The user's proxy, if the response came through it."""
        route = self._connection.route
        return route.proxy if route is not None and route.proxy.url is not None else None

    @property
    def ended(self) -> bool:
        """Whether the whole body was read."""
        return self._body.ended

    def finish(self) -> bool:
        """Take the end of a body of which all bytes were read. Returns whether its connection can be used again."""
        self._connection.finish(self._body)
        return self._body.ended and self._keep

    def close(self) -> None:
        """Read no more. May be called again."""
        if not self._body.ended:
            self._connection.abort()

    async def read(self, most: int = _PIECE) -> bytes:
        """Wait for the next bytes of the body, at most `most`; none at its end.

        Raises:
            Fault: BROKEN if the connection broke before the end; what came before that comes first. STALLED if nothing
                comes in time.
        """
        try:
            async with asyncio.timeout(self._within):
                return await self._connection.read(self._body, most)
        except OSError as e:
            self._connection.abort()
            raise (fault_of_socket(e, self.where) if isinstance(e, TimeoutError) else self.cut_off()) from None

    def cut_off(self) -> Fault:
        """Return the fault of a response that has fewer bytes than it should have."""
        return Fault(FaultKind.BROKEN, f"the response of {self.where} ended before all of its bytes had come")

    async def pass_on(self, size: int, take: Callable[[bytes], Awaitable[bool | None]]) -> bool:
        """Hand the next `size` bytes on as they come, until `take` returns False. Returns whether it did not.

        Raises:
            Fault: As `read`. BROKEN if the body ends before that.
        """
        while size:
            if not (piece := await self.read(min(size, _PIECE))):
                raise self.cut_off()
            size -= len(piece)
            if await take(piece) is False:
                return False
        return True

    async def _read_into(self, body: bytearray, most: int) -> None:
        while not self._body.ended and len(body) < most:
            body += await self.read(min(_PIECE, most - len(body)))

    async def read_first(self, most: int) -> bytes:
        """Read the body's first bytes, at most `most`.

        Raises:
            Fault: As `read`. STALLED if they do not come within MOST_SECONDS.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await self._read_into(body, most)
        except TimeoutError:
            message = f"the response of {self.where} did not end within {MOST_SECONDS:.0f} s"
            raise Fault(FaultKind.STALLED, message) from None
        return bytes(body)

    async def read_all(self, most: int = MOST_BYTES) -> bytes:
        """Read the whole body.

        Raises:
            Fault: As `read_first`. BROKEN if it is longer than `most`: what the store did is not known then.
        """
        body = await self.read_first(most + 1)
        if len(body) > most:
            message = f"the response of {self.where} is longer than {most:,} bytes: something else may have responded"
            raise Fault(FaultKind.BROKEN, message)
        return body

    async def read_as_far_as_it_comes(self, most: int, within: float | None) -> bytes:
        """Read an error's body, at most `most` bytes in `within` seconds: the status alone is an error, too."""
        body = bytearray()
        with contextlib.suppress(Fault, TimeoutError):
            async with asyncio.timeout(within):
                await self._read_into(body, most)
        return bytes(body)


class HttpClient:
    """The connections that trust the same certificates. Used in one event loop at a time."""

    def __init__(
        self,
        ca_bundle: CaBundle,
        *,
        with_system: bool = False,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            ca_bundle: Which certificates to trust.
            with_system: Whether to trust the system's, too, if there is a file of others.
            proxies: The URLs of proxies by scheme; None: those of the environment.
        """
        self._proxies = proxies
        self._context = partial(context_of, ca_bundle, with_system=with_system)
        self._pool: ConnectionPool | None = None
        self._routes: dict[str, Route] = {}
        """By the beginning of a URL. They are kept until something fails, because a proxy is looked up slowly."""

    @property
    def pool(self) -> ConnectionPool:
        """The connections."""
        if self._pool is None or self._pool.loop is not asyncio.get_running_loop():  # another loop's are of no use
            self._pool = ConnectionPool(cache(self._context))
        return self._pool

    async def aclose(self) -> None:
        """Close all connections, those included that are in use. Idempotent; the next request opens new ones."""
        pool = self.close()
        if pool is not None:
            await pool.aclose()

    def close(self) -> ConnectionPool | None:
        """Begin to close all connections. Returns what closes them, to wait for."""
        pool, self._pool = self._pool, None
        if pool is not None and pool.loop is asyncio.get_running_loop():
            pool.close()
            return pool
        return None

    # -- routes

    def route(self, url: str) -> Route:
        """Return where the requests to a URL's origin go.

        Raises:
            ValueError: It is no URL of http or https.
            UsageError: The proxy of the environment can't be used.
        """
        address = split_url(url)[0]
        if address not in self._routes:
            origin = origin_of(address)
            try:
                self._routes[address] = Route(origin, proxy_for(origin, self._proxies))
            except ValueError as e:
                if self._proxies is not None:
                    raise errors.UsageError(
                        f"a proxy of `proxies` can't be used ({e}): write it like http://HOST:PORT"
                    ) from None
                raise errors.UsageError(
                    f"the proxy of the environment can't be used ({e}): set https_proxy (and http_proxy) to "
                    "http://HOST:PORT"
                ) from None
        return self._routes[address]

    def prepare(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> tuple[Route, bytes]:
        """Return where a request goes, and its head. The arguments are those of `Route.head`, the errors of `open`."""
        try:
            route = self.route(url)
            return route, route.head(method, url, headers, size)
        except ValueError as e:
            raise unusable(e) from None

    def answering_proxy(self, url: str) -> Proxy | None:
        """Return the proxy that may have answered a request in place of its origin: over http, the two look alike."""
        origin, proxy = self.route(url)
        return proxy if origin.scheme == "http" and proxy.url is not None else None

    def forget_routes(self) -> None:
        """Look up proxies again: something failed or is slow, and the network may have changed."""
        self._routes.clear()

    def _failed(self, route: Route) -> None:
        """Give the next request a new connection: the idle ones may lead over the same dead path."""
        self.forget_routes()
        if self._pool is not None:
            self._pool.forget(route)

    # -- requests

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, *, within: float | None
    ) -> AsyncIterator[OpenResponse]:
        """Send a request. Its connection is kept for others if the whole body of the response was read.

        Args:
            method: The request's method.
            url: Where to. It is sent as it is written.
            headers: Its headers, without Host and Content-Length.
            body: Its body.
            within: Seconds that connecting, the response's beginning and each further piece of it may take; None: no
                limit but those of connecting.

        Raises:
            Fault: There was no response. BROKEN and STALLED: the request may have been performed all the same.
            UsageError: The proxy or the CA bundle can't be used.
            StoreRefused: The URL or a header can't be sent.
        """
        size = len(body) if body is not None else None if method in _WITHOUT_BODY else 0
        route, request = self.prepare(method, url, headers, size)
        where, pool = route.origin.where, self.pool
        connection = await self._connected(route, within)
        try:
            try:
                if body:
                    read_before_closing(connection.transport)
                async with asyncio.timeout(within):
                    with contextlib.suppress(OSError):  # perhaps it said why it closed
                        connection.write(request + (body or b""))
                    head = await connection.head(has_body=method != "HEAD")
            except OSError as e:
                pool.failed(connection, e)
                raise fault_of_socket(e, where, may_expect_tls=route.is_plain and not connection.was_used) from None
            response = OpenResponse(connection, head, where, within)
            yield response
        except BaseException as e:
            connection.abort()
            if isinstance(e, Fault) and e.status is None and e.kind in (FaultKind.BROKEN, FaultKind.STALLED):
                self._failed(route)
            raise
        if response.finish():
            pool.give_back(connection)
        else:
            connection.abort()

    async def _connected(self, route: Route, within: float | None) -> Connection:
        try:
            async with asyncio.timeout(within if within is not None and within < CONNECT_WITHIN else None):
                return await self.pool.take(route, fresh=False)
        except (TimeoutError, Fault) as e:
            self._failed(route)
            if isinstance(e, Fault):
                raise
            raise fault_of_connecting(e, route.origin.where) from None

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        within: float | None,
        most: int = MOST_BYTES,
    ) -> HttpResponse:
        """Send a request, and read the whole response, whose body has at most `most` bytes. Otherwise as `open`.

        Raises:
            Fault: As `open` and `OpenResponse.read_all`.
        """
        async with self.open(method, url, headers, body, within=within) as response:
            return HttpResponse(response.status, response.headers, await response.read_all(most))


class HttpClients:
    """The clients of one `Uploader`: one for each set of certificates that is trusted."""

    def __init__(self, proxies: Mapping[str, str] | None = None) -> None:
        self._clients: dict[CaBundle, HttpClient] = {}
        self._proxies = proxies

    def of(self, ca_bundle: CaBundle) -> HttpClient:
        """Return the client that trusts these certificates."""
        if ca_bundle not in self._clients:
            self._clients[ca_bundle] = HttpClient(ca_bundle, proxies=self._proxies)
        return self._clients[ca_bundle]

    async def aclose(self) -> None:
        """Close all connections. Idempotent; the next request opens new ones."""
        closing = [client.close() for client in self._clients.values()]  # before the first wait, which may be cancelled
        for pool in closing:
            if pool is not None:
                await pool.aclose()


@contextlib.contextmanager
def log_request(method: str, where: str) -> Iterator[None]:
    """Log how the request to a store inside the `with` statement ended, in one DEBUG line.

    Args:
        method: What is requested, for example `ListParts`.
        where: The store's endpoint, without a query.
    """
    if not _LOG.isEnabledFor(logging.DEBUG):
        yield
        return
    began, outcome = time.monotonic(), "done"
    try:
        yield
    except Exception as e:
        outcome = f"{type(e).__name__}: {e}"
        raise
    except BaseException as e:
        outcome = type(e).__name__
        raise
    finally:
        _LOG.debug("%s at %s: %s after %.0f ms", method, where, outcome, (time.monotonic() - began) * 1000)


_CONTENT_RANGE = r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)"


async def read_range(
    client: HttpClient,
    request: SignedRequest,
    start: int,
    end: int,
    *,
    etag: str,
    size: int,
    within: float,
    take: Callable[[bytes], Awaitable[bool | None]],
) -> None:
    """Read an object's bytes from `start` to before `end`, by more requests if the store caps ranges.

    Args:
        client: Whose connections to use. Redirects are not followed.
        request: The presigned GET.
        start: The first byte of the range.
        end: The byte after the range.
        etag: The object's ETag, as it was when the caller first looked.
        size: The object's size in bytes.
        within: Seconds without a byte after which it fails with Fault(STALLED).
        take: Gets the bytes as they arrive, until it returns False. What it got counts, whatever fails later.

    Raises:
        Fault: EXISTS if the object has another ETag, UNSUPPORTED if the store sends other bytes than the requested
            ones or no ETag, BROKEN if bytes are missing, or any other failure.
    """
    wanted = True
    while wanted and start < end:
        # Neither header is signed. They only narrow down what the URL allows.
        headers = {**request.headers, "Range": f"bytes={start}-{end - 1}", "If-Match": etag}
        async with client.open("GET", request.url, headers, within=within) as response:
            if response.status in (200, 206):
                reached = _check(response, start, end, etag, size)
                wanted = await response.pass_on(reached - start, take)  # a store that ignores the range sends more
                start = reached
                continue
            body = await response.read_as_far_as_it_comes(MAX_ERROR_BODY, within)
        raise fault_of_response(response.status, response.headers, body, "to read the object", url=request.url)


def _check(response: OpenResponse, start: int, end: int, etag: str, size: int) -> int:
    """Check that these are the requested bytes, also if the store ignores a condition. Return where they end."""
    found = response.headers.get("ETag")
    if found is None:  # If-Match is no proof: not every store looks at it
        raise Fault(
            FaultKind.UNSUPPORTED,
            "the store sends ranges without an ETag, so that they may be of different versions of the object",
        )
    if strong_etag(found) != strong_etag(etag):
        raise Fault(FaultKind.EXISTS, "the object was replaced while it was read: its ETag is another")
    if response.status == 200:
        if start:
            raise Fault(FaultKind.UNSUPPORTED, "the store sends whole objects only: it ignores Range")
        return end
    match = re.fullmatch(_CONTENT_RANGE, response.headers.get("Content-Range", ""))
    first, last, of = match.groups() if match is not None else (-1, -1, "")
    reached = int(last) + 1
    if int(first) != start or of not in (str(size), "*") or not start < reached <= end:  # it may be less than requested
        raise Fault(FaultKind.UNSUPPORTED, "the store sends another range than the requested one")
    return reached

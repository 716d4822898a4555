"""Sends each part by one HTTP PUT, and judges the response.

aiohttp is not used here. To import it takes as long as to send a thousand small files, its requests, tasks and
responses cost more than the bytes of such a file, and it forgets the response of a store that refuses and closes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType

from bigupload import errors
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault
from bigupload.http.connection_pool import ConnectionPool
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_socket
from bigupload.http.memory_body import MOST_BYTES, MemoryBody
from bigupload.http.origins import WebOrigin, origin_of
from bigupload.http.part_body import RESPONSE_AFTER_WRITE_ERROR, PartBody
from bigupload.http.proxies import Proxy, proxy_for
from bigupload.http.put_messages import head_of_put, judge, split_url, unusable
from bigupload.http.send_resources import SendResources
from bigupload.http.socket_tuning import AUTO
from bigupload.http.socket_tuning import check_congestion_control as check_congestion_control
from bigupload.http.trust import CaBundle
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.shielding import run_shielded

_CLOSE_GRACE = 2.0
"""Seconds that connections may take to close after the caller was cancelled."""


class HttpTransport:
    """The `ports.Transport` over HTTP: an async context manager that all uploads of one `Uploader` share."""

    def __init__(
        self,
        *,
        ca_bundle: CaBundle = None,
        limiter: RateLimiter | None = None,
        congestion: str = AUTO,
    ) -> None:
        """Open no connection yet.

        Args:
            ca_bundle: Which certificates to trust.
            limiter: The bandwidth limit for all parts together, or None.
            congestion: The name of a congestion control of the kernel, "auto" to choose one by each connection's round
                trip, or "system" to change nothing.
        """
        self._pool = ConnectionPool(ca_bundle)
        self._routes: dict[str, tuple[WebOrigin, Proxy]] = {}
        """By the beginning of a URL. They are kept until something fails, because a proxy is looked up slowly."""
        self._resources = SendResources(limiter, congestion)

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await run_shielded(self._pool.aclose(), grace=_CLOSE_GRACE)
        finally:  # a cancelled scope of anyio cancels each await
            self._resources.close()

    def connect_ahead(self, address: str, count: int) -> None:
        """Begin to connect. See `ports.Transport.connect_ahead`.

        Not with a rate limit, which needs few connections, nor through a proxy, which would be told a wrong password
        many times.
        """
        if self._resources.limiter is not None:
            return
        with contextlib.suppress(ValueError, errors.UsageError):
            origin, proxy = self._route(split_url(f"{address}/")[0])
            if proxy.url is None:
                self._pool.connect_ahead(origin, proxy, count)

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        """Send one part. See `ports.Transport.put`."""
        body = self._body(source, part)
        on_start(body)
        if fresh:
            self._routes.clear()  # the last attempt failed or is slow: the network may have changed
        try:
            place, target = split_url(request.url)
            origin, proxy = self._route(place)
            if proxy.url is not None and origin.scheme == "http":  # the proxy takes its header out
                headers = {**request.headers, **proxy.headers}
                head = head_of_put(request.url, origin.header, headers, part.size)
            else:
                head = head_of_put(target, origin.header, request.headers, part.size)
        except ValueError as e:
            raise unusable(e) from None
        what = request.subject or f"part {part.number}"
        try:
            connection = await self._pool.take(origin, proxy, fresh=fresh)
            try:
                response = await body.exchange(connection, head)
                content = await connection.body(response, MAX_ERROR_BODY, RESPONSE_AFTER_WRITE_ERROR)
            except BaseException:
                connection.abort()
                raise
            if fresh or not body.complete:  # after half a body, nothing more can follow
                connection.abort()
            else:
                self._pool.give_back(connection, origin, proxy)
        except Fault:
            self._routes.clear()
            raise
        except OSError as e:
            self._routes.clear()
            if body.failure is not None:
                raise body.failure from None
            raise fault_of_socket(e, origin.where) from None
        if body.failure is not None:
            raise body.failure
        error = b"" if response.status // 100 == 2 else content
        return judge(response.status, response.headers, error, what, complete=body.complete)

    def _body(self, source: Source, part: Part) -> MemoryBody | PartBody:
        view = source.view(part.offset, part.size) if part.size <= MOST_BYTES else None
        if view is None or self._resources.limiter is not None:
            return PartBody(source, part, self._resources)
        return MemoryBody(view, self._resources)

    def _route(self, place: str) -> tuple[WebOrigin, Proxy]:
        """Where the origin of a URL is, and the proxy on the way.

        Raises:
            ValueError: It is no origin.
            UsageError: The proxy of the environment can't be used.
        """
        if place not in self._routes:
            origin = origin_of(place)
            try:
                self._routes[place] = origin, proxy_for(origin)
            except ValueError:
                raise errors.UsageError(
                    "the proxy of the environment can't be used: set https_proxy (and http_proxy) to http://HOST:PORT"
                ) from None
        return self._routes[place]

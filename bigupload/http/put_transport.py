"""Sends each part by one HTTP PUT, and judges the response.

A part has a client's connections and an own way to send its body (`part_body`): from the page cache to the socket.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from types import TracebackType

from bigupload import errors
from bigupload.core.checksums import with_quotes
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.client import HttpClient
from bigupload.http.http_errors import MAX_ERROR_BODY, fault_of_response, fault_of_socket, fault_of_stranger
from bigupload.http.memory_body import MOST_BYTES, MemoryBody
from bigupload.http.origins import unusable
from bigupload.http.part_body import RESPONSE_AFTER_WRITE_ERROR, PartBody
from bigupload.http.response_head import ResponseHead
from bigupload.http.send_resources import SendResources
from bigupload.http.socket_tuning import AUTO
from bigupload.http.socket_tuning import check_congestion_control as check_congestion_control
from bigupload.http.trust import CaBundle
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.shielding import run_shielded

_CLOSE_GRACE = 2.0
"""Seconds that connections may take to close after the caller was cancelled."""
_SCOPE = re.compile(r"[?&]X-Amz-Credential=[^&]*(?:%2F|/)[0-9]{8}(?:%2F|/)([A-Za-z0-9-]+)(?:%2F|/)")
"""The region in the scope of a presigned URL."""


class HttpTransport:
    """The `ports.Transport` over HTTP: an async context manager that all uploads of one `Uploader` share."""

    def __init__(
        self,
        client: HttpClient | None = None,
        *,
        ca_bundle: CaBundle = None,
        limiter: RateLimiter | None = None,
        congestion: str = AUTO,
    ) -> None:
        """Open no connection yet.

        Args:
            client: Whose connections to use, which the end of the context closes; None: a new client's.
            ca_bundle: Which certificates a new client trusts.
            limiter: The bandwidth limit for all parts together, or None.
            congestion: The name of a congestion control of the kernel, "auto" to choose one by each connection's round
                trip, or "system" to change nothing.
        """
        self._client = client or HttpClient(ca_bundle)
        self._resources = SendResources(limiter, congestion)
        self._closed = False

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        try:
            await run_shielded(self._client.aclose(), grace=_CLOSE_GRACE)
        finally:  # a cancelled scope of anyio cancels each await
            self._resources.close()

    def connect_ahead(self, address: str, count: int) -> None:
        """Begin to connect. See `ports.Transport.connect_ahead`.

        Not with a rate limit, which needs few connections, nor through a proxy: a wrong password would be sent many
        times.
        """
        if self._resources.limiter is not None or self._closed:
            return
        with contextlib.suppress(ValueError, errors.UsageError):
            origin, proxy = self._client.route(f"{address}/")
            if proxy.url is None:
                self._client.pool.connect_ahead(origin, proxy, count)

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
        client = self._client
        if self._closed:
            raise Fault(FaultKind.BROKEN, "the connections were closed")
        if fresh:
            client.forget_routes()
        try:
            route = client.route(request.url)
            head = route.head("PUT", request.url, request.headers, part.size)
        except ValueError as e:
            raise unusable(e) from None
        pool = client.pool
        try:
            connection = await pool.take(*route, fresh=fresh)
            try:
                response = await body.exchange(connection, head)
                content = await connection.body(response, MAX_ERROR_BODY, RESPONSE_AFTER_WRITE_ERROR)
            except BaseException as e:
                connection.abort()
                if isinstance(e, OSError):
                    pool.failed(connection, e)
                raise
            if fresh or not body.complete:  # after half a body, nothing more can follow
                connection.abort()
            else:
                pool.give_back(connection, *route)
        except Fault:
            client.forget_routes()
            raise
        except OSError as e:
            client.forget_routes()
            if body.failure is not None:
                raise body.failure from None
            raise fault_of_socket(e, route.origin.where) from None
        if body.failure is not None:
            raise body.failure
        what = request.subject or f"part {part.number}"
        if response.status // 100 != 2:
            size = None if request.subject else part.size
            raise fault_of_response(
                response.status,
                response.headers,
                content,
                what,
                region=_region_of(request.url),
                proxy=client.answering_proxy(request.url),
                sent=size,
            )
        return _stored(response, content, what, complete=body.complete)

    def _body(self, source: Source, part: Part) -> MemoryBody | PartBody:
        view = source.view(part.offset, part.size) if part.size <= MOST_BYTES else None
        if view is None or self._resources.limiter is not None:
            return PartBody(source, part, self._resources)
        return MemoryBody(view, self._resources)


def _region_of(url: str) -> str | None:
    """The region that a presigned URL was signed for; None: it does not say."""
    found = _SCOPE.search(url)
    return None if found is None else found[1]


def _stored(response: ResponseHead, content: bytes, what: str, *, complete: bool) -> PutResponse:
    """Read a successful response.

    Raises:
        Fault: BROKEN if it came before all was sent, or does not say what was stored.
    """
    status, headers = response.status, response.headers
    if not complete:
        raise Fault(FaultKind.BROKEN, f"the store responded {status} to {what} before it had received all of it")
    etag = headers.get("ETag")
    if not etag and content:
        raise fault_of_stranger(status, headers, content, what)
    if not etag:
        raise Fault(FaultKind.BROKEN, f"the store's response to {what} has no ETag")
    checksums = {name: value for name, value in headers.items() if name.startswith("x-amz-checksum-")}
    return PutResponse(with_quotes(etag), checksums, headers.get("x-amz-version-id"))

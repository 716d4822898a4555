"""Sends each part by one HTTP PUT over a client's connections, and judges the response.

A small body in memory goes together with the head (`Connection.write_both`). Others have their own way (`part_body`):
from the page cache to the socket.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from bigupload import errors
from bigupload.core.checksums import strong_etag
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http import socket_tuning
from bigupload.http._compat import read_before_closing, unsent_by
from bigupload.http.client import HttpClient, OpenResponse
from bigupload.http.connection import Connection
from bigupload.http.http_errors import (
    MAX_ERROR_BODY,
    fault_of_response,
    fault_of_socket,
    fault_of_stranger,
    is_page,
)
from bigupload.http.origins import CaBundle
from bigupload.http.part_body import RESPONSE_AFTER_WRITE_ERROR, BodyResources, PartBody
from bigupload.http.response_head import ResponseHead
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source
from bigupload.support.cancellation import run_shielded
from bigupload.support.rate_limiter import RateLimiter

MOST_BYTES = MIB
"""Bytes of a small body. The transport copies what the kernel does not take at once."""
_CLOSE_GRACE = 2.0
"""Seconds that connections may take to close after the caller was cancelled."""
_SCOPE = r"[?&]X-Amz-Credential=[^&]*(?:%2F|/)[0-9]{8}(?:%2F|/)([A-Za-z0-9-]+)(?:%2F|/)"
"""The region in the scope of a presigned URL."""


class HttpTransport:
    """The `ports.Transport` over HTTP: an async context manager that all uploads of one `Uploader` share."""

    def __init__(
        self,
        client: HttpClient | None = None,
        *,
        ca_bundle: CaBundle = None,
        limiter: RateLimiter | None = None,
        congestion: str = socket_tuning.AUTO,
    ) -> None:
        """Open no connection yet.

        Args:
            client: Whose connections to use, which the end of the context closes; None: a new client's.
            ca_bundle: Which certificates a new client trusts.
            limiter: The bandwidth limit for all parts together, or None.
            congestion: As in `socket_tuning.tune_for_path`.
        """
        self._client = client or HttpClient(ca_bundle)
        self._resources = BodyResources(limiter, congestion)
        self._closed = False

    async def __aenter__(self) -> HttpTransport:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        try:
            await run_shielded(self._client.aclose(), grace=_CLOSE_GRACE)
        finally:  # a cancelled scope of anyio cancels each await
            self._resources.close()

    def connect_ahead(self, address: str, count: int) -> None:
        """Begin to connect. See `ports.Transport.connect_ahead`."""
        if self._resources.limiter is not None or self._closed:  # a rate limit needs few connections
            return
        with contextlib.suppress(ValueError, errors.UsageError):
            route = self._client.route(f"{address}/")
            if route.proxy.url is None:  # a wrong password would be sent to a proxy many times
                self._client.pool.connect_ahead(route, count)

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
        route, head = client.prepare("PUT", request.url, request.headers, part.size)
        where, pool = route.origin.where, client.pool
        may_expect_tls = False
        try:
            connection = await pool.take(route, fresh=fresh)
            # What creates an upload in parts has had a response from the store. A whole object is the first request.
            may_expect_tls = bool(request.subject) and route.is_plain and not connection.was_used
            try:
                answer = await body.exchange(connection, head)
                response = OpenResponse(connection, answer, where, None)
                content = await response.read_as_far_as_it_comes(MAX_ERROR_BODY, RESPONSE_AFTER_WRITE_ERROR)
            except BaseException as e:
                connection.abort()
                if isinstance(e, OSError):
                    pool.failed(connection, e)
                raise
        except (Fault, OSError) as e:
            client.forget_routes()
            if isinstance(e, Fault):
                raise
            if body.failure is not None:
                raise body.failure from None
            raise fault_of_socket(e, where, may_expect_tls=may_expect_tls) from None
        if fresh or not body.complete or not response.finish():  # after half a body, nothing more can follow
            connection.abort()
        else:
            pool.give_back(connection)
        if body.failure is not None:
            raise body.failure
        what = request.subject or f"part {part.number}"
        if response.status // 100 != 2:
            scope = re.search(_SCOPE, request.url)
            raise fault_of_response(
                response.status,
                response.headers,
                content,
                what,
                region=None if scope is None else scope[1],
                proxy=client.answering_proxy(request.url),
                sent=part.size,
                url=request.url,
                is_part=not request.subject,
            )
        return _stored(answer, content, what, complete=body.complete)

    def _body(self, source: Source, part: Part) -> MemoryBody | PartBody:
        view = source.view(part.offset, part.size) if part.size <= MOST_BYTES else None
        if view is None or self._resources.limiter is not None:
            return PartBody(source, part, self._resources)
        return MemoryBody(view, self._resources)


def _stored(response: ResponseHead, content: bytes, what: str, *, complete: bool) -> PutResponse:
    """Read a successful response.

    Raises:
        Fault: BROKEN if it came before all was sent, or is not a store's: a web page, or a body without an ETag.
    """
    status, headers = response.status, response.headers
    if not complete:
        raise Fault(FaultKind.BROKEN, f"the store responded {status} to {what} before it had received all of it")
    etag = strong_etag(headers.get("ETag") or "")
    if etag == '""':  # as good as none
        etag = ""
    if is_page(content) or (not etag and content):
        raise fault_of_stranger(status, headers, content, what)
    checksums = {name: value for name, value in headers.items() if name.startswith("x-amz-checksum-")}
    return PutResponse(etag, checksums, headers.get("x-amz-version-id"))


class MemoryBody:
    """A small body in memory on its way, without a task of its own. It is the `ports.Gauge` of its own sending."""

    failure = None
    """Bytes in memory can be read."""

    def __init__(self, view: memoryview, resources: BodyResources) -> None:
        self.complete = False
        """Whether the whole body was handed to the kernel or to TLS."""
        self._view = view
        self._size = len(view)
        self._resources = resources
        self._sent = 0
        """Bytes sent of a body that was broken off."""
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
                connection.write_both(head, self._view)
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

    def round_trip_times(self) -> tuple[float, float]:
        return 0.0, 0.0  # over before that matters

    def window_is_full(self) -> bool:
        return False

    def paused(self) -> bool:
        return False

    def set_paused(self, *, paused: bool) -> bool:
        return False  # the transport has it already

    def search_again(self) -> None:
        pass

"""The service as an application of aiohttp: the edge of `bigupload serve`, and of applications that mount it.

`bigupload serve` also limits the number of its connections and their idle time, and answers malformed HTTP like every
other error.

A connection costs a descriptor and needs no API key, so silent connections must not keep other clients out. At the
limit, the connection that has waited longest for a request is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp
from aiohttp import HttpVersion10, HttpVersion11, web

from bigupload.service.call import AccessLog, Answer, ClientLeftError, WebCall
from bigupload.service.http.handling import SAFE_HEADERS, Service
from bigupload.service.http.opening import ServiceConfig
from bigupload.service.problems import Problem, Refused
from bigupload.support.files import descriptor_limit

_LINGER = 2.0
"""The time for which the rest of a refused body is read, in seconds, so that the response arrives before the close."""
_LONGEST_LINE = 64 * 1024
"""The longest request line, in bytes: longer than the longest handle, even if it is quoted."""
_SERVER = "bigupload"
"""aiohttp would name its version and Python's."""
_VERSIONS = frozenset({HttpVersion10, HttpVersion11})
"""Of HTTP. aiohttp's parser lets 0.9 and 2.0 pass."""
HEADERS_WITHIN = 30.0
"""The most seconds from the connect, or from the first byte of a further request, to the end of the headers."""
IDLE_FOR = 75.0
"""The most seconds that a connection may wait for a further request. More than the 60 s of common load balancers, so
that the load balancer closes first:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html"""
ACCEPTED_AT_ONCE = 128
"""The number of connections that asyncio accepts at once, before they are counted here."""
_RESERVED = 256
"""Descriptors reserved for the store's connections, files and the event loop."""
_MOST = 10_000
_FEWEST = 16
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FREED_AT_ONCE = 64
"""The number of waiting connections that are closed if the system has no more descriptors."""
_REPORTED_EVERY = 10.0
"""Seconds between two log lines about that."""
SERVICE = web.AppKey("service", Service)

Answering = Callable[[WebCall, Refused | None], Awaitable[Answer]]


def create_app(config: ServiceConfig) -> web.Application:
    """Make the service as an application of aiohttp.

    Run it by itself, or mount it with `add_subapp` at any prefix. It reaches the store when it starts, and its
    connections end at its cleanup. Nothing outside it is changed, so several may be in one process.

    Raises:
        UsageError: The configuration makes no sense. At the start, the errors of the store, too.
    """
    service = Service(config)
    app = application(service.answer)
    app[SERVICE] = service

    async def running(_: web.Application) -> AsyncIterator[None]:
        async with service.running():
            yield

    app.cleanup_ctx.append(running)
    return app


def application(answering: Answering) -> web.Application:
    """Make an application that hands each request on, whatever its path is."""

    async def respond(request: web.Request) -> web.StreamResponse:
        with request.protocol.busy() if isinstance(request.protocol, ClientConnection) else contextlib.nullcontext():
            return await _respond(request, everything.canonical.removesuffix("/{path}"), answering)

    @web.middleware
    async def edge(request: web.Request, handler: object) -> web.StreamResponse:
        """Also what no route matches is answered: `OPTIONS *`."""
        return await respond(request)

    app = web.Application(middlewares=[edge])
    everything = app.router.add_resource("/{path:.*}")  # it knows the prefix at which the application is mounted
    everything.add_route("*", respond)
    return app


async def _respond(request: web.Request, prefix: str, answering: Answering) -> web.Response:
    path = request.match_info.get("path")
    call = WebCall(
        method=request.method,
        path=request.path if path is None else f"/{path}",
        query_string=request.rel_url.raw_query_string,
        headers=request.headers,
        body=_body(request),
        prefix=prefix,
        remote=request.remote,
        request=request,
    )
    refused = None
    if request.version not in _VERSIONS:
        refused = Refused(Problem.MALFORMED_REQUEST, "the service speaks HTTP/1.1 and HTTP/1.0 only")
    answer = await answering(call, refused)
    response = web.Response(status=answer.status, body=answer.body or None, headers=answer.headers)
    response.headers["Server"] = _SERVER
    if answer.ends:
        response.force_close()
    return response


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.content.iter_any():
            yield chunk
    except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError) as e:
        raise ClientLeftError from e
    except RuntimeError as e:
        if request.transport is not None:  # else aiohttp says so that the client left before the first read
            raise
        raise ClientLeftError from e


# -- connections


def most_connections() -> int:
    """Return for how many client connections this process has descriptors."""
    limit = descriptor_limit()
    return _MOST if limit is None else max(_FEWEST, min(_MOST, limit - _RESERVED - ACCEPTED_AT_ONCE))


class Connections:
    """The connections of one process."""

    def __init__(
        self, most: int, log: AccessLog, *, headers_within: float = HEADERS_WITHIN, idle_for: float = IDLE_FOR
    ) -> None:
        """Make it.

        Args:
            most: The most connections.
            log: Has a line for each request that is malformed.
            headers_within: Seconds.
            idle_for: Seconds.
        """
        self.log = log
        self.logger = log.server_logger()
        self.headers_within = headers_within
        self.idle_for = idle_for
        self._most = most
        self._count = 0
        self._waiting: OrderedDict[ClientConnection, None] = OrderedDict()  # the longest waiting first
        self._quiet_until = 0.0

    def __len__(self) -> int:
        """Return the number of open connections."""
        return self._count

    def open(self) -> bool:
        """Count a new connection and make room for it. Returns False if all others are busy with requests."""
        if self._count >= self._most and not self.close_waiting(1):
            return False
        self._count += 1
        return True

    def closed(self, connection: ClientConnection) -> None:
        """Forget a connection."""
        self._count -= 1
        self._waiting.pop(connection, None)

    def waits(self, connection: ClientConnection) -> None:
        """Mark a connection as waiting for a request."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def is_busy(self, connection: ClientConnection) -> None:
        """Mark a connection as busy with a request."""
        self._waiting.pop(connection, None)

    def close_waiting(self, count: int) -> int:
        """Close the `count` connections that have waited longest. Returns how many were closed."""
        closing = [connection for connection, _ in zip(self._waiting, range(count), strict=False)]
        for connection in closing:
            del self._waiting[connection]
            connection.abort()
        return len(closing)

    def handle_loop_error(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """Log an error of the event loop in one line, without asyncio's texts, which may contain a secret.

        If no descriptors are left, make room: asyncio accepts again after a second.
        """
        error = context.get("exception")
        cause = None if error is None else type(error).__name__
        if not (isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES):
            self.log.write_event("server", message=str(context.get("message")), cause=cause)
            return
        # asyncio reports each connection that it could not accept: thousands a second.
        if loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + _REPORTED_EVERY
            closed = self.close_waiting(_FREED_AT_ONCE)
            self.log.write_event("server", message="out of descriptors or memory", cause=error.strerror, closed=closed)


class ClientConnection(web.RequestHandler):
    """A client's connection: aiohttp's, with time limits and errors as JSON."""

    def __init__(self, server: web.Server, connections: Connections) -> None:
        """`server` runs the application."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=connections.idle_for,
            access_log=None,  # type: ignore[arg-type]  # aiohttp writes none then
            auto_decompress=False,
            lingering_time=_LINGER,
            max_line_size=_LONGEST_LINE,
            logger=connections.logger,
        )
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._client: asyncio.Transport | None = None  # None: not counted, or closed
        self._is_idle = False
        self._unsent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new connection."""
        assert isinstance(transport, asyncio.Transport)
        if not self._connections.open():
            transport.write(_TOO_MANY)
            transport.close()
            return
        self._client = transport
        super().connection_made(transport)
        self._wait(self._connections.headers_within)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Handle the end of the connection, whoever closed it."""
        if self._client is not None:
            self._client = None
            self._stop_timer()
            self._connections.closed(self)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle bytes of a request. The time limit for the headers starts at the first byte."""
        if self._client is None:
            return
        if self._is_idle:
            self._is_idle = False
            self._arm(self._connections.headers_within)
        super().data_received(data)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Handle the work on a request, from the end of its headers. Its response may be in flight after that.

        The rest of the request has other time limits.
        """
        self._stop_timer()
        self._connections.is_busy(self)
        try:
            yield
        finally:
            if self._client is not None:
                self._is_idle = True
                self._wait(self._connections.idle_for)

    def abort(self) -> None:
        """Close at once, without sending buffered bytes."""
        if self._client is not None:
            self._client.abort()

    def _wait(self, seconds: float) -> None:
        self._connections.waits(self)
        self._arm(seconds)

    def _arm(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        """Close, unless the client is still receiving a response."""
        assert self._client is not None
        unsent, before = self._client.get_write_buffer_size(), self._unsent
        self._unsent = unsent
        if unsent and unsent != before:
            self._arm(self._connections.idle_for)
        else:
            self.abort()

    # -- errors

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer malformed HTTP. aiohttp's message is left out, because it repeats the request, which may contain a
        key."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response was sent already")
        problem = Problem.MALFORMED_REQUEST if status < 500 else Problem.INTERNAL
        return self._refusal(request, Refused(problem), exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer what aiohttp itself refuses (an unknown `Expect`) like every other error."""
        if isinstance(resp, web.HTTPException):
            resp = self._refusal(request, Refused(Problem.MALFORMED_REQUEST), None)
        return await super().finish_response(request, resp, start_time)

    def _refusal(self, request: web.BaseRequest, refused: Refused, cause: BaseException | None) -> web.Response:
        log, status = self._connections.log, refused.problem.status
        logged = log.begin(request.remote, request.headers)
        logged.refused(refused)
        if cause is not None:
            logged.more["cause"] = type(cause).__name__
        log.end(logged, status=status)
        headers = {**SAFE_HEADERS, "Server": _SERVER, "X-Request-Id": logged.id}
        response = web.json_response(refused.to_json(), status=status, headers=headers)
        response.force_close()
        return response


_REFUSED = json.dumps(Refused(Problem.TOO_MANY_CONNECTIONS).to_json())
_TOO_MANY = (
    f"HTTP/1.1 503 \r\nContent-Type: application/json\r\nRetry-After: 1\r\nContent-Length: {len(_REFUSED)}\r\n"
    f"Connection: close\r\n\r\n{_REFUSED}"
).encode()
"""A complete response, for a client whose request is not read."""

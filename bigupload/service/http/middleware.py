"""Give every request an id, a line in the log and a count, and answer errors as JSON. Knows no endpoint.

Also how to stop without breaking requests: load balancers notice first, then the requests in flight are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import re
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, HttpVersion11, web

from bigupload.service.access.cors import CrossOrigin
from bigupload.service.access_log import AccessLog, LoggedRequest
from bigupload.service.http.connections import ClientConnection, Connections
from bigupload.service.http.monitoring import Metrics, Tracing
from bigupload.service.problems import Problem, Refused


class RequestsInFlight:
    """The requests in flight."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether the service was asked to stop: `/readyz` fails, and each response ends its connection."""
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._count == 0:
            self._none.set()

    async def drain(
        self,
        server: asyncio.Server,
        *,
        delay: float,
        within: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Serve on for `delay` seconds, accept no more connections, and finish the requests in flight.

        During the delay, a load balancer sees that `/readyz` fails and sends new requests elsewhere. Each response
        says `Connection: close` meanwhile: a connection that was closed while it is idle could just be sending the next
        request. aiohttp's own shutdown would wait without reading the rest of a body that is still arriving.

        Args:
            server: What accepts the connections.
            delay: Seconds to go on accepting connections.
            within: The most seconds to wait for the requests in flight after that.
            sleep: Waits for the delay.
        """
        self.stopping = True
        if delay > 0:
            await sleep(delay)
        server.close()
        await self.finished(within=within)

    async def finished(self, *, within: float) -> None:
        """Wait until no request is in flight, for up to `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()


IN_FLIGHT = web.AppKey("in_flight", RequestsInFlight)


_LINGER = 2.0
"""The time for which the rest of a refused body is read, in seconds, so that the response arrives before the close."""
_LONGEST_LINE = 64 * 1024
"""The longest request line, in bytes: longer than the longest handle, even if it is quoted."""
_SAFE_HEADERS = {
    "Server": "bigupload",  # aiohttp would name its version and Python's
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_VERSIONS = frozenset({HttpVersion10, HttpVersion11})
"""Of HTTP. aiohttp's parser lets 0.9 and 2.0 pass."""
LOGGED: web.RequestKey[LoggedRequest] = web.RequestKey("logged", LoggedRequest)
_API = re.compile(r"/v[0-9]+/")
"""The paths that pages of other origins may read: the API, not the page, the metrics or the document."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RequestMiddleware:
    """The middleware around every request."""

    def __init__(
        self,
        log: AccessLog,
        metrics: Metrics,
        in_flight: RequestsInFlight,
        cors: CrossOrigin | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._in_flight = in_flight
        self._cors = cors or CrossOrigin()
        self._tracing = tracing or Tracing("")
        self.root: web.AbstractResource | None = None
        """The resource of /healthz, which knows the prefix at which the application is mounted."""

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request, with its connection marked as busy."""
        connection = request.protocol
        if not isinstance(connection, ClientConnection):
            return await self._handle(request, handler)
        connection.begin_request()
        try:
            return await self._handle(request, handler)
        finally:
            connection.end_request()

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        logged = self._log.begin(request)
        request[LOGGED] = logged
        try:
            with self._in_flight, self._tracing.of_request(request, logged) as ended:
                response = await self._respond(request, handler, logged)
                ended(response.status)
        except asyncio.CancelledError:
            self._log.end(logged, status=499)
            raise
        if self._in_flight.stopping:
            response.force_close()
        response.headers["X-Request-Id"] = logged.id
        for name, value in _SAFE_HEADERS.items():
            response.headers.setdefault(name, value)
        if self._is_api(request.path):
            varies = response.headers.get("Vary")
            response.headers.update(self._cors.headers(request.headers.get("Origin")))
            if varies is not None and response.headers["Vary"] != varies:
                response.headers["Vary"] += f", {varies}"
        self._log.end(logged, status=response.status)
        self._metrics.observe(logged, response.status)
        return response

    def _is_api(self, path: str) -> bool:
        prefix = "" if self.root is None else self.root.canonical.removesuffix("/healthz")
        return _API.match(path.removeprefix(prefix)) is not None

    async def _respond(self, request: web.Request, handler: Handler, logged: LoggedRequest) -> web.StreamResponse:
        try:
            if request.version not in _VERSIONS:
                raise Refused(Problem.MALFORMED_REQUEST, "the service speaks HTTP/1.1 and HTTP/1.0 only")
            return await handler(request)
        except Refused as refused:
            logged.refused(refused)
            return problem_response(refused)
        except web.HTTPNotFound:
            return problem_response(Refused(Problem.NOT_FOUND))
        except web.HTTPMethodNotAllowed as e:
            response = problem_response(Refused(Problem.METHOD_NOT_ALLOWED))
            response.headers["Allow"] = e.headers["Allow"]
            return response
        except Exception as e:  # a bug: the details go to the log, not to the client
            logged.failed(e)
            return problem_response(Refused(Problem.INTERNAL, f"a bug in the service: its log has it as {logged.id}"))


def problem_response(refused: Refused) -> web.Response:
    """Return the response for an error."""
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(refused.retry_after))
    if refused.problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = web.json_response(refused.to_json(), status=refused.problem.status, headers=headers)
    if refused.problem in (Problem.BODY_TOO_LARGE, Problem.MALFORMED_REQUEST):
        response.force_close()  # what follows is not read
    return response


def connection_factory(
    server: web.Server, connections: Connections, log: AccessLog, *, linger: float = _LINGER
) -> Callable[[], ClientConnection]:
    """Make the protocol of a client's connection to the application that `server` runs.

    Args:
        server: Runs the application.
        connections: All connections.
        log: Has a line for each request.
        linger: Seconds for which the rest of a refused request's body is read.
    """

    def report(request: web.BaseRequest, refused: Refused, cause: BaseException | None) -> dict[str, str]:
        logged = log.begin_unread(request)
        logged.refused(refused)
        if cause is not None:
            logged.more["cause"] = type(cause).__name__
        log.end(logged, status=refused.problem.status)
        return {**_SAFE_HEADERS, "X-Request-Id": logged.id}

    return functools.partial(
        ClientConnection,
        server,
        connections,
        report,
        loop=asyncio.get_running_loop(),
        access_log=None,
        auto_decompress=False,
        lingering_time=linger,
        max_line_size=_LONGEST_LINE,
        logger=log.server_logger(),
    )

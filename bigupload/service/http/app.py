"""The service as an application of aiohttp: the edge of `bigupload serve`, and of applications that mount it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from aiohttp import HttpVersion10, HttpVersion11, web

from bigupload.service.access_log import AccessLog
from bigupload.service.call import Answer, ClientLeftError, WebCall
from bigupload.service.http.connections import ClientConnection, Connections
from bigupload.service.http.handling import SAFE_HEADERS, Service
from bigupload.service.http.opening import ServiceConfig
from bigupload.service.problems import Problem, Refused

_LINGER = 2.0
"""The time for which the rest of a refused body is read, in seconds, so that the response arrives before the close."""
_LONGEST_LINE = 64 * 1024
"""The longest request line, in bytes: longer than the longest handle, even if it is quoted."""
_SERVER = "bigupload"
"""aiohttp would name its version and Python's."""
_VERSIONS = frozenset({HttpVersion10, HttpVersion11})
"""Of HTTP. aiohttp's parser lets 0.9 and 2.0 pass."""
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


def connection_factory(server: web.Server, connections: Connections, log: AccessLog) -> Callable[[], ClientConnection]:
    """Make the protocol of a client's connection to the application that `server` runs.

    Args:
        server: Runs the application.
        connections: All connections.
        log: Has a line for each request.
    """

    def report(request: web.BaseRequest, refused: Refused, cause: BaseException | None) -> dict[str, str]:
        logged = log.begin(request.remote, request.headers)
        logged.refused(refused)
        if cause is not None:
            logged.more["cause"] = type(cause).__name__
        log.end(logged, status=refused.problem.status)
        return {**SAFE_HEADERS, "Server": _SERVER, "X-Request-Id": logged.id}

    return functools.partial(
        ClientConnection,
        server,
        connections,
        report,
        loop=asyncio.get_running_loop(),
        access_log=None,
        auto_decompress=False,
        lingering_time=_LINGER,
        max_line_size=_LONGEST_LINE,
        logger=log.server_logger(),
    )

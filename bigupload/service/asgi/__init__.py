"""The media service as an ASGI application: for FastAPI, Starlette, Django, or a server like uvicorn by itself.

It is the same application of aiohttp as everywhere: each request goes to it as HTTP/1.1 over a connection in memory, so
that parsing, limits, errors and log are the same, too. To write a request costs 12 µs and to read a response 5 µs, of
the 250 µs of CPU time of an exchange: handing aiohttp a request of our own making would spare little, and use its
private classes. It needs asyncio (or uvloop): under trio it can't run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import web

from bigupload import errors
from bigupload.records import dataclass
from bigupload.service.app import LOG
from bigupload.service.app import create_app as create_aiohttp_app
from bigupload.service.asgi.connection import (
    SCOPE,
    MalformedScope,
    Receive,
    Scope,
    Send,
    exchange,
    path_in_app,
    root_path,
)
from bigupload.service.connections import ClientConnection, Connections
from bigupload.service.middleware import IN_FLIGHT, connection_factory
from bigupload.service.problems import Problem, Refused
from bigupload.service.settings import ServiceConfig as ServiceConfig

__all__ = ["AsgiService", "ServiceConfig", "create_app", "mount", "scope_of"]

_FINISH_WITHIN = 20.0
"""Seconds that the end waits for requests whose clients have left, as `bigupload serve` does."""
_CLOSE_WITHIN = 1.0
"""Seconds that their connections may take after that."""

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Started:
    """The service, in the event loop in which it was started."""

    loop: asyncio.AbstractEventLoop
    runner: web.AppRunner
    connection: Callable[[], ClientConnection]


class AsgiService:
    """The media service as an ASGI application. It serves in one event loop at a time.

    It starts with the server's lifespan, with `lifespan()`, or else at the first request. What starts so is never
    ended: its connections to the store end with the process.
    """

    def __init__(self, config: ServiceConfig) -> None:
        """Raises UsageError, if the configuration makes no sense."""
        self._config = config
        self._next: web.Application | None = create_aiohttp_app(config)  # here, to fail at once
        self._starting: asyncio.Task[_Started] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of a server, as ASGI 3 describes it."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # before it is accepted: the client gets a 403
        else:
            raise ValueError(f"not a scope that the media service knows: {scope['type']}")

    @contextlib.asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Start the service, and end it: for an application that mounts it.

        Most frameworks pass start-up and shutdown to no application that is mounted. So use this in their own lifespan:
        `FastAPI(lifespan=service.lifespan)`, or `async with service.lifespan():` inside of it.

        Raises:
            BigUploadError: The service can't work: the store can't be reached, or there is no such bucket.
        """
        await self._started()
        try:
            yield
        finally:
            await self._end()

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol: https://asgi.readthedocs.io/en/latest/specs/lifespan.html"""
        await receive()
        try:
            await self._started()
        except errors.BigUploadError as e:
            await send({"type": "lifespan.startup.failed", "message": str(e)})
            return
        except Exception as e:  # without this message, servers start as if there was no lifespan
            await send({"type": "lifespan.startup.failed", "message": f"the media service failed: {type(e).__name__}"})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not path_in_app(scope):  # the page's links are relative to the slash
            await _redirect(f"{root_path(scope)}/", send)
            return
        try:
            started = await self._started()
            await exchange(started.connection, scope, receive, send)
        except errors.BigUploadError:  # it is in the log
            why = "the media service could not start: its log says why"
            await _refuse(Refused(Problem.STORE_UNAVAILABLE, why, retry_after=5), send)
        except MalformedScope:
            await _refuse(Refused(Problem.MALFORMED_REQUEST), send)

    async def _started(self) -> _Started:
        """Start it, unless that was done. Those who ask meanwhile wait for the same start."""
        task, loop = self._starting, asyncio.get_running_loop()
        if task is not None and task.get_loop().is_closed():  # a test client's, say, that has ended
            task = None
        if task is not None and task.get_loop() is not loop:
            raise RuntimeError("this media service runs in another event loop: make one for each")
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._starting = loop.create_task(self._start())
        return await asyncio.shield(task)  # whoever waits may leave

    async def _start(self) -> _Started:
        app = self._next or create_aiohttp_app(self._config)
        self._next = None  # an application of aiohttp starts once
        log = app[LOG]
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_WITHIN, handle_signals=False)
        try:
            await runner.setup()
        except errors.BigUploadError as e:
            log.write_event("start", error=str(e))
            raise
        assert runner.server is not None
        connections = Connections(sys.maxsize)  # the server in front limits them
        connection = connection_factory(runner.server, connections, log, linger=0)  # that server reads the rest
        return _Started(asyncio.get_running_loop(), runner, connection)

    async def _end(self) -> None:
        task, self._starting = self._starting, None
        if task is None:
            return
        runner = (await task).runner
        await runner.app[IN_FLIGHT].finished(within=_FINISH_WITHIN)
        await runner.cleanup()


def create_app(config: ServiceConfig) -> AsgiService:
    """Make the service as an ASGI application, to be run or mounted.

    Several may be in one process: nothing outside is changed.

    Raises:
        UsageError: The configuration makes no sense.
    """
    return AsgiService(config)


def mount(app: AsgiApp, service: AsgiService, *, at: str) -> AsgiApp:
    """Return an application with the service at a prefix and `app` everywhere else.

    For frameworks that mount nothing themselves: `application = mount(get_asgi_application(), service, at="/uploads")`
    in Django's `asgi.py`. Start-up and shutdown go to the service alone, because Django's handler knows neither.

    Args:
        app: Gets all other requests, as they are.
        service: The service.
        at: The prefix, like "/uploads".

    Raises:
        UsageError: The prefix is malformed.
    """
    prefix = at.rstrip("/")
    if not prefix.startswith("/"):
        raise errors.UsageError(f"not a prefix: {at!r} (write it like /uploads)")

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await service(scope, receive, send)
            return
        path = path_in_app(scope)
        if path == prefix or path.startswith(f"{prefix}/"):
            scope = {**scope, "root_path": root_path(scope) + prefix, "path": root_path(scope) + path}
            await service(scope, receive, send)
        else:
            await app(scope, receive, send)

    return dispatch


def scope_of(request: web.Request) -> Mapping[str, Any]:
    """Return the ASGI scope of a request, for `authorize`: the host's middleware may have put a session or user there.

    Raises:
        LookupError: The request did not come by ASGI.
    """
    scope: Mapping[str, Any] | None = request.get_extra_info(SCOPE)
    if scope is None:
        raise LookupError("the request did not come by ASGI")
    return scope


async def _redirect(to: str, send: Send) -> None:
    location = quote(to).encode()
    await send({"type": "http.response.start", "status": 308, "headers": [(b"location", location)]})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(refused: Refused, send: Send) -> None:
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"cache-control", b"no-store")]
    if refused.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refused.retry_after))
    await send({"type": "http.response.start", "status": refused.problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(refused.to_json()).encode()})

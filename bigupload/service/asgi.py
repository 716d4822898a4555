"""The media service as an ASGI application: for FastAPI, Starlette, Django, or a server like uvicorn by itself.

It is the edge of ASGI beside aiohttp's: the same `Service` answers. It needs asyncio (or uvloop): under trio it can't
run. A request's body is received as the service reads it. A client that leaves in the middle of a request breaks off
nothing that the service has begun, like a complete.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from multidict import CIMultiDict, CIMultiDictProxy

from bigupload import errors
from bigupload.service.call import Answer, ClientLeftError, WebCall, refusal
from bigupload.service.http.handling import Service
from bigupload.service.http.opening import ServiceConfig as ServiceConfig
from bigupload.service.problems import Problem, Refused

__all__ = ["AsgiService", "ServiceConfig", "create_app", "mount", "scope_of"]

_FINISH_WITHIN = 20.0
"""Seconds that the end waits for requests whose clients have left, as `bigupload serve` does."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


_Started = tuple[Service, contextlib.AsyncExitStack]
"""The service, and what ends it, in the event loop in which it was started."""


class AsgiService:
    """The media service as an ASGI application. It serves in one event loop at a time.

    It starts with the server's lifespan, with `lifespan()`, or else at the first request. What starts so is never
    ended: its connections to the store end with the process.
    """

    def __init__(self, config: ServiceConfig) -> None:
        """Raises UsageError, if the configuration makes no sense."""
        self._config = config
        self._next: Service | None = Service(config)  # here, to fail at once
        self._starting: asyncio.Task[_Started] | None = None
        self._answering: set[asyncio.Task[Answer]] = set()

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
            service, _ = await self._started()
        except errors.BigUploadError:  # it is in the log
            why = "the media service could not start: its log says why"
            await _send(refusal(Refused(Problem.STORE_UNAVAILABLE, why, retry_after=5)), send)
            return
        call = _call_of(scope, receive)
        malformed = None if call.path.startswith("/") else Refused(Problem.MALFORMED_REQUEST)
        answering = asyncio.create_task(service.answer(call, malformed))
        self._answering.add(answering)  # an event loop keeps no task by itself
        answering.add_done_callback(self._answering.discard)
        answer = await asyncio.shield(answering)  # a server may cancel this when the client leaves
        await _send(answer, send, with_body=call.method != "HEAD")

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
        service = self._next or Service(self._config)
        self._next = None  # a service starts once
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(service.running())
            except errors.BigUploadError as e:
                service.log.write_event("start", error=str(e))
                raise
            return service, stack.pop_all()
        raise AssertionError

    async def _end(self) -> None:
        task, self._starting = self._starting, None
        if task is None:
            return
        service, stack = await task
        await service.in_flight.finished(within=_FINISH_WITHIN)
        await stack.aclose()


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


def scope_of(request: Any) -> Mapping[str, Any]:
    """Return the ASGI scope of a request, for `authorize`: the host's middleware may have put a session or user there.

    Raises:
        LookupError: The request did not come by ASGI.
    """
    scope: Mapping[str, Any] | None = getattr(request, "scope", None)
    if scope is None:
        raise LookupError("the request did not come by ASGI")
    return scope


def path_in_app(scope: Mapping[str, Any]) -> str:
    """Return the path below the prefix at which the application is mounted; "" for the prefix itself.

    By the specification, `path` has the prefix (`root_path`). Some servers behind a proxy leave it out.
    """
    path: str = scope["path"]
    prefix = root_path(scope)
    rest = path[len(prefix) :]
    return rest if prefix and path.startswith(prefix) and rest[:1] in ("", "/") else path


def root_path(scope: Mapping[str, Any]) -> str:
    """Return the prefix at which the application is mounted, without a slash at its end."""
    return str(scope.get("root_path") or "").rstrip("/")


def _call_of(scope: Scope, receive: Receive) -> WebCall:
    headers = CIMultiDict((_text(name), _text(value)) for name, value in scope["headers"])
    client = scope.get("client")
    return WebCall(
        method=scope["method"],
        path=path_in_app(scope),
        query_string=(scope.get("query_string") or b"").decode("ascii", "surrogateescape"),
        headers=CIMultiDictProxy(headers),
        body=_body(receive),
        prefix=root_path(scope),
        remote=client[0] if client else None,
        scope=scope,
    )


def _text(value: bytes) -> str:
    """As aiohttp reads a header."""
    return value.decode(errors="surrogateescape")


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        more = message.get("more_body", False)
        yield message.get("body") or b""


async def _send(answer: Answer, send: Send, *, with_body: bool = True) -> None:
    rows = answer.headers.items()
    headers = [(name.lower().encode(), value.encode(errors="surrogateescape")) for name, value in rows]
    if answer.status not in _WITHOUT_BODY:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


_WITHOUT_BODY = frozenset({204, 304})


async def _redirect(to: str, send: Send) -> None:
    await _send(Answer(status=308, headers=CIMultiDict({"Location": quote(to)})), send)

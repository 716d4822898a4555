"""The media service as an ASGI application: for FastAPI, Starlette, Django, or a server like uvicorn by itself.

It is the same application of aiohttp as everywhere: each request goes to it as HTTP/1.1 over a connection in memory, so
that parsing, limits, errors and log are the same, too. To write a request costs 12 µs and to read a response 6 µs, of
the 250 µs of CPU time of an exchange: handing aiohttp a request of our own making would spare little, and use its
private classes. It needs asyncio (or uvloop): under trio it can't run.

Neither a request's nor a response's body is held: while the service does not read, no more of the request is received,
and while the client does not read, the service waits.

https://asgi.readthedocs.io/en/latest/specs/www.html, RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import sys
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web

from bigupload import errors
from bigupload.http.response_head import BodyReader, Headers, ResponseHead
from bigupload.records import dataclass
from bigupload.service.http.app import LOG, ROOT_PATH
from bigupload.service.http.app import create_app as create_aiohttp_app
from bigupload.service.http.connections import ClientConnection, Connections
from bigupload.service.http.middleware import IN_FLIGHT, connection_factory
from bigupload.service.http.settings import ServiceConfig as ServiceConfig
from bigupload.service.problems import Problem, Refused

__all__ = ["AsgiService", "ServiceConfig", "create_app", "mount", "scope_of"]

_FINISH_WITHIN = 20.0
"""Seconds that the end waits for requests whose clients have left, as `bigupload serve` does."""
_CLOSE_WITHIN = 1.0
"""Seconds that their connections may take after that."""


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


_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_END = re.compile(rb"[\r\n\0]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
"""All that a target may have as it is. Spaces, control characters and bytes beyond ASCII are quoted."""
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
)
"""Headers between the client and the server in front. RFC 9110, 7.6.1; that server also answers `Expect`."""
_OF_THE_SERVER = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
"""Headers of responses that the server in front writes itself."""
_LONGEST_LENGTH = 18
"""Digits of a body's length. Of more than 4,300, Python makes no number."""
_WITHOUT_BODY = frozenset({204, 304})


class MalformedScope(ValueError):
    """The request can't be written as HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The first line and the headers of a request, and how its body follows."""

    data: bytes
    length: int | None
    """The declared length of the body in bytes; None: it follows in chunks."""


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


def request_head(scope: Mapping[str, Any]) -> RequestHead:
    """Return the head of the request of an ASGI scope. Raises MalformedScope."""
    method = scope["method"].encode()
    if not _TOKEN.fullmatch(method):
        raise MalformedScope("the method")
    lines, length = [], None
    in_chunks = any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"])
    for name, value in scope["headers"]:
        if not _TOKEN.fullmatch(name) or _LINE_END.search(value):
            raise MalformedScope("a header")
        lowered = name.lower()
        if lowered == b"content-length" and in_chunks:
            continue  # the other header prevails, by which the server has read the body: RFC 9112, 6.3
        if lowered == b"content-length":
            if length is not None or not value.isdigit() or len(value) > _LONGEST_LENGTH:
                raise MalformedScope("content-length")
            length = int(value)
        if lowered not in _OF_THE_CONNECTION:
            lines.append(b"%b: %b\r\n" % (name, value))
    if not any(name.lower() == b"host" for name, _ in scope["headers"]):
        lines.append(b"Host: %b\r\n" % _host(scope.get("server")))  # HTTP/1.0 needs none, like many health checks
    if length is None and (in_chunks or not scope.get("http_version", "1.1").startswith("1")):
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif length is None:  # HTTP/1 without either header: there is no body
        length = 0
    first = b"%b %b HTTP/1.1\r\n" % (method, _target(scope))
    return RequestHead(b"".join((first, *lines, b"Connection: close\r\n\r\n")), length)


def _host(server: Sequence[Any] | None) -> bytes:
    name, port = server or ("localhost", None)
    return f"[{name}]:{port}".encode() if ":" in name else name.encode() if port is None else f"{name}:{port}".encode()


def _target(scope: Mapping[str, Any]) -> bytes:
    path, prefix = path_in_app(scope), root_path(scope)
    if not path.startswith("/"):
        raise MalformedScope("the path")
    raw = _raw_rest(scope.get("raw_path"), path, prefix)
    target = urllib.parse.quote(raw, safe=_PRINTABLE.replace("?", "").replace("#", ""))
    query = urllib.parse.quote(scope.get("query_string") or b"", safe=_PRINTABLE.replace("#", ""))
    return (f"{target}?{query}" if query else target).encode()


def _raw_rest(raw: bytes | None, path: str, prefix: str) -> bytes:
    """Return the path as the client quoted it: a key may have its slashes as %2F."""
    if raw is not None:
        slashes = itertools.islice(re.finditer(b"/", raw), prefix.count("/") + 1)  # no more: a path may have thousands
        for at in (found.start() for found in slashes):
            if prefix.endswith(urllib.parse.unquote(raw[:at])) and urllib.parse.unquote(raw[at:]) == path:
                return raw[at:]
    return urllib.parse.quote(path, safe="/!$&'()*+,;=:@~").encode()


class ResponseParser:
    """Reads one response of the service's own server, as it comes: the head, then the body in pieces."""

    def __init__(self, method: str) -> None:
        """`method`: the request's. A response to HEAD has no body."""
        self._has_body = method != "HEAD"
        self._received = bytearray()
        self._body: BodyReader | None = None
        self.status: int | None = None
        """None: the head is not complete."""
        self.headers: list[tuple[bytes, bytes]] = []
        """For ASGI: the names in lower case."""

    @property
    def complete(self) -> bool:
        """Whether the end of the response was read."""
        return self._body is not None and self._body.ended

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the response, and return those that belong to its body."""
        self._received += data
        while self._body is None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            first, *lines = bytes(self._received[:end]).split(b"\r\n")
            del self._received[: end + 4]
            status = int(first.split(b" ", 2)[1])
            if status >= 200:  # else it only says that the response will follow
                self.status, self._body = status, self._take_head(status, lines)
        return b"" if self._body is None else self._body.take(self._received, sys.maxsize)

    def _take_head(self, status: int, lines: list[bytes]) -> BodyReader:
        length, chunked = None, False
        for name, _, value in (line.partition(b":") for line in lines):
            name, value = name.lower(), value.strip()
            if name == b"content-length":
                length = int(value)
            chunked = chunked or name == b"transfer-encoding"
            if name not in _OF_THE_SERVER:
                self.headers.append((name, value))
        if not self._has_body or status in _WITHOUT_BODY:
            length, chunked = 0, False
        return BodyReader(ResponseHead(status, Headers({}), length, chunked, keep=False))

    def end(self) -> None:
        """Take the end of the connection, which is also the end of a body without a length."""
        if self._body is not None and self._body.until_close:
            self._body.ended = True


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE = "bigupload.asgi.scope"
"""The name by which a request's `get_extra_info` has the ASGI scope."""
_ENCRYPTED = object()
"""In place of an SSLContext: a request is https where there is one."""
_HIGH_WATER = 64 * 1024
"""Bytes of a response that wait for the client before the service waits, too. As much as asyncio's sockets have."""


class MemoryTransport(asyncio.Transport):
    """The service's end of the connection."""

    def __init__(self, protocol: asyncio.Protocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._protocol = protocol
        self._unsent = bytearray()
        self._written = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self._writing_is_paused = False
        self._closing = False
        self._lost = False

    # -- for the bridge

    def connect(self) -> None:
        """Begin."""
        self._protocol.connection_made(self)

    async def receive(self, data: bytes) -> None:
        """Hand bytes of the request to the service, once it reads."""
        await self._reads.wait()
        if not self._lost:
            self._protocol.data_received(data)

    async def written(self) -> bytes:
        """Wait for bytes of the response; none: the connection is closed, and all was taken."""
        await self._written.wait()
        data = bytes(self._unsent)
        self._unsent.clear()
        if not self._closing:
            self._written.clear()
        if self._writing_is_paused:
            self._writing_is_paused = False
            self._protocol.resume_writing()
        return data

    def lose(self) -> None:
        """End the connection, also for the service. Idempotent."""
        self.close()
        self._reads.set()
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(None)

    # -- for the protocol

    def is_reading(self) -> bool:
        return self._reads.is_set()

    def pause_reading(self) -> None:
        if not self._closing:
            self._reads.clear()

    def resume_reading(self) -> None:
        self._reads.set()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing:
            return
        self._unsent += data
        self._written.set()
        if len(self._unsent) > _HIGH_WATER and not self._writing_is_paused:
            self._writing_is_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._written.set()

    def abort(self) -> None:
        self._unsent.clear()
        self.close()


async def exchange(make: Callable[[], asyncio.Protocol], scope: Scope, receive: Receive, send: Send) -> None:
    """Let the service answer one request.

    A client that disconnects ends the connection, as on a socket. What the service has begun goes on: a complete that
    the store is at is finished.

    Args:
        make: Makes the service's protocol of one connection.
        scope: ASGI's, of the type "http".
        receive: ASGI's.
        send: ASGI's.

    Raises:
        MalformedScope: The request can't be written as HTTP/1.1.
    """
    head = request_head(scope)
    transport = MemoryTransport(make(), _extra(scope))
    transport.connect()
    feeding = asyncio.create_task(_feed(transport, head, receive))
    feeding.add_done_callback(lambda _: transport.lose())  # the client is gone, or the host has failed
    try:
        await _answer(transport, scope["method"], send, feeding)
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
        transport.lose()


def _extra(scope: Scope) -> dict[str, Any]:
    extra: dict[str, Any] = {SCOPE: scope, ROOT_PATH: root_path(scope)}
    if scope.get("client"):
        extra["peername"] = tuple(scope["client"])
    if scope.get("server"):
        extra["sockname"] = tuple(scope["server"])
    if scope.get("scheme") == "https":
        extra["sslcontext"] = _ENCRYPTED
    return extra


async def _feed(transport: MemoryTransport, head: RequestHead, receive: Receive) -> None:
    """Hand the request to the service, up to the client's disconnect."""
    await transport.receive(head.data)
    rest = head.length
    ended = False
    while (message := await receive())["type"] != "http.disconnect":
        if ended:
            continue
        body, ended = message.get("body") or b"", not message.get("more_body", False)
        if rest is None:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            await transport.receive(framed + (b"0\r\n\r\n" if ended else b""))
            continue
        body = body[:rest]  # more would be read as another request
        rest -= len(body)
        if body:
            await transport.receive(body)
        if ended and rest:
            return  # shorter than declared, as if the client had left


async def _answer(transport: MemoryTransport, method: str, send: Send, feeding: asyncio.Task[None]) -> None:
    response, started = ResponseParser(method), False
    while not response.complete:
        data = await transport.written()
        if data:
            body = response.feed(data)
        else:
            body = b""
            response.end()
            if not response.complete:
                if feeding.done():
                    return  # nobody is there to read the rest
                raise ConnectionError("the service closed the connection before the end of its response")
        if response.status is None:
            continue
        if not started:
            started = True
            await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
        if body or response.complete:
            await send({"type": "http.response.body", "body": body, "more_body": not response.complete})

"""Connections that bring no request: bounded in number and in time, so that they keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from bigupload.service.call import AccessLog, Answer, WebCall
from bigupload.service.http.app import ClientConnection, Connections, application, most_connections
from bigupload.stores.local_store import LocalStore
from tests.tools.cases import each_case
from tests.tools.declared import what_is_wrong
from tests.tools.service import serving

DESCRIPTORS = 512
SILENT = 700
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def descriptors(soft: int) -> Iterator[None]:
    """So many for the processes that are started meanwhile."""
    resource = pytest.importorskip("resource", reason="Windows has no limits of processes")
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Enough for the test itself."""
    resource = pytest.importorskip("resource", reason="Windows has no limits of processes")
    with descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("many_descriptors")
def test_silent_connections_keep_nobody_out(weed: LocalStore, tmp_path: Path) -> None:
    """More of them than the service has descriptors, some with half a request. It keeps responding, and logs little."""
    with contextlib.ExitStack() as stack:
        with descriptors(DESCRIPTORS):
            service = stack.enter_context(serving(weed, tmp_path, cold=True))
        to = httpx.URL(service.url)
        for number in range(SILENT):
            connection = stack.enter_context(socket.create_connection((to.host, to.port), timeout=30))
            if number % 2:
                with contextlib.suppress(OSError):  # it may be closed by now
                    connection.sendall(b"POST /v1/media/presign HTTP/1.1\r\nHost:")
            if number % 100 == 99:
                assert httpx.get(f"{service.url}/healthz", trust_env=False).status_code == 200
        body = {"filename": "a.jpg", "contentType": "image/jpeg"}
        assert service.call("POST", "/v1/media/presign", json=body).status_code == 200
        opened = len(os.listdir(f"/proc/{service.process.pid}/fd"))
        assert opened < DESCRIPTORS
        assert what_is_wrong(service.log()) == []
        assert len(service.log()) < 20_000


def test_how_many_there_may_be() -> None:
    with descriptors(1024):
        assert most_connections() == 640
    with descriptors(256):
        assert most_connections() == 16


# -- one process, whose times are short


class Served:
    """A server of one handler, which waits where it is asked to."""

    def __init__(self, most: int = 100, **times: float) -> None:
        self.lines: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        self.entered = asyncio.Event()
        self.log = AccessLog(write=lambda line: self.lines.append(json.loads(line)))
        self.connections = Connections(most, self.log, **{"headers_within": 30.0, "idle_for": 30.0} | times)

    async def _answer(self, call: WebCall, _: object) -> Answer:
        logged = self.log.begin(call.remote, call.headers)
        try:
            if call.path == "/wait":
                self.entered.set()
                await self.go.wait()
            return Answer(body={"/": b"hello", "/wait": b"done", "/big": bytes(50_000_000)}[call.path])
        finally:
            self.log.end(logged, status=200)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Served]:
        runner = web.AppRunner(application(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        assert runner.server is not None
        loop = asyncio.get_running_loop()
        factory = functools.partial(ClientConnection, runner.server, self.connections)
        server = await loop.create_server(factory, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await runner.cleanup()

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection is closed. A minute is more than any of the times here."""
    async with asyncio.timeout(60):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "a byte", "half"])
async def test_a_connection_without_a_whole_request_is_closed(sent: bytes) -> None:
    async with Served(headers_within=0.05).running() as served:
        reader, writer = await served.connect(sent)
        assert await rest(reader) == b""
        assert len(served.connections) == 0
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /"], ids=["silent", "half"])
async def test_a_connection_whose_next_request_does_not_come_is_closed(sent: bytes) -> None:
    """Half a request has as long as on a new connection, and not as long as a silence."""
    async with Served(**({"headers_within": 0.05} if sent else {"idle_for": 0.05})).running() as served:
        reader, writer = await served.connect(GET)
        async with asyncio.timeout(60):
            assert await reader.readuntil(b"hello")
        writer.write(sent)
        assert await rest(reader) == b""
        writer.close()


async def test_a_request_that_takes_long_is_no_silence() -> None:
    async with Served(headers_within=0.05, idle_for=0.05).running() as served:
        slow, slow_writer = await served.connect(GET.replace(b"/ ", b"/wait "))
        await served.entered.wait()
        silent, silent_writer = await served.connect()
        assert await rest(silent) == b""  # by now the time is up for a connection without a request
        served.go.set()
        assert (await rest(slow)).endswith(b"done")
        slow_writer.close()
        silent_writer.close()


async def test_a_client_that_stops_taking_a_response_is_closed() -> None:
    async with Served(idle_for=0.05).running() as served:
        reader, writer = await served.connect(GET.replace(b"/ ", b"/big "))
        async with asyncio.timeout(60):
            while len(served.connections) != 0 or not served.lines:
                await asyncio.sleep(0)  # nothing is read meanwhile
        assert len(await rest(reader)) < 50_000_000
        writer.close()


async def test_the_one_that_waited_longest_makes_room() -> None:
    async with Served(most=2).running() as served:
        first, first_writer = await served.connect(GET)
        async with asyncio.timeout(60):
            await first.readuntil(b"hello")
            second, second_writer = await served.connect(GET)
            await second.readuntil(b"hello")
            first_writer.write(GET)  # so that the second one has waited longest
            await first.readuntil(b"hello")
        third, third_writer = await served.connect(GET)
        async with asyncio.timeout(60):
            await third.readuntil(b"hello")
        assert await rest(second) == b""
        assert len(served.connections) == 2
        for writer in (first_writer, second_writer, third_writer):
            writer.close()


async def test_where_all_are_busy_a_new_one_is_told_so() -> None:
    async with Served(most=1).running() as served:
        busy, busy_writer = await served.connect(GET.replace(b"/ ", b"/wait "))
        await served.entered.wait()
        refused, refused_writer = await served.connect()
        head, _, body = (await rest(refused)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in head
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        served.go.set()
        async with asyncio.timeout(60):
            await busy.readuntil(b"done")
        assert len(served.connections) == 1
        for writer in (busy_writer, refused_writer):
            writer.close()


async def test_out_of_descriptors_is_one_line_and_makes_room() -> None:
    async with Served().running() as served:
        reader, writer = await served.connect(GET)
        async with asyncio.timeout(60):
            await reader.readuntil(b"hello")
        errors = served.connections.handle_loop_error
        loop = asyncio.get_running_loop()
        for _ in range(1000):
            context = {"message": "socket.accept()", "exception": OSError(errno.EMFILE, "Too many open files")}
            errors(loop, context)
        errors(loop, {"message": "Task exception was never retrieved", "exception": ValueError("sk_secret")})
        assert await rest(reader) == b""
        told = [(line["message"], line["cause"]) for line in served.lines if line["event"] == "server"]
        assert told == [
            ("out of descriptors or memory", "Too many open files"),
            ("Task exception was never retrieved", "ValueError"),
        ]
        writer.close()


# -- what is no HTTP


@each_case(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"sk_secret\r\n\r\n",
        b"GET /?key=sk_secret HTTP/1.1\r\nHost : sk_secret\r\n\r\n",
        b"GET /sk_secret HTTP/9.9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"sk_secret" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nExpect: sk_secret\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: sk_secret\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_response_as_every_refusal(sent: bytes) -> None:
    async with Served().running() as served:
        reader, writer = await served.connect(sent)
        head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert b"Content-Type: application/json" in head
        assert list(json.loads(body)) == ["error"]
        assert json.loads(body)["error"]["code"] == "malformed_request"
        assert b"sk_secret" not in head + body
        (line,) = served.lines
        assert (line["event"], line["status"], line["code"]) == ("request", 400, "malformed_request")
        assert f"X-Request-Id: {line['id']}".encode() in head
        assert "sk_secret" not in json.dumps(line)
        writer.close()


def test_the_protocol_is_aiohttp_s_own_but_for_this() -> None:
    """What is overridden is there to be overridden: a new aiohttp that calls it otherwise is noticed here."""
    for name in ("connection_made", "connection_lost", "data_received", "handle_error", "finish_response"):
        assert callable(getattr(web.RequestHandler, name))
        assert name in vars(ClientConnection)

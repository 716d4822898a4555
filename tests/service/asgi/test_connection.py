"""One request over a connection in memory: bodies that wait, clients that leave, bodies that lie about their length."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from aiohttp import web

from bigupload.service.asgi import SCOPE, exchange
from tests.tools.cases import each_case

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PIECE = bytes(65_536)


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Callable[[], asyncio.Protocol]]:
    app = web.Application(client_max_size=2**40)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, lingering_time=0)
    await runner.setup()
    try:
        yield runner.server
    finally:
        await runner.cleanup()


class Client:
    """A client behind a server of ASGI: what it sends, and what it got."""

    def __init__(self, messages: Iterable[dict[str, Any]] = (), **scope: Any) -> None:
        self.scope = {
            "type": "http", "method": "POST", "path": "/x", "headers": [], "query_string": b"", "http_version": "2",
        } | scope  # fmt: skip
        self.messages = iter([*messages] or [{"type": "http.request"}])
        self.received = 0
        self.sent: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        message = next(self.messages, None)
        if message is None:
            await self.leaves.wait()
            return {"type": "http.disconnect"}
        self.received += 1
        return message

    async def send(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        self.sent.append(message)

    async def asks(self, make: Callable[[], asyncio.Protocol]) -> tuple[int, bytes]:
        await exchange(make, self.scope, self.receive, self.send)
        assert [message["type"] for message in self.sent[:2]] == ["http.response.start", "http.response.body"]
        assert [message.get("more_body") for message in self.sent[1:]] == [True] * (len(self.sent) - 2) + [False]
        return self.sent[0]["status"], b"".join(message["body"] for message in self.sent[1:])


def body(*pieces: bytes) -> list[dict[str, Any]]:
    return [{"type": "http.request", "body": piece, "more_body": n < len(pieces)} for n, piece in enumerate(pieces, 1)]


def declared(length: int) -> list[Any]:
    return [(b"content-length", b"%d" % length)]


async def settled() -> None:
    """Until nothing happens any more."""
    for _ in range(200):
        await asyncio.sleep(0)


async def told(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@each_case("pieces", [[b""], [b"hello"], [b"he", b"", b"llo", b""], [PIECE] * 20])
@each_case("has_length", [True, False])
async def test_a_body_there_and_back(pieces: list[bytes], has_length: bool) -> None:
    whole = b"".join(pieces)
    async with serving(told) as make:
        client = Client(body(*pieces), headers=declared(len(whole)) if has_length else [])
        assert await client.asks(make) == (200, whole)


async def test_a_request_waits_for_the_service_to_read() -> None:
    """However long it is: no more than the reader's buffer is received before that."""
    goes_on = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await goes_on.wait()
        return web.Response(text=str(sum([len(piece) async for piece in request.content.iter_any()])))

    async with serving(slow) as make:
        client = Client(body(*[PIECE] * 1000), headers=declared(1000 * len(PIECE)))
        asking = asyncio.create_task(client.asks(make))
        await settled()
        assert 0 < client.received <= 20
        goes_on.set()
        assert await asking == (200, str(1000 * len(PIECE)).encode())


async def test_the_service_waits_for_a_client_that_does_not_read() -> None:
    written = 0

    async def film(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(PIECE)
            written += 1
        return response

    async with serving(film) as make:
        client = Client()
        client.reads.clear()
        asking = asyncio.create_task(client.asks(make))
        await settled()
        assert 0 < written <= 4
        client.reads.set()
        assert await asking == (200, PIECE * 1000)
        assert len(client.sent) > 100  # as it came


async def test_a_client_that_leaves_in_its_body() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def reading(request: web.Request) -> web.Response:
        client.leaves.set()
        try:
            await request.read()
        except Exception as e:
            ended.set_result(type(e).__name__)
            raise
        raise AssertionError

    async with serving(reading) as make:
        client = Client([{"type": "http.request", "body": b"x", "more_body": True}])
        await exchange(make, client.scope, client.receive, client.send)
        assert client.sent == []
        assert "Connection" in await ended


async def test_what_was_begun_goes_on_when_the_client_leaves() -> None:
    begun, goes_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def completing(_: web.Request) -> web.Response:
        begun.set()
        await goes_on.wait()
        done.set()
        return web.Response()

    async with serving(completing) as make:
        client = Client()
        asking = asyncio.create_task(exchange(make, client.scope, client.receive, client.send))
        await begun.wait()
        client.leaves.set()
        await asking
        assert client.sent == []
        goes_on.set()
        await done.wait()


async def test_a_client_that_leaves_while_it_does_not_read() -> None:
    stopped = asyncio.Event()

    async def film(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(PIECE)
        finally:
            stopped.set()

    async with serving(film) as make:
        client = Client()
        client.reads.clear()
        asking = asyncio.create_task(exchange(make, client.scope, client.receive, client.send))
        await settled()
        client.leaves.set()
        await settled()
        client.reads.set()
        await asking
        await stopped.wait()
        assert client.sent[-1].get("more_body", True)


async def test_more_than_was_declared_is_no_other_request() -> None:
    seen = []

    async def noted(request: web.Request) -> web.Response:
        seen.append((request.path, await request.read()))
        return web.Response()

    async with serving(noted) as make:
        surplus = b"abcGET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
        for length in (3, 0):
            await Client(body(surplus, surplus), headers=declared(length)).asks(make)
        await Client(body(surplus), http_version="1.1").asks(make)
    assert seen == [("/x", b"abc"), ("/x", b""), ("/x", b"")]


async def test_less_than_was_declared_is_an_end_in_the_middle() -> None:
    async def reading(request: web.Request) -> web.Response:
        await request.read()
        raise AssertionError

    async with serving(reading) as make:
        client = Client(body(b"ab"), headers=declared(3))
        await asyncio.wait_for(exchange(make, client.scope, client.receive, client.send), 30)
        assert client.sent == []


async def test_a_service_that_breaks_off_is_no_complete_response() -> None:
    async def breaking(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"abc")
        request.transport.close()
        return response

    async with serving(breaking) as make:
        client = Client()
        with pytest.raises(ConnectionError):
            await exchange(make, client.scope, client.receive, client.send)


async def test_a_host_that_fails_while_it_receives() -> None:
    async def reading(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    class Failing(Client):
        async def receive(self) -> dict[str, Any]:
            raise LookupError("a bug of the host")

    async with serving(reading) as make:
        client = Failing()
        with pytest.raises(LookupError, match="of the host"):
            await exchange(make, client.scope, client.receive, client.send)


async def test_a_response_before_the_end_of_the_body() -> None:
    """The rest is the server's in front."""

    async def refusing(_: web.Request) -> web.Response:
        return web.Response(status=413, text="too long")

    async with serving(refusing) as make:
        client = Client(body(*[PIECE] * 1000), headers=declared(1000 * len(PIECE)))
        assert await client.asks(make) == (413, b"too long")
        assert client.received < 20


async def test_head() -> None:
    async with serving(told) as make:
        client = Client(body(b"abc"), method="HEAD")
        assert await client.asks(make) == (200, b"")
        assert dict(client.sent[0]["headers"])[b"content-length"] == b"3"


async def test_what_a_handler_knows_of_the_client() -> None:
    async def knowing(request: web.Request) -> web.Response:
        assert request.get_extra_info(SCOPE)["session"] == {"user": "ada"}
        return web.json_response([request.scheme, request.remote, request.host, request.get_extra_info("sockname")[1]])

    async with serving(knowing) as make:
        more = {"scheme": "https", "client": ["192.0.2.1", 5], "server": ("10.0.0.1", 443), "session": {"user": "ada"}}
        client = Client(headers=[(b"host", b"media.example.com")], **more)
        assert await client.asks(make) == (200, b'["https", "192.0.2.1", "media.example.com", 443]')
        assert (await Client(client=None, server=None, method="GET").asks(make))[0] == 500

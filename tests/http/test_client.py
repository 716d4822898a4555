"""The HTTP client over real sockets: whole responses and streamed ones, kept connections, and every way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import anyio
import pytest

from bigupload import errors
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http import connection_pool
from bigupload.http.client import HttpClient, HttpClients
from bigupload.http.origins import CaBundle
from bigupload.testing.certificates import make_certificates
from tests.tools.cases import each_case
from tests.tools.deaf_store import DeafStore
from tests.tools.leaks import no_leaks
from tests.tools.scripted import Script, asking, serving
from tests.tools.waiting import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


# -- what is sent


async def test_requests_as_they_are_sent() -> None:
    async with asking(*[OK] * 4) as (client, script):
        for method, body in (("GET", None), ("POST", b"body"), ("PUT", None), ("PUT", b"")):
            found = await client.request(method, f"{script.url}/a%2fb?c=%20&d", {"X-Name": "ä"}, body, within=60)
            assert (found.status, found.headers["content-length"], found.body) == (200, "2", b"ok")
        host = script.url.removeprefix("http://").encode()
        own = b"\r\nUser-Agent: bigupload\r\nX-Name: \xc3\xa4\r\n"
        before = b" /a%2fb?c=%20&d HTTP/1.1\r\nHost: " + host + own
        assert script.requests == [
            b"GET" + before + b"\r\n",
            b"POST" + before + b"Content-Length: 4\r\n\r\nbody",
            b"PUT" + before + b"Content-Length: 0\r\n\r\n",
            b"PUT" + before + b"Content-Length: 0\r\n\r\n",
        ]
        assert script.connections == 1


@each_case(
    ("url", "headers"),
    [("/a\r\nX: y", {}), ("", {}), ("/", {"X": "a\nb"}), ("/", {"X\r\nY": "a"}), ("/", {"X": "\ud800"})],
)
async def test_what_can_t_be_sent(url: str, headers: dict[str, str]) -> None:
    """`integration.transport` has more of it, for parts."""
    async with asking() as (client, script):
        with pytest.raises(errors.StoreRefused, match="can't be sent"):
            await client.request("GET", script.url + url, headers, within=60)
        assert script.connections == 0


# -- responses


@each_case(
    ("response", "body", "kept"),
    [
        (OK, b"ok", True),
        (OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"), b"ok", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (chunked(b"a", b"bc"), b"abc", True),
        (chunked(), b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (OK + b"HTTP/1.1 200 what nobody asked for", b"ok", False),
    ],
)
async def test_a_connection_is_kept_if_another_request_can_follow(response: bytes, body: bytes, kept: bool) -> None:
    async with asking(response, OK) as (client, script):
        found = await client.request("GET", f"{script.url}/", {}, within=60)
        assert found.body == body
        assert (await client.request("GET", f"{script.url}/", {}, within=60)).body == b"ok"
        assert script.connections == (1 if kept else 2)


@pytest.mark.parametrize("length", ["Content-Length: 1000\r\n", ""])
async def test_the_response_to_head_has_no_body(length: str) -> None:
    async with asking(f"HTTP/1.1 404 Not Found\r\n{length}\r\n".encode(), OK) as (client, script):
        found = await client.request("HEAD", f"{script.url}/", {}, within=60)
        assert (found.status, found.headers.get("Content-Length"), found.body) == (404, "1000" if length else None, b"")
        await client.request("GET", f"{script.url}/", {}, within=60)
        assert script.connections == 1


@each_case("most", [1, 1000, MIB, 100 * MIB])
@each_case("framing", ["length", "chunks"])
async def test_a_streamed_body(most: int, framing: str) -> None:
    data = bytes(range(256)) * (4 if most == 1 else 20_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    async with asking(head + data if framing == "length" else chunked(data[:100], data[100:]), OK) as (client, script):
        found = bytearray()
        async with client.open("GET", f"{script.url}/", {}, within=60) as response:
            assert (response.status, response.ended) == (200, False)
            assert (response.length, response.chunked) == ((len(data), False) if framing == "length" else (None, True))
            while piece := await response.read(most):
                assert len(piece) <= most
                found += piece
            assert response.ended
            assert await response.read() == b""
        assert found == data
        await client.request("GET", f"{script.url}/", {}, within=60)
        assert script.connections == 1


@pytest.mark.parametrize("how", ["left", "closed", "failed"])
async def test_a_body_that_is_not_read_to_its_end_closes_the_connection(how: str) -> None:
    async with asking(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", OK) as (client, script):
        with contextlib.suppress(RuntimeError):
            async with client.open("GET", f"{script.url}/", {}, within=60) as response:
                assert await response.read(2) == b"ab"
                if how == "closed":
                    response.close()
                    response.close()
                if how == "failed":
                    raise RuntimeError
        await client.request("GET", f"{script.url}/", {}, within=60)
        assert script.connections == 2


async def test_a_response_that_is_too_long() -> None:
    async with asking(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(100)) as (client, script):
        with pytest.raises(Fault, match="is longer than 99 bytes") as caught:
            await client.request("GET", f"{script.url}/", {}, within=60, most=99)
        assert caught.value.kind is FaultKind.BROKEN


# -- failures


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"], ids=["head", "body"])
async def test_a_response_that_does_not_come(begun: bytes) -> None:
    async with asking(begun, holds=True) as (client, script):
        with pytest.raises(Fault, match=r"^no response from 127.0.0.1:\d+ in time$") as caught:
            await client.request("GET", f"{script.url}/?secret", {}, within=0.05)
        assert caught.value.kind is FaultKind.STALLED


async def test_a_failure_drops_the_other_idle_connections() -> None:
    """They may lead over the same dead path."""
    async with asking(OK, OK, b"") as (client, script):
        async with contextlib.AsyncExitStack() as both:
            for _ in range(2):
                found = await both.enter_async_context(client.open("GET", f"{script.url}/", {}, within=60))
                assert await found.read_all() == b"ok"
        assert [len(kept) for kept in client.pool._kept.values()] == [2]
        with pytest.raises(Fault):
            await client.request("GET", f"{script.url}/", {}, within=60)
        assert not any(client.pool._kept.values())


async def test_an_early_refusal_is_the_response() -> None:
    """A store that does not want a body responds and closes: what it said counts, not that the write failed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()

    async with serving(serve) as url, contextlib.aclosing(HttpClient(None)) as client:
        found = await client.request("POST", f"{url}/", {}, bytes(20 * MIB), within=60)
        assert (found.status, found.body) == (503, b"no")


@pytest.mark.parametrize("within", [0.05, None])
async def test_connecting_takes_too_long(monkeypatch: pytest.MonkeyPatch, within: float | None) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(connection_pool.ConnectionPool, "_connect_to", hang)
    monkeypatch.setattr(connection_pool, "CONNECT_WITHIN", 0.1)
    async with contextlib.aclosing(HttpClient(None)) as client:
        with pytest.raises(Fault, match="does not answer") as caught:
            await client.request("GET", "http://127.0.0.1:1/", {}, within=within)
    assert caught.value.kind is FaultKind.UNREACHABLE


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("http://proxy.example:port", "its host or port is invalid"),
        ("proxy.example:99999", "its host or port is invalid"),
        ("http://user:secret/word@proxy.example:80", "its host or port is invalid; a / or @ in a password is %2F"),
        ("socks5://127.0.0.1:1080", "socks5:// is not supported"),
    ],
)
async def test_a_proxy_that_is_no_url(monkeypatch: pytest.MonkeyPatch, proxy: str, why: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(errors.UsageError, match=rf"the proxy of the environment can't be used \({why}.*HOST:PORT") as e:
        await HttpClient(None).request("GET", "http://store.example/", {}, within=60)
    assert "secret" not in str(e.value)


async def test_a_server_that_expects_tls_closes_what_comes_without(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)

    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        async with contextlib.aclosing(HttpClient(None)) as client:
            with pytest.raises(Fault, match="if it expects TLS, name it by https://") as caught:
                await client.request("GET", f"http://127.0.0.1:{port}/", {}, within=60)
    assert caught.value.kind is FaultKind.BROKEN


# -- its end, and TLS


async def test_no_socket_waits_for_the_end_of_tls(tmp_path: Path) -> None:
    """A connection whose request is cancelled says goodbye, and asyncio would wait 30 s for a store to say it too."""
    with DeafStore(tmp_path).running() as store:
        client = HttpClient(store.certificates.ca)
        sending = asyncio.create_task(client.request("GET", f"https://127.0.0.1:{store.port}/", {}, within=60))
        await until(store.heard.is_set)
        (connection,) = client.pool._open
        sock = connection.transport.get_extra_info("socket")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await client.aclose()
        assert sock.fileno() == -1


@pytest.mark.parametrize(
    ("file", "with_system", "trusted"),
    [
        ("own", False, {"own"}), ("own", True, {"own", "system"}), (None, False, {"system"}), (None, True, {"system"}),
        (False, True, {"own", "system"}),
    ],
)  # fmt: skip
async def test_which_certificates_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | bool | None, with_system: bool, trusted: set[str]
) -> None:
    found, made = set(), {}
    for name in ("own", "system"):
        (tmp_path / name).mkdir()
        made[name] = make_certificates(tmp_path / name)
    monkeypatch.setenv("SSL_CERT_FILE", str(made["system"].ca))
    ca_bundle: CaBundle = made["own"].ca if file == "own" else False if file is False else None
    for name, certificates in made.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.cert, certificates.key)
        async with (
            serving(Script(OK).serve, tls=context) as url,
            contextlib.aclosing(HttpClient(ca_bundle, with_system=with_system)) as client,
        ):
            with contextlib.suppress(Fault):
                await client.request("GET", f"{url}/", {}, within=60)
                found.add(name)
    assert found == trusted


async def test_a_cancelled_scope_closes_the_connections_of_all_clients() -> None:
    """The first wait of an end is cancelled there: by then, each socket must be on its way out."""
    script = Script(OK, OK)
    async with no_leaks(), serving(script.serve) as url:
        clients = HttpClients()
        pools = []
        for trusted in (None, False):
            client = clients.of(trusted)
            assert client is clients.of(trusted), "one for each set of certificates"
            await client.request("GET", f"{url}/", {}, within=60)
            pools.append(client.pool)
        assert pools[0] is not pools[1]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await clients.aclose()
        await until(lambda: not any(pool._open for pool in pools))
        assert [pool._closed for pool in pools] == [True, True]


def test_another_event_loop_has_connections_of_its_own() -> None:
    client = HttpClient(None)

    async def ask() -> int:
        async with serving(Script(OK).serve) as url:
            found = await client.request("GET", f"{url}/", {}, within=60)
            client.pool.close()
            return found.status

    assert [asyncio.run(ask()), asyncio.run(ask())] == [200, 200]


async def test_a_server_that_closes_after_each_response_gets_a_new_connection_each_time() -> None:
    """It does not say so. The first request that meets it fails, and no other one does."""
    async with asking(OK, b"", OK, OK, OK) as (client, script):
        await client.request("GET", f"{script.url}/", {}, within=60)
        with pytest.raises(Fault, match="closed without a response"):
            await client.request("GET", f"{script.url}/", {}, within=60)
        for _ in range(3):
            assert (await client.request("GET", f"{script.url}/", {}, within=60)).status == 200
        assert script.connections == 4

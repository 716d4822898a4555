"""How connections are made: through proxies, to several addresses, with TLS; and that none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohappyeyeballs
import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http import connection, connection_pool
from bigupload.http.connection import Connection
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import PutResponse, SignedRequest
from bigupload.sources.objects import MemorySource
from bigupload.testing.certificates import Certificates, make_certificates
from tests.integration.support import no_leaks
from tests.integration.transport.support import bench, transport_to
from tests.integration.transport.test_users_proxy import name_proxy
from tests.tools.deaf_store import DeafStore
from tests.tools.waiting import until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
STORED = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@contextlib.asynccontextmanager
async def serving(
    serve: Serve, certificates: Certificates | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """A server, with TLS if it has certificates. Its connections are closed when `serve` ends."""
    tasks: list[asyncio.Task[None] | None] = []
    context = None
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.cert, certificates.key)

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.transport.abort()

    async with await asyncio.start_server(run, host, port, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(asyncio.gather(*(task for task in tasks if task is not None)), 60)


def storing(size: int) -> Serve:
    """A store of parts of so many bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(size)
            writer.write(STORED)
            await writer.drain()

    return serve


def tunnel_to(port: int, behind: bytes = b"") -> Serve:
    """A proxy that leads every CONNECT to one port, and says something of its own behind its answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n" + behind)
        from_store, to_store = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            sink.transport.abort()

        await asyncio.gather(pump(reader, to_store), pump(from_store, writer))

    return serve


async def put(transport: HttpTransport, url: str, size: int = 10, *, fresh: bool = False) -> PutResponse:
    source = MemorySource("bytes", memoryview(bytes(size)))
    return await transport.put(SignedRequest(url, {}, 60), source, Part(1, 0, size), on_start=bool, fresh=fresh)


# -- proxies


async def test_a_proxy_can_t_speak_for_the_store(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sends behind its answer comes in the clear."""
    async with serving(storing(10), certificates) as store, serving(tunnel_to(store, STORED)) as proxy:
        name_proxy(monkeypatch, f"http://127.0.0.1:{proxy}")
        async with no_leaks(), HttpTransport(ca_bundle=certificates.ca) as transport:
            with pytest.raises(Fault, match="the proxy sent more than a tunnel"):
                await put(transport, f"https://127.0.0.1:{store}/key")


@pytest.mark.parametrize("size", [10, 3 * MIB], ids=["small", "large"])
async def test_tls_within_the_tls_of_a_proxy(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    async with serving(storing(size), certificates) as store, serving(tunnel_to(store), certificates) as proxy:
        name_proxy(monkeypatch, f"https://127.0.0.1:{proxy}")
        async with no_leaks(), HttpTransport(ca_bundle=certificates.ca) as transport:
            for _ in range(2):
                assert (await put(transport, f"https://127.0.0.1:{store}/key", size)).etag == '"e"'


async def test_the_proxy_is_looked_up_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop leaves the network in which there was one."""
    async with serving(storing(10)) as store, HttpTransport() as transport:
        name_proxy(monkeypatch, "http://127.0.0.1:9")
        with pytest.raises(Fault, match="the proxy"):
            await put(transport, f"http://127.0.0.1:{store}/key")
        monkeypatch.delenv("http_proxy")
        await put(transport, f"http://127.0.0.1:{store}/key")


@pytest.mark.parametrize("end", ["cancelled", "reset", "closed here"])
async def test_a_tunnel_that_breaks_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    hello = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await reader.read(1)  # of TLS
        hello.set()
        if end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            while await reader.read(1 << 16):
                pass

    async with serving(serve) as proxy:
        name_proxy(monkeypatch, f"http://127.0.0.1:{proxy}")
        async with no_leaks(), HttpTransport() as transport:
            sending = asyncio.create_task(put(transport, "https://127.0.0.1:9/key"))
            await hello.wait()
            if end == "cancelled":
                sending.cancel()
            if end == "closed here":
                await transport._client.pool.aclose()
            with pytest.raises(asyncio.CancelledError if end == "cancelled" else Fault):
                await sending
            assert not transport._client.pool._open


# -- addresses and TLS


async def test_an_address_at_which_tls_breaks_off_costs_no_attempt(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(1))

    async with serving(storing(10), certificates) as port, serving(hang_up, host="127.0.0.2", port=port):
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        rows = [(*kind, (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
        async with no_leaks(), HttpTransport(ca_bundle=certificates.ca) as transport:
            for _ in range(4):
                assert (await put(transport, f"https://localhost:{port}/key", fresh=True)).etag == '"e"'
    assert met, "nobody went there"


@pytest.mark.parametrize("through_a_proxy", [False, True])
@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x03\x00\x7a\x02"], ids=["at once", "in the middle"])
async def test_a_reset_during_the_tls_handshake_says_so(
    monkeypatch: pytest.MonkeyPatch, begun: bytes, through_a_proxy: bool
) -> None:
    """As a firewall that reads the name in the first message, or a load balancer with no store behind it."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if through_a_proxy:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await reader.read(1)
        writer.write(begun)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with serving(reset) as port, no_leaks():
        if through_a_proxy:
            name_proxy(monkeypatch, f"http://127.0.0.1:{port}")
        store = "store.test:443" if through_a_proxy else f"127.0.0.1:{port}"
        async with HttpTransport() as transport:
            with pytest.raises(Fault) as caught:
                await put(transport, f"https://{store}/key")
    assert caught.value.kind is FaultKind.UNREACHABLE
    assert re.match(
        rf"{store} takes the connection and (resets|closes) it during the TLS handshake: check that the store runs, "
        "that this port speaks TLS, and that no firewall",
        str(caught.value),
    )


async def test_a_connection_that_is_reset_at_once_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    async def reset(*_: Any, **__: Any) -> socket.socket:
        made.append(socket.socket())  # as the kernel has it then: without a peer
        return made[0]

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", reset)
    async with HttpTransport() as transport:
        with pytest.raises(Fault) as caught:
            await put(transport, "http://127.0.0.1:9/key")
    assert caught.value.kind is FaultKind.UNREACHABLE
    assert made[0].fileno() == -1


async def test_cancelled_as_the_handshake_ends_no_socket_waits_for_the_end_of_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio says goodbye, and would wait 30 s for a store that does not."""
    sockets: list[Any] = []
    made = Connection.connection_made

    def made_and_cancelled(self: Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        sockets.append(transport.get_extra_info("socket"))
        sending.cancel()

    monkeypatch.setattr(Connection, "connection_made", made_and_cancelled)
    with DeafStore(tmp_path).running() as store:
        async with HttpTransport(ca_bundle=store.certificates.ca) as transport:
            sending = asyncio.create_task(put(transport, f"https://127.0.0.1:{store.port}/key"))
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert [each.fileno() for each in sockets] == [-1]


async def test_a_store_that_refuses_before_it_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is overloaded, says so and closes. The write that fails then is not the result; and a 200 would be none."""
    told = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(told)
        await writer.drain()

    opened = connection_pool.ConnectionPool._opened

    async def opened_and_heard(self: Any, *arguments: Any) -> Connection:
        made = await opened(self, *arguments)
        await until(lambda: not made.is_clean)
        return made

    monkeypatch.setattr(connection_pool.ConnectionPool, "_opened", opened_and_heard)
    async with serving(serve) as port, no_leaks(), HttpTransport() as transport:
        with pytest.raises(Fault) as caught:
            await put(transport, f"http://127.0.0.1:{port}/key")
        assert caught.value.kind is FaultKind.BUSY
        told = STORED
        with pytest.raises(Fault, match="before it had received all of it"):
            await put(transport, f"http://127.0.0.1:{port}/key")


async def test_idle_connections_are_closed_although_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "MOST_IDLE", 0.0)
    with bench(tmp_path, tls=False) as made:
        async with no_leaks(), transport_to(made) as transport:
            data = bytes(10)
            await transport.put(
                made.sign(Part(1, 0, 10), data), MemorySource("b", memoryview(data)), Part(1, 0, 10), on_start=bool
            )
            assert transport._client.pool._open
            monkeypatch.setattr(connection, "MOST_IDLE", -1.0)
            await until(lambda: not transport._client.pool._open and not transport._client.pool._kept)

"""Whether the kernel encrypts, and what happens where it does not. That it sends the right bytes: `any_path`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault
from bigupload.http import kernel_tls, part_body
from bigupload.http.connection import Connection
from bigupload.http.connection_pool import ConnectionPool
from bigupload.http.origins import Proxy, Route, origin_of
from bigupload.http.put_transport import HttpTransport
from bigupload.sources.file import FileSource
from bigupload.testing.certificates import make_certificates
from bigupload.testing.faults import Status
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import WITHOUT_KERNEL_TLS, Bench, bench, transport_to
from tests.integration.transport.test_connecting import put, serving, storing, tunnel_to
from tests.integration.transport.test_users_proxy import name_proxy

pytestmark = pytest.mark.skipif(os.name != "posix", reason="asyncio's loop of Windows watches no descriptors")
SIZE = 3 * MIB


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, tls=True) as made:
        yield made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Every connection that is made."""
    made: list[Connection] = []
    begin = Connection.__init__

    def remember(connection: Connection) -> None:
        begin(connection)
        made.append(connection)

    monkeypatch.setattr(Connection, "__init__", remember)
    return made


@pytest.fixture
def handshakes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names for which a handshake was made on a socket. Python and the kernel are said to have what they need."""
    names: list[str] = []
    connect = kernel_tls.connect

    async def remember(sock: socket.socket, context: ssl.SSLContext, name: str) -> tuple[socket.socket, bool]:
        names.append(name)
        return await connect(sock, context, name)

    monkeypatch.setattr(kernel_tls, "is_offered", lambda: True)
    monkeypatch.setattr(kernel_tls, "connect", remember)
    return names


async def put_parts(made: Bench, count: int) -> None:
    with FileSource(write(made.directory / "file", SIZE)) as source:
        async with no_leaks(), transport_to(made) as transport:
            for number in range(1, count + 1):
                await made.put(transport, source, Part(number, 0, SIZE))
                assert made.stored(number) == content(SIZE)
                transport._client.pool.forget(next(iter(transport._client._routes.values())))


async def test_a_cipher_that_the_kernel_does_not_know(
    secure: Bench, opened: list[Connection], handshakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent in the clear: asyncio's TLS does it, over a second connection the first time."""
    monkeypatch.setattr(kernel_tls, "_OP_ENABLE_KTLS", 0)  # OpenSSL does not ask the kernel
    await put_parts(secure, 3)
    assert len(handshakes) == 1
    assert [each.kernel_encrypts for each in opened] == [False] * 3
    assert all(each.transport.get_extra_info("sslcontext") for each in opened)


async def test_where_the_kernel_has_none(
    secure: Bench, opened: list[Connection], handshakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_tls, "is_offered", lambda: False)
    await put_parts(secure, 2)
    assert (handshakes, [each.kernel_encrypts for each in opened]) == ([], [False] * 2)


async def test_an_event_loop_that_reads_otherwise(
    secure: Bench, handshakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel_tls.can_drive(asyncio.get_running_loop())
    assert not kernel_tls.can_drive(asyncio.AbstractEventLoop())
    monkeypatch.setattr(kernel_tls, "can_drive", lambda _: False)
    await put_parts(secure, 1)
    assert handshakes == []


async def test_a_certificate_that_nobody_vouches_for(secure: Bench, handshakes: list[str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    secure.s3.ca_bundle = make_certificates(tmp_path / "other").ca
    with pytest.raises(Fault, match="certificate"):
        await put_parts(secure, 1)
    assert handshakes == ["127.0.0.1"]


async def test_a_peer_that_ends_the_handshake(handshakes: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        sock.setblocking(False)
        context = ssl.create_default_context()
        beginning = asyncio.create_task(kernel_tls.connect(sock, context, "localhost"))
        peer, _ = await asyncio.to_thread(server.accept)
        with peer:
            await asyncio.to_thread(peer.recv, 1)
        with pytest.raises(ConnectionError):
            await beginning
        assert sock.fileno() < 0


@pytest.mark.parametrize(
    ("code", "offered"), [(errno.ENOTCONN, True), (errno.ENOENT, False), (errno.ENOPROTOOPT, False), (None, False)]
)
def test_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch, code: int | None, offered: bool) -> None:
    def setsockopt(_socket: socket.socket, *_option: object) -> None:
        if code is not None:
            raise OSError(code, "as the kernel says")

    class Probe(socket.socket):
        pass

    monkeypatch.setattr(Probe, "setsockopt", setsockopt, raising=False)
    monkeypatch.setattr(kernel_tls.socket, "socket", Probe)
    monkeypatch.setattr(kernel_tls.sys, "platform", "linux")
    monkeypatch.setattr(kernel_tls, "_OP_ENABLE_KTLS", 8)
    monkeypatch.setattr(kernel_tls, "_hands_over_keys", lambda: True)
    assert kernel_tls.is_offered.__wrapped__() is offered
    monkeypatch.setattr(kernel_tls, "_hands_over_keys", lambda: False)  # the library was built without it
    assert not kernel_tls.is_offered.__wrapped__()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.12 has no keys that are shared before")
@pytest.mark.parametrize("took", [True, False])
def test_the_key_of_a_connection_within_the_process_is_asked_for(monkeypatch: pytest.MonkeyPatch, took: bool) -> None:
    versions: list[str | None] = []

    def encrypts(tls: ssl.SSLSocket) -> bool:
        versions.append(tls.version())
        return took

    monkeypatch.setattr(kernel_tls, "_kernel_encrypts", encrypts)
    assert kernel_tls._hands_over_keys() is took
    assert versions == ["TLSv1.3"]


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tls.socket, "socket", None)  # no socket is needed
    monkeypatch.setattr(kernel_tls.sys, "platform", "linux")
    monkeypatch.setattr(kernel_tls, "_OP_ENABLE_KTLS", 8)
    monkeypatch.setenv("BIGUPLOAD_KERNEL_TLS", "0")
    assert not kernel_tls.is_offered.__wrapped__()


@pytest.mark.parametrize(("option", "platform"), [(0, "linux"), (8, "darwin"), (8, "win32")])
def test_other_systems_and_an_older_python(monkeypatch: pytest.MonkeyPatch, option: int, platform: str) -> None:
    def refuse() -> None:
        raise AssertionError("no socket is needed")

    monkeypatch.setattr(kernel_tls.socket, "socket", refuse)
    monkeypatch.setattr(kernel_tls.sys, "platform", platform)
    monkeypatch.setattr(kernel_tls, "_OP_ENABLE_KTLS", option)
    assert not kernel_tls.is_offered.__wrapped__()


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[tuple[socket.socket, ssl.SSLSocket]]:
    """A socket as asyncio gets it, and its peer. No kernel has to encrypt to read."""
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context(cafile=made.ca)
    with ThreadPoolExecutor(1) as threads:
        shaking = threads.submit(context.wrap_socket, theirs, server_side=True)
        tls = client.wrap_socket(ours, server_hostname="localhost")
        tls.setblocking(False)
        with shaking.result() as peer, kernel_tls._ReadByOpenSsl(tls) as found:
            peer.settimeout(30)
            yield found, peer


def test_many_records_are_read_at_once(reading: tuple[socket.socket, ssl.SSLSocket]) -> None:
    sock, peer = reading
    with pytest.raises(BlockingIOError):  # of TLS 1.3, session tickets are there: no data, and no error
        sock.recv(1 << 18)
    peer.sendall(content(50_000))
    assert sock.recv(40_000) + sock.recv(1 << 18) == content(50_000)
    with pytest.raises(BlockingIOError):
        sock.recv(1 << 18)


def test_no_part_of_a_record_is_left_that_the_event_loop_would_not_see(
    reading: tuple[socket.socket, ssl.SSLSocket],
) -> None:
    sock, peer = reading
    peer.sendall(content(16_000))
    assert sock.recv(10_000) == content(16_000)


def test_what_came_before_the_end_is_read_first(reading: tuple[socket.socket, ssl.SSLSocket]) -> None:
    sock, peer = reading
    peer.sendall(content(50_000))
    peer.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.unwrap()
    assert sock.recv(1 << 18) == content(50_000)
    assert sock.recv(1 << 18) == b""


def test_what_came_before_an_error_is_read_first(reading: tuple[socket.socket, ssl.SSLSocket]) -> None:
    sock, peer = reading
    peer.sendall(b"the response")
    with socket.socket(fileno=peer.detach()) as raw:
        raw.sendall(b"no TLS")
        assert sock.recv(1 << 18) == b"the response"
        for _ in range(2):
            with pytest.raises(ssl.SSLError):
                sock.recv(1 << 18)


class _Emulated(kernel_tls._ReadByOpenSsl):
    """OpenSSL encrypts what asyncio sends, in place of the kernel."""

    def send(self, data: Any, flags: int = 0, /) -> int:
        return self._tls.send(bytes(data))


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections as if the kernel encrypted. Nothing big can be sent over them."""
    monkeypatch.setattr(kernel_tls, "is_offered", lambda: True)
    monkeypatch.setattr(kernel_tls, "_kernel_encrypts", lambda _: True)
    monkeypatch.setattr(kernel_tls, "_OP_ENABLE_KTLS", 0)
    monkeypatch.setattr(kernel_tls, "_ReadByOpenSsl", _Emulated)


@pytest.mark.usefixtures("emulated")
async def test_the_end_is_seen_that_came_with_the_last_bytes(tmp_path: Path) -> None:
    """A peer that says that it ends, and does not close: there is one event of the descriptor for both."""
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    responded, ended = asyncio.Event(), asyncio.Event()

    def respond(theirs: ssl.SSLSocket) -> None:
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        theirs.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        theirs.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.unwrap()
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    async def serve(server: socket.socket) -> None:
        sock, _ = await asyncio.get_running_loop().sock_accept(server)
        sock.setblocking(True)
        sock.settimeout(30)
        with await asyncio.to_thread(context.wrap_socket, sock, server_side=True) as theirs:
            await asyncio.to_thread(respond, theirs)
            responded.set()
            await ended.wait()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        serving_one = asyncio.create_task(serve(server))
        pool = ConnectionPool(lambda: ssl.create_default_context(cafile=made.ca))
        route = Route(origin_of(f"https://127.0.0.1:{server.getsockname()[1]}"), Proxy())
        connection = await pool.take(route, fresh=True)
        assert connection.kernel_encrypts
        await responded.wait()
        assert (await connection.head()).status == 200
        await connection.closed
        await pool.aclose()
        ended.set()
        await serving_one


@pytest.mark.usefixtures("emulated")
async def test_no_kernel_before_a_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Connection]
) -> None:
    """asyncio begins TLS behind a proxy's TLS, and reads otherwise then."""
    certificates = make_certificates(tmp_path)
    async with serving(storing(10), certificates) as store, serving(tunnel_to(store), certificates) as proxy:
        name_proxy(monkeypatch, f"https://127.0.0.1:{proxy}")
        async with no_leaks(), HttpTransport(ca_bundle=certificates.ca) as transport:
            assert (await put(transport, f"https://127.0.0.1:{store}/key", 10)).etag == '"e"'
    assert [each.kernel_encrypts for each in opened] == [False]


@pytest.mark.parametrize("after_hello", [False, True])
async def test_a_peer_that_closes_during_the_handshake_is_the_same_fault(
    monkeypatch: pytest.MonkeyPatch, after_hello: bool
) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after_hello:
            await reader.read(1 << 16)
        writer.close()

    faults = []
    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/key"
        for offered in (False, True):
            monkeypatch.setattr(kernel_tls, "is_offered", lambda offered=offered: offered)
            async with HttpTransport() as transport:
                with pytest.raises(Fault) as caught:
                    await put(transport, url)
            faults.append((caught.value.kind, str(caught.value)))
    assert faults[0] == faults[1]


needs_kernel = pytest.mark.skipif(not kernel_tls.is_offered(), reason=WITHOUT_KERNEL_TLS)


@needs_kernel
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_kernel_encrypts(
    secure: Bench, opened: list[Connection], version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ssl.create_default_context

    def limited(*args: object, **more: object) -> ssl.SSLContext:
        context = make(*args, **more)
        context.maximum_version = version
        return context

    monkeypatch.setattr(ssl, "create_default_context", limited)
    sent: list[int] = []
    sendfile: Callable[..., int] = os.sendfile

    def counting(*args: int) -> int:
        sent.append(sendfile(*args))
        return sent[-1]

    monkeypatch.setattr(part_body.os, "sendfile", counting)
    await put_parts(secure, 3)
    assert [each.kernel_encrypts for each in opened] == [True] * 3
    assert sum(sent) == 3 * SIZE


@needs_kernel
async def test_a_refusal_before_the_part_was_read(secure: Bench, opened: list[Connection]) -> None:
    secure.s3.script("UploadPart", Status(503, "SlowDown"))
    with FileSource(write(secure.directory / "file", 20 * MIB)) as source:
        async with no_leaks(), transport_to(secure) as transport:
            with pytest.raises(Fault, match="503"):
                await secure.put(transport, source, Part(1, 0, 20 * MIB))
            await secure.put(transport, source, Part(1, 0, 20 * MIB))
    assert secure.stored() == content(20 * MIB)
    assert all(each.kernel_encrypts for each in opened)

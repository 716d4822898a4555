"""A small body that is alone goes by `http.client`: it meets the same responses as one that goes by aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, cast

import pytest

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.lazy_transport import LazyTransport
from bigupload.http.plain_connections import PlainConnections
from bigupload.http.plain_put import MOST_BYTES, PlainBody, _exchange, _rest
from bigupload.http.socket_tuning import readable
from bigupload.ports import SignedRequest
from bigupload.sources.file import FileSource
from bigupload.support.rate_limiter import RateLimiter
from bigupload.testing.strict_s3 import FlipBit, LostResponse, Reset, Stall, Status, StrictS3
from tests.integration.support import assert_secretless, no_leaks
from tests.integration.transport.support import Bench, bench
from tests.integration.transport.test_memory_put import answering, body
from tests.integration.transport.test_users_proxy import name_proxy
from tests.tools.waiting import until

SIZE = 1000
LONG = 60.0


@pytest.fixture(params=["http", "https"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, tls=request.param == "https") as made:
        yield made


@contextlib.asynccontextmanager
async def lazy(made: Bench | None = None, **more: Any) -> AsyncIterator[LazyTransport]:
    arguments: dict[str, Any] = {"ca_bundle": made and made.s3.ca_bundle, "limiter": None, "congestion": "auto"}
    async with LazyTransport(**arguments | more) as transport:
        yield transport


def is_plain(transport: LazyTransport) -> bool:
    """Whether aiohttp was not needed so far."""
    return transport._full is None


def kept(transport: LazyTransport) -> HTTPConnection:
    """The one connection that it keeps."""
    assert transport._plain is not None
    ((connection, _since),) = transport._plain._connections._idle
    return connection


@pytest.mark.parametrize("size", [0, 1, MOST_BYTES])
async def test_the_bytes_arrive_over_one_connection(store: Bench, size: int) -> None:
    used = set()
    async with no_leaks(), lazy(store) as transport:
        for _ in range(3):
            data, source, part = body(size)
            response = await transport.put(store.sign(part, data), source, part, on_start=store.gauges.append)
            assert store.stored() == data
            assert response.checksums
            assert store.gauges[-1].sent() == size
            used.add(kept(transport))
        assert len(used) == 1
        assert type(store.gauges[0]) is PlainBody
        assert store.gauges[0].address() == f"127.0.0.1:{store.s3.port}"
        assert is_plain(transport)


async def test_a_file_is_read_in_the_thread(store: Bench) -> None:
    path = store.directory / "file"
    path.write_bytes(os.urandom(2 * SIZE))
    async with no_leaks(), lazy(store) as transport:
        with FileSource(path) as source:
            part = Part(2, SIZE, SIZE)
            request = store.sign(part, path.read_bytes()[SIZE:])
            await transport.put(request, source, part, on_start=bool)
            assert store.stored(2) == path.read_bytes()[SIZE:]
            os.truncate(path, SIZE)
            with pytest.raises(errors.SourceChanged, match="became shorter"):
                await transport.put(request, source, part, on_start=bool)
        assert is_plain(transport)


async def test_a_response_before_the_body_was_read_comes_out_as_what_it_is(store: Bench) -> None:
    store.s3.script("UploadPart", Status(503, "SlowDown", read_body=False), repeat=True)
    data, source, part = body(MOST_BYTES)
    async with no_leaks(), lazy(store) as transport:
        for _ in range(20):
            with pytest.raises(Fault) as caught:
                await transport.put(store.sign(part, data), source, part, on_start=bool)
            assert (caught.value.status, caught.value.code) == (503, "SlowDown")
        assert is_plain(transport)
    assert_secretless(caught.value)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(LostResponse(), FaultKind.BROKEN), (Reset(9), FaultKind.BROKEN), (FlipBit(3), FaultKind.CORRUPTED)],
    ids=["lost", "reset", "flipped"],
)
async def test_what_breaks_is_a_fault_and_the_next_one_arrives(store: Bench, fault: Any, kind: FaultKind) -> None:
    store.s3.script("UploadPart", fault)
    data, source, part = body(SIZE)
    async with no_leaks(), lazy(store) as transport:
        with pytest.raises(Fault) as caught:
            await transport.put(store.sign(part, data), source, part, on_start=store.gauges.append)
        assert caught.value.kind is kind
        assert store.gauges[0].sent() == SIZE, "it was sent, although in vain"
        assert_secretless(caught.value)
        await transport.put(store.sign(part, data), source, part, on_start=bool)
    assert store.stored() == data


async def test_cancelled_in_the_middle_nothing_is_left(store: Bench) -> None:
    store.s3.script("UploadPart", Stall(after_bytes=9))
    data, source, part = body(SIZE)
    async with no_leaks(), lazy(store) as transport:
        request = store.sign(part, data)
        sending = asyncio.create_task(transport.put(request, source, part, on_start=store.gauges.append))
        await until(lambda: store.s3.stalled == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: not any("bigupload" in each.name for each in threading.enumerate()))
        store.s3.release()
        await transport.put(request, source, part, on_start=bool)
    assert store.stored() == data


async def test_cancelled_after_its_end_the_connection_is_not_taken_from_another(
    store: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has given it back, and the task has not heard of that yet."""
    given_back = threading.Event()
    give_back = PlainConnections.give_back

    def note(*arguments: Any) -> None:
        give_back(*arguments)
        given_back.set()

    monkeypatch.setattr(PlainConnections, "give_back", note)
    store.s3.script("UploadPart", Stall(after_bytes=9))
    data, source, part = body(SIZE)
    async with no_leaks(), lazy(store) as transport:
        request = store.sign(part, data)
        sending = asyncio.create_task(transport.put(request, source, part, on_start=bool))
        await until(lambda: store.s3.stalled == 1)
        store.s3.release()
        assert given_back.wait(LONG)  # and the loop stands still
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not readable(kept(transport).sock)


async def test_an_idle_connection_that_the_store_has_closed_is_not_used(store: Bench) -> None:
    async with no_leaks(), lazy(store) as transport:
        for _ in range(2):
            data, source, part = body(SIZE)
            await transport.put(store.sign(part, data), source, part, on_start=bool)
            kept(transport).sock.shutdown(2)  # reads as closed by the store
        assert is_plain(transport)


async def test_two_at_a_time_go_by_aiohttp(store: Bench) -> None:
    store.s3.script("UploadPart", Stall(after_bytes=9))
    data, source, part = body(SIZE)
    async with no_leaks(), lazy(store) as transport:
        request = store.sign(part, data)
        first = asyncio.create_task(transport.put(request, source, part, on_start=bool))
        await until(lambda: store.s3.stalled == 1)
        await transport.put(request, source, part, on_start=store.gauges.append)
        assert not is_plain(transport)
        assert type(store.gauges[0]) is not PlainBody
        store.s3.release()
        await first
        await transport.put(request, source, part, on_start=store.gauges.append)
        assert type(store.gauges[1]) is not PlainBody


async def test_what_else_goes_by_aiohttp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(tmp_path, tls=False) as made, StrictS3() as elsewhere:
        data, source, part = body(SIZE)
        request = made.sign(part, data)

        async def put(transport: LazyTransport, size: int = SIZE, **more: Any) -> bool:
            data, source, part = body(size)
            await transport.put(made.sign(part, data), source, part, on_start=bool, **more)
            return is_plain(transport)

        async with lazy(made) as transport:
            assert not await put(transport, MOST_BYTES + 1)
        async with lazy(made) as transport:
            assert not await put(transport, fresh=True)
        async with lazy(made, limiter=RateLimiter(10 * MIB)) as transport:
            assert not await put(transport)
        async with lazy(made, ca_bundle=False) as transport:
            assert not await put(transport)
        async with lazy(made) as transport:
            assert await put(transport)
            with pytest.raises(Fault):
                await transport.put(SignedRequest(f"{elsewhere.url}/key", {}, 60), source, part, on_start=bool)
            assert not is_plain(transport)
        name_proxy(monkeypatch, "http://127.0.0.1:9")
        async with lazy(made) as transport:
            with pytest.raises(Fault, match="proxy"):
                await transport.put(request, source, part, on_start=bool)
            assert not is_plain(transport)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("http://127.0.0.1:9/key", FaultKind.UNREACHABLE, r"can't connect to 127\.0\.0\.1:9: Connection refused"),
        ("http://no-such-host.invalid/key", FaultKind.UNREACHABLE, "no such host: no-such-host.invalid"),
    ],
)
async def test_no_connection(url: str, kind: FaultKind, message: str) -> None:
    _, source, part = body(10)
    request = SignedRequest(f"{url}?X-Amz-Signature=s", {}, 60)
    async with no_leaks(), lazy() as transport:
        with pytest.raises(Fault, match=message) as caught:
            await transport.put(request, source, part, on_start=bool)
        assert caught.value.kind is kind
        assert is_plain(transport)
    assert_secretless(caught.value)


async def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    with bench(tmp_path, tls=True) as made:
        data, source, part = body(SIZE)
        async with no_leaks(), lazy(made, ca_bundle=None) as transport:
            with pytest.raises(Fault, match=r"no trusted TLS connection to .*see `ca_bundle`") as caught:
                await transport.put(made.sign(part, data), source, part, on_start=bool)
            assert caught.value.kind is FaultKind.FINAL
            assert is_plain(transport)


@pytest.mark.parametrize(
    ("response", "kind", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", FaultKind.BROKEN, "BadStatusLine"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", FaultKind.BROKEN, "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", FaultKind.BROKEN, "no ETag"),
        (
            b"HTTP/1.1 307 Elsewhere\r\nLocation: http://elsewhere.example/k?a=b\r\nContent-Length: 0\r\n\r\n",
            FaultKind.FINAL,
            r"redirects part 1 to elsewhere\.example: use",
        ),
    ],
    ids=["senseless", "interim", "no ETag", "redirect"],
)
async def test_responses_that_prove_nothing(response: bytes, kind: FaultKind, message: str) -> None:
    async with answering(response) as url, lazy() as transport:
        _, source, part = body(10)
        request = SignedRequest(f"{url}/key?X-Amz-Signature=s", {}, 60)
        with pytest.raises(Fault, match=message) as caught:
            await transport.put(request, source, part, on_start=bool)
        assert caught.value.kind is kind
    assert_secretless(caught.value)


async def test_a_response_whose_end_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status is a result. The connection is not used again."""
    monkeypatch.setattr("bigupload.http.plain_put._REST_WITHIN", 0.01)
    async with answering(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2\r\n\r\no') as url, lazy() as transport:
        for _ in range(2):
            _, source, part = body(10)
            response = await transport.put(SignedRequest(f"{url}/key", {}, 60), source, part, on_start=bool)
            assert response.etag == '"e"'
        assert is_plain(transport)


@pytest.mark.parametrize("fresh", [False, True], ids=["plain", "aiohttp"])
async def test_an_error_whose_end_does_not_come_is_what_its_beginning_says(
    monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    for module in ("plain_put._REST_WITHIN", "put_transport.RESPONSE_AFTER_WRITE_ERROR"):
        monkeypatch.setattr(f"bigupload.http.{module}", 0.1)
    cut = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 999\r\n\r\n<Error><Code>RequestTimeout</Code><Mess"
    async with answering(cut) as url, lazy() as transport:
        _, source, part = body(10)
        with pytest.raises(Fault) as caught:
            await transport.put(SignedRequest(f"{url}/key", {}, 60), source, part, on_start=bool, fresh=fresh)
        assert (caught.value.kind, caught.value.code) == (FaultKind.SERVER, "RequestTimeout")
        assert is_plain(transport) is not fresh


def test_a_body_lets_a_broken_connection_go_before_it_is_closed() -> None:
    """Its descriptor is soon another file's, which nobody may measure or reset."""
    ours, theirs = socket.socketpair()
    theirs.close()
    gauge = PlainBody(SIZE)
    with ours, pytest.raises(OSError):
        _exchange(ours, bytes(SIZE), gauge)
    assert gauge._sock is None


def test_a_response_that_trickles_is_not_waited_for() -> None:
    now = 0.0

    class Trickling:
        length = 999

        def read1(self, _: int) -> bytes:
            nonlocal now
            now += 2.0
            return b"x"

    with socket.socket() as sock:
        assert _rest(sock, cast("HTTPResponse", Trickling()), lambda: now) == b"xxx"


async def test_too_few_descriptors_to_import_aiohttp_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bigupload.http.put_transport")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with lazy() as transport:
        # Descriptors are the lowest free numbers: none is left below this limit.
        with socket.socket() as lowest_free:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), hard))
        try:
            with pytest.raises(Fault, match="too many files and connections open") as caught:
                await transport.full()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.kind is FaultKind.BROKEN


@pytest.mark.parametrize(
    ("reason", "expected"), [("Too many open files", Fault), ("No such file or directory", ImportError)]
)
async def test_a_part_of_aiohttp_that_can_t_be_loaded(
    monkeypatch: pytest.MonkeyPatch, reason: str, expected: type[Exception]
) -> None:
    """The linker says in words that too many files are open."""

    class Linker:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "bigupload.http.put_transport":
                raise ImportError(f"/lib/_http_parser.so: cannot open shared object file: {reason}")

    monkeypatch.delitem(sys.modules, "bigupload.http.put_transport")
    monkeypatch.setattr(sys, "meta_path", [Linker, *sys.meta_path])
    async with lazy() as transport:
        with pytest.raises(expected, match=r"open files|files and connections open|No such file") as caught:
            await transport.full()
        assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:1/key", {"x-amz-meta-k": "a\r\nHost: b"}),
        ("http://127.0.0.1:1/a key", {}),
        ("http://127.0.0.1:1/a\nkey", {}),
        ("http://127.0.0.1:1", {}),
        ("http://127.0.0.1:x/key", {}),
        (f"http://{'a' * 64}.example/key", {}),
        ("no url", {}),
    ],
)
async def test_what_can_t_be_sent_is_refused_before_anything_is(url: str, headers: dict[str, str]) -> None:
    _, source, part = body(10)
    async with lazy() as transport:
        with pytest.raises(errors.StoreRefused):
            await transport.put(SignedRequest(url, headers, 60), source, part, on_start=bool)


def test_the_host_header_is_the_one_that_was_signed() -> None:
    hosts = {
        "http://127.0.0.1:9000": "127.0.0.1:9000",
        "http://S3.example:80": "s3.example",
        "https://s3.example:443": "s3.example",
        "https://s3.example:80": "s3.example:80",
        "http://user:password@[::1]:9000": "[::1]:9000",
    }
    assert {origin: PlainConnections(origin, None).host for origin in hosts} == hosts

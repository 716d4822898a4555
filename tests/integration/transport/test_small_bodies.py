"""A small body in memory goes together with its head: it meets the same responses, and leaves as little behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.put_transport import HttpTransport, MemoryBody
from bigupload.ports import PutResponse, SignedRequest
from bigupload.sources.objects import MemorySource
from bigupload.testing.faults import FlipBit, LostResponse, Reset, Stall, Status
from tests.integration.support import assert_secretless, no_leaks
from tests.integration.transport.support import Bench, bench, transport_to
from tests.integration.transport.test_cut_short import discards
from tests.tools.waiting import until

SIZE = 100_000
SIGNED = "key?X-Amz-Signature=s"


@pytest.fixture(params=["http", "https"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, tls=request.param == "https") as made:
        yield made


def body(size: int = SIZE) -> tuple[bytes, MemorySource, Part]:
    data = os.urandom(size)
    return data, MemorySource("bytes", memoryview(data)), Part(1, 0, size)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [SIZE, MIB, 1, 0])
async def test_the_bytes_arrive_over_one_connection(store: Bench, size: int) -> None:
    async with no_leaks(), transport_to(store) as transport:
        for _ in range(3):
            data, source, part = body(size)
            response = await transport.put(store.sign(part, data), source, part, on_start=store.gauges.append)
            assert store.stored() == data
            assert response.checksums
            assert [gauge.sent() for gauge in store.gauges][-1] == size
        assert len(transport._client.pool._open) == 1
        assert type(store.gauges[0]) is MemoryBody
        assert store.gauges[0].address() == f"127.0.0.1:{store.s3.port}"
        response = await transport.put(store.sign(part, data), source, part, on_start=bool, fresh=True)
        assert [len(kept) for kept in transport._client.pool._kept.values()] == [1]
        await until(lambda: len(transport._client.pool._open) == 1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [SIZE, MIB])
async def test_a_response_before_the_body_was_read_comes_out_as_what_it_is(store: Bench, size: int) -> None:
    store.s3.script("UploadPart", Status(503, "SlowDown", read_body=False), repeat=True)
    data, source, part = body(size)
    async with no_leaks(), transport_to(store) as transport:
        for _ in range(20):
            with pytest.raises(Fault) as caught:
                await transport.put(store.sign(part, data), source, part, on_start=bool)
            assert (caught.value.status, caught.value.code) == (503, "SlowDown")
            assert caught.value.kind is FaultKind.BUSY
    assert_secretless(caught.value)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("fault", "kind"),
    [(LostResponse(), FaultKind.BROKEN), (Reset(9), FaultKind.BROKEN), (FlipBit(3), FaultKind.CORRUPTED)],
    ids=["lost", "reset", "flipped"],
)
async def test_what_breaks_is_a_fault_and_the_next_one_arrives(store: Bench, fault: Any, kind: FaultKind) -> None:
    store.s3.script("UploadPart", fault)
    data, source, part = body()
    async with no_leaks(), transport_to(store) as transport:
        with pytest.raises(Fault) as caught:
            await transport.put(store.sign(part, data), source, part, on_start=store.gauges.append)
        assert caught.value.kind is kind
        sent = store.gauges[0].sent()  # although in vain
        assert 0 < sent <= SIZE if kind is FaultKind.BROKEN else sent == SIZE
        assert_secretless(caught.value)
        await transport.put(store.sign(part, data), source, part, on_start=bool)
    assert store.stored() == data


@pytest.mark.exhaustive
async def test_cancelled_in_the_middle_nothing_is_left(store: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.http.put_transport.MOST_BYTES", 24 * MIB)
    store.s3.script("UploadPart", Stall(after_bytes=9))
    data, source, part = body(24 * MIB)
    async with no_leaks(), transport_to(store) as transport:
        request = store.sign(part, data)
        sending = asyncio.create_task(transport.put(request, source, part, on_start=store.gauges.append))
        await until(lambda: store.s3.stalled == 1)  # what stalls after the release is not released
        gauge: Any = store.gauges[0]
        discarded: list[bool] = []
        abort = gauge._transport.abort
        sock = gauge._socket
        gauge._transport.abort = lambda: (sock.fileno() < 0 or discarded.append(discards(sock)), abort())
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert discarded == [True]
        assert not any(transport._client.pool._kept.values())
        store.s3.release()
    assert 1 not in store.s3.uploads[store.upload_id].parts


@pytest.mark.parametrize(
    ("response", "kind", "message"),
    [
        (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            FaultKind.BROKEN,
            'not HTTP, but "SSH-2.0-OpenSSH_9.6": check the address and its',
        ),
        (b"\x15\x03\x01\x00\x02\x02\x46", FaultKind.BROKEN, "it speaks TLS: name it by https://"),
        (b"HTTP/1.1 200 OK\r\n" + 70_000 * b"x", FaultKind.BROKEN, "the response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", FaultKind.BROKEN, "is not S3's"),
        (b'HTTP/1.1 200 OK\r\nETag: W/"6"\r\nContent-Length: 6\r\n\r\n<html>', FaultKind.BROKEN, "is not S3's"),
        (
            b"HTTP/1.1 307 Elsewhere\r\nLocation: http://elsewhere.example/k?a=b\r\nContent-Length: 0\r\n\r\n",
            FaultKind.FINAL,
            r"redirects to https?://elsewhere\.example: use",
        ),
    ],
    ids=["senseless", "a TLS alert", "a head without end", "a page without ETag", "a page with one", "redirect"],
)
async def test_responses_that_prove_nothing(response: bytes, kind: FaultKind, message: str) -> None:
    async with answering(response) as url, HttpTransport() as transport:
        with pytest.raises(Fault, match=message) as caught:
            await put(transport, f"{url}/{SIGNED}")
        assert caught.value.kind is kind
    assert_secretless(caught.value)


@pytest.mark.parametrize("subject", ["the object", ""])
async def test_a_server_that_closes_at_once_may_expect_tls(subject: str) -> None:
    """Of an upload in parts, the store has responded before."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.close()

    _, source, part = body(10)
    async with await asyncio.start_server(close, "127.0.0.1", 0) as server, HttpTransport() as transport:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/key"
        with pytest.raises(Fault, match="closed without a response") as caught:
            await transport.put(SignedRequest(url, {}, 60, subject=subject), source, part, on_start=bool)
    assert ("if it expects TLS, name it by https://" in str(caught.value)) is bool(subject)


async def test_a_response_without_an_etag_is_left_to_the_engine() -> None:
    bare = b"HTTP/1.1 200 OK\r\nx-amz-checksum-crc32: AAAAAA==\r\nContent-Length: 0\r\n\r\n"
    async with answering(bare) as url, HttpTransport() as transport:
        response = await put(transport, f"{url}/key")
    assert (response.etag, response.checksums) == ("", {"x-amz-checksum-crc32": "AAAAAA=="})


@pytest.mark.parametrize(
    "response",
    [
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2\r\n\r\no',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\n\r\n',
    ],
    ids=["length", "chunked", "until the end"],
)
async def test_a_response_whose_end_does_not_come(monkeypatch: pytest.MonkeyPatch, response: bytes) -> None:
    """Its status is a result. The connection is not used again."""
    monkeypatch.setattr("bigupload.http.put_transport.RESPONSE_AFTER_WRITE_ERROR", 0.01)
    async with answering(response) as url, HttpTransport() as transport:
        for _ in range(2):
            assert (await put(transport, f"{url}/key")).etag == '"e"'
            assert not any(transport._client.pool._kept.values())


@pytest.mark.parametrize("size", [10, 0], ids=["memory", "by parts"])
async def test_an_error_whose_end_does_not_come_is_what_its_beginning_says(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("bigupload.http.put_transport.RESPONSE_AFTER_WRITE_ERROR", 0.1)
    monkeypatch.setattr("bigupload.http.put_transport.MOST_BYTES", size)
    cut = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 999\r\n\r\n<Error><Code>RequestTimeout</Code><Mess"
    async with answering(cut) as url, HttpTransport() as transport:
        with pytest.raises(Fault) as caught:
            await put(transport, f"{url}/key")
        assert (caught.value.kind, caught.value.code) == (FaultKind.SERVER, "RequestTimeout")


async def test_an_idle_connection_that_the_store_has_closed_is_not_used(store: Bench) -> None:
    """Also if the event loop has not noticed."""
    used = set()
    async with no_leaks(), transport_to(store) as transport:
        for _ in range(2):
            data, source, part = body()
            await transport.put(store.sign(part, data), source, part, on_start=bool)
            assert store.stored() == data
            ((kept,),) = transport._client.pool._kept.values()
            kept.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            used.add(kept)
    assert len(used) == 2


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:1/key", {"x-amz-meta-k": "a\r\nHost: b"}),
        ("http://127.0.0.1:1/key", {"x\n": "a"}),
        ("http://127.0.0.1:1/a key", {}),
        ("http://127.0.0.1:1/a\nkey", {}),
        ("http://127.0.0.1:1", {}),
        ("http://127.0.0.1:x/key", {}),
        (f"http://{'a' * 64}.example/key", {}),
        ("no url", {}),
    ],
)
async def test_what_can_t_be_sent_is_refused_before_anything_is(url: str, headers: dict[str, str]) -> None:
    async with HttpTransport() as transport:
        with pytest.raises(errors.StoreRefused):
            await put(transport, url, headers)


async def put(transport: HttpTransport, url: str, headers: dict[str, str] | None = None) -> PutResponse:
    """Send ten bytes."""
    _, source, part = body(10)
    return await transport.put(SignedRequest(url, headers or {}, 60), source, part, on_start=bool)


@contextlib.asynccontextmanager
async def answering(response: bytes) -> AsyncIterator[str]:
    """A server that reads heads and bodies of ten bytes, and always says the same."""

    serving: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(10)
                writer.write(response)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(task for task in serving if task is not None))  # the connections are closed

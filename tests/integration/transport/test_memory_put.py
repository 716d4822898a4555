"""A small body in memory goes without aiohttp's requests: it meets the same responses, and leaves as little behind."""

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
from bigupload.http import memory_put
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import SignedRequest
from bigupload.sources.memory import MemorySource
from bigupload.testing.strict_s3 import FlipBit, LostResponse, Reset, Stall, Status
from tests.integration.support import assert_secretless, no_leaks
from tests.integration.transport.support import Bench, bench, transport_to
from tests.integration.transport.test_cut_short import discards
from tests.tools.waiting import until

SIZE = 100_000


@pytest.fixture(params=["http", "https"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, tls=request.param == "https") as made:
        yield made


def body(size: int = SIZE) -> tuple[bytes, MemorySource, Part]:
    data = os.urandom(size)
    return data, MemorySource("bytes", memoryview(data)), Part(1, 0, size)


@pytest.mark.parametrize("size", [0, 1, SIZE, MIB])
async def test_the_bytes_arrive_over_one_connection(store: Bench, size: int) -> None:
    async with no_leaks(), transport_to(store) as transport:
        for _ in range(3):
            data, source, part = body(size)
            response = await transport.put(store.sign(part, data), source, part, on_start=store.gauges.append)
            assert store.stored() == data
            assert response.checksums
            assert [gauge.sent() for gauge in store.gauges][-1] == size
        connector: Any = transport._session(fresh=False).connector
        assert len(next(iter(connector._conns.values()))) == 1
        assert type(store.gauges[0]) is memory_put.MemoryBody
        assert store.gauges[0].address() == f"127.0.0.1:{store.s3.port}"
        response = await transport.put(store.sign(part, data), source, part, on_start=bool, fresh=True)
        assert len(next(iter(connector._conns.values()))) == 1


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
        assert store.gauges[0].sent() == SIZE, "it was sent, although in vain"
        assert_secretless(caught.value)
        await transport.put(store.sign(part, data), source, part, on_start=bool)
    assert store.stored() == data


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
        gauge._transport.abort = lambda: (discarded.append(discards(gauge._socket)), abort())
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert discarded == [True]
        connector: Any = transport._session(fresh=False).connector
        assert not connector._acquired
        assert not any(connector._conns.values())
        store.s3.release()
    assert 1 not in store.s3.uploads[store.upload_id].parts


async def test_a_response_without_sense(tmp_path: Path) -> None:
    async with answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as url, HttpTransport() as transport:
        _, source, part = body(10)
        request = SignedRequest(f"{url}/key?X-Amz-Signature=s", {}, 60)
        with pytest.raises(Fault) as caught:
            await transport.put(request, source, part, on_start=bool)
    assert caught.value.kind is FaultKind.BROKEN
    assert_secretless(caught.value)


async def test_an_interim_response_is_not_the_response() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    final = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2\r\n\r\nok'
    async with answering(interim + final) as url, HttpTransport() as transport:
        for _ in range(2):
            _, source, part = body(10)
            response = await transport.put(SignedRequest(f"{url}/key", {}, 60), source, part, on_start=bool)
            assert response.etag == '"e"'


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:1/key", {"x-amz-meta-k": "a\r\nHost: b"}),
        ("http://127.0.0.1:1/key", {"x\n": "a"}),
        ("http://127.0.0.1:1/a key", {}),
        ("http://127.0.0.1:1/a\nkey", {}),
        ("http://127.0.0.1:1", {}),
        ("no url", {}),
    ],
)
async def test_what_can_t_be_sent_is_refused_before_anything_is(url: str, headers: dict[str, str]) -> None:
    _, source, part = body(10)
    async with HttpTransport() as transport:
        with pytest.raises(errors.StoreRefused):
            await transport.put(SignedRequest(url, headers, 60), source, part, on_start=bool)


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

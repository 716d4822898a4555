"""Responses and broken connections reach the retry policy as what they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import SignedRequest
from bigupload.sources.file import FileSource
from bigupload.testing.faults import LostResponse, Reset, Status
from tests.integration.support import assert_secretless, content, no_leaks, write
from tests.integration.transport.support import Bench, transport_to

# -- responses before the body was read


@pytest.mark.exhaustive
@pytest.mark.parametrize("status", [503, 403, 400])
async def test_early_responses_come_out_as_what_they_are(any_path: Bench, status: int) -> None:
    """The store responds and closes while 8 MiB are on their way. Not one of 30 may look like a broken connection."""
    kinds = {503: FaultKind.BUSY, 403: FaultKind.REFUSED, 400: FaultKind.SERVER}
    code = {503: "SlowDown", 403: "AccessDenied", 400: "RequestTimeout"}[status]
    size = 8 * MIB
    any_path.s3.script("UploadPart", Status(status, code, read_body=False), repeat=True)
    data = write(any_path.directory / "file", size).read_bytes()
    part = Part(1, 0, size)
    request = any_path.sign(part, data)
    with FileSource(any_path.directory / "file") as source:
        async with no_leaks(), transport_to(any_path) as transport:
            for _ in range(30):
                with pytest.raises(Fault) as caught:
                    await transport.put(request, source, part, on_start=any_path.gauges.append)
                assert (caught.value.status, caught.value.code) == (status, code)
                assert caught.value.kind is kinds[status]
    assert_secretless(caught.value)


@pytest.mark.exhaustive
async def test_many_early_responses_at_once(any_path: Bench) -> None:
    any_path.s3.script("UploadPart", Status(503, "SlowDown", read_body=False), repeat=True)
    size = 4 * MIB
    data = write(any_path.directory / "file", size).read_bytes()
    part = Part(1, 0, size)
    request = any_path.sign(part, data)
    with FileSource(any_path.directory / "file") as source:
        async with no_leaks(), transport_to(any_path) as transport:
            outcomes = await asyncio.gather(
                *(transport.put(request, source, part, on_start=any_path.gauges.append) for _ in range(16)),
                return_exceptions=True,
            )
    assert {getattr(outcome, "status", outcome) for outcome in outcomes} == {503}


async def test_an_early_200_is_no_success(tmp_path: Path) -> None:
    """A response that can't know the body: half of it is still here."""
    async with raw_server(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n') as port:
        with FileSource(write(tmp_path / "file", 32 * MIB)) as source:
            async with no_leaks(), HttpTransport() as transport:
                with pytest.raises(Fault, match="before it had received all") as caught:
                    await transport.put(plain_request(port), source, Part(1, 0, 32 * MIB), on_start=lambda _: None)
    assert caught.value.kind is FaultKind.BROKEN


# -- broken connections


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fault",
    [Reset(), Reset(after_bytes=3 * MIB), LostResponse()],
    ids=["reset", "reset in the middle", "lost response"],
)
async def test_no_response_is_broken(any_path: Bench, fault: Any) -> None:
    size = 8 * MIB
    any_path.s3.script("UploadPart", fault)
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            with pytest.raises(Fault) as caught:
                await any_path.put(transport, source, Part(1, 0, size))
            assert caught.value.kind is FaultKind.BROKEN
            assert caught.value.status is None
            assert_secretless(caught.value)
            await any_path.put(transport, source, Part(1, 0, size))
    assert any_path.stored() == content(size)
    assert any_path.s3.count("UploadPart") == 2, "nobody but the engine tries again"


@pytest.mark.exhaustive
async def test_a_kept_connection_that_died_is_not_tried_again_in_silence(any_path: Bench) -> None:
    """Each of these is one attempt and one request."""
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with transport_to(any_path) as transport:
            for _ in range(2):
                await any_path.put(transport, source, Part(1, 0, MIB))
                any_path.s3.script("UploadPart", Reset(after_bytes=10))
                with pytest.raises(Fault):
                    await any_path.put(transport, source, Part(1, 0, MIB))
    assert any_path.s3.count("UploadPart") == 4


@pytest.mark.parametrize(
    "status", [307, *(pytest.param(status, marks=pytest.mark.slow) for status in (301, 302, 303, 308))]
)
async def test_a_redirect_takes_no_byte_to_another_host(any_path: Bench, status: int) -> None:
    """307 and 308 mean that the body is to go there too."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as elsewhere:
        where = f"http://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/key"
        any_path.s3.script("UploadPart", Status(status, "TemporaryRedirect", headers={"Location": where}))
        with FileSource(write(any_path.directory / "file", MIB)) as source:
            async with transport_to(any_path) as transport:
                with pytest.raises(Fault, match=r"redirects to https?://127"):
                    await any_path.put(transport, source, Part(1, 0, MIB))
    assert heard == []


def plain_request(port: int) -> SignedRequest:
    return SignedRequest(f"http://127.0.0.1:{port}/bucket/key?X-Amz-Signature=secret", {}, 60)


@contextlib.asynccontextmanager
async def raw_server(response: bytes, *, read: bool = False) -> AsyncIterator[int]:
    """Sends these bytes on each connection and closes it; before it has read the body, or after the head's end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if read:
                await reader.readexactly(1000)
            writer.write(response)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]

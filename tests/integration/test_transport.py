"""HttpTransport: exact bytes, and answers that reach the retry policy as what they are, over http and https, by
sendfile and through the buffer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from awscrt import checksums as crt

from bigupload import errors
from bigupload._body import PLAIN_BUFFER, TLS_BUFFER
from bigupload.planning import MIB, Part
from bigupload.ports import Gauge, PutAnswer, SignedRequest
from bigupload.ratelimit import RateLimiter
from bigupload.retry import Fault, FaultKind
from bigupload.source import FileSource
from bigupload.transport import HttpTransport
from tests.tools.strict_s3 import FlipBit, LostAnswer, Reset, Stall, Status, StrictS3
from tests.tools.waiting import until

from .support import BUCKET, assert_secretless, content, no_leaks, write

PATHS = ["http", "http-copied", "https"]
"""Ways that the bytes go: by sendfile, through the reused buffer in the clear, through it into TLS."""


class Bench:
    """A store, a file in it, and one open upload whose parts are signed here."""

    def __init__(self, s3: StrictS3, directory: Path) -> None:
        self.s3, self.directory = s3, directory
        self.client = s3.client()
        self.upload_id = self.client.create_multipart_upload(
            Bucket=BUCKET, Key="key", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
        )["UploadId"]
        self.gauges: list[Gauge] = []

    def sign(self, part: Part, data: bytes, **more: Any) -> SignedRequest:
        checksum = base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()
        params = {
            "Bucket": BUCKET, "Key": "key", "UploadId": self.upload_id, "PartNumber": part.number,
            "ContentLength": part.size, "ChecksumCRC64NVME": checksum,
        }  # fmt: skip
        url = self.client.generate_presigned_url("upload_part", params | more, ExpiresIn=60)
        return SignedRequest(url, {"x-amz-checksum-crc64nvme": checksum}, 60)

    async def put(
        self, transport: HttpTransport, source: Any, part: Part, on_start: Callable[[Gauge], None] | None = None
    ) -> PutAnswer:
        data = Path(source.path).read_bytes()[part.offset : part.offset + part.size]
        return await transport.put(self.sign(part, data), source, part, on_start=on_start or self.gauges.append)

    def stored(self, number: int = 1) -> bytes:
        body: bytes = self.s3.uploads[self.upload_id].parts[number].body
        return body


@contextlib.contextmanager
def bench(tmp_path: Path, *, tls: bool) -> Iterator[Bench]:
    with StrictS3(tls=tls, min_part_size=1) as s3:
        s3.create_bucket(BUCKET)
        made = Bench(s3, tmp_path)
        try:
            yield made
        finally:
            made.client.close()


@pytest.fixture(params=PATHS)
def any_path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    if request.param == "http-copied":
        monkeypatch.delattr(os, "sendfile")
    with bench(tmp_path, tls=request.param == "https") as made:
        yield made


@contextlib.asynccontextmanager
async def transport_to(made: Bench, limiter: RateLimiter | None = None) -> AsyncIterator[HttpTransport]:
    async with HttpTransport(ca_bundle=made.s3.ca_bundle, limiter=limiter) as transport:
        yield transport


# --- exact bytes

SIZES = [0, 1, TLS_BUFFER - 1, TLS_BUFFER, TLS_BUFFER + 1, PLAIN_BUFFER - 1, PLAIN_BUFFER, PLAIN_BUFFER + 1]


async def test_exact_bytes_of_every_size(any_path: Bench) -> None:
    with FileSource(write(any_path.directory / "file", 3 * MIB)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            for number, size in enumerate(SIZES, 1):
                part = Part(number, 12_345, size)
                answer = await any_path.put(transport, source, part)
                expected = content(3 * MIB)[12_345 : 12_345 + size]
                assert any_path.stored(number) == expected
                assert answer.etag == f'"{hashlib.md5(expected).hexdigest()}"'
                assert set(answer.checksums) == {"x-amz-checksum-crc64nvme"}
                assert any_path.gauges[-1].sent() == size


async def test_several_mib_at_odd_offsets(any_path: Bench) -> None:
    with FileSource(write(any_path.directory / "file", 20 * MIB)) as source:
        async with transport_to(any_path) as transport:
            for number, (offset, size) in enumerate([(1, 7 * MIB + 13), (4097, 5 * MIB - 1), (20 * MIB - 3, 3)], 1):
                await any_path.put(transport, source, Part(number, offset, size))
                assert any_path.stored(number) == content(20 * MIB)[offset : offset + size]


async def test_one_connection_serves_part_after_part(any_path: Bench) -> None:
    with FileSource(write(any_path.directory / "file", 4 * MIB)) as source:
        async with transport_to(any_path) as transport:
            for number in range(1, 5):
                await any_path.put(transport, source, Part(number, (number - 1) * MIB, MIB))
            connector: Any = transport._session(fresh=False).connector
            assert len(connector._acquired) + sum(map(len, connector._conns.values())) == 1


async def test_a_server_that_reads_slowly_gets_the_same_bytes(any_path: Bench) -> None:
    """It stops reading after a part of the body, so that every buffer on the way is full, and then goes on."""
    size = 24 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=3 * MIB))
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            sent = any_path.gauges[0].sent()
            assert 0 < sent < size
            any_path.s3.release()
            await sending
    assert any_path.stored() == content(size)
    assert any_path.gauges[0].sent() == size


async def stalls(made: Bench, count: int = 1) -> None:
    """Until the store has stopped reading, and something of every body is out: it fills the buffers between."""
    await until(lambda: made.s3.stalled == count and len(made.gauges) >= count and all(g.sent() for g in made.gauges))


async def test_the_reused_buffer_never_changes_what_was_sent(any_path: Bench) -> None:
    """Many parts of distinct content at once through the buffers that all of them share, while the store reads now
    and then: a buffer that is filled again before the socket has taken it would send another part's bytes."""
    count, size = 12, 4 * MIB + 111
    for n in range(count):
        any_path.s3.script("UploadPart", Stall(after_bytes=(n + 1) * 128 * 1024), part_number=n + 1)
    with FileSource(write(any_path.directory / "file", count * size)) as source:
        async with transport_to(any_path) as transport:
            tasks = [
                asyncio.create_task(any_path.put(transport, source, Part(n + 1, n * size, size))) for n in range(count)
            ]
            await stalls(any_path, count)
            any_path.s3.release()
            await asyncio.gather(*tasks)
            assert len(transport._means._buffers) <= count
    whole = content(count * size)
    for n in range(count):
        assert (
            hashlib.sha256(any_path.stored(n + 1)).digest() == hashlib.sha256(whole[n * size : (n + 1) * size]).digest()
        )


class WithoutDescriptor(FileSource):
    def fileno(self) -> None:
        return None


async def test_a_source_without_a_descriptor_is_copied(tmp_path: Path) -> None:
    with bench(tmp_path, tls=False) as made, WithoutDescriptor(write(tmp_path / "file", 3 * MIB)) as source:
        async with transport_to(made) as transport:
            await made.put(transport, source, Part(1, 5, 2 * MIB))
        assert made.stored() == content(3 * MIB)[5 : 5 + 2 * MIB]


# --- the gauge


async def test_the_gauge_is_monotone_and_never_ahead_of_the_kernel(any_path: Bench) -> None:
    size = 24 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    seen: list[int] = []
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            (gauge,) = any_path.gauges
            received = any_path.s3.bytes_received
            seen.append(gauge.sent())
            any_path.s3.release()
            while not sending.done():
                seen.append(gauge.sent())
                await asyncio.sleep(0)
            seen.append(gauge.sent())
    assert seen == sorted(seen)
    assert seen[-1] == size
    assert received <= seen[0] < size
    assert not any_path.gauges[0].paused()


# --- answers before the body was read


@pytest.mark.parametrize("status", [503, 403, 400])
async def test_early_answers_come_out_as_what_they_are(any_path: Bench, status: int) -> None:
    """The store answers and closes while 8 MiB are on their way. Not one of 30 may look like a broken connection."""
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


async def test_many_early_answers_at_once(any_path: Bench) -> None:
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
    """An answer that can't know the body: half of it is still here."""
    async with raw_server(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n') as port:
        with FileSource(write(tmp_path / "file", 32 * MIB)) as source:
            async with no_leaks(), HttpTransport() as transport:
                with pytest.raises(Fault, match="before it had the whole") as caught:
                    await transport.put(plain_request(port), source, Part(1, 0, 32 * MIB), on_start=lambda _: None)
    assert caught.value.kind is FaultKind.BROKEN


# --- broken connections


@pytest.mark.parametrize(
    "fault", [Reset(), Reset(after_bytes=3 * MIB), LostAnswer()], ids=["reset", "reset in the middle", "lost answer"]
)
async def test_no_answer_is_broken(any_path: Bench, fault: Any) -> None:
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


async def test_a_kept_connection_that_died_is_not_tried_again_in_silence(any_path: Bench) -> None:
    """aiohttp would send a PUT again by itself. Each of these is one attempt and one request."""
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with transport_to(any_path) as transport:
            for _ in range(5):
                await any_path.put(transport, source, Part(1, 0, MIB))
                any_path.s3.script("UploadPart", Reset(after_bytes=10))
                with pytest.raises(Fault):
                    await any_path.put(transport, source, Part(1, 0, MIB))
    assert any_path.s3.count("UploadPart") == 10


async def test_the_store_says_that_other_bytes_arrived(any_path: Bench) -> None:
    any_path.s3.script("UploadPart", FlipBit(at=5))
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with transport_to(any_path) as transport:
            with pytest.raises(Fault) as caught:
                await any_path.put(transport, source, Part(1, 0, MIB))
    assert caught.value.kind is FaultKind.CORRUPTED


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(any_path: Bench, status: int) -> None:
    where = f"{any_path.s3.url}/elsewhere/key?X-Amz-Signature=secret"
    any_path.s3.script("UploadPart", Status(status, "TemporaryRedirect", headers={"Location": where}))
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with transport_to(any_path) as transport:
            with pytest.raises(Fault, match="redirects part 1 to 127") as caught:
                await any_path.put(transport, source, Part(1, 0, MIB))
    assert caught.value.kind is FaultKind.FINAL
    assert_secretless(caught.value, ["secret"])
    assert len([r for r in any_path.s3.requests if r.op in ("UploadPart", "PutObject")]) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
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
                with pytest.raises(Fault, match="redirects part 1 to 127"):
                    await any_path.put(transport, source, Part(1, 0, MIB))
    assert heard == []


async def test_nothing_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with FileSource(write(tmp_path / "file", 10)) as source:
        async with no_leaks(), HttpTransport() as transport:
            with pytest.raises(Fault, match="can't connect to 127") as caught:
                await transport.put(plain_request(port), source, Part(1, 0, 10), on_start=lambda _: None)
    assert caught.value.kind is FaultKind.UNREACHABLE
    assert_secretless(caught.value, ["secret"])


async def test_no_such_host(tmp_path: Path) -> None:
    with FileSource(write(tmp_path / "file", 10)) as source:
        async with HttpTransport() as transport:
            request = SignedRequest("http://no.such.host.invalid/key?X-Amz-Signature=secret", {}, 60)
            with pytest.raises(Fault) as caught:
                await transport.put(request, source, Part(1, 0, 10), on_start=lambda _: None)
    assert caught.value.kind is FaultKind.UNREACHABLE
    assert_secretless(caught.value, ["secret"])


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    with bench(tmp_path, tls=True) as made, FileSource(write(tmp_path / "file", 10)) as source:
        async with no_leaks(), HttpTransport() as transport:
            with pytest.raises(Fault, match="--ca-bundle") as caught:
                await made.put(transport, source, Part(1, 0, 10))
    assert caught.value.kind is FaultKind.FINAL
    assert_secretless(caught.value)


async def test_a_ca_bundle_that_is_none(tmp_path: Path) -> None:
    with FileSource(write(tmp_path / "file", 10)) as source:
        for bundle in (tmp_path / "missing.pem", source_path := tmp_path / "file"):
            async with HttpTransport(ca_bundle=bundle) as transport:
                with pytest.raises(errors.UsageError, match="CA bundle"):
                    await transport.put(plain_request(1), source, Part(1, 0, 10), on_start=lambda _: None)
    assert source_path.exists()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/x", "http://127.0.0.1:99999/x"])
async def test_a_url_that_can_not_be_used(tmp_path: Path, url: str) -> None:
    with FileSource(write(tmp_path / "file", 10)) as source:
        async with HttpTransport() as transport:
            with pytest.raises((errors.StoreRefused, Fault)) as caught:
                await transport.put(
                    SignedRequest(url + "?X-Amz-Signature=secret", {}, 60), source, Part(1, 0, 10),
                    on_start=lambda _: None,
                )  # fmt: skip
    assert_secretless(caught.value, ["secret"])


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
    ids=["garbage", "no ETag", "half a head", "nothing"],
)
async def test_answers_that_are_none(tmp_path: Path, answer: bytes) -> None:
    async with raw_server(answer, read=True) as port:
        with FileSource(write(tmp_path / "file", 1000)) as source:
            async with HttpTransport() as transport:
                with pytest.raises(Fault) as caught:
                    await transport.put(plain_request(port), source, Part(1, 0, 1000), on_start=lambda _: None)
    assert caught.value.kind is FaultKind.BROKEN
    assert_secretless(caught.value, ["secret"])


def plain_request(port: int) -> SignedRequest:
    return SignedRequest(f"http://127.0.0.1:{port}/bucket/key?X-Amz-Signature=secret", {}, 60)


@contextlib.asynccontextmanager
async def raw_server(answer: bytes, *, read: bool = False) -> AsyncIterator[int]:
    """Answers each connection with these bytes and closes it; before it has read the body, or after the head's end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if read:
                await reader.readexactly(1000)
            writer.write(answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


# --- cancellation, and the file's end


async def test_cancelled_in_the_middle_leaves_nothing(any_path: Bench) -> None:
    size = 24 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            connector: Any = transport._session(fresh=False).connector
            assert not connector._acquired
            assert not any(connector._conns.values()), "half a body was sent: the connection is of no use"
            gauge = any_path.gauges[0]
            assert 0 < gauge.sent() == gauge.sent() < size
            any_path.s3.release()
            await any_path.put(transport, source, Part(2, 7, MIB))
        assert any_path.stored(2) == content(size)[7 : 7 + MIB]
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


async def test_cancelled_while_the_answer_is_waited_for(any_path: Bench) -> None:
    any_path.s3.hold("UploadPart", acted=True)
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with no_leaks():
            async with transport_to(any_path) as transport:
                sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, MIB)))
                await any_path.s3.wait_for_async("UploadPart")
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            any_path.s3.release()


async def test_a_file_that_ends_early_is_a_changed_source(any_path: Bench) -> None:
    size = 2 * MIB
    path = write(any_path.directory / "file", size)
    with FileSource(path) as source:
        request = any_path.sign(Part(1, 0, size), content(size))
        os.truncate(path, MIB + 5)
        async with no_leaks(), transport_to(any_path) as transport:
            with pytest.raises(errors.SourceChanged, match="shorter") as caught:
                await transport.put(request, source, Part(1, 0, size), on_start=any_path.gauges.append)
            assert not caught.value.resumable
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


async def test_a_file_that_is_truncated_while_it_is_sent(any_path: Bench) -> None:
    size = 32 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    path = write(any_path.directory / "file", size)
    with FileSource(path) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            os.truncate(path, MIB)
            any_path.s3.release()
            with pytest.raises(errors.SourceChanged):
                await sending
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


class Unreadable(FileSource):
    def read_into(self, buffer: memoryview, offset: int) -> int:
        raise errors.SourceUnreadable("can't read it: Input/output error")


async def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with bench(tmp_path, tls=True) as made, Unreadable(write(tmp_path / "file", MIB)) as source:
        async with no_leaks(), transport_to(made) as transport:
            with pytest.raises(errors.SourceUnreadable):
                await made.put(transport, source, Part(1, 0, MIB))


# --- the rate limit


async def test_a_rate_limit_takes_slices_and_says_that_it_waits(any_path: Bench) -> None:
    """On a virtual clock: how much is taken at once, and for how long in all."""
    now = 0.0
    slept: list[float] = []
    paused: list[bool] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        paused.append(any_path.gauges[-1].paused())
        now += seconds
        await asyncio.sleep(0)

    rate, size = 1_000_000, 3 * MIB
    limiter = RateLimiter(rate, clock=lambda: now, sleep=sleep)
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with transport_to(any_path, limiter) as transport:
            await any_path.put(transport, source, Part(1, 0, size))
    assert any_path.stored() == content(size)
    assert abs(now - size / rate) <= 0.2
    assert len(slept) >= size // limiter.slice - 2
    assert all(paused)
    assert not any_path.gauges[-1].paused()


async def test_a_cancelled_wait_for_the_rate_limit_leaves_nothing(any_path: Bench) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    limiter = RateLimiter(1, clock=lambda: 0.0, sleep=sleep)
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with no_leaks(), transport_to(any_path, limiter) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, MIB)))
            await waiting.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending


# --- a proxy of the user's


class ForwardProxy:
    """An HTTP proxy in the old sense: takes `PUT http://host/path` and hands it on. Notes what it was asked for."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, rest = head.split(b" ", 2)
        self.targets.append(target.decode())
        host, _, path = target.removeprefix(b"http://").partition(b"/")
        address, _, port = host.decode().partition(":")
        upstream_reader, upstream = await asyncio.open_connection(address, int(port))
        upstream.write(method + b" /" + path + b" " + rest)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, upstream), pump(upstream_reader, writer))


async def test_the_users_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ForwardProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        with FileSource(write(tmp_path / "file", 3 * MIB)) as source, bench(tmp_path, tls=False) as made:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            async with transport_to(made) as transport:
                await made.put(transport, source, Part(1, 0, 3 * MIB))
            assert made.stored() == content(3 * MIB)
            assert [target.partition("?")[0] for target in proxy.targets if "partNumber" in target] == [
                f"{made.s3.url}/{BUCKET}/key"
            ]

"""One request at StrictS3: what it asks for, and its body as it arrives (or is kept from arriving); and the success
that answers it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import re
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

import aiohttp
from aiohttp import web

from bigupload.testing.faults import CutResponse, FlipBit, Ok, Reset, Stall, StoreFault

from .model import hasher
from .sigv4 import STREAMING_UNSIGNED, UNSIGNED_PAYLOAD, ReceivedRequest, VerifiedSignature, parse_query
from .wire import Content, S3Error, document

# Sub-resources whose operations the fake doesn't have; responding to them as the plain operation would hide a mistake.
_UNSUPPORTED = {
    "accelerate", "acl", "analytics", "attributes", "cors", "encryption", "inventory", "legal-hold",
    "lifecycle", "logging", "notification", "object-lock", "ownershipControls", "policy", "publicAccessBlock",
    "replication", "restore", "retention", "select", "tagging", "torrent", "versioning", "versions", "website",
}  # fmt: skip
_BUCKET_OPS = {"PUT": "CreateBucket", "HEAD": "HeadBucket", "GET": "ListObjectsV2"}
_OBJECT_OPS = {"PUT": "PutObject", "HEAD": "HeadObject", "GET": "GetObject", "DELETE": "DeleteObject"}
_UPLOAD_OPS = {
    "PUT": "UploadPart",
    "GET": "ListParts",
    "POST": "CompleteMultipartUpload",
    "DELETE": "AbortMultipartUpload",
}
GONE = (ConnectionError, ssl.SSLError, aiohttp.ClientError, web.RequestPayloadError, asyncio.IncompleteReadError)


class Dropped(Exception):
    """The connection was reset on purpose: there is nobody to respond to."""


@dataclass
class Record:
    """A request that arrived. `status` is None until it got a response, and 0 where it ended without a response."""

    op: str
    bucket: str
    key: str
    part_number: int | None
    upload_id: str | None
    headers: dict[str, str]  # names in lower case
    query: dict[str, str]
    bytes_received: int = 0
    status: int | None = None
    error: str | None = None
    peer: object = None  # whose end of the connection: a port of its own for each


@dataclass
class Received:
    """A body that arrived whole. `body` as in `UploadedPart.body`."""

    size: int
    md5: bytes
    digests: dict[str, bytes]
    body: bytes | Path | None
    trailers: dict[str, str]


class BodySink:
    """Takes the bytes of a body, with their digests."""

    def __init__(self, algorithms: set[str], keep: bool | Path) -> None:
        """`keep`: in memory, not at all, or in a new file in this directory."""
        self._sums = {name: hasher(name) for name in algorithms}
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._keep = keep
        self._pieces: list[bytes] = []
        self._file = tempfile.NamedTemporaryFile(dir=keep, delete=False) if isinstance(keep, Path) else None  # noqa: SIM115 - the object is made of it

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        for each in (self._md5, *self._sums.values()):
            each.update(chunk)
        if self._file is not None:
            self._file.write(chunk)
        elif self._keep:
            self._pieces.append(chunk)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def received(self, trailers: dict[str, str]) -> Received:
        """The bytes that were added, once the sink is closed."""
        body = Path(self._file.name) if self._file is not None else b"".join(self._pieces) if self._keep else None
        digests = {name: each.digest() for name, each in self._sums.items()}
        return Received(self._size, self._md5.digest(), digests, body, trailers)


@dataclass
class Exchange:
    """A request, its fate, and what is known of it so far."""

    request: web.BaseRequest
    wait_for_release: Callable[[], Awaitable[None]]
    count: Callable[[int], None]
    op: str = "Unknown"
    bucket: str = ""
    key: str = ""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    fault: StoreFault = field(default_factory=Ok)
    verified: VerifiedSignature | None = None
    request_id: str = ""

    def __post_init__(self) -> None:
        path, _, raw_query = self.request.raw_path.partition("?")
        self.signed = ReceivedRequest(self.request.method, path, raw_query, list(self.request.headers.items()))
        self.query = dict(parse_query(raw_query))
        for name, value in self.signed.headers:
            lower = name.lower()
            self.headers[lower] = f"{self.headers[lower]},{value}" if lower in self.headers else value
        bucket, _, key = path.lstrip("/").partition("/")
        self.bucket, self.key = unquote(bucket), unquote(key)
        self.op = self._operation()
        self.record = Record(
            self.op, self.bucket, self.key, self.part_number, self.query.get("uploadId"), self.headers, self.query
        )
        transport = self.request.transport
        self.record.peer = transport and transport.get_extra_info("peername")

    def _operation(self) -> str:
        method, query = self.request.method, self.query
        if _UNSUPPORTED & query.keys():
            return "Unknown"
        if "delete" in query:
            return "DeleteObjects" if method == "POST" and self.bucket and not self.key else "Unknown"
        if not self.bucket:
            return "ListBuckets" if method == "GET" else "Unknown"
        if not self.key:
            if method == "GET" and "location" in query:
                return "GetBucketLocation"
            if method == "GET" and "uploads" in query:
                return "ListMultipartUploads"
            return _BUCKET_OPS.get(method, "Unknown")
        if "x-amz-copy-source" in self.headers:
            return "UploadPartCopy" if method == "PUT" and "uploadId" in query else "Unknown"
        if "uploadId" in query:
            return _UPLOAD_OPS.get(method, "Unknown")
        if "uploads" in query:
            return "CreateMultipartUpload" if method == "POST" else "Unknown"
        return _OBJECT_OPS.get(method, "Unknown")

    @property
    def part_number(self) -> int | None:
        value = self.query.get("partNumber", "")
        return int(value) if value.isdecimal() else None

    @property
    def body_waits(self) -> bool:
        """Whether the client may still be sending, or waits for leave to send."""
        return self.request.can_read_body and not self.request.content.is_eof()

    @property
    def streaming(self) -> bool:
        return self.verified is not None and self.verified.payload_hash == STREAMING_UNSIGNED

    def declared_length(self) -> int:
        """The declared length of the object's bytes in this body."""
        name = "x-amz-decoded-content-length" if self.streaming else "content-length"
        value = self.headers.get(name, "")
        if not value.isdecimal():
            raise S3Error("MissingContentLength")
        return int(value)

    def reset(self) -> None:
        """RST: the response, if any was written, is lost."""
        transport = self.request.transport
        if transport is not None:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    def hang_up(self) -> None:
        """Close in the middle of a response; what was written of it still arrives."""
        if self.request.transport is not None:
            self.request.transport.close()

    def response_and_close(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Write a response past aiohttp, which would first wait for the rest of the request's body, and close."""
        transport = self.request.transport
        if transport is None:
            return
        head = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {value}" for name, value in head.items()),
        ]
        transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        transport.close()

    async def raw_chunks(self) -> AsyncIterator[bytes]:
        """The body as it is on the wire, with the fault's resets, stalls and flipped bits."""
        if self.headers.get("expect", "").lower() == "100-continue" and self.request.transport is not None:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content, fault = self.request.content, self.fault
        stop = fault.after_bytes if isinstance(fault, Reset | Stall) else None
        seen = 0
        while True:
            if stop is not None and seen >= stop:
                if isinstance(fault, Reset):
                    self.reset()
                    raise Dropped
                stop = None
                await self._stall()
            chunk = await (content.readany() if stop is None else content.read(stop - seen))
            if not chunk:
                if isinstance(fault, Reset):
                    self.reset()
                    raise Dropped
                return
            self.record.bytes_received += len(chunk)
            self.count(len(chunk))
            if isinstance(fault, FlipBit) and not fault.stored and seen <= fault.at < seen + len(chunk):
                chunk = flip(chunk, fault.at - seen)
            seen += len(chunk)
            yield chunk

    async def _stall(self) -> None:
        # The transport's own switch: aiohttp's protocol can't be paused before it has met its own high-water mark.
        transport = self.request.transport
        if not isinstance(transport, asyncio.ReadTransport):
            return
        transport.pause_reading()
        await self.wait_for_release()
        if not self.request.protocol._reading_paused:
            transport.resume_reading()

    async def chunks(self, trailers: dict[str, str]) -> AsyncIterator[bytes]:
        """The object's bytes: without the framing of aws-chunked, whose trailers are put into `trailers`."""
        if not self.streaming:
            async for chunk in self.raw_chunks():
                yield chunk
            return
        async for chunk in _decode_aws_chunked(self.raw_chunks(), trailers):
            yield chunk

    async def read(self, limit: int = 2 << 20) -> bytes:
        """A small body (XML), verified against the signed payload hash."""
        body = bytearray()
        async for chunk in self.chunks({}):
            body += chunk
            if len(body) > limit:
                raise S3Error("EntityTooLarge")
        self._check_payload_hash(hashlib.sha256(body).hexdigest())
        return bytes(body)

    async def receive(self, algorithms: set[str], keep: bool | Path) -> Received:
        """An object's or part's body. `keep`: as `BodySink` takes it."""
        expected = self.declared_length()
        signed_hash = self.verified.payload_hash if self.verified else UNSIGNED_PAYLOAD
        payload = hashlib.sha256() if signed_hash not in (UNSIGNED_PAYLOAD, STREAMING_UNSIGNED) else None
        trailers: dict[str, str] = {}
        with contextlib.closing(BodySink(algorithms, keep)) as sink:
            async for chunk in self.chunks(trailers):
                sink.add(chunk)
                if payload is not None:
                    payload.update(chunk)
        received = sink.received(trailers)
        if received.size != expected:
            raise S3Error("IncompleteBody")
        if payload is not None:
            self._check_payload_hash(payload.hexdigest())
        if isinstance(self.fault, FlipBit) and self.fault.stored and isinstance(received.body, bytes):
            received.body = flip(received.body, self.fault.at)
        return received

    def _check_payload_hash(self, actual: str) -> None:
        signed = self.verified.payload_hash if self.verified else UNSIGNED_PAYLOAD
        if signed not in (UNSIGNED_PAYLOAD, STREAMING_UNSIGNED, actual):
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                fields={"ClientComputedContentSHA256": signed, "S3ComputedContentSHA256": actual},
            )


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


async def _decode_aws_chunked(source: AsyncIterator[bytes], trailers: dict[str, str]) -> AsyncIterator[bytes]:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html"""
    buffer = bytearray()

    async def more() -> None:
        chunk = await anext(source, b"")
        if not chunk:
            raise S3Error("IncompleteBody")
        buffer.extend(chunk)

    async def line() -> str:
        while (end := buffer.find(b"\r\n")) < 0:
            await more()
        text = buffer[:end].decode("latin-1")
        del buffer[: end + 2]
        return text

    while True:
        size_text = (await line()).partition(";")[0]
        try:
            left = int(size_text, 16)
        except ValueError:
            raise S3Error("IncompleteBody") from None
        if left == 0:
            break
        while left:
            if not buffer:
                await more()
            taken = bytes(buffer[:left])
            del buffer[:left]
            left -= len(taken)
            yield taken
        if await line():
            raise S3Error("IncompleteBody")
    while text := await line():
        name, _, value = text.partition(":")
        trailers[name.strip().lower()] = value.strip()
    async for _ in source:
        raise S3Error("IncompleteBody")


_QUOTED = re.compile(rb'<ETag>(?:&quot;|")([^<&"]*)(?:&quot;|")</ETag>')


@dataclass(frozen=True)
class StoreResponse:
    """A success. `stream` instead of `body` where the object's bytes are sent."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Callable[[], Iterator[bytes]] | None = None

    def with_etag(self, etag: str) -> StoreResponse:
        headers, body = dict(self.headers), self.body
        if "ETag" in headers:
            headers["ETag"] = etag
        start, end = body.find(b"<ETag>"), body.find(b"</ETag>")
        if start >= 0:
            body = body[: start + 6] + etag.replace('"', "&quot;").encode() + body[end:]
        return replace(self, headers=headers, body=body)

    def without(self, header: str) -> StoreResponse:
        return replace(self, headers={name: value for name, value in self.headers.items() if name != header})

    def without_quotes(self) -> StoreResponse:
        """Without the quotes of ETags, as of s3rver, or behind some proxies."""
        headers = {name: value.strip('"') if name == "ETag" else value for name, value in self.headers.items()}
        return replace(self, headers=headers, body=_QUOTED.sub(rb"<ETag>\1</ETag>", self.body))

    async def send(self, exchange: Exchange) -> web.StreamResponse:
        if self.stream is None:
            return web.Response(status=self.status, headers=self.headers, body=self.body or None)
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(exchange.request)
        if exchange.request.method != "HEAD":
            left = exchange.fault.after_bytes if isinstance(exchange.fault, CutResponse) else None
            for chunk in self.stream():
                await response.write(chunk if left is None else chunk[:left])
                if left is not None and (left := max(0, left - len(chunk))) == 0:
                    exchange.hang_up()
                    raise Dropped
        await response.write_eof()
        return response


def timestamp(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def xml(name: str, content: Content, headers: Mapping[str, str] | None = None) -> StoreResponse:
    return StoreResponse(200, {"Content-Type": "application/xml", **(headers or {})}, document(name, content))

"""One request and its response on their way through `FaultProxy`, and what becomes of them there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from bigupload.testing import faults as wire
from bigupload.testing.faults import Standing

PartKey = tuple[str, str, int]
"""The path (decoded, "/bucket/key"), the upload id, the part number."""


@dataclass(eq=False)
class ProxiedExchange:
    """An exchange that passed. `broken`: the proxy has broken it, so that it can't count as it stands."""

    op: str
    part: int | None
    size: int
    """Bytes of the request's body."""
    method: str = ""
    path: str = ""
    upload_id: str = ""
    received: int = 0
    """Bytes of the body that came from the client."""
    taken: int = 0
    """Bytes of the body that the store's socket has taken."""
    status: int | None = None
    """The status of the response that was sent to the client, whole or not."""
    acted: bool = False
    """Whether the store responded to it with success."""
    broken: bool = False
    doubtful: bool = False
    """Its response was sent, and may have been lost with the connection: it was broken if the same is asked again."""
    past: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody waits for its response: the same was asked again since, or the run that it was part of is over."""

    @property
    def key(self) -> PartKey | None:
        """The upload and the part that it sends, if it sends one."""
        return None if self.part is None else (self.path, self.upload_id, self.part)


@dataclass(frozen=True)
class Head:
    """A start line and its headers: names in lower case, values of the same name joined by commas."""

    start: tuple[str, str, str]
    headers: dict[str, str]

    @property
    def content_length(self) -> int | None:
        value = self.headers.get("content-length", "")
        return int(value) if value.isdecimal() else None

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


def parse_head(raw: bytes) -> Head:
    first, *lines = raw.decode("latin-1").split("\r\n")
    pieces = (*first.split(" ", 2), "", "")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return Head((pieces[0], pieces[1], pieces[2]), headers)


_CHECKSUM_ELEMENT = re.compile(rb"<(Checksum\w*)>[^<]*</\1>")
_PART = re.compile(rb"<Part>.*?</Part>", re.DOTALL)
_PART_ETAG = re.compile(rb"(<ETag>(?:&#34;|&quot;|\")?)(opaque-)?([0-9a-f]{32})((?:&#34;|&quot;|\")?</ETag>)")
_CRC64 = re.compile(rb"(<ChecksumCRC64NVME>)[^<]*(</ChecksumCRC64NVME>)")
_LIE = "AAAAAAAAAAA="
"""Eight bytes of 0: the CRC64NVME of no file that a test would send."""


def error(code: str, message: str | None) -> bytes:
    """An `<Error>` document."""
    text = escape(message or code)
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{text}</Message></Error>'.encode()


def truncated(page: bytes, rows: int, *, honest: bool) -> tuple[bytes, set[int]]:
    """Return a page of ListParts that ends after `rows` rows, and the numbers of the parts that it hides."""
    parts = _PART.findall(page)
    if len(parts) <= rows:
        return page, set()
    numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", b"".join(parts))]
    for part in parts[rows:]:
        page = page.replace(part, b"", 1)
    page = re.sub(rb"<IsTruncated>\w+</IsTruncated>", b"", page)
    page = re.sub(rb"<NextPartNumberMarker>\d*</NextPartNumberMarker>", b"", page)
    tail = b"<IsTruncated>false</IsTruncated>"
    if honest:
        tail = b"<IsTruncated>true</IsTruncated><NextPartNumberMarker>%d</NextPartNumberMarker>" % numbers[rows - 1]
    hidden = set() if honest else set(numbers[rows:])
    return page.replace(b"</ListPartsResult>", tail + b"</ListPartsResult>"), hidden


def stand(op: str, headers: dict[str, str], response: ProxiedResponse, conditions: set[Standing]) -> bool:
    """Make a response what that store's would be. True where a part's response no longer proves what it did."""
    spoilt = False
    checksums = [name for name in headers if name.startswith("x-amz-checksum-")]
    if Standing.SILENT in conditions or Standing.REFUSES_CHECKSUMS in conditions:
        spoilt = op == "UploadPart" and bool(checksums)
        for name in checksums:
            del headers[name]
        response.body = _CHECKSUM_ELEMENT.sub(b"", response.body)
    if Standing.LIES_ABOUT_PARTS in conditions and op == "UploadPart" and "x-amz-checksum-crc64nvme" in headers:
        headers["x-amz-checksum-crc64nvme"], spoilt = _LIE, True
    if Standing.LIES_ABOUT_WHOLE in conditions and op in ("CompleteMultipartUpload", "HeadObject"):
        response.body = _CRC64.sub(rb"\g<1>%b\g<2>" % _LIE.encode(), response.body)
        if "x-amz-checksum-crc64nvme" in headers:
            headers["x-amz-checksum-crc64nvme"] = _LIE
    if Standing.OPAQUE_ETAGS in conditions:
        if op == "UploadPart" and "etag" in headers:
            headers["etag"], spoilt = f'"opaque-{headers["etag"].strip(chr(34))}"', True
        elif op == "ListParts":
            response.body = _PART_ETAG.sub(rb"\g<1>opaque-\g<3>\g<4>", response.body)
    return spoilt


def with_true_etags(head: Head, body: bytes, keys: tuple[str, str]) -> tuple[bytes, bytes]:
    """A complete whose parts have the store's own ETags, signed again."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    body = _PART_ETAG.sub(rb"\g<1>\g<3>\g<4>", body)
    method, target, version = head.start
    region = head.headers["authorization"].split("/")[2]
    dropped = {"authorization", "content-length", "x-amz-date", "x-amz-content-sha256", "expect", "connection"}
    headers = {name: value for name, value in head.headers.items() if name not in dropped}
    request = AWSRequest(method, f"http://{headers['host']}{target}", headers=headers, data=body)
    request.headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    S3SigV4Auth(Credentials(*keys), "s3", region).add_auth(request)
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1"), body


PIECE = 256 * 1024
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
_UPLOAD_OPS = {
    "PUT": "UploadPart",
    "GET": "ListParts",
    "POST": "CompleteMultipartUpload",
    "DELETE": "AbortMultipartUpload",
}
_OBJECT_OPS = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
UNHARMFUL = (wire.Ok, wire.Call, wire.HangUp, wire.Trickle, wire.Whitespace)
"""Faults after which the request got the response that it should get."""


Name = Callable[[Head], tuple[str, int | None]]
"""Returns the operation of a request, and its part number."""


class ExchangeProxy(Protocol):
    """The interface of the proxy that an exchange uses."""

    upstream: tuple[str, int]
    keys: tuple[str, str]
    standing: set[wire.Standing]
    name: Name

    def began(self, exchange: ProxiedExchange) -> wire.StoreFault | None: ...

    def hide(self, parts: set[int]) -> None: ...

    def took(self, exchange: ProxiedExchange, size: int) -> None: ...

    def responded(self, exchange: ProxiedExchange, status: int) -> None: ...

    async def fire(self, *, responded: bool) -> None: ...


class Ended(OSError):
    """The fault was to end the connection."""


class StreamsProtocol(asyncio.StreamReaderProtocol):
    """The protocol of streams whose end nobody waits for: whoever reads or writes learns of a reset.

    asyncio keeps the reset in a future, too. It logs that as never retrieved if the garbage collector finds it first.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        lost: asyncio.Future[None] = self._closed  # type: ignore[attr-defined]  # the stubs lack it
        if lost.done() and not lost.cancelled():
            lost.exception()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close by RST, throwing away what was not sent."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def s3_operation(head: Head) -> tuple[str, int | None]:
    """By the name that S3 gives it, as "UploadPart"."""
    method, target, _ = head.start
    address = urlsplit(target)
    query = parse_qs(address.query, keep_blank_values=True)
    if "uploadId" in query:
        part = query.get("partNumber", [""])[-1]
        return _UPLOAD_OPS.get(method, "Unknown"), int(part) if part.isdecimal() and method == "PUT" else None
    if "uploads" in query:
        return ("CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"), None
    if "/" not in address.path.strip("/"):
        return "Bucket", None
    return _OBJECT_OPS.get(method, "Unknown"), None


class Passing:
    """The exchanges of one client connection, with a connection of their own to the store."""

    def __init__(self, proxy: ExchangeProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._up: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._latest: ProxiedExchange | None = None
        self._gone = False

    def reset(self) -> None:
        """End the client's connection, and whatever of a response it has not read."""
        if self._latest is not None:
            self._latest.doubtful = True
        self._gone = True
        reset(self._writer)

    def close(self) -> None:
        if self._up is not None:
            self._up[1].transport.abort()
            self._up = None

    async def exchange(self) -> bool:
        """Pass one on; False where the connection ends with it."""
        raw = await self._reader.readuntil(b"\r\n\r\n")
        if self._gone:  # that was read before, and nobody waits for a response
            raise OSError("the connection was reset")
        head = parse_head(raw[:-4])
        if head.chunked:
            raise NotImplementedError("a request in chunks")
        exchange = self._latest = self._begin(head)
        fault = self._proxy.began(exchange) or wire.Ok()
        exchange.broken |= not isinstance(fault, UNHARMFUL)
        try:
            return await self._pass(exchange, head, fault)
        except (Ended, ConnectionError):  # the store's reset is the client's reset, too
            reset(self._writer)
            return False

    def _begin(self, head: Head) -> ProxiedExchange:
        method, target, _ = head.start
        address = urlsplit(target)
        upload_id = parse_qs(address.query).get("uploadId", [""])[-1]
        op, part = self._proxy.name(head)
        size = head.content_length or 0
        return ProxiedExchange(op, part, size, method=method, path=unquote(address.path), upload_id=upload_id)

    async def _pass(self, exchange: ProxiedExchange, head: Head, fault: wire.StoreFault) -> bool:
        if isinstance(fault, wire.NetworkOutage):
            raise Ended
        if isinstance(fault, wire.Status):
            return await self._refuse(exchange, fault)
        if isinstance(fault, wire.Call) and not fault.acted:
            await in_thread(lambda: fault.function(self._proxy))
        if (
            exchange.op == "CreateMultipartUpload"
            and wire.Standing.REFUSES_CHECKSUMS in self._proxy.standing
            and "x-amz-checksum-algorithm" in head.headers
        ):
            return await self._refuse(exchange, wire.Status(400, "InvalidRequest"))
        if isinstance(fault, wire.ErrorIn200) and not fault.act:
            async for _ in self._body(exchange):
                pass
            return await self._respond(
                exchange, head, ProxiedResponse(200, {}, b"<?xml version='1.0'?>", closing=False), fault
            )
        if isinstance(fault, wire.Junk) and not fault.act:
            async for _ in self._body(exchange):
                pass
            response = ProxiedResponse(200, {}, b"", closing=False)
            self._change(exchange, response, fault)
            return await self._respond(exchange, head, response, fault)
        if head.headers.get("expect"):
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        response = await self._ask(exchange, head, fault)
        self._proxy.responded(exchange, response.status)
        await self._proxy.fire(responded=False)
        if isinstance(fault, wire.Call) and fault.acted:
            await in_thread(lambda: fault.function(self._proxy))
        self._change(exchange, response, fault)
        goes_on = await self._respond(exchange, head, response, fault)
        await self._proxy.fire(responded=True)
        return goes_on

    # --- the request

    async def _refuse(self, exchange: ProxiedExchange, fault: wire.Status) -> bool:
        """A response that the store knows nothing of."""
        if fault.read_body:
            async for _ in self._body(exchange):
                pass
        exchange.status = fault.status
        body = fault.body if isinstance(fault, wire.Refuse) else b""
        if not body and fault.code:
            body = error(fault.code, fault.message)
        fields = {"Content-Type": "application/xml", "Content-Length": str(len(body)), **fault.headers}
        if not fault.read_body:
            fields["Connection"] = "close"
        self._writer.write(_head(fault.status, fields) + (b"" if exchange.op == "HeadObject" else body))
        await self._writer.drain()
        return fault.read_body

    async def _body(self, exchange: ProxiedExchange) -> AsyncIterator[bytes]:
        while exchange.received < exchange.size:
            yield await self._next(exchange, min(PIECE, exchange.size - exchange.received))

    async def _next(self, exchange: ProxiedExchange, most: int) -> bytes:
        """Bytes of the client's body. Its reset is not the store's, whose response may still be read."""
        try:
            piece = await self._reader.read(most)
        except ConnectionError as e:
            raise Ended from e
        if not piece:
            raise Ended
        exchange.received += len(piece)
        return piece

    async def _ask(self, exchange: ProxiedExchange, head: Head, fault: wire.StoreFault) -> ProxiedResponse:
        """Send the request on and read the response, which may come before the store has the whole body."""
        if exchange.op == "CompleteMultipartUpload" and wire.Standing.OPAQUE_ETAGS in self._proxy.standing:
            body = b"".join([piece async for piece in self._body(exchange)])
            return await self._talk(*with_true_etags(head, body, self._proxy.keys))
        if isinstance(fault, wire.Alter):
            body = fault.change(b"".join([piece async for piece in self._body(exchange)]))
            altered = Head(head.start, head.headers | {"content-length": str(len(body))})
            return await self._talk(_request(altered), body)
        if isinstance(fault, wire.Reset | wire.Stall) and exchange.size == 0:
            raise Ended  # its head is all of it: the store must not have that
        reader, writer = await self._store()
        writer.write(_request(head))
        responding = asyncio.ensure_future(_read_response(reader, head.start[0]))
        try:
            with contextlib.suppress(ConnectionError):
                async for piece in self._meddled(exchange, fault):
                    writer.write(piece)
                    await writer.drain()
                    self._proxy.took(exchange, len(piece))
                    await self._proxy.fire(responded=False)
                    if responding.done():
                        break
            response = await responding
        except BaseException:
            responding.cancel()
            await asyncio.gather(responding, return_exceptions=True)
            self.close()
            raise
        if response.closing or exchange.received < exchange.size:
            self.close()
        return response

    async def _talk(self, raw_head: bytes, body: bytes) -> ProxiedResponse:
        reader, writer = await self._store()
        writer.write(raw_head + body)
        return await _read_response(reader, "POST")

    async def _store(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._up is not None and (self._up[0].at_eof() or self._up[1].is_closing()):
            self.close()
        if self._up is None:
            loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=1 << 17)
            protocol = StreamsProtocol(reader)
            transport, _ = await loop.create_connection(lambda: protocol, *self._proxy.upstream)
            self._up = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
            self._up[1].transport.set_write_buffer_limits(0)  # `drain` waits until the socket has all of it
        return self._up

    async def _meddled(self, exchange: ProxiedExchange, fault: wire.StoreFault) -> AsyncIterator[bytes]:
        if isinstance(fault, wire.Reset | wire.Stall):
            async for piece in self._up_to(exchange, min(fault.after_bytes, exchange.size)):
                yield piece
            if isinstance(fault, wire.Stall):
                await self._until_past(exchange)
            raise Ended
        if isinstance(fault, wire.Trickle):
            for _ in range(fault.pieces):
                async for piece in self._up_to(exchange, min(exchange.received + fault.size, exchange.size)):
                    yield piece
                await asyncio.sleep(0)
        at = 0
        async for piece in self._body(exchange):
            if isinstance(fault, wire.FlipBit) and at <= fault.at < at + len(piece):
                flipped = bytearray(piece)
                flipped[fault.at - at] ^= 1
                yield bytes(flipped)
            else:
                yield piece
            at += len(piece)

    async def _up_to(self, exchange: ProxiedExchange, count: int) -> AsyncIterator[bytes]:
        while exchange.received < count:
            yield await self._next(exchange, count - exchange.received)

    async def _until_past(self, exchange: ProxiedExchange) -> None:
        """The client's leaving does not show: its end would come behind bytes that are not read."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        await exchange.past.wait()

    # --- the response

    def _change(self, exchange: ProxiedExchange, response: ProxiedResponse, fault: wire.StoreFault) -> None:
        if isinstance(fault, wire.WrongEtag) and "etag" in response.headers:
            response.headers["etag"] = fault.etag
        elif isinstance(fault, wire.Junk):
            response.status, response.headers, response.body = 200, {"content-type": "text/html"}, fault.body
        elif isinstance(fault, wire.TruncatedList) and response.status == 200:
            response.body, hidden = truncated(response.body, fault.rows, honest=fault.honest)
            self._proxy.hide(hidden)
        if stand(exchange.op, response.headers, response, self._proxy.standing):
            exchange.broken = True

    async def _respond(
        self, exchange: ProxiedExchange, head: Head, response: ProxiedResponse, fault: wire.StoreFault
    ) -> bool:
        exchange.status = response.status
        if isinstance(fault, wire.LostResponse):
            raise Ended
        early = exchange.received < exchange.size
        if isinstance(fault, wire.Whitespace | wire.ErrorIn200) and response.status == 200:
            await self._drawn_out(response, fault)
            return not early
        fields = response.headers | ({} if head.start[0] == "HEAD" else {"content-length": str(len(response.body))})
        if early:
            fields["connection"] = "close"
        raw = _head(response.status, fields) + (b"" if head.start[0] == "HEAD" else response.body)
        if isinstance(fault, wire.HalfResponse):
            self._writer.write(raw[: fault.size])
            await self._writer.drain()
            raise Ended
        self._writer.write(raw)
        await self._writer.drain()
        if isinstance(fault, wire.HangUp) and fault.reset:
            raise Ended
        return not (early or isinstance(fault, wire.HangUp))

    async def _drawn_out(self, response: ProxiedResponse, fault: wire.Whitespace | wire.ErrorIn200) -> None:
        """200 and white space first, a byte at a time, as complete does on what takes long."""
        fields = {name: value for name, value in response.headers.items() if name != "content-length"}
        self._writer.write(_head(200, fields | {"transfer-encoding": "chunked"}))
        declaration, _, rest = response.body.partition(b"?>")
        spaces, pace = (fault.count, fault.pace) if isinstance(fault, wire.Whitespace) else (fault.whitespace, 0.0)
        for piece in [declaration + b"?>", *[b" "] * spaces]:
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()
            await asyncio.sleep(pace)
        if isinstance(fault, wire.ErrorIn200):
            rest = error(fault.code, fault.message)
        self._writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
        await self._writer.drain()


@dataclass
class ProxiedResponse:
    """A store's, whole. `headers` by names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    closing: bool


async def _read_response(reader: asyncio.StreamReader, method: str) -> ProxiedResponse:
    while True:
        head = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
        status = int(head.start[1])
        if status >= 200:
            break
    headers = {name: value for name, value in head.headers.items() if name not in _HOP}
    closing = head.headers.get("connection", "").lower() == "close"
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif head.chunked:
        body = await _chunks(reader)
    elif head.content_length is not None:
        body = await reader.readexactly(head.content_length)
    else:
        body, closing = await reader.read(), True
    return ProxiedResponse(status, headers, body, closing)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


def _request(head: Head) -> bytes:
    lines = [" ".join(head.start)]
    lines += [f"{name}: {value}" for name, value in head.headers.items() if name not in ("expect", "connection")]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _head(status: int, fields: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Said')}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 503: "Slow Down"}


async def in_thread(function: Callable[[], object]) -> None:
    """Call in a thread of its own, which nothing waits for at the end: a callback may hang where a test failed."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            function()
        finally:
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="callback", daemon=True).start()
    await done.wait()

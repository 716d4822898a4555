"""What is fuzzed: functions of bytes that return, whatever they are. An exception that is none of ours is a find."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import CopySource, ExpectedObject, ObjectFacts, PartProof, prove_object
from bigupload.core.manifest import PartRecord
from bigupload.core.manifest_lines import encode, replay
from bigupload.core.part_plan import Plan
from bigupload.core.retry_policy import Fault
from bigupload.http.connection import Connection
from bigupload.http.http_errors import fault_of_response
from bigupload.http.response_head import Headers
from bigupload.options import S3Options
from bigupload.ports import UnsignedPart
from bigupload.service.media_objects import MediaBucket
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.s3.operations import OPERATIONS, ObjectPages, fields_of
from bigupload.stores.service_client import MOST_BYTES, ServiceStore
from tests.fuzz import samples
from tests.fuzz.samples import CRC
from tests.fuzz.wire import http, loop, received, split

DECLARED = (Fault, errors.BigUploadError)
PLAN = Plan(25, 10)
RECORDS = [
    PartRecord(number=part.number, size=part.size, etag='"e"', checksum=CRC, proof=PartProof.CHECKSUM) for part in PLAN
]
EXPECTED = ExpectedObject(size=25, algorithm=Algorithm.CRC64NVME, checksum=CRC, part_etags=None)


# -- the manifest


def manifest(data: bytes) -> None:
    """Replay, and everything that is read of a manifest before anything is done."""
    try:
        found = replay(data)
    except errors.ManifestCorrupt:
        return
    known = found.manifest
    assert 0 < found.good_bytes <= len(data)
    assert (found.damage is None) == (found.good_bytes == len(data))
    again = replay(data[: found.good_bytes])
    assert again.damage is None
    assert encode(again.manifest.header) == encode(known.header)
    assert (again.manifest.parts, again.manifest.status) == (known.parts, known.status)
    assert len(known.parts) <= known.plan.count <= 10_000
    assert known.bytes_uploaded <= known.plan.size
    assert known.upload_id.encode()
    str(known.target).encode()
    if known.status == "completing":  # the engine looks for every part then
        parts = [known.parts[part.number] for part in known.plan]
        algorithm = known.header.checksum.algorithm
        if algorithm.is_s3_checksum and all(part.checksum for part in parts):
            checksums.combine(algorithm, [(checksums.decode(algorithm, p.checksum), p.size) for p in parts])
    with contextlib.suppress(errors.ManifestMismatch, errors.UsageError):
        S3Options.from_json(known.header.options)


# -- a store's responses

S3_CALLS: list[Callable[[S3Store], Awaitable[Any]]] = [
    lambda s: s.create(PLAN, Algorithm.CRC64NVME, declare=True, token="t"),
    lambda s: s.list_parts("id", Algorithm.CRC64NVME),
    lambda s: s.find_open(),
    lambda s: s.complete("id", RECORDS, size=25, algorithm=Algorithm.CRC64NVME, checksum=CRC),
    lambda s: s.stat("id", Algorithm.CRC64NVME),
    lambda s: s.attributes(),
    lambda s: s.part(1),
    lambda s: s.abort("id"),
    lambda s: s.copy_part("id", PLAN.part(1), CopySource(bucket="b", key="k", etag='"e"', size=25)),
    lambda s: s.objects("t").next_objects("key", ObjectPages()),
    lambda s: s.objects("t").delete_many([("key", '"e"'), ("other", "")]),
    lambda s: MediaBucket(s._bucket).look("key", first=100),
]
STATUSES = [200, 200, 200, 200, 204, 206, 301, 307, 400, 403, 404, 409, 412, 413, 500, 501, 503]
HEADERS = ["etag", "content-length", "x-amz-checksum-crc64nvme", "x-amz-checksum-type", "x-amz-meta-bigupload-token",
           "date", "retry-after", "x-amz-bucket-region", "content-type", "location", "content-range", "last-modified",
           "x-amz-mp-parts-count", "x-amz-version-id"]  # fmt: skip


@dataclass(frozen=True)
class FuzzedResponse:
    """The first two bytes choose call and status; a line of `name: value`s, then the body."""

    call: int
    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> FuzzedResponse:
        first, _, body = data[2:].partition(b"\n")
        headers = {}
        for field in first.split(b"\t")[:8]:
            name, _, value = field.partition(b":")
            text = value.decode("utf-8", "surrogateescape").translate({10: " ", 13: " ", 0: " "})
            headers[HEADERS[sum(name) % len(HEADERS)]] = text
        call, status = (*data[:2], 0, 0)[:2]
        return cls(call, STATUSES[status % len(STATUSES)], headers, body)

    def sent(self) -> bytes:
        """As it comes over a connection, with a length of its own."""
        headers = {name: value for name, value in self.headers.items() if name != "content-length"}
        lines = [f"HTTP/1.1 {self.status} x", *(f"{name}: {value}" for name, value in headers.items())]
        lines += [f"content-length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Answering:
    """In the place of a client's connections: each request gets the same response, in pieces."""

    def __init__(self, response: bytes) -> None:
        self._pieces = split(response, b"\x0d\xff\x05")
        self.asked = 0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def take(self, *_: Any, **__: Any) -> Connection:
        self.asked += 1
        assert self.asked < 200, "it asks without end"
        return received(self._pieces, ended=True)

    def give_back(self, *_: Any) -> None:
        pass

    def forget(self, *_: Any) -> None:
        pass

    def failed(self, *_: Any) -> None:
        pass


@functools.cache
def _s3() -> S3Store:
    """Kept: to find out how a bucket is reached takes longer than a response."""
    options = S3Options(
        endpoint_url="http://127.0.0.1:9", region="us-east-1", access_key="a", secret_key="hidden-from-all"
    )
    return S3Store("bucket", "key", options)


def s3(data: bytes) -> None:
    """From bytes on a connection to what the engine gets, of each call; and the table of operations, of each row."""
    store, fuzzed = _s3(), FuzzedResponse.of(data)
    store._bucket.knows_checksum_mode = True
    store._bucket.client._pool = cast("Any", Answering(fuzzed.sent()))
    refused = ""
    try:
        found = loop().run_until_complete(S3_CALLS[fuzzed.call % len(S3_CALLS)](store))
        if isinstance(found, ObjectFacts):
            prove_object(found, EXPECTED)
    except DECLARED as e:
        refused = str(e)
    assert "hidden" not in refused
    assert "\n" not in refused
    headers = Headers({**fuzzed.headers, "content-length": fuzzed.headers.get("content-length", str(len(fuzzed.body)))})
    for operation in OPERATIONS:
        with contextlib.suppress(Fault):
            fields_of(operation, 200, headers, fuzzed.body, "to fuzz", bucket="bucket")
    for what, size in (("part 1", 10), ("to list", None)):
        fault = fault_of_response(fuzzed.status, headers, fuzzed.body, what, bucket="bucket", sent=size)
        assert "\n" not in str(fault)
        assert "\n" not in str(fault.public())


# -- a media service's responses

TO_SIGN = [UnsignedPart(n, PLAN.part(n).size, {Algorithm.CRC64NVME.header: CRC}) for n in (1, 2)]
SERVICE_CALLS: list[Callable[[ServiceStore], Awaitable[Any]]] = [
    lambda s: s.create(PLAN, Algorithm.CRC64NVME, declare=True, token="t", first=TO_SIGN),
    lambda s: s.sign("handle", TO_SIGN),
    lambda s: s.list_parts("handle", Algorithm.CRC64NVME),
    lambda s: s.stat("handle", Algorithm.CRC64NVME),
    lambda s: s.complete("handle", RECORDS, size=25, algorithm=Algorithm.CRC64NVME, checksum=CRC),
    lambda s: s.abort("handle"),
]


def service(data: bytes) -> None:
    """The API's responses, from bytes to what the engine gets."""
    fuzzed = FuzzedResponse.of(data)
    store = ServiceStore(
        url="https://media.example", api_key="sk_hidden-from-all", filename="a.mp4", content_type="video/mp4"
    )

    class Response:
        status, headers = fuzzed.status, fuzzed.headers

    async def call(what: str, *_: Any, **__: Any) -> Any:
        response: Any = Response()
        return store._http._judge(what, response, fuzzed.body if len(fuzzed.body) <= MOST_BYTES else None)

    store._http.call = call
    found: Any = None
    refused = ""
    try:
        found = loop().run_until_complete(SERVICE_CALLS[fuzzed.call % len(SERVICE_CALLS)](store))
    except DECLARED as e:
        refused = str(e)
    assert "sk_hidden" not in refused
    assert "\n" not in refused
    if isinstance(found, ObjectFacts):
        with contextlib.suppress(errors.ObjectMismatch):
            prove_object(found, EXPECTED)
    for request in found if isinstance(found, list) else ():
        if hasattr(request, "url"):
            assert request.url.lower().startswith("https://")
            assert not any(c in request.url for c in "\r\n ")


# -- good samples, to begin from


def _answers(bodies: Sequence[bytes], calls: int, refusal: bytes) -> list[bytes]:
    """Each body as the response to each call; with status 400 if `refusal` is in it."""
    head, bad = b"te:e\tta:25\n", STATUSES.index(400)
    return [bytes([n, bad if refusal in body else 0]) + head + body for body in bodies for n in range(calls)]


TARGETS: dict[str, Callable[[bytes], None]] = {"manifest": manifest, "http": http, "s3": s3, "service": service}
SAMPLES: dict[str, list[bytes]] = {
    "manifest": samples.MANIFESTS,
    "http": [bytes([len(sizes), 2]) + sizes + each for each in samples.HTTP for sizes in (b"\0", b"\x05\x11", b"")],
    "s3": _answers(samples.S3, len(S3_CALLS), b"<Error"),
    "service": _answers(samples.SERVICE, len(SERVICE_CALLS), b"error"),
}
TOKENS = [
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 5000, b"1" + b"0" * 400, b'""', b"[]", b"{}", b'"\\ud800"',
    b"\\u0000", b"\xff\xfe", b"\0", b"\n", b"\r", b"[" * 20_000, b'{"a":' * 5000, b"<a>" * 5000, b"</Part>", b"<Part>",
    b"&#27;", b"&x;", b"<!DOCTYPE", b"<![CDATA[", b"</", b"\xc2\x9b", b"\xe2\x80\xae", b"10001", b"1000000000000000",
    b"2026-13-45T99:99:99Z", b"http://h", b"file:///x", b"https://u:p@h", b"https://[::1", b"crc32c", b"COMPOSITE",
    b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n", b"\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"0x1\r\n", b"1 \r\n",
    b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"<DeleteResult>",
    b"<Contents>", b"<EncodingType>url</EncodingType>",
    b"%ff", b"%",
]  # fmt: skip

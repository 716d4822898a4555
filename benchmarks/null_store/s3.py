"""Uploads and objects of which only sizes are kept, and what S3 would answer about them."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from .counts import Counts

PAGE = 1000
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_DATE = "2026-01-01T00:00:00.000Z"
_DATE_HTTP = "Thu, 01 Jan 2026 00:00:00 GMT"
_LISTED = re.compile(rb"<PartNumber>\s*(\d+)\s*</PartNumber>")


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


@dataclass(frozen=True)
class Request:
    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Names of headers become lower case. Raises ValueError for what is no request."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return cls(method, bucket, key, query, headers)

    @property
    def path(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def is_data(self) -> bool:
        """An object's bytes, or a part's."""
        return self.method == "PUT" and bool(self.key)

    @property
    def number(self) -> int:
        """The part's; 0 for a whole object."""
        return int(self.query.get("partNumber", 0))


@dataclass(frozen=True)
class _Stored:
    size: int
    etag: str
    headers: Mapping[str, str]
    """That came with it and go back: checksums, metadata."""


@dataclass
class _Upload:
    path: str
    headers: Mapping[str, str]
    parts: dict[int, _Stored] = field(default_factory=dict)


class S3:
    """Used by many threads."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}
        self._objects: dict[str, _Stored] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        self._made = 0

    def attempt(self, request: Request) -> int:
        """The how manieth request for this part of this upload, or for this object, this is."""
        which = (request.query.get("uploadId") or request.path, request.number)
        with self._lock:
            self._attempts[which] = number = self._attempts.get(which, 0) + 1
        return number

    def store(self, request: Request, size: int) -> Answer:
        """The body of a PUT is here, `size` bytes of it."""
        echoed = _checksums(request.headers)
        stored = _Stored(size, _etag(request), echoed)
        with self._lock:
            if "uploadId" in request.query:
                upload = self._uploads.get(request.query["uploadId"])
                if upload is None or upload.path != request.path:
                    return error(404, "NoSuchUpload")
                if request.number in upload.parts:
                    self._counts.add(parts_again=1, bytes_again=size)
                upload.parts[request.number] = stored
            else:
                self._objects[request.path] = _Stored(size, stored.etag, echoed | _kept(request.headers))
        if "uploadId" not in request.query:
            self._counts.finished(request.path, size, 0)
        self._counts.answered(200, size)
        return Answer(200, {"ETag": f'"{stored.etag}"', **echoed})

    def answer(self, request: Request, body: bytes) -> Answer:
        """To all that brings no data."""
        with self._lock:
            match request.method:
                case "POST" if "uploads" in request.query:
                    return self._create(request)
                case "POST" if "uploadId" in request.query:
                    return self._complete(request, body)
                case "GET" if "uploadId" in request.query:
                    return self._list_parts(request)
                case "GET" | "HEAD" if request.key:
                    return self._stat(request)
                case "GET":
                    return self._bucket(request)
                case "DELETE":
                    if self._uploads.pop(request.query.get("uploadId", ""), None) is not None:
                        self._counts.gave_up()
                    return Answer(204)
                case "PUT" | "HEAD":
                    return Answer(200, {"x-amz-bucket-region": "us-east-1"})
        return error(501, "NotImplemented")

    def _create(self, request: Request) -> Answer:
        self._made += 1
        upload_id = f"upload-{self._made:08d}"
        self._uploads[upload_id] = _Upload(request.path, _kept(request.headers))
        fields = _fields(Bucket=request.bucket, Key=request.key, UploadId=upload_id)
        declared = {
            n: v for n, v in request.headers.items() if n in ("x-amz-checksum-algorithm", "x-amz-checksum-type")
        }
        return Answer(200, declared, _document("InitiateMultipartUploadResult", fields))

    def _complete(self, request: Request, body: bytes) -> Answer:
        """What is listed is the object: a part that was sent and is not listed adds nothing to its size."""
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return error(404, "NoSuchUpload")
        listed = [int(number) for number in _LISTED.findall(body)]
        if not listed or listed != sorted(set(listed)):
            return error(400, "InvalidPartOrder" if listed else "MalformedXML")
        if not upload.parts.keys() >= set(listed):
            return error(400, "InvalidPart")
        parts = [upload.parts[number] for number in listed]
        etag = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts)).hexdigest() + f"-{len(parts)}"
        checksums = _checksums(request.headers)
        whole = _Stored(sum(part.size for part in parts), etag, {**checksums, **upload.headers})
        del self._uploads[request.query["uploadId"]]
        self._objects[request.path] = whole
        self._counts.finished(request.path, whole.size, len(parts))
        fields = {"Location": f"/{request.path}", "Bucket": request.bucket, "Key": request.key, "ETag": f'"{etag}"'}
        for name, value in checksums.items():
            fields[_element(name)] = value
        return Answer(200, {}, _document("CompleteMultipartUploadResult", _fields(**fields)))

    def _list_parts(self, request: Request) -> Answer:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return error(404, "NoSuchUpload")
        after = int(request.query.get("part-number-marker") or 0)
        most = min(PAGE, int(request.query.get("max-parts") or PAGE))
        numbers = sorted(number for number in upload.parts if number > after)
        page = numbers[:most]
        rows = b"".join(_part_row(number, upload.parts[number]) for number in page)
        fields = _fields(
            Bucket=request.bucket,
            Key=request.key,
            UploadId=request.query["uploadId"],
            PartNumberMarker=after,
            NextPartNumberMarker=page[-1] if page else after,
            MaxParts=most,
            IsTruncated="true" if len(numbers) > most else "false",
        )
        return Answer(200, {}, _document("ListPartsResult", fields + rows))

    def _stat(self, request: Request) -> Answer:
        found = self._objects.get(request.path)
        if found is None:
            return error(404, "NoSuchKey")
        if request.method == "GET":
            return error(501, "NotImplemented")  # there are no bytes to give
        size = {"Content-Length": str(found.size), "ETag": f'"{found.etag}"', "Last-Modified": _DATE_HTTP}
        return Answer(200, {**size, **found.headers})

    def _bucket(self, request: Request) -> Answer:
        """Its place, its objects, its uploads; or without one, the buckets."""
        if not request.bucket:
            return Answer(200, {}, _document("ListAllMyBucketsResult", b"<Buckets></Buckets>"))
        if "location" in request.query:
            return Answer(200, {}, _document("LocationConstraint", b"us-east-1"))
        common = {"Name": request.bucket, "Prefix": request.query.get("prefix", ""), "IsTruncated": "false"}
        begins = f"{request.bucket}/{request.query.get('prefix', '')}"
        if "uploads" in request.query:
            rows = b"".join(
                b"<Upload>"
                + _fields(Key=upload.path.partition("/")[2], UploadId=upload_id, Initiated=_DATE)
                + b"</Upload>"
                for upload_id, upload in self._uploads.items()
                if upload.path.startswith(begins)
            )
            return Answer(200, {}, _document("ListMultipartUploadsResult", _fields(**common) + rows))
        rows = b"".join(
            b"<Contents>"
            + _fields(Key=path.partition("/")[2], Size=found.size, ETag=f'"{found.etag}"', LastModified=_DATE)
            + b"</Contents>"
            for path, found in sorted(self._objects.items())
            if path.startswith(begins)
        )
        return Answer(200, {}, _document("ListBucketResult", _fields(**common) + rows))


def _etag(request: Request) -> str:
    """The MD5 where it was said, since some clients look; else any."""
    if given := request.headers.get("content-md5"):
        return base64.b64decode(given).hex()
    return f"{request.number:032x}"


def _checksums(headers: Mapping[str, str]) -> dict[str, str]:
    kept = ("x-amz-checksum-crc", "x-amz-checksum-sha", "x-amz-checksum-type")
    return {name: value for name, value in headers.items() if name.startswith(kept)}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-amz-meta-") or name == "content-type"}


def _element(header: str) -> str:
    """`x-amz-checksum-crc64nvme` is `ChecksumCRC64NVME` in XML."""
    name = header.removeprefix("x-amz-checksum-")
    return "ChecksumType" if name == "type" else f"Checksum{name.upper()}"


def _part_row(number: int, part: _Stored) -> bytes:
    checksums = {_element(name): value for name, value in part.headers.items()}
    fields = _fields(PartNumber=number, ETag=f'"{part.etag}"', Size=part.size, LastModified=_DATE, **checksums)
    return b"<Part>" + fields + b"</Part>"


def error(status: int, code: str, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
    return Answer(status, headers, _document("Error", _fields(Code=code, Message=code, RequestId="null")))


def _document(element: str, content: bytes) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{element} {_NAMESPACE}>'.encode()
        + content
        + f"</{element}>".encode()
    )


def _fields(**fields: object) -> bytes:
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items()).encode()

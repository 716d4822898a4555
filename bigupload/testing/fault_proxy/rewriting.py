"""S3's responses, and one of its requests, made to say what they did not.

The head of a message is read for counting and breaking, not for understanding. By patterns: the XML of the stores that
tests talk to is flat and known.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol
from xml.sax.saxutils import escape

from bigupload.testing.faults import Standing


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


class ProxiedBody(Protocol):
    """What has a body that can be changed."""

    body: bytes


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


def stand(op: str, headers: dict[str, str], response: ProxiedBody, conditions: set[Standing]) -> bool:
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

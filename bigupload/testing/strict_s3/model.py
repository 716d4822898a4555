"""The state of a multipart store, and its rules for parts and for completing uploads. No I/O but body files."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from awscrt import checksums as crt

from .wire import Content, S3Error

COMPOSITE, FULL_OBJECT = "COMPOSITE", "FULL_OBJECT"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html (the default comes first)
CHECKSUM_TYPES: dict[str, tuple[str, ...]] = {
    "CRC32": (COMPOSITE, FULL_OBJECT),
    "CRC32C": (COMPOSITE, FULL_OBJECT),
    "SHA1": (COMPOSITE,),
    "SHA256": (COMPOSITE,),
    "CRC64NVME": (FULL_OBJECT,),
}
DIGEST_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}
_CRCS: dict[str, Callable[[bytes, int], int]] = {
    "CRC32": zlib.crc32,
    "CRC32C": crt.crc32c,
    "CRC64NVME": crt.crc64nvme,
}
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}


class RunningChecksum(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _RunningCrc:
    def __init__(self, algorithm: str) -> None:
        self._function = _CRCS[algorithm]
        self._width = DIGEST_BYTES[algorithm]
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


def hasher(algorithm: str) -> RunningChecksum:
    if algorithm in _CRCS:
        return _RunningCrc(algorithm)
    return hashlib.new(algorithm.lower())


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def decoded(text: str) -> bytes:
    """The bytes of a text in base64; none if it is malformed."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def header_name(algorithm: str) -> str:
    return f"x-amz-checksum-{algorithm.lower()}"


def wrong(value: str) -> str:
    """Another checksum of the same form: the first byte is inverted."""
    body, dash, count = value.partition("-")
    digest = bytearray(base64.b64decode(body))
    digest[0] ^= 0xFF
    return b64(bytes(digest)) + dash + count


def given_checksum(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The one x-amz-checksum-<algorithm> header as (algorithm, value). The values come as sent."""
    given = [
        (algorithm, headers[header_name(algorithm)]) for algorithm in DIGEST_BYTES if header_name(algorithm) in headers
    ]
    if len(given) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    return given[0] if given else None


def decode_checksum(algorithm: str, value: str) -> bytes:
    digest = decoded(value)
    if len(digest) != DIGEST_BYTES[algorithm]:
        raise S3Error("InvalidRequest", f"Value for {header_name(algorithm)} header is invalid.")
    return digest


def checksum_plan(algorithm: str | None, checksum_type: str | None) -> tuple[str | None, str | None]:
    """Return the checksum that CreateMultipartUpload declares, validated: (algorithm, type)."""
    if algorithm is None:
        if checksum_type is not None:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return None, None
    algorithm = algorithm.upper()
    if algorithm not in CHECKSUM_TYPES:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the "
            "valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    kind = (checksum_type or CHECKSUM_TYPES[algorithm][0]).upper()
    if kind not in CHECKSUM_TYPES[algorithm]:
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    return algorithm, kind


@dataclass(frozen=True)
class Checksum:
    """An object's checksum as S3 gives it: base64, with `-N` where it is composite."""

    algorithm: str
    type: str
    value: str

    def headers(self) -> dict[str, str]:
        return {header_name(self.algorithm): self.value, "x-amz-checksum-type": self.type}

    def elements(self) -> list[tuple[str, Content]]:
        return [(f"Checksum{self.algorithm}", self.value), ("ChecksumType", self.type)]


@dataclass
class UploadedPart:
    """`body` is the bytes, the file they are in, or None where bodies aren't kept."""

    number: int
    size: int
    etag: str
    md5: bytes
    digests: dict[str, bytes]
    body: bytes | Path | None
    last_modified: float

    def chunks(self) -> Iterator[bytes]:
        if isinstance(self.body, bytes):
            yield self.body
        elif self.body is None:
            raise ValueError("StrictS3(keep_bodies=False) keeps no bodies")
        else:
            with self.body.open("rb") as file:
                while chunk := file.read(1 << 20):
                    yield chunk


@dataclass
class Upload:
    """An open multipart upload."""

    id: str
    bucket: str
    key: str
    initiated: float
    algorithm: str | None
    checksum_type: str | None
    headers: dict[str, str]  # the headers of the object from create: Content-Type, x-amz-meta-*, x-amz-storage-class …
    opaque_etags: bool = False
    parts: dict[int, UploadedPart] = field(default_factory=dict)
    in_flight: int = 0
    copied: set[int] = field(default_factory=set)
    aborted: bool = False  # aborted while parts were in flight: those may still arrive, until the next abort
    conflicted: bool = False
    arriving: Counter[int] = field(default_factory=Counter)  # PUTs of each part whose bodies are on their way
    sent_twice: set[int] = field(default_factory=set)  # at a time
    refused: bool = False  # at complete, for those

    @property
    def metadata(self) -> dict[str, str]:
        return metadata(self.headers)

    def listed(self) -> list[UploadedPart]:
        return [self.parts[number] for number in sorted(self.parts)]


def metadata(headers: Mapping[str, str]) -> dict[str, str]:
    prefix = "x-amz-meta-"
    return {name[len(prefix) :]: value for name, value in headers.items() if name.startswith(prefix)}


@dataclass
class StoredObject:
    """An object. `parts` are the pieces it was made of (one, and `multipart` false, for PutObject)."""

    key: str
    etag: str
    parts: list[UploadedPart]
    headers: dict[str, str]
    checksum: Checksum | None
    last_modified: float
    multipart: bool = True
    upload_id: str | None = None
    version_id: str | None = None

    def version(self) -> dict[str, str]:
        return {} if self.version_id is None else {"x-amz-version-id": self.version_id}

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def metadata(self) -> dict[str, str]:
        return metadata(self.headers)

    @property
    def tagging(self) -> str | None:
        return self.headers.get("x-amz-tagging")

    @property
    def storage_class(self) -> str:
        return self.headers.get("x-amz-storage-class", "STANDARD")

    def chunks(self) -> Iterator[bytes]:
        for part in self.parts:
            yield from part.chunks()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks())

    def sha256(self) -> str:
        """Hex, of the stored bytes (not with keep_bodies=False)."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    @property
    def crc64nvme(self) -> str:
        """base64, of the bytes that arrived; known in every mode, whatever was declared."""
        return b64(combined("CRC64NVME", self.parts))


def combined(algorithm: str, parts: list[UploadedPart]) -> bytes:
    """The full-object CRC."""
    value = 0
    for part in parts:
        value = _COMBINE[algorithm](value, int.from_bytes(part.digests[algorithm], "big"), part.size)
    return value.to_bytes(DIGEST_BYTES[algorithm], "big")


def object_checksum(algorithm: str, kind: str, parts: list[UploadedPart]) -> Checksum:
    if kind == FULL_OBJECT:
        return Checksum(algorithm, kind, b64(combined(algorithm, parts)))
    outer = hasher(algorithm)
    for part in parts:
        outer.update(part.digests[algorithm])
    return Checksum(algorithm, kind, f"{b64(outer.digest())}-{len(parts)}")


def multipart_etag(parts: list[UploadedPart]) -> str:
    return f'"{hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()}-{len(parts)}"'


@dataclass(frozen=True)
class CompleteRow:
    """A row of complete's part list."""

    number: int
    etag: str
    checksums: dict[str, str]


def parse_complete(body: bytes) -> list[CompleteRow]:
    from xml.etree import ElementTree as ET

    try:
        root = ET.fromstring(body)  # noqa: S314 - the body is a test's own
    except ET.ParseError:
        raise S3Error("MalformedXML") from None

    def local(node: ET.Element) -> str:
        return node.tag.rpartition("}")[2]

    if local(root) != "CompleteMultipartUpload":
        raise S3Error("MalformedXML")
    rows: list[CompleteRow] = []
    for node in root:
        if local(node) != "Part":
            raise S3Error("MalformedXML")
        fields: dict[str, str] = {local(child): (child.text or "").strip() for child in node}
        if not fields.get("PartNumber", "").isdecimal() or not fields.get("ETag"):
            raise S3Error("MalformedXML")
        sums = {name.removeprefix("Checksum"): value for name, value in fields.items() if name.startswith("Checksum")}
        rows.append(CompleteRow(int(fields["PartNumber"]), fields["ETag"], sums))
    if not rows:
        raise S3Error("MalformedXML")
    return rows


def choose_parts(
    upload: Upload, rows: list[CompleteRow], *, min_part_size: int, checksums: bool, lenient: bool
) -> list[UploadedPart]:
    """The parts that complete names, or the error that AWS gives.

    `lenient`: the rows of a full-object upload need no checksums.
    """
    numbers = [row.number for row in rows]
    if any(a >= b for a, b in itertools.pairwise(numbers)):
        raise S3Error("InvalidPartOrder", fields={"UploadId": upload.id})
    chosen: list[UploadedPart] = []
    for row in rows:
        part = upload.parts.get(row.number)
        fields: dict[str, str | int] = {"UploadId": upload.id, "PartNumber": row.number, "ETag": row.etag.strip('"')}
        if part is None or part.etag.strip('"') != row.etag.strip('"'):
            raise S3Error("InvalidPart", fields=fields)
        if checksums:
            _check_row(upload, row, part, fields, lenient=lenient)
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < min_part_size:
            raise S3Error(
                "EntityTooSmall",
                fields={
                    "ProposedSize": part.size,
                    "MinSizeAllowed": min_part_size,
                    "PartNumber": part.number,
                    "ETag": part.etag.strip('"'),
                },
            )
    if checksums and upload.algorithm is not None and numbers != list(range(1, len(numbers) + 1)):
        # "Part numbers must be consecutive, or S3 generates an HTTP 500 Internal Server Error."
        raise S3Error("InternalError")
    return chosen


def _check_row(
    upload: Upload, row: CompleteRow, part: UploadedPart, fields: dict[str, str | int], *, lenient: bool
) -> None:
    for algorithm, value in row.checksums.items():
        if algorithm != upload.algorithm or value != b64(part.digests[algorithm]):
            raise S3Error("InvalidPart", fields=fields)
    if lenient and upload.checksum_type == FULL_OBJECT:
        return
    if upload.algorithm is not None and not row.checksums:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must include "
            f"the checksum for each part. It was missing for part {row.number} in the request.",
        )


def check_object_checksum(upload: Upload, actual: Checksum | None, headers: Mapping[str, str]) -> None:
    """Complete's own x-amz-checksum-* headers against what the parts add up to."""
    kind = headers.get("x-amz-checksum-type")
    if kind is not None and kind != upload.checksum_type:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {upload.checksum_type} checksum mode. The complete request must use "
            "the same checksum mode.",
        )
    given = given_checksum(headers)
    if given is None:
        return
    algorithm, value = given
    if actual is None or algorithm != upload.algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {(upload.algorithm or 'null').lower()}, actual "
            f"checksum Type: {algorithm.lower()}",
        )
    digest, dash, _ = value.partition("-")
    decode_checksum(algorithm, digest)
    if bool(dash) != (actual.type == COMPOSITE):
        raise S3Error("InvalidRequest", f"Value for {header_name(algorithm)} header is invalid.")
    if value != actual.value:
        raise S3Error("BadDigest", f"The {algorithm.lower()} you specified did not match the calculated checksum.")


def decode_md5(value: str) -> bytes:
    digest = decoded(value)
    if len(digest) != 16:
        raise S3Error("InvalidDigest", fields={"Content-MD5": value})
    return digest

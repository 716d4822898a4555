"""StrictS3's UploadPartCopy: https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from . import model
from .contents import Contents
from .exchange import Exchange, Received
from .intake import check_customer_key, encryption_headers, new_part
from .model import StoredObject, Upload, b64
from .objects import pieces
from .response import StoreResponse, timestamp, xml
from .wire import Content, S3Error

MOST_COPIED = 5 << 30
_SOURCE, _RANGE = "x-amz-copy-source", "x-amz-copy-source-range"
_BYTES = re.compile(r"bytes=([0-9]+)-([0-9]+)")
_OF_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_IF_NONE_MATCH = f"{_SOURCE}-if-none-match"
_ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")


async def copy_part(s3: Contents, exchange: Exchange, upload: Upload, number: int) -> StoreResponse:
    await exchange.read()
    found = _source(s3, exchange.headers)
    start, end = _range(s3, exchange.headers.get(_RANGE), found.size)
    check_customer_key(exchange.headers, upload.headers)
    part = new_part(s3, number, _copied(s3, found, start, end, upload.algorithm), opaque=upload.opaque_etags)
    upload.parts[number] = part
    upload.copied.add(number)
    rows: list[tuple[str, Content]] = [("ETag", part.etag), ("LastModified", timestamp(part.last_modified))]
    if upload.algorithm is not None and s3.knobs.copied_checksums != "missing":
        value = b64(part.digests[upload.algorithm])
        rows.append(
            (f"Checksum{upload.algorithm}", value if s3.knobs.copied_checksums == "right" else model.wrong(value))
        )
    version = {} if found.version_id is None else {"x-amz-copy-source-version-id": found.version_id}
    return xml("CopyPartResult", rows, {**encryption_headers(upload.headers), **version})


def _source(s3: Contents, headers: Mapping[str, str]) -> StoredObject:
    path, _, query = headers[_SOURCE].partition("?")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key or (query and not query.startswith("versionId=")):
        raise S3Error("InvalidArgument", "Invalid copy source object key")
    if headers.get("x-amz-source-expected-bucket-owner", s3.knobs.owner) != s3.knobs.owner:
        raise S3Error("AccessDenied")
    if bucket not in s3.buckets:
        raise S3Error("NoSuchBucket", fields={"BucketName": bucket})
    found = s3.find(bucket, key, unquote(query.removeprefix("versionId=")) or None)
    if found.storage_class in _ARCHIVED:
        raise S3Error("ObjectNotInActiveTierError", "The source object is not in the active tier", status=403)
    etag, match, none_match = found.etag.strip('"'), headers.get(f"{_SOURCE}-if-match"), headers.get(_IF_NONE_MATCH)
    if (match is not None and match.strip('"') != etag) or (none_match is not None and none_match.strip('"') == etag):
        raise S3Error("PreconditionFailed", fields={"Condition": f"{_SOURCE}-If-Match"})
    check_customer_key(headers, found.headers, _OF_SOURCE)
    return found


def _range(s3: Contents, given: str | None, size: int) -> tuple[int, int]:
    """The range of bytes to copy, end exclusive."""
    start, end = 0, size
    if given is not None:
        asked = _BYTES.fullmatch(given)
        if asked is None:
            raise S3Error(
                "InvalidArgument",
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
                "zero-based offsets of the first and last bytes to copy",
                fields={"ArgumentName": _RANGE, "ArgumentValue": given},
            )
        start, end = int(asked[1]), int(asked[2]) + 1
        if not start < end <= size:
            raise S3Error("InvalidArgument", f"Range specified is not valid for source object of size: {size}")
        if size <= s3.knobs.min_part_size:  # "only if the source object is greater than 5 MB"
            raise S3Error("InvalidRequest", "The specified copy range is invalid for the source object size.")
    if end - start > MOST_COPIED:
        raise S3Error(
            "InvalidRequest",
            f"The specified copy source is larger than the maximum allowable size for a copy source: {MOST_COPIED}",
        )
    return start, end


def _copied(s3: Contents, found: StoredObject, start: int, end: int, algorithm: str | None) -> Received:
    algorithms = {"CRC64NVME", algorithm or "CRC64NVME"}
    sums = {name: model.hasher(name) for name in algorithms}
    md5 = hashlib.md5(usedforsecurity=False)
    kept: list[bytes] = []
    file = None
    if s3.keep_in is not None:
        file = tempfile.NamedTemporaryFile(dir=s3.keep_in, delete=False)  # noqa: SIM115 - the object is made of it
    for piece in pieces(found, start, end):
        for each in (md5, *sums.values()):
            each.update(piece)
        if file is not None:
            file.write(piece)
        else:
            kept.append(piece)
    body: bytes | Path = b"".join(kept)
    if file is not None:
        file.close()
        body = Path(file.name)
    return Received(end - start, md5.digest(), {name: each.digest() for name, each in sums.items()}, body, {})

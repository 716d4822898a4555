"""StrictS3's multipart operations, and UploadPartCopy, which is one."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote

from . import model
from .contents import Contents
from .exchange import BodySink, Exchange, Received, StoreResponse, timestamp, xml
from .model import Checksum, StoredObject, Upload, UploadedPart, b64
from .objects import (
    check_customer_key,
    check_if_none_match,
    declared_algorithm,
    encryption_headers,
    is_locked,
    new_part,
    number_in_query,
    object_headers,
    opaque_etags,
    pieces,
    receive,
    refuse_checksums,
)
from .wire import Content, S3Error


async def create_multipart_upload(s3: Contents, exchange: Exchange) -> StoreResponse:
    await exchange.read()
    given = exchange.headers.get("x-amz-checksum-algorithm")
    refuse_checksums(s3, given)
    algorithm, kind = None, None
    if s3.knobs.echo_checksums:
        algorithm, kind = model.checksum_plan(given, exchange.headers.get("x-amz-checksum-type"))
    headers = object_headers(s3, exchange)
    upload = Upload(
        id=f"{uuid.uuid4().hex}.{uuid.uuid4().hex}",
        bucket=exchange.bucket,
        key=exchange.key,
        initiated=s3.clock(),
        algorithm=algorithm,
        checksum_type=kind,
        headers=headers,
        opaque_etags=opaque_etags(s3, headers),
    )
    s3.uploads[upload.id] = upload
    exchange.record.upload_id = upload.id
    content: list[tuple[str, Content]] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
    ]
    more = dict(encryption_headers(headers))
    if algorithm is not None and kind is not None:
        more |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    return xml("InitiateMultipartUploadResult", content, more)


def _find_upload(s3: Contents, exchange: Exchange) -> Upload:
    upload = s3.uploads.get(exchange.query["uploadId"])
    if upload is None or (upload.bucket, upload.key) != (exchange.bucket, exchange.key):
        raise S3Error("NoSuchUpload", fields={"UploadId": exchange.query["uploadId"]})
    return upload


def _part_of_upload(s3: Contents, exchange: Exchange) -> tuple[int, Upload]:
    """The part number and the open upload that a request names."""
    number = exchange.part_number
    if number is None or not 1 <= number <= s3.knobs.max_parts:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {s3.knobs.max_parts}, inclusive",
            fields={"ArgumentName": "partNumber", "ArgumentValue": exchange.query.get("partNumber", "")},
        )
    upload = _find_upload(s3, exchange)
    if upload.aborted:
        raise S3Error("NoSuchUpload", fields={"UploadId": upload.id})
    return number, upload


async def upload_part_copy(s3: Contents, exchange: Exchange) -> StoreResponse:
    if s3.knobs.ignores_copy_source:
        return await upload_part(s3, exchange)
    number, upload = _part_of_upload(s3, exchange)
    return await copy_part(s3, exchange, upload, number)


async def upload_part(s3: Contents, exchange: Exchange) -> StoreResponse:
    number, upload = _part_of_upload(s3, exchange)
    if number in upload.parts and not s3.knobs.replaces_parts:
        raise S3Error("NotImplemented")
    check_customer_key(exchange.headers, upload.headers)
    proved = model.given_checksum(exchange.headers) is not None or "content-md5" in exchange.headers
    if is_locked(upload.headers) and not proved:
        raise S3Error(
            "InvalidRequest",
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters",
        )
    algorithm = _part_algorithm(s3, exchange, upload) if s3.knobs.echo_checksums else None
    upload.in_flight += 1
    if upload.arriving[number] and not upload.refused:
        upload.sent_twice.add(number)
    upload.arriving[number] += 1
    try:
        received = await receive(s3, exchange, algorithm, frozenset({upload.algorithm} if upload.algorithm else ()))
    finally:
        upload.in_flight -= 1
        upload.arriving[number] -= 1
    if s3.knobs.second_put == "kills" and upload.sent_twice:
        s3.uploads.pop(upload.id, None)
    if upload.refused:
        upload.sent_twice.discard(number)
    if upload.id not in s3.uploads:
        raise S3Error("NoSuchUpload", fields={"UploadId": upload.id})
    part = new_part(s3, number, received, opaque=upload.opaque_etags)
    upload.parts[number] = part
    upload.copied.discard(number)
    headers = {"ETag": part.etag, **encryption_headers(upload.headers)}
    if algorithm is not None:
        value = b64(part.digests[algorithm])
        headers[model.header_name(algorithm)] = model.wrong(value) if s3.knobs.lie_checksum else value
    return StoreResponse(200, headers)


def _part_algorithm(s3: Contents, exchange: Exchange, upload: Upload) -> str | None:
    """The algorithm to verify and echo, if it may come with a part of this upload."""
    actual, expected = declared_algorithm(exchange), upload.algorithm
    if actual == expected or (expected is None and s3.knobs.undeclared_checksums == "accept"):
        return actual
    if actual is None and upload.checksum_type == model.FULL_OBJECT and not s3.knobs.require_part_checksums:
        return None
    raise S3Error(
        "InvalidRequest",
        f"Checksum Type mismatch occurred, expected checksum Type: {(expected or 'null').lower()}, actual checksum "
        f"Type: {(actual or 'null').lower()}",
    )


async def list_parts(s3: Contents, exchange: Exchange) -> StoreResponse:
    upload = _find_upload(s3, exchange)
    if upload.algorithm is not None:
        check_customer_key(exchange.headers, upload.headers)
    limit = number_in_query(exchange, "max-parts", s3.knobs.page_size, s3.knobs.page_size)
    marker = number_in_query(exchange, "part-number-marker", 0, 2**31 - 1)
    later = [part for part in upload.listed() if part.number > marker]
    page = later[:limit]
    rows: list[tuple[str, Content]] = [
        (
            "Part",
            [
                ("PartNumber", part.number),
                ("LastModified", timestamp(part.last_modified)),
                ("ETag", part.etag),
                ("Size", part.size),
                *([(f"Checksum{upload.algorithm}", b64(part.digests[upload.algorithm]))] if upload.algorithm else []),
            ],
        )
        for part in page
    ]
    head: list[tuple[str, Content]] = [
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("UploadId", upload.id),
        ("StorageClass", upload.headers.get("x-amz-storage-class", "STANDARD")),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else 0),
        ("MaxParts", limit),
        ("IsTruncated", str(len(later) > len(page)).lower()),
        ("ChecksumAlgorithm", upload.algorithm),
        ("ChecksumType", upload.checksum_type),
    ]
    return xml("ListPartsResult", head + rows)


async def list_multipart_uploads(s3: Contents, exchange: Exchange) -> StoreResponse:
    prefix = exchange.query.get("prefix", "")
    key_marker, id_marker = exchange.query.get("key-marker", ""), exchange.query.get("upload-id-marker", "")
    limit = number_in_query(exchange, "max-uploads", s3.knobs.page_size, s3.knobs.page_size)
    found = [
        each for each in list(s3.uploads.values()) if each.bucket == exchange.bucket and each.key.startswith(prefix)
    ]
    found.sort(key=lambda each: (each.key.encode(), each.initiated, each.id))
    # Without an id, the marker's key is behind us; with one, the rest of its uploads still comes.
    marked = next((at for at, each in enumerate(found) if (each.key, each.id) == (key_marker, id_marker)), None)
    if marked is not None:
        found = found[marked + 1 :]
    elif key_marker:
        found = [each for each in found if each.key.encode() > key_marker.encode()]
    page = found[:limit]
    truncated = len(found) > len(page)
    rows: list[tuple[str, Content]] = [
        (
            "Upload",
            [
                ("Key", each.key),
                ("UploadId", each.id),
                ("StorageClass", each.headers.get("x-amz-storage-class", "STANDARD")),
                ("Initiated", timestamp(each.initiated)),
                ("ChecksumAlgorithm", each.algorithm),
                ("ChecksumType", each.checksum_type),
            ],
        )
        for each in page
    ]
    head: list[tuple[str, Content]] = [
        ("Bucket", exchange.bucket),
        ("KeyMarker", key_marker),
        ("UploadIdMarker", id_marker),
        ("NextKeyMarker", page[-1].key if truncated and page else None),
        ("NextUploadIdMarker", page[-1].id if truncated and page else None),
        ("Prefix", prefix),
        ("MaxUploads", limit),
        ("IsTruncated", str(truncated).lower()),
    ]
    return xml("ListMultipartUploadsResult", head + rows)


async def complete_multipart_upload(s3: Contents, exchange: Exchange) -> StoreResponse:
    body = await exchange.read()
    upload = _find_upload(s3, exchange)
    if upload.aborted:
        raise S3Error("NoSuchUpload", fields={"UploadId": upload.id})
    if upload.copied and not s3.knobs.completes_copied:
        raise S3Error("InvalidPart")
    if upload.sent_twice and s3.knobs.second_put in ("voids", "loses"):
        upload.refused = True
        if s3.knobs.second_put == "loses":
            del s3.uploads[upload.id]
        raise S3Error("InvalidPart")
    if upload.algorithm is not None:
        check_customer_key(exchange.headers, upload.headers)
    rows = model.parse_complete(body)
    checksums = s3.knobs.echo_checksums
    parts = model.choose_parts(
        upload,
        rows,
        min_part_size=s3.knobs.min_part_size,
        checksums=checksums,
        lenient=not s3.knobs.require_part_checksums,
    )
    checksum = _object_checksum(s3, upload, parts)
    if checksums:
        model.check_object_checksum(upload, checksum, exchange.headers)
    _check_object_size(exchange, sum(part.size for part in parts))
    check_if_none_match(s3, exchange, upload)
    if checksum is not None and s3.knobs.lie_complete:
        checksum = replace(checksum, value=model.wrong(checksum.value))
    etag = f'"{uuid.uuid4().hex}-{len(parts)}"' if upload.opaque_etags else model.multipart_etag(parts)
    made = StoredObject(upload.key, etag, parts, upload.headers, checksum, s3.clock(), upload_id=upload.id)
    s3.keep(upload.bucket, made)
    del s3.uploads[upload.id]
    content: list[tuple[str, Content]] = [
        ("Location", f"{s3.url}/{upload.bucket}/{upload.key}"),
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("ETag", etag),
        *(checksum.elements() if checksum is not None else []),
    ]
    s3.completed.add(upload.id)
    return xml("CompleteMultipartUploadResult", content, {**encryption_headers(upload.headers), **made.version()})


def _object_checksum(s3: Contents, upload: Upload, parts: list[UploadedPart]) -> Checksum | None:
    if not s3.knobs.echo_checksums:
        return None
    if upload.algorithm is not None and upload.checksum_type is not None:
        return model.object_checksum(upload.algorithm, upload.checksum_type, parts)
    if s3.knobs.default_crc64nvme:
        return model.object_checksum("CRC64NVME", model.FULL_OBJECT, parts)
    return None


def _check_object_size(exchange: Exchange, actual: int) -> None:
    declared = exchange.headers.get("x-amz-mp-object-size")
    if declared is not None and declared != str(actual):
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {declared} does not match what was computed: {actual}",
        )


async def abort_multipart_upload(s3: Contents, exchange: Exchange) -> StoreResponse:
    upload = _find_upload(s3, exchange)
    if upload.in_flight:
        upload.aborted = True
        upload.parts.clear()
    else:
        del s3.uploads[upload.id]
    return StoreResponse(204)


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
    with contextlib.closing(BodySink({"CRC64NVME", algorithm or "CRC64NVME"}, s3.keep_in or True)) as sink:
        for piece in pieces(found, start, end):
            sink.add(piece)
    return sink.received({})

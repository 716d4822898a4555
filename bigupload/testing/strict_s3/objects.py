"""StrictS3's operations on whole objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from email.utils import formatdate
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from . import model
from .contents import Contents
from .exchange import Exchange, StoreResponse, timestamp, xml
from .intake import (
    check_customer_key,
    check_if_none_match,
    declared_algorithm,
    encryption_headers,
    is_in_head,
    new_part,
    number_in_query,
    object_headers,
    opaque_etags,
    receive,
    refuse_checksums,
)
from .model import Checksum, StoredObject, b64, hasher
from .wire import NAMESPACE, Content, S3Error


async def put_object(s3: Contents, exchange: Exchange) -> StoreResponse:
    headers = object_headers(s3, exchange)
    refuse_checksums(s3, model.given_checksum(exchange.headers))
    algorithm = declared_algorithm(exchange) if s3.knobs.echo_checksums else None
    received = await receive(s3, exchange, algorithm)
    check_if_none_match(s3, exchange, None)
    part = new_part(s3, 1, received, opaque=opaque_etags(s3, headers))
    checksum = None
    if s3.knobs.echo_checksums and (algorithm or s3.knobs.default_crc64nvme):
        used = algorithm or "CRC64NVME"
        checksum = Checksum(used, model.FULL_OBJECT, b64(part.digests[used]))
    made = StoredObject(exchange.key, part.etag, [part], headers, checksum, s3.clock(), multipart=False)
    s3.keep(exchange.bucket, made)
    told = {**encryption_headers(headers), **made.version(), **(checksum.headers() if checksum else {})}
    return StoreResponse(200, {"ETag": part.etag, **told})


async def get_object(s3: Contents, exchange: Exchange) -> StoreResponse:
    """GetObject, and HeadObject: the same but for the body."""
    found = s3.find(exchange.bucket, exchange.key, exchange.query.get("versionId"))
    check_customer_key(exchange.headers, found.headers)
    match = exchange.headers.get("if-match")
    if match is not None and match.strip('"') not in ("*", found.etag.strip('"')):
        raise S3Error("PreconditionFailed", fields={"Condition": "If-Match"})
    headers = {name: value for name, value in found.headers.items() if is_in_head(name)}
    if found.storage_class == "STANDARD":
        headers.pop("x-amz-storage-class", None)
    headers.setdefault("content-type", "binary/octet-stream")
    headers |= {
        "ETag": found.etag,
        "Last-Modified": formatdate(found.last_modified, usegmt=True),
        "Accept-Ranges": "bytes",
        **encryption_headers(found.headers),
        **found.version(),
    }
    if found.tagging:
        headers["x-amz-tagging-count"] = str(found.tagging.count("&") + 1)
    start, end = _selected(exchange, found, headers)
    if "range" in exchange.headers and s3.knobs.most_of_range is not None:
        end = min(end, start + s3.knobs.most_of_range)
    if s3.knobs.part_etags and exchange.part_number is not None:
        headers["ETag"] = found.parts[exchange.part_number - 1].etag
    status = 200
    if "partNumber" in exchange.query or "range" in exchange.headers:
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    if exchange.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and end - start == found.size:
        headers |= found.checksum.headers() if found.checksum is not None else {}
    headers["Content-Length"] = str(end - start)
    return StoreResponse(status, headers, stream=lambda: pieces(found, start, end))


def _selected(exchange: Exchange, found: StoredObject, headers: dict[str, str]) -> tuple[int, int]:
    """The range of bytes asked for, end exclusive."""
    number = exchange.part_number
    if number is not None:
        if not 1 <= number <= len(found.parts):
            raise S3Error("InvalidPartNumber", "The requested partnumber is not satisfiable", status=416)
        if found.multipart:
            headers["x-amz-mp-parts-count"] = str(len(found.parts))
        start = sum(part.size for part in found.parts[: number - 1])
        return start, start + found.parts[number - 1].size
    unit, _, spec = exchange.headers.get("range", "").partition("=")
    if unit != "bytes" or "," in spec:
        exchange.headers.pop("range", None)  # S3 ignores ranges that it can't read, and several ranges
        return 0, found.size
    first, _, last = spec.partition("-")
    if first:
        start, end = int(first), min(int(last) + 1, found.size) if last else found.size
    else:
        start, end = max(0, found.size - int(last)), found.size
    if start >= end:
        raise S3Error("InvalidRange", fields={"RangeRequested": spec, "ActualObjectSize": found.size})
    return start, end


def pieces(found: StoredObject, start: int, end: int) -> Iterator[bytes]:
    at = 0
    for chunk in found.chunks():
        piece = chunk[max(0, start - at) : max(0, end - at)]
        at += len(chunk)
        for offset in range(0, len(piece), 1 << 20):
            yield piece[offset : offset + (1 << 20)]
        if at >= end:
            return


async def delete_object(s3: Contents, exchange: Exchange) -> StoreResponse:
    found, match = s3.objects[exchange.bucket].get(exchange.key), exchange.headers.get("if-match")
    if match is not None and found is not None and match.strip('"') != found.etag.strip('"'):
        raise S3Error("PreconditionFailed", fields={"Condition": "If-Match"})
    s3.objects[exchange.bucket].pop(exchange.key, None)
    return StoreResponse(204)


async def delete_objects(s3: Contents, exchange: Exchange) -> StoreResponse:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""
    body = await exchange.read()
    given = model.given_checksum(exchange.headers)
    md5 = exchange.headers.get("content-md5")
    if md5 is None and given is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5")
    if md5 is not None and model.decode_md5(md5) != hashlib.md5(body, usedforsecurity=False).digest():
        raise S3Error("BadDigest")
    if given is not None:
        computed = hasher(given[0])
        computed.update(body)
        if computed.digest() != model.decode_checksum(*given):
            raise S3Error("BadDigest")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - the body is a test's own
    except ElementTree.ParseError:
        raise S3Error("MalformedXML") from None
    wanted = [
        (each.findtext(f"{{{NAMESPACE}}}Key") or "", each.findtext(f"{{{NAMESPACE}}}ETag"))
        for each in root.iterfind(f"{{{NAMESPACE}}}Object")
    ]
    if not 1 <= len(wanted) <= 1000 or any(not key for key, _ in wanted):
        raise S3Error("MalformedXML")
    rows: list[tuple[str, Content]] = []
    for key, etag in wanted:
        code = s3.knobs.undeletable.get(key)
        found = s3.objects[exchange.bucket].get(key)
        if etag is not None and (found is None or found.etag.strip('"') != etag.strip('"')):
            code = code or ("NoSuchKey" if found is None else "PreconditionFailed")
        if code is not None:
            rows.append(("Error", [("Key", key), ("Code", code), ("Message", code)]))
            continue
        s3.objects[exchange.bucket].pop(key, None)
        if root.findtext(f"{{{NAMESPACE}}}Quiet") != "true":
            rows.append(("Deleted", [("Key", key)]))
    return xml("DeleteResult", rows)


async def list_objects_v2(s3: Contents, exchange: Exchange) -> StoreResponse:
    prefix = exchange.query.get("prefix", "")
    token = exchange.query.get("continuation-token")
    after = unquote(token) if token else exchange.query.get("start-after", "")
    limit = number_in_query(exchange, "max-keys", s3.knobs.page_size, s3.knobs.page_size)
    encodes = exchange.query.get("encoding-type") == "url"
    objects = s3.objects[exchange.bucket]
    delimiter = exchange.query.get("delimiter")

    def common_prefix(key: str) -> str | None:
        """Return the common prefix that stands for a key and others; None: the key is listed by itself."""
        folder, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        return f"{prefix}{folder}{found}" if found else None

    listed = {key: common_prefix(key) for key in objects if key.startswith(prefix)}
    folders = {each for each in listed.values() if each is not None}
    alone = {key for key, folder in listed.items() if folder is None}
    keys = sorted((each for each in folders | alone if each > after), key=str.encode)
    page = keys[:limit]
    rows: list[tuple[str, Content]] = [
        (
            "Contents",
            [
                ("Key", quote(key, safe="/") if encodes else key),
                ("LastModified", timestamp(objects[key].last_modified)),
                ("ETag", objects[key].etag),
                ("Size", objects[key].size),
                ("StorageClass", objects[key].storage_class),
            ],
        )
        for key in page
        if key not in folders
    ]
    rows += [
        ("CommonPrefixes", [("Prefix", quote(each, safe="/") if encodes else each)]) for each in page if each in folders
    ]
    truncated = len(keys) > len(page)
    head: list[tuple[str, Content]] = [
        ("Name", exchange.bucket),
        ("Prefix", quote(prefix, safe="/") if encodes else prefix),
        ("EncodingType", "url" if encodes else None),
        ("KeyCount", len(page)),
        ("MaxKeys", limit),
        ("IsTruncated", str(truncated).lower()),
        ("NextContinuationToken", quote(page[-1]) if truncated and page else None),
    ]
    return xml("ListBucketResult", head + rows)

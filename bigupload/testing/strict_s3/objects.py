"""StrictS3's operations on whole objects, and the intake of headers and bytes, which multipart operations share."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import formatdate
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from bigupload.testing.faults import Conflict

from . import model
from .contents import Contents
from .exchange import Exchange, Received, StoreResponse, timestamp, xml
from .model import Checksum, StoredObject, Upload, UploadedPart, b64, hasher
from .wire import NAMESPACE, Content, S3Error

_KEPT_HEADERS = {
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-acl",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
}
_KEPT_FAMILIES = ("x-amz-grant-", "x-amz-meta-", "x-amz-object-lock-", "x-amz-server-side-encryption")
_NOT_KEPT = "x-amz-server-side-encryption-customer-key"
_STORAGE_CLASSES = {
    "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE",
    "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE",
}  # fmt: skip
SSE, _SSE_C, _SSE_C_MD5 = (
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key-md5",
)
_SSE_C_PREFIX = "x-amz-server-side-encryption-customer-"
_NOT_IN_HEAD = {"x-amz-tagging", "x-amz-acl", SSE}


def number_in_query(exchange: Exchange, name: str, default: int, limit: int) -> int:
    value = exchange.query.get(name)
    if value is None:
        return min(default, limit)
    if not value.isdecimal() or int(value) > 2**31 - 1:
        raise S3Error("InvalidArgument", f"Provided {name} not an integer or within integer range")
    return min(int(value), limit)


def is_in_head(name: str) -> bool:
    """Whether the response to a HEAD has a header that create declared."""
    return name not in _NOT_IN_HEAD and not name.startswith("x-amz-grant-")


def object_headers(s3: Contents, exchange: Exchange) -> dict[str, str]:
    given = exchange.headers
    known = (name for name in given if name in _KEPT_HEADERS or name.startswith(_KEPT_FAMILIES))
    kept = {name: given[name] for name in known if name != _NOT_KEPT}
    encodings = [each.strip() for each in kept.pop("content-encoding", "").split(",")]
    encodings = [each for each in encodings if each not in ("", "aws-chunked")]
    if encodings:
        kept["content-encoding"] = ",".join(encodings)
    if kept.get("x-amz-storage-class", "STANDARD") not in _STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", "The storage class you specified is not valid", status=400)
    if _SSE_C in kept and exchange.request.transport is not None and not exchange.request.secure:
        raise S3Error(
            "InvalidRequest",
            "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
            "connection.",
        )
    if _SSE_C in kept:
        _customer_key_md5(given)
    _check_access_and_lock(s3, given)
    return kept


def _check_access_and_lock(s3: Contents, given: Mapping[str, str]) -> None:
    if "x-amz-acl" in given and any(name.startswith("x-amz-grant-") for name in given):
        raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    mode, until = given.get("x-amz-object-lock-mode"), given.get("x-amz-object-lock-retain-until-date")
    if not is_locked(given):
        return
    if (mode is None) != (until is None):
        raise S3Error(
            "InvalidArgument",
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        )
    if until is not None and datetime.fromisoformat(until).timestamp() <= s3.clock():
        raise S3Error("InvalidArgument", "The retain until date must be in the future!")


def is_locked(headers: Mapping[str, str]) -> bool:
    return any(name.startswith("x-amz-object-lock-") for name in headers)


def _customer_key_md5(given: Mapping[str, str], prefix: str = _SSE_C_PREFIX) -> str:
    """The MD5 of the customer key that comes with a request, in base64."""
    key = model.decoded(given.get(f"{prefix}key", ""))
    if given.get(f"{prefix}algorithm") != "AES256" or len(key) != 32:
        raise S3Error("InvalidArgument", "The secret key was invalid for the specified algorithm.")
    digest = b64(hashlib.md5(key, usedforsecurity=False).digest())
    if given.get(f"{prefix}key-md5") != digest:
        raise S3Error("InvalidArgument", "The calculated MD5 hash of the key did not match the hash that was provided.")
    return digest


def opaque_etags(s3: Contents, headers: Mapping[str, str]) -> bool:
    """ETags are MD5s only without SSE-KMS and SSE-C."""
    return s3.knobs.etags == "opaque" or headers.get(SSE, "").startswith("aws:kms") or _SSE_C in headers


def encryption_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if _SSE_C in headers:
        return {name: headers[name] for name in (_SSE_C, _SSE_C_MD5) if name in headers}
    return {SSE: headers.get(SSE, "AES256")}


def check_customer_key(sent: Mapping[str, str], headers: Mapping[str, str], prefix: str = _SSE_C_PREFIX) -> None:
    """`sent`: the request's headers, of which those with the prefix count. `headers`: the object's, or the upload's."""
    given = {name for name in ("algorithm", "key", "key-md5") if f"{prefix}{name}" in sent}
    if _SSE_C not in headers:
        if given:
            raise S3Error("InvalidRequest", "The encryption parameters are not applicable to this object.")
    elif not given:
        raise S3Error(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided.",
        )
    elif _customer_key_md5(sent, prefix) != headers[_SSE_C_MD5]:
        raise S3Error("AccessDenied")


def refuse_checksums(s3: Contents, given: object) -> None:
    """Raise the error of a store that does not know the checksum that was given, if any."""
    refuse = s3.knobs.refuse_checksum_algorithm
    if given is not None and refuse:
        if refuse == 501:
            raise S3Error("NotImplemented")
        raise S3Error("InvalidRequest", "Checksum algorithm is not supported")


def declared_algorithm(exchange: Exchange) -> str | None:
    """The algorithm of the checksum that comes with this body, in a header or in a trailer."""
    given = model.given_checksum(exchange.headers)
    trailer = exchange.headers.get("x-amz-trailer")
    if given is not None:
        return given[0]
    if trailer is not None:
        names = {model.header_name(algorithm): algorithm for algorithm in model.DIGEST_BYTES}
        if not exchange.streaming or trailer.lower() not in names:
            raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
        return names[trailer.lower()]
    if "x-amz-sdk-checksum-algorithm" in exchange.headers:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found.",
        )
    return None


async def receive(
    s3: Contents, exchange: Exchange, algorithm: str | None, also: frozenset[str] = frozenset()
) -> Received:
    """The body, verified against Content-MD5 and the checksum header or trailer; `also`: more digests to compute."""
    md5 = exchange.headers.get("content-md5")
    wanted_md5 = model.decode_md5(md5) if md5 is not None else None
    given = model.given_checksum(exchange.headers) if algorithm is not None else None
    if given is not None:
        model.decode_checksum(*given)
    if exchange.declared_length() > s3.knobs.max_part_size:
        raise S3Error("EntityTooLarge", fields={"MaxSizeAllowed": s3.knobs.max_part_size})
    algorithms = {"CRC64NVME"} | ({algorithm} if algorithm is not None else set()) | also
    received = await exchange.receive(algorithms, s3.keep_in or bool(s3.knobs.keep_bodies))
    if wanted_md5 is not None and wanted_md5 != received.md5:
        raise S3Error(
            "BadDigest",
            "The Content-MD5 you specified did not match what we received.",
            fields={"ExpectedDigest": b64(wanted_md5), "CalculatedDigest": b64(received.md5)},
        )
    if algorithm is not None:
        value = given[1] if given is not None else received.trailers.get(model.header_name(algorithm), "")
        if model.decode_checksum(algorithm, value) != received.digests[algorithm]:
            raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    return received


def new_part(s3: Contents, number: int, received: Received, *, opaque: bool) -> UploadedPart:
    etag = uuid.uuid4().hex if opaque else received.md5.hex()
    return UploadedPart(number, received.size, f'"{etag}"', received.md5, received.digests, received.body, s3.clock())


def check_if_none_match(s3: Contents, exchange: Exchange, upload: Upload | None) -> None:
    condition = exchange.headers.get("if-none-match")
    if upload is not None:
        if condition is not None and s3.knobs.conditional_conflicts > 0 and not upload.conflicted:
            s3.knobs.conditional_conflicts -= 1
            upload.conflicted = True
        upload.conflicted |= isinstance(exchange.fault, Conflict)
        if upload.conflicted:
            raise S3Error("ConditionalRequestConflict", fields={"Condition": "If-None-Match", "Key": upload.key})
    if condition is None:
        return
    if condition != "*":
        raise S3Error("NotImplemented", fields={"Header": "If-None-Match"})
    if exchange.key in s3.objects[exchange.bucket]:
        raise S3Error("PreconditionFailed", fields={"Condition": "If-None-Match"})


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

"""The intake of an object's headers and bytes, which PutObject and the multipart operations share."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import datetime

from bigupload.testing.faults import Conflict

from . import model
from .contents import Contents
from .exchange import Exchange, Received
from .model import Upload, UploadedPart, b64
from .wire import S3Error

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

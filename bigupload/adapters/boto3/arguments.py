"""The arguments of boto3's methods, as bigupload's options: `ExtraArgs` and `Config`.

What has no equal raises `CannotTakeOver`, and boto3 does it as before: nothing is dropped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import parse_qsl

from bigupload.adapters.boto3.clients import CannotTakeOver, explicit
from bigupload.api.arguments import UploaderOptions, UploadOptions
from bigupload.api.checks import MAX_CONCURRENCY
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import MIB
from bigupload.records import dataclass

ChosenChecksum: TypeAlias = Literal["crc64nvme", "crc32c", "sha256"]
DEFAULT_TYPE = "binary/octet-stream"
"""The Content-Type of S3 for an object that was sent without one, as boto3 does."""
SMALL = 8 * MIB
"""Bytes from which on boto3 sends parts, and so does bigupload."""
_CHECKSUMS: Mapping[str, ChosenChecksum] = {"CRC64NVME": "crc64nvme", "CRC32C": "crc32c", "SHA256": "sha256"}
_LEGAL_HOLD = {"ON": True, "OFF": False}


def _moment(value: Any) -> Any:
    from botocore.utils import parse_to_aware_datetime

    return parse_to_aware_datetime(value)


def _tags(value: Any) -> dict[str, str]:
    if not isinstance(value, str):
        raise TypeError
    pairs = parse_qsl(value, keep_blank_values=True, strict_parsing=bool(value))
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a tag is there twice")
    return dict(pairs)


def _as_given(value: Any) -> Any:
    return value


_Field: TypeAlias = "tuple[str, Callable[[Any], Any]]"
_FIELDS: Mapping[str, _Field] = {
    "ACL": ("acl", _as_given),
    "CacheControl": ("cache_control", _as_given),
    "ContentDisposition": ("content_disposition", _as_given),
    "ContentEncoding": ("content_encoding", _as_given),
    "ContentLanguage": ("content_language", _as_given),
    "ContentType": ("content_type", _as_given),
    "ExpectedBucketOwner": ("expected_bucket_owner", _as_given),
    "Expires": ("expires", _moment),
    "GrantFullControl": ("grant_full_control", _as_given),
    "GrantRead": ("grant_read", _as_given),
    "GrantReadACP": ("grant_read_acp", _as_given),
    "GrantWriteACP": ("grant_write_acp", _as_given),
    "IfNoneMatch": ("if_none_match", {"*": True}.__getitem__),
    "Metadata": ("metadata", _as_given),
    "ObjectLockLegalHoldStatus": ("object_lock_legal_hold", _LEGAL_HOLD.__getitem__),
    "ObjectLockMode": ("object_lock_mode", _as_given),
    "ObjectLockRetainUntilDate": ("object_lock_retain_until", _moment),
    "RequestPayer": ("request_payer", {"requester": True}.__getitem__),
    "ServerSideEncryption": ("sse", _as_given),
    "SSEKMSKeyId": ("sse_kms_key_id", _as_given),
    "StorageClass": ("storage_class", _as_given),
    "Tagging": ("tags", _tags),
    "WebsiteRedirectLocation": ("website_redirect", _as_given),
}
"""What of `ExtraArgs` is a field of `S3Options`, and how its value is written there."""
_OF_CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
_OF_CHECKSUM = ("ChecksumAlgorithm", "ChecksumType")


def object_options(extra: Mapping[str, Any]) -> tuple[dict[str, Any], UploadOptions]:
    """Return fields of `S3Options` for `ExtraArgs`, and options of the upload.

    Raises:
        CannotTakeOver: A name or a value has no equal.
    """
    fields: dict[str, Any] = {"content_type": DEFAULT_TYPE}
    for name, value in extra.items():
        if name in _FIELDS:
            field, written = _FIELDS[name]
            try:
                fields[field] = written(value)
            except (KeyError, TypeError, ValueError, OverflowError) as e:
                raise CannotTakeOver(f"bigupload has no such {name}") from e
        elif name not in (*_OF_CUSTOMER_KEY, *_OF_CHECKSUM, "MpuObjectSize"):
            raise CannotTakeOver(f"bigupload has nothing like {name}")
    if any(name in extra for name in _OF_CUSTOMER_KEY):
        fields["sse_customer_key"] = _customer_key(extra)
    options: UploadOptions = {"checksum": _checksum(extra)} if any(name in extra for name in _OF_CHECKSUM) else {}
    if "MpuObjectSize" in extra:
        options["expected_size"] = extra["MpuObjectSize"]
    return fields, options


def _customer_key(extra: Mapping[str, Any]) -> bytes:
    """The key's bytes: boto3 encodes those itself, unless the MD5 shows that somebody has done so."""
    algorithm, given, md5 = map(extra.get, _OF_CUSTOMER_KEY)
    try:
        key = given.encode() if isinstance(given, str) else bytes(cast("bytes", given))
        if md5 is not None:
            key = base64.b64decode(key, validate=True)
            if base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode() != md5:
                raise ValueError
    except (TypeError, ValueError):
        raise CannotTakeOver("bigupload has no such SSECustomerKey") from None
    if algorithm != "AES256" or len(key) != 32:
        raise CannotTakeOver("bigupload has no such SSECustomerKey")
    return key


def _checksum(extra: Mapping[str, Any]) -> ChosenChecksum:
    algorithm, kind = (str(extra[name]).upper() if name in extra else None for name in _OF_CHECKSUM)
    chosen = "crc64nvme" if algorithm is None else _CHECKSUMS.get(algorithm)
    if chosen is None:
        raise CannotTakeOver(f"bigupload sends no {algorithm} checksums")
    if kind not in (None, Algorithm(chosen).type.value):
        raise CannotTakeOver(f"bigupload makes no {kind} checksum by {algorithm or 'default'}")
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """What a `TransferConfig` says explicitly."""

    threshold: int | None = None
    """From how many bytes on parts are sent."""
    chunk: int | None = None
    """Bytes of a part."""
    concurrency: int | None = None
    rate: float | None = None
    """Bytes a second."""

    @classmethod
    def of(cls, config: Any) -> TransferSettings:
        """Read a `TransferConfig`; None: nothing is said."""
        if config is None:
            return cls()
        threads = explicit(config, "use_threads")
        concurrency = explicit(config, "max_request_concurrency")
        return cls(
            threshold=explicit(config, "multipart_threshold"),
            chunk=explicit(config, "multipart_chunksize"),
            concurrency=1 if threads is False else concurrency and min(int(concurrency), MAX_CONCURRENCY),
            rate=explicit(config, "max_bandwidth"),
        )

    @property
    def of_uploader(self) -> UploaderOptions:
        """The options of an uploader for this transfer alone; none, if any will do."""
        made: UploaderOptions = {}
        if self.concurrency is not None:
            made["concurrency"] = self.concurrency
        if self.rate is not None:
            made["limit_rate"] = self.rate
        return made

    def part_size(self, size: int | None) -> int | None:
        """Return the bytes of a part as boto3 makes it of the chunk size, so that it is one that S3 takes."""
        if self.chunk is None:
            return None
        from s3transfer.utils import ChunksizeAdjuster

        return int(ChunksizeAdjuster().adjust_chunksize(self.chunk, size))

"""The arguments of boto3's methods, as bigupload's options: `ExtraArgs` and `Config`.

What has no equal raises `CannotTakeOver`, and boto3 does it as before: nothing is dropped.

And what a client says about its store: address, region, credentials, certificates, proxies, retries. The first
functions read what has no public name; `tests/adapters/test_compat.py` fails if one of these names changes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import parse_qsl

from bigupload.api.arguments import UploaderOptions, UploadOptions
from bigupload.api.checks import MAX_CONCURRENCY
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import RetryPolicy
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import OBJECT, REQUEST


def credentials_of(client: Any) -> Any:
    """Return botocore's credentials of a client; None: it has none."""
    return client._request_signer._credentials


def trusted_by(client: Any) -> Path | bool:
    """Return the file of certificates that a client trusts; True: those of botocore; False: any."""
    verify = client._endpoint.http_session._verify
    return verify if isinstance(verify, bool) else Path(verify)


def trusted_by_botocore() -> Path:
    """Return the file of certificates that botocore trusts if nobody names another."""
    from botocore.httpsession import get_cert_path

    return Path(str(get_cert_path(True)))


def explicit(config: Any, name: str) -> Any:
    """Return the value that a caller of `TransferConfig` has given; None: none.

    Some versions of boto3 return their default for a value that was not given. It is then taken for None.
    """
    value = object.__getattribute__(config, name)
    unset = getattr(type(config), "UNSET_DEFAULT", None)
    if unset is not None:
        return None if value is unset or type(value) is object else value  # the second: it was pickled
    return None if value == type(config).DEFAULTS.get(name) else value


_OF_AWS = re.compile(r"https://s3(-fips)?(\.dualstack)?(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?")
"""The endpoints of AWS that follow from the region. Any other was given, as that of a VPC is."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_SIGNED_BY_V4 = ("s3v4", "v4", None)


class CannotTakeOver(Exception):
    """An upload that only boto3 can make as it was asked for. Its text is the reason."""


class ClientSession:
    """A client, as `S3Options.session` wants one: with the client's credentials and region."""

    profile_name = "default"

    def __init__(self, client: Any) -> None:
        self._client = client
        self._made: dict[str, Any] = {}

    @property
    def region_name(self) -> str:
        """The client's region."""
        return str(self._client.meta.region_name)

    def get_credentials(self) -> Any:
        """Return the client's credentials, which may renew themselves."""
        return credentials_of(self._client)

    def client(self, service: str, **arguments: Any) -> Any:
        """Return a client that knows addresses, and no credentials. Those with the same arguments are one."""
        key = repr(sorted((name, vars(value) if name == "config" else value) for name, value in arguments.items()))
        session, lock = _plain_session(os.getpid())
        with lock:  # https://boto3.amazonaws.com/v1/documentation/api/latest/guide/session.html
            if key not in self._made:
                self._made[key] = session.create_client(service, **arguments)
            return self._made[key]


@functools.cache
def _plain_session(_process: int) -> tuple[Any, threading.Lock]:
    """A session of botocore without a profile, as the environment may name one that is not there; and who may use it.

    A forked process has its own: a thread of the other one may have held the lock.
    """
    import botocore.session

    return botocore.session.Session(session_vars={"profile": (None, None, None, None)}), threading.Lock()


def s3_options(client: Any, session: ClientSession) -> S3Options:
    """Return the options that reach the store of a client.

    Raises:
        CannotTakeOver: It is reached in a way that bigupload has not.
        UsageError: Its settings contradict one another.
    """
    from botocore import UNSIGNED

    config = client.meta.config
    of_s3 = config.s3 or {}
    if config.client_cert:
        raise CannotTakeOver("the client shows a certificate of its own")
    is_unsigned = config.signature_version is UNSIGNED
    if not is_unsigned and config.signature_version not in _SIGNED_BY_V4:
        raise CannotTakeOver(f"the client signs by {config.signature_version}")
    if config.proxies_config:
        raise CannotTakeOver("the client has settings for its proxies")
    endpoint = str(client.meta.endpoint_url)
    is_aws = _OF_AWS.fullmatch(endpoint) is not None
    style: Any = of_s3.get("addressing_style") or "auto"
    if is_aws and any(map(os.environ.get, _ENDPOINTS)):  # which would count if no endpoint was named
        is_aws, style = False, "virtual" if style == "auto" else style
    verify = trusted_by(client)
    if verify is True and endpoint.startswith("https:"):
        verify = trusted_by_botocore()
    return S3Options(
        endpoint_url=None if is_aws else endpoint,
        addressing=style,
        accelerate=is_aws and bool(of_s3.get("use_accelerate_endpoint")),
        dual_stack=is_aws and bool(config.use_dualstack_endpoint),
        fips=is_aws and bool(config.use_fips_endpoint),
        ca_bundle=None if isinstance(verify, bool) else verify,
        no_verify_ssl=verify is False,
        no_sign_request=is_unsigned,
        session=None if is_unsigned else session,  # type: ignore[arg-type]  # it has what is used of one
        region=session.region_name if is_unsigned else None,  # else the store may name another, as boto3 follows it
    )


def proxies_of(client: Any) -> dict[str, str] | None:
    """Return the proxies of a client by scheme; None: those of the environment."""
    given = client.meta.config.proxies
    return None if given is None else {scheme: given[scheme] for scheme in ("http", "https") if given.get(scheme)}


def retry_policy(client: Any) -> RetryPolicy | None:
    """Return the retries that somebody chose for a client; None: nobody did."""
    attempts = (client.meta.config.retries or {}).get("total_max_attempts")
    return None if attempts is None else RetryPolicy(attempts=max(1, int(attempts)))


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


_WRITTEN_OTHERWISE: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "Expires": ("expires", _moment),
    "IfNoneMatch": ("if_none_match", {"*": True}.__getitem__),
    "ObjectLockLegalHoldStatus": ("object_lock_legal_hold", _LEGAL_HOLD.__getitem__),
    "ObjectLockRetainUntilDate": ("object_lock_retain_until", _moment),
    "RequestPayer": ("request_payer", {"requester": True}.__getitem__),
    "ServerSideEncryption": ("sse", _as_given),
    "SSEKMSKeyId": ("sse_kms_key_id", _as_given),
    "Tagging": ("tags", _tags),
    "WebsiteRedirectLocation": ("website_redirect", _as_given),
}
"""The keys of `ExtraArgs` that have another name or another form in `S3Options`. Most others are like
`CacheControl`, which is `cache_control`, with the same values."""


def _field(name: str) -> tuple[str, Callable[[Any], Any]] | None:
    """The field of `S3Options` for a name in `ExtraArgs`, and what makes its value; None: no field is the same."""
    alike = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return _WRITTEN_OTHERWISE.get(name, (alike, _as_given) if alike in {**OBJECT, **REQUEST} else None)


_OF_CUSTOMER_KEY = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5")
_OF_CHECKSUM = ("ChecksumAlgorithm", "ChecksumType")


def object_options(extra: Mapping[str, Any]) -> tuple[dict[str, Any], UploadOptions]:
    """Return fields of `S3Options` for `ExtraArgs`, and options of the upload.

    Raises:
        CannotTakeOver: A name or a value has no equal.
    """
    fields: dict[str, Any] = {"content_type": DEFAULT_TYPE}
    for name, value in extra.items():
        if not isinstance(name, str):
            raise CannotTakeOver(f"bigupload has nothing like {name!r}")
        if (found := _field(name)) is not None:
            field, written = found
            if value is None or (written is _as_given and value == ""):  # which leave a field of bigupload's out
                raise CannotTakeOver(f"bigupload sends no empty {name}")
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
    """The settings of a `TransferConfig` that its maker gave a value."""

    threshold: int | None = None
    """From how many bytes on parts are sent."""
    chunk: int | None = None
    """Bytes of a part."""
    concurrency: int | None = None
    rate: float | None = None
    """Bytes a second."""

    @classmethod
    def of(cls, config: Any) -> TransferSettings:
        """Read a `TransferConfig`; None: it sets nothing."""
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

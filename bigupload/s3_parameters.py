"""The parameters of S3 for an object, its key, each request and its address, declared once. Pure.

Each row belongs to the field of `S3Options` that has its name. From the rows come the headers that are sent and signed,
the command line's options, what is refused, and what a manifest keeps of an upload.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import functools
import hashlib
import re
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.units import counted

MOST_KEY_BYTES = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
RENAME = "rename it, or name its object, as s3://bucket/key"
"""Advice for a file whose name can't be a key."""
_KEY_NOT_UTF8 = "its name is not UTF-8, as a key must be"
_REFUSED_IN_KEYS = "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
Acl: TypeAlias = Literal[
    "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
    "bucket-owner-full-control",
]  # fmt: skip
LockMode: TypeAlias = Literal["GOVERNANCE", "COMPLIANCE"]
KEY_BYTES = 32
"""The length of a key for SSE-C, which is AES-256."""
TOKEN = "bigupload-token"  # noqa: S105 - the name of a metadata key
"""The metadata by which an upload knows its own object."""
METADATA = "x-amz-meta-"
"""The beginning of the headers of user-defined metadata."""
CUSTOMER_KEY = "x-amz-server-side-encryption-customer"
"""The beginning of the headers of a customer key (SSE-C)."""
_HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
"""A token of RFC 9110, section 5.6.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One row: a field of `S3Options`, and what is sent for it."""

    send: Callable[[Any], Mapping[str, Any]]
    """Returns the headers for a value, by names in lower case. For `ADDRESS`: settings of botocore's endpoint rules."""
    help: str
    """The meaning: in the help of the command line, and in docs/settings.md."""
    metavar: str | None = None
    """The value as the help writes it. None: a flag, or one of `choices`."""
    choices: tuple[str, ...] = ()
    """All values there are."""
    option: str | None = None
    """The option's name on the command line; None: the field's, with dashes."""
    check: Callable[[Any], Any] | None = None
    """Returns the value in the form that the field keeps. Raises ValueError, whose text follows the field's name."""
    named_by: tuple[str, ...] = ()
    """S3's codes and actions by which a refusal names it, beside the names of its headers."""


def metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of user-defined metadata."""
    return {f"{METADATA}{name.lower()}": value for name, value in metadata.items()}


def _as(header: str) -> Callable[[Any], Mapping[str, Any]]:
    return lambda value: {header: value}


def _expires(value: str) -> Mapping[str, Any]:
    import email.utils  # few uploads need it

    return {"expires": email.utils.format_datetime(dt.datetime.fromisoformat(value), usegmt=True)}


def _header(value: str) -> str:
    if not value.isascii():
        raise ValueError("is sent as an HTTP header, which is ASCII: leave other characters out")
    return value


def _metadata(value: Mapping[str, str]) -> Mapping[str, str]:
    names = {name.lower() for name in value}
    if any(re.fullmatch(_HEADER_NAME, name) is None for name in value):
        raise ValueError("has names that HTTP headers can't have: use ASCII letters, digits and dashes")
    if len(names) < len(value):
        raise ValueError("has two names that differ only in case, which S3 treats as one: leave one out")
    if TOKEN in names:
        raise ValueError(f"may have any name but {TOKEN}, which bigupload sets: choose another")
    if not all(text.isascii() for text in value.values()):
        raise ValueError("is sent as HTTP headers, which are ASCII: write other characters as %C3%A9, or as a tag")
    return value


def _disposition(value: str) -> str:
    if not value.isascii():  # RFC 6266
        raise ValueError("is ASCII: write a name with other characters like attachment; filename*=UTF-8''caf%C3%A9.mov")
    return value


def _location(value: str) -> str:
    if not value.startswith(("/", "http://", "https://")):
        raise ValueError("is a key of the same bucket with a slash before it, or a URL of http or https")
    return _header(value)


def _account(value: str) -> str:
    if re.fullmatch(r"[0-9]{12}", value) is None:
        raise ValueError("is the 12 digits of an AWS account")
    return value


def _moment(value: dt.datetime | str) -> str:
    """Write a moment in UTC, as in 2027-01-31T00:00:00Z."""
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.tzinfo is not None:
            return moment.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    except (ValueError, OverflowError):
        pass
    raise ValueError("is a time with its time zone: write it like 2027-01-31T00:00:00Z")


def _customer_key(value: bytes | str) -> bytes:
    """Return the key's bytes. The error never repeats the value."""
    if isinstance(value, bytes) and len(value) == KEY_BYTES:
        return value
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("is a key of 32 bytes, or those in base64 (44 characters)")
    return key


def _send_customer_key(key: bytes) -> Mapping[str, Any]:
    return {
        f"{CUSTOMER_KEY}-algorithm": "AES256",
        f"{CUSTOMER_KEY}-key": base64.b64encode(key).decode(),
        f"{CUSTOMER_KEY}-key-md5": base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode(),
    }


def tag_headers(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the header that gives an object its tags; none without tags."""
    return (
        {}
        if not tags
        else {
            "x-amz-tagging": "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in tags.items())
        }
    )


_ACL = ("AccessControlListNotSupported", "s3:PutObjectAcl")
_KMS = (
    "KMS.DisabledException", "KMS.InvalidKeyUsageException", "KMS.KMSInvalidStateException", "KMS.NotFoundException",
    "kms:Decrypt", "kms:GenerateDataKey",
)  # fmt: skip
_LOCK = ("ObjectLockConfigurationNotFoundError",)
_text = functools.partial(Parameter, metavar="TEXT", check=_header)
_grant = functools.partial(Parameter, metavar="GRANTEES", check=_header, named_by=_ACL)

OBJECT: Mapping[str, Parameter] = {
    "content_type": _text(
        send=_as("content-type"), metavar="TYPE", help="The object's Content-Type. [default: by the file's name]"
    ),
    "cache_control": _text(send=_as("cache-control"), help="The object's Cache-Control, as in max-age=3600."),
    "content_disposition": _text(
        send=_as("content-disposition"),
        check=_disposition,
        help="The object's Content-Disposition, in ASCII: write other characters of a name like "
        "attachment; filename*=UTF-8''caf%C3%A9.mov.",
    ),
    "content_encoding": _text(
        send=_as("content-encoding"), help="The object's Content-Encoding, as in gzip. The bytes are sent as they are."
    ),
    "content_language": _text(send=_as("content-language"), help="The object's Content-Language, as in de-CH."),
    "expires": Parameter(
        send=_expires, metavar="TIME", check=_moment, help="When caches drop it, as in 2027-01-31T00:00:00Z."
    ),
    "metadata": Parameter(
        send=metadata_headers,
        metavar="KEY=VALUE",
        check=_metadata,
        named_by=("MetadataTooLarge",),
        help="Metadata of the object (x-amz-meta-KEY). Repeatable.",
    ),
    "tags": Parameter(
        send=tag_headers,
        metavar="KEY=VALUE",
        option="tag",
        named_by=("InvalidTag", "s3:PutObjectTagging"),
        help="A tag of the object. Repeatable.",
    ),
    "storage_class": _text(
        send=_as("x-amz-storage-class"),
        metavar="CLASS",
        named_by=("InvalidStorageClass",),
        help="The object's storage class, as in STANDARD_IA.",
    ),
    "website_redirect": _text(
        send=_as("x-amz-website-redirect-location"),
        metavar="PLACE",
        check=_location,
        help="Where a website that S3 serves redirects from this object: /KEY or a URL.",
    ),
    "acl": Parameter(
        send=_as("x-amz-acl"),
        choices=typing.get_args(Acl),
        named_by=_ACL,
        help="The object's canned ACL. Excludes grants.",
    ),
    "grant_full_control": _grant(
        send=_as("x-amz-grant-full-control"),
        help='Who may do everything with the object, as in id="ID"; several are separated by commas.',
    ),
    "grant_read": _grant(send=_as("x-amz-grant-read"), help="Who may read the object and its metadata."),
    "grant_read_acp": _grant(send=_as("x-amz-grant-read-acp"), help="Who may read the object's ACL."),
    "grant_write_acp": _grant(send=_as("x-amz-grant-write-acp"), help="Who may write the object's ACL."),
    "sse": _text(
        send=_as("x-amz-server-side-encryption"),
        choices=("AES256", "aws:kms"),
        named_by=("InvalidEncryptionAlgorithmError", *_KMS),
        help="Have the store encrypt the object, with its own keys (SSE-S3) or with one of KMS.",
    ),
    "sse_kms_key_id": _text(
        send=lambda key: {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": key,
        },
        metavar="ID",
        named_by=_KMS,
        help="The KMS key for `sse='aws:kms'`.",
    ),
    "object_lock_mode": Parameter(
        send=_as("x-amz-object-lock-mode"),
        choices=typing.get_args(LockMode),
        named_by=(*_LOCK, "s3:PutObjectRetention"),
        help="How the object is locked until `object_lock_retain_until`. Needs a bucket with Object Lock.",
    ),
    "object_lock_retain_until": Parameter(
        send=_as("x-amz-object-lock-retain-until-date"),
        metavar="TIME",
        check=_moment,
        named_by=(*_LOCK, "InvalidRetentionPeriod", "s3:PutObjectRetention"),
        help="Nobody may delete this version before, as in 2027-01-31T00:00:00Z.",
    ),
    "object_lock_legal_hold": Parameter(
        send=lambda on: {"x-amz-object-lock-legal-hold": "ON"} if on else {},
        named_by=(*_LOCK, "s3:PutObjectLegalHold"),
        help="Nobody may delete this version until the hold is taken off.",
    ),
}
"""The properties of the object, which create declares. An upload keeps those that it began with."""

REQUEST: Mapping[str, Parameter] = {
    "expected_bucket_owner": Parameter(
        send=_as("x-amz-expected-bucket-owner"),
        metavar="ACCOUNT",
        check=_account,
        help="Fail unless the bucket belongs to this AWS account (12 digits).",
    ),
    "request_payer": Parameter(
        send=lambda on: {"x-amz-request-payer": "requester"} if on else {},
        help="Pay for the requests to a bucket whose owner does not (requester pays).",
    ),
    "sse_customer_key": Parameter(
        send=_send_customer_key,
        metavar="FILE",
        check=_customer_key,
        help="The file of the key with which the store encrypts the object (SSE-C). An upload sets it; resume, verify, "
        "abort and gc need the same one, to read the object or list its parts. A link can't have one.",
    ),
}
"""The parameters of every request that takes them: `stores/s3/operations` says which do."""

ADDRESS: Mapping[str, Parameter] = {
    "accelerate": Parameter(
        send=lambda on: {"s3": {"use_accelerate_endpoint": on}},
        help="Use S3 Transfer Acceleration, which the bucket must have. Excludes `fips` and path addressing.",
    ),
    "dual_stack": Parameter(
        send=lambda on: {"use_dualstack_endpoint": on}, help="Use AWS's addresses that have IPv6, too."
    ),
    "fips": Parameter(send=lambda on: {"use_fips_endpoint": on}, help="Use AWS's addresses that comply with FIPS 140."),
}
"""The parameters that choose among AWS's own addresses."""

PARAMETERS: Mapping[str, Parameter] = {**OBJECT, **REQUEST, **ADDRESS}

_GRANTS = tuple(name for name in OBJECT if name.startswith("grant_"))

_Contradiction = tuple[Callable[[Any], Any], str]
_CONTRADICTIONS: tuple[_Contradiction, ...] = (
    (lambda o: o.sse_kms_key_id and o.sse not in (None, "aws:kms"), "a KMS key goes with aws:kms encryption"),
    (
        lambda o: o.acl and any(getattr(o, name) for name in _GRANTS),
        "S3 takes an `acl` or grants, not both: leave one out",
    ),
    (
        lambda o: bool(o.object_lock_mode) != bool(o.object_lock_retain_until),
        "a lock needs both `object_lock_mode` and `object_lock_retain_until`",
    ),
    (
        lambda o: o.sse_customer_key and (o.sse or o.sse_kms_key_id),
        "an object is encrypted in one way: leave out `sse_customer_key`, or `sse` and `sse_kms_key_id`",
    ),
    (
        lambda o: o.sse_customer_key and (o.local or (o.endpoint_url or "").lower().startswith("http:")),
        "`sse_customer_key` would be sent unencrypted over http: use an https endpoint",
    ),
    (
        lambda o: o.request_payer and o.no_sign_request,
        "`request_payer` needs credentials of the one who pays: leave out `no_sign_request`",
    ),
    (lambda o: o.accelerate and o.addressing == "path", "`accelerate` needs the bucket in the host name, not the path"),
    (lambda o: o.accelerate and o.fips, "AWS has no address for `accelerate` with `fips`: leave one out"),
)


def normalized(name: str, value: Any) -> Any:
    """Return a field's value in the form that the field keeps.

    Raises:
        UsageError: S3 takes no such value. The text does not repeat it: it may be a secret.
    """
    check = PARAMETERS[name].check
    if check is None or value is None:
        return value
    try:
        return check(value)
    except ValueError as e:
        raise UsageError(f"`{name}` {e}") from None


def refuse_contradictions(options: Any) -> None:
    """Raise UsageError if fields of `S3Options` exclude one another."""
    for contradicts, message in _CONTRADICTIONS:
        if contradicts(options):
            raise UsageError(message)
    addressed = [name for name in ADDRESS if getattr(options, name)]
    if addressed and (options.endpoint_url is not None or options.local):
        raise UsageError(
            f"`{addressed[0]}` chooses one of AWS's own addresses, and an endpoint is set: leave one of them out"
        )


def parameters(table: Mapping[str, Parameter], options: Any) -> dict[str, Any]:
    """Return the headers or settings for the fields of `options` (an `S3Options`) that a table has and that are set."""
    sent: dict[str, Any] = {}
    for name, row in table.items():
        if value := getattr(options, name):
            sent.update(row.send(value))
    return sent


def named_options(named: Collection[str], options: Any) -> tuple[str, ...]:
    """Return the fields of an `S3Options` that are set and that a refusal names.

    Args:
        named: The headers, codes and actions that it names, in lower case.
        options: The options.
    """
    return tuple(
        name
        for table in (OBJECT, REQUEST)
        for name, row in table.items()
        if (value := getattr(options, name))
        and any(each.lower() in named for each in (*row.send(value), *row.named_by))
    )


def check_lock(options: Any, *, now: dt.datetime, checksums: bool) -> None:
    """Check the Object Lock of a new object, as S3 does.

    Args:
        options: An `S3Options`.
        now: The time.
        checksums: Whether parts are sent with a checksum or an MD5.

    Raises:
        UsageError: The retention has already ended, or parts would have no checksum.
    """
    until = options.object_lock_retain_until
    if until and dt.datetime.fromisoformat(until) <= now:
        raise UsageError(f"`object_lock_retain_until` is in the past: {until}")
    if not checksums and (until or options.object_lock_legal_hold):
        raise UsageError("a locked object needs checksums: use another `checksum` than none")


def refused_character(key: str) -> str | None:
    """Return the first character of a key that XML 1.0 can't hold, as Python writes it; None: no such character.

    S3 names keys in XML, also in its response to a create, where it can't be asked to encode them. XML holds tabs,
    newlines and carriage returns as character references. https://www.w3.org/TR/xml/#charsets
    """
    found = None if key.isprintable() else re.search(_REFUSED_IN_KEYS, key)
    return None if found is None else repr(found[0])


def dot_segment(key: str) -> str | None:
    """Return the first segment of a key, or of a URL's path, that is "." or ".."; None: no segment is.

    Keys are sent as they are. AWS takes such segments, as long as ".." does not lead above the bucket
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html); other stores take none. Proxies may
    resolve them, and browsers do: https://url.spec.whatwg.org/#double-dot-path-segment
    """
    return next((segment for segment in key.split("/") if segment in (".", "..")), None) if "." in key else None


def why_no_key(name: str) -> str | None:
    """Say why a file's name can't be a key, or a part of one, whatever its length; None: it can."""
    if name.isascii() and name.isprintable():  # as nearly all are; the rest takes ten times as long
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return _KEY_NOT_UTF8
    character = refused_character(name)
    return None if character is None else f"its name has the character {character}, which a key can't have"


def why_too_long(key: str, most_bytes: int = MOST_KEY_BYTES) -> str | None:
    """Say by how much a key is too long; None: it is not. `most_bytes`: what is left of a key's bytes in UTF-8."""
    if 4 * len(key) <= most_bytes:  # no character has more bytes
        return None
    more = len(key.encode(errors="surrogateescape")) - most_bytes
    return None if more <= 0 else f"its key would be {counted(more, 'byte')} longer than the 1,024 bytes that S3 allows"

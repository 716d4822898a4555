"""The options for a bucket's address, its credentials and the object. Pure: nothing is asked for here.

A manifest records everything that another process needs to resume, and no secret.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from datetime import datetime
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from bigupload.errors import ManifestMismatch, UsageError
from bigupload.records import dataclass
from bigupload.s3_parameters import OBJECT, PARAMETERS, Acl, LockMode, normalized, refuse_contradictions

if TYPE_CHECKING:
    from boto3.session import Session
else:
    Session = Any  # importing boto3 takes a second

_CUSTOMER_KEY = "sse_customer_key"
_SECRETS = ("access_key", "secret_key", "session_token", "session", "credentials", _CUSTOMER_KEY)
_NEEDS_CUSTOMER_KEY = "needs_sse_customer_key"
"""In a manifest: that the upload has a customer key, which is not recorded."""
_OF_THE_OBJECT = (*OBJECT, "if_none_match")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key of S3, which may be temporary: what a program's own source of credentials returns.

    Its text shows no secret.

    Raises:
        UsageError: A value is of the wrong type, or the time has no time zone.
    """

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """The session token of temporary credentials."""
    expires_at: datetime | None = None
    """The time at which they expire, with time zone. None: never, or nobody knows when."""

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key", "session_token"):
            value: Any = getattr(self, name)
            if not (isinstance(value, str) and value) and (name != "session_token" or value is not None):
                raise UsageError(f"{name} must be a text that is not empty")
        ends: Any = self.expires_at
        if ends is not None and (not isinstance(ends, datetime) or ends.utcoffset() is None):
            raise UsageError("expires_at must be a datetime with time zone, as datetime.now(UTC) gives it")


CredentialsSource: TypeAlias = Callable[[], Credentials | Awaitable[Credentials]]
"""A function, async or not, that returns credentials which are valid now."""


def identity_of(source: CredentialsSource | None) -> tuple[int, ...]:
    """Return the identity that equal functions share, for as long as one of them is kept.

    Python makes another object for a method at each access: `vault.issue is not vault.issue`.
    """
    if isinstance(source, MethodType):
        return id(source.__self__), id(source.__func__)
    return (id(source),)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """The connection to a store, and the properties of the object.

    Whatever is left out comes from where every AWS tool finds it: environment, configuration files, SSO, roles.

    Raises:
        UsageError: A value is of the wrong type, holds control characters, or contradicts another one.
    """

    endpoint_url: str | None = None
    """Any S3 store, as in "https://minio.example:9000". None: the one that the AWS environment or configuration names,
    else AWS. The manifest records which it was."""
    region: str | None = None
    """The bucket's region. None: that of the AWS configuration, else the region that the store names."""
    profile: str | None = None
    """A profile of the AWS configuration files."""
    local: bool = False
    """Use the local store, which is started if it does not run. It has its own endpoint and keys."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """The place of the bucket's name: the path or the host name. `auto`: the host name for AWS, else the path."""
    ca_bundle: Path | None = None
    """Trust these certificates, and not those of the system."""
    no_verify_ssl: bool = False
    """Do not check the store's certificate: whoever is on the way can read and change everything."""
    no_sign_request: bool = False
    """Send requests without a signature, to a store that wants none. No credentials are needed then."""
    access_key: str | None = field(default=None, repr=False)
    """The access key, with `secret_key`, instead of the AWS chain. Never written to a manifest."""
    secret_key: str | None = field(default=None, repr=False)
    """Never written to a manifest."""
    session_token: str | None = field(default=None, repr=False)
    """The session token of temporary credentials. Never written to a manifest."""
    session: Session | None = field(default=None, repr=False)
    """A `boto3.Session`, whose credentials (assumed roles and custom providers included), region and endpoint are used.
    Never written to a manifest: pass it again to resume. No other thread may use it while an upload begins."""
    credentials: CredentialsSource | None = field(default=None, repr=False)
    """A function, async or not, that returns `Credentials`. It is called when they are first needed, again before they
    expire, and again when the store refuses them; never twice at a time. Never written to a manifest: pass it again to
    resume."""
    content_type: str | None = None
    """None: guessed from the file's name."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata of the object: `x-amz-meta-…`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the object."""
    storage_class: str | None = None
    """For example STANDARD_IA or GLACIER_IR."""
    sse: str | None = None
    """Server-side encryption: `AES256` (SSE-S3) or `aws:kms`."""
    sse_kms_key_id: str | None = None
    """The KMS key for `aws:kms`."""
    sse_customer_key: bytes | str | None = field(default=None, repr=False)
    """A key of your own (SSE-C): 32 bytes, or those in base64. Only over https. Never written to a manifest: pass it
    again to resume, and to verify the object."""
    cache_control: str | None = None
    """The object's Cache-Control header."""
    content_disposition: str | None = None
    """The object's Content-Disposition header."""
    content_encoding: str | None = None
    """The object's Content-Encoding header. The bytes are sent as they are."""
    content_language: str | None = None
    """The object's Content-Language header."""
    expires: datetime | str | None = None
    """The time at which caches drop the object: with time zone, or as ISO 8601 with it. Kept as text in UTC."""
    website_redirect: str | None = None
    """The target of a website's redirect from this object: "/KEY" of the same bucket, or a URL."""
    acl: Acl | None = None
    """The object's canned ACL. Excludes grants."""
    grant_full_control: str | None = None
    """The grantees who have all rights to it: `id="…"`, `emailAddress="…"` or `uri="…"`, separated by commas."""
    grant_read: str | None = None
    """The grantees who may read the object and its metadata."""
    grant_read_acp: str | None = None
    """The grantees who may read the object's ACL."""
    grant_write_acp: str | None = None
    """The grantees who may write the object's ACL."""
    object_lock_mode: LockMode | None = None
    """The mode of the lock until `object_lock_retain_until`."""
    object_lock_retain_until: datetime | str | None = None
    """Until when nobody may delete this version: with time zone, or as ISO 8601 with it. Kept as text in UTC."""
    object_lock_legal_hold: bool = False
    """Whether nobody may delete this version until the hold is taken off."""
    if_none_match: bool = False
    """Refuse to replace an object: checked before the upload, and again by the store at complete."""
    expected_bucket_owner: str | None = None
    """The AWS account, 12 digits, that must own the bucket: else every request fails with 403."""
    request_payer: bool = False
    """Whether you pay for the requests to a bucket whose owner does not (requester pays)."""
    accelerate: bool = False
    """Use S3 Transfer Acceleration, which the bucket must have."""
    dual_stack: bool = False
    """Use AWS's addresses that have IPv6, too."""
    fips: bool = False
    """Use AWS's addresses that comply with FIPS 140."""

    def __post_init__(self) -> None:
        for name, default in _defaults().items():
            if (value := getattr(self, name)) is default:
                continue
            _check(name, value, _hint(name))
            if name in PARAMETERS:
                object.__setattr__(self, name, normalized(name, value))  # frozen for all others
        if self.ca_bundle is not None:
            object.__setattr__(self, "ca_bundle", _path(self.ca_bundle))
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)
        if self.no_verify_ssl and self.ca_bundle is not None:
            raise UsageError("`no_verify_ssl` checks no certificate, so that `ca_bundle` means nothing: leave one out")
        refuse_contradictions(self)
        for one in ("session", "credentials"):
            others = ("profile", "access_key", "secret_key", "session_token", "no_sign_request", "local", "credentials")
            given = [name for name in others if name != one and getattr(self, name)]
            if getattr(self, one) is not None and given:
                raise UsageError(f"{one} already names the credentials: leave {', '.join(given)} out")
        self._check_keys()

    def _check_keys(self) -> None:
        if (self.access_key is None) != (self.secret_key is None):
            raise UsageError("access_key and secret_key go together: give both, or neither")
        if self.session_token is not None and self.access_key is None:
            raise UsageError("session_token goes with access_key and secret_key: give all three")
        if "" in (self.access_key, self.secret_key):
            raise UsageError("access_key and secret_key must not be empty")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name; the error names the value that can't be pickled."""
        import pickle

        for name in ("session", "credentials"):
            try:
                pickle.dumps(getattr(self, name))
            except Exception:
                raise pickle.PicklingError(
                    f"S3Options can't be pickled because of its {name}: make the options in the process that uses them"
                ) from None
        return _unpickle, ({f.name: getattr(self, f.name) for f in dataclasses.fields(self)},)

    def to_json(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, without secrets."""
        found: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value and value != f.default and f.name not in _SECRETS:
                found[f.name] = dict(value) if isinstance(value, Mapping) else value
        if self.ca_bundle is not None:
            found["ca_bundle"] = str(self.ca_bundle)
        if self.sse_customer_key is not None:
            found[_NEEDS_CUSTOMER_KEY] = True
        return found

    @classmethod
    def from_json(cls, options: Mapping[str, Any], secrets: S3Options | None = None) -> S3Options:
        """Return the options that a manifest recorded, with the credentials of others.

        Args:
            options: What `to_json` returned. Unknown names are ignored.
            secrets: Its credentials are used, and nothing else of it.

        Raises:
            ManifestMismatch: A value is of the wrong type.
            UsageError: Values contradict one another.
        """
        given: dict[str, Any] = {}
        for f in dataclasses.fields(cls):
            if f.name == "profile" and secrets is not None and (secrets.session or secrets.credentials) is not None:
                continue  # those say which credentials to use
            if f.name == _CUSTOMER_KEY and not recorded_with_customer_key(options):
                continue  # a key for other uploads
            if f.name in _SECRETS:
                given[f.name] = getattr(secrets, f.name, None)
            elif f.name in options:
                value = options[f.name]
                if not _fits(value, _hint(f.name)):
                    raise ManifestMismatch(f"the manifest's option {f.name} is of the wrong type")
                given[f.name] = Path(value) if f.name == "ca_bundle" and value is not None else value
        return cls(**given)

    def with_object_of(self, recorded: Mapping[str, Any]) -> tuple[S3Options, list[str]]:
        """Return these options with the object's properties as an upload began with them, and the names that differ.

        Raises:
            UsageError: The upload has a customer key, and these options have none; or the other way round.
        """
        require_customer_key(recorded, self)
        if self.sse_customer_key is not None and not recorded_with_customer_key(recorded):
            raise UsageError(
                "this upload began without `sse_customer_key`: leave that out, or start a new upload by `resume=False`"
            )
        began = S3Options.from_json(recorded)
        differing = [name for name in _OF_THE_OBJECT if getattr(began, name) != getattr(self, name)]
        kept = dataclasses.replace(self, **{name: getattr(began, name) for name in differing})
        return kept, differing

    def completed_by(self, environment: Mapping[str, str]) -> S3Options:
        """Return these options with the endpoint and profile that AWS's environment variables name.

        The manifest then records which store it was.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        endpoint, profile = self.endpoint_url, self.profile
        if endpoint is None and environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
            endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
        if profile is None and self.access_key is None and self.session is None and self.credentials is None:
            profile = environment.get("AWS_PROFILE") or None
        if (endpoint, profile) == (self.endpoint_url, self.profile):
            return self  # another one would be checked again, which takes half a millisecond
        return dataclasses.replace(self, endpoint_url=endpoint, profile=profile)


def _unpickle(fields: dict[str, Any]) -> S3Options:
    return S3Options(**fields)


def recorded_with_customer_key(recorded: Mapping[str, Any]) -> bool:
    """Whether the upload of a manifest's options has a customer key (SSE-C)."""
    return recorded.get(_NEEDS_CUSTOMER_KEY) is True


def require_customer_key(recorded: Mapping[str, Any], options: S3Options | None) -> None:
    """Raise UsageError if an upload can't be resumed because its customer key is missing. No manifest has the key."""
    if recorded_with_customer_key(recorded) and (options is None or options.sse_customer_key is None):
        raise UsageError(
            "this upload is encrypted with a key of your own (SSE-C), which no manifest records: "
            "give it again as `sse_customer_key`"
        )


@functools.cache
def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(S3Options)}


@functools.cache
def _hint(name: str) -> Any:
    """The type of one field: those of all would take longer than a call that sets a few needs for the rest."""
    declared = types.SimpleNamespace(__annotations__={name: S3Options.__annotations__[name]})
    return typing.get_type_hints(declared, globals())[name]


def _check(name: str, value: Any, hint: Any) -> None:
    """Raises UsageError, which does not repeat the value: it may be a secret."""
    if name == "session":
        if value is not None and not all(hasattr(value, each) for each in ("client", "profile_name", "region_name")):
            raise UsageError(f"session must be a boto3.Session, not {type(value).__module__}.{type(value).__name__}")
        return
    if name == "ca_bundle":
        return
    if name == "credentials":
        if value is not None and not callable(value):
            raise UsageError("credentials must be a function that returns bigupload.Credentials")
        return
    if not _fits(value, hint):
        raise UsageError(f"`{name}` must be {_shown(hint)}")
    texts = [value] if isinstance(value, str) else [*value, *value.values()] if isinstance(value, Mapping) else []
    if any((character < " " and character != "\t") or character == "\x7f" for text in texts for character in text):
        raise UsageError(f"`{name}` holds a control character, such as a line break: leave it out")


def _path(ca_bundle: Any) -> Path:
    """Raises UsageError unless it is a path."""
    try:
        return Path(ca_bundle)
    except TypeError:
        raise UsageError(f"ca_bundle must be a path, not {type(ca_bundle).__name__}") from None


def _shown(hint: Any) -> str:
    choices = [hint] if not _is_union(hint) else [each for each in typing.get_args(hint) if each is not types.NoneType]
    return " or ".join(_SHOWN.get(each) or _shown_generic(each) for each in choices)


def _shown_generic(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(typing.get_args(hint))
    return "a mapping of texts to texts" if typing.get_origin(hint) is Mapping else "a text"


_SHOWN = {bool: "True or False", bytes: "bytes", datetime: "a time"}


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union  # the latter with a Literal


def _check_endpoint(endpoint_url: str) -> None:
    """Raises UsageError, which does not repeat a URL that may hold a password."""
    try:
        url = urlsplit(endpoint_url)
        host = url.hostname or ""
        if not host.isascii():
            host = host.encode("idna").decode()
        is_name = all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))
        sound = url.scheme in ("http", "https") and is_name and url.port != 0
    except ValueError:
        sound = False
    if not sound:
        shown = "" if set("@?#") & set(endpoint_url) else f": {endpoint_url!r}"
        raise UsageError(f"not an endpoint{shown} (write it like https://s3.example.com:9000)")
    if url.username is not None or url.password is not None:
        raise UsageError("an endpoint holds no credentials: give them as AWS_ACCESS_KEY_ID and the like")
    if "?" in endpoint_url or "#" in endpoint_url:
        raise UsageError("an endpoint has neither a query nor a fragment: write it like https://s3.example.com:9000")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value can be a field of this type; a path is a text in JSON."""
    if _is_union(hint):
        return any(_fits(value, choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_origin(hint) is not None:  # Mapping[str, str]
        return isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair)
    return isinstance(value, str) if hint is Path else isinstance(value, hint)

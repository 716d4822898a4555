"""The access to a bucket: its address, its region, and the source of its credentials.

These are three questions. Each has plain rules for what most people configure, and boto3 for everything else: roles,
SSO, web identity, `credential_process`, a machine's own role, a caller's session; access points, accelerate, dual
stack, FIPS and other partitions. boto3 is asked once for a bucket, in a thread: it blocks, and is slow to import.
It sends nothing to the store and signs nothing. Whatever is not known to be harmless is left to it. What it raises is
translated here; of botocore's own texts only reasons and hosts are passed on: they can hold secrets. What a store
answers is `http/http_errors`'s.

`tests/stores/s3/test_access.py` compares the rules with boto3.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import is_valid_name, out_of_descriptors
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import ADDRESS, parameters
from bigupload.stores.s3.aws_files import chosen_profile, endpoint_in_files, nested, no_profile, read_settings
from bigupload.support.files import OUT_OF_DESCRIPTORS
from bigupload.units import one_line

R = TypeVar("R")
_OF_CREDENTIALS = frozenset({
    "role_arn", "source_profile", "credential_source", "role_session_name", "external_id", "mfa_serial",
    "duration_seconds", "web_identity_token_file", "credential_process", "sso_start_url", "sso_region",
    "sso_account_id", "sso_role_name", "sso_session", "sso_registration_scopes", "login_session",
    "sts_regional_endpoints", "metadata_service_timeout", "metadata_service_num_attempts",
    "ec2_metadata_service_endpoint", "ec2_metadata_service_endpoint_mode", "ec2_metadata_v1_disabled",
})  # fmt: skip
"""The settings of a profile that concern credentials alone, which boto3 finds then."""
_HARMLESS_SETTINGS = frozenset({
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "output", "ca_bundle",
    "endpoint_url", "services", "ignore_configured_endpoint_urls", "retry_mode", "max_attempts", "cli_pager",
    "cli_auto_prompt", "cli_history", "cli_timestamp_format", "parameter_validation", "request_checksum_calculation",
    "response_checksum_validation", "tcp_keepalive", "sigv4a_signing_region_set", "defaults_mode", "sdk_ua_app_id",
    "account_id_endpoint_mode",
})  # fmt: skip
"""The settings that are read here or by `aws_files`, or that change nothing."""
_HARMLESS_OF_S3 = frozenset({
    "max_concurrent_requests", "max_queue_size", "multipart_threshold", "multipart_chunksize", "max_bandwidth",
    "io_chunksize", "preferred_transfer_client", "target_bandwidth", "addressing_style", "signature_version",
    "payload_signing_enabled",
})  # fmt: skip
"""The ignored ones of the nested settings `s3`: they are for other tools, or `S3Options.addressing` counts."""
_OTHER_VARIABLES = (
    "DEFAULT_REGION", "PROFILE", "DEFAULT_PROFILE", "CONFIG_FILE", "SHARED_CREDENTIALS_FILE", "PAGER",
    "DEFAULT_OUTPUT", "ACCOUNT_ID", "ENDPOINT_URL_S3", "EXECUTION_ENV", "VAULT", "EC2_METADATA_DISABLED",
    "CREDENTIAL_EXPIRATION", "CONTAINER_CREDENTIALS_RELATIVE_URI", "CONTAINER_CREDENTIALS_FULL_URI",
    "CONTAINER_AUTHORIZATION_TOKEN", "CONTAINER_AUTHORIZATION_TOKEN_FILE", "ENDPOINT_URL_STS", "ENDPOINT_URL_SSO",
    "ENDPOINT_URL_SSO_OIDC", "LOGIN_CACHE_DIRECTORY",
)  # fmt: skip
_HARMLESS_VARIABLES = {
    f"AWS_{name.upper().removeprefix('AWS_')}" for name in (*_OF_CREDENTIALS, *_HARMLESS_SETTINGS, *_OTHER_VARIABLES)
}
"""The variables that are named like these settings, and others that are as harmless."""
_OTHERS_OF_KEYS = frozenset(("AWS_CREDENTIAL_EXPIRATION", "AWS_SECURITY_TOKEN"))
"""The end of the keys in the environment, and the old name of their token, which comes before the new one."""
_FIRST_PROVIDERS = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""The variables of a role: if both are set, it comes before the keys in files."""
_REGION = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")
"""https://docs.aws.amazon.com/general/latest/gr/rande.html, and what other stores call theirs."""
_AWS_REGION = r"(?:af|ap|ca|eu|il|me|mx|sa|us)-(?:central|north|south|east|west|northeast|southeast)-[1-9]"
"""A region of AWS's main partition."""
_SPECIAL_NAME = r"^arn:|--|-s3alias$"
"""The name of an access point, or of a directory bucket."""
_IP_ADDRESS = r"[0-9.]+|\[.*\]"
_ANY = "key"
DEFAULT_REGION = "us-east-1"
_ARN = (
    r"(?s)arn:(?P<partition>aws[a-z-]*):(?P<service>[a-z0-9-]*):(?P<region>[a-z0-9-]*):(?P<account>[0-9]*):"
    r"(?P<kind>[a-z]+)[/:](?P<name>[^/:]+)(?P<rest>.*)"
)
_POINT = r"[a-z0-9][a-z0-9-]{1,48}[a-z0-9]"
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html"""
_NO_OUTPOSTS = "S3 on Outposts is not supported: name a bucket or an access point in a region"
_SHAPE = "write an access point like s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/NAME/KEY"


@dataclass(frozen=True, slots=True)
class PlainKeys:
    """Keys that do not change."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)
    method: str
    """Their source, by botocore's names."""

    def get_frozen_credentials(self) -> PlainKeys:
        """Return the keys."""
        return self


@dataclass(frozen=True, slots=True)
class Access:
    """The access to a bucket."""

    base: str
    """The URL to which a slash and the quoted key are appended, for requests of this process."""
    signed_base: str
    """The same for presigned URLs."""
    region: str
    profile: str | None
    """The profile that was chosen."""
    credentials: Any = field(repr=False)
    """botocore's credentials, or `PlainKeys`. None: requests are not signed, or the caller's function gives keys."""


def find_access(bucket: str, options: S3Options, *, region: str | None, signing_endpoint: str | None) -> Access:
    """Find out how a bucket is reached. Blocking: this reads files, and may ask other programs and services for keys.

    Args:
        bucket: The bucket's name.
        options: How to reach it. Without an endpoint, it is at AWS.
        region: The bucket's region, if it is known already.
        signing_endpoint: The endpoint of presigned URLs, if it is another one.

    Raises:
        UsageError: The options, or the AWS configuration, can't be used.
        Exception: One of botocore's, for `errors.error_of_aws`.
    """
    finder = _Finder(bucket, options, region)
    base = finder.base(options.endpoint_url)
    signed = base if signing_endpoint is None else finder.base(signing_endpoint)
    return Access(base, signed, finder.region, chosen_profile(options), finder.credentials())


class _Finder:
    """The three questions for one bucket. boto3's session is made when the first of them needs it."""

    def __init__(self, bucket: str, options: S3Options, region: str | None) -> None:
        self._bucket = bucket
        self._options = options
        self._settings = read_settings(options) if options.session is None else None
        if region is None and self._settings is not None:
            region = os.environ.get("AWS_DEFAULT_REGION") or self._settings.scoped.get("region")
        elif region is None:
            region = self._session.region_name
        self.region: str = DEFAULT_REGION if region in (None, "", "aws-global") else region
        if _REGION.fullmatch(self.region) is None:
            raise errors.UsageError(f"not a region: {self.region!r} (write it like eu-central-1)")

    @functools.cached_property
    def _session(self) -> Any:
        return self._options.session or _new_session(self._options.profile, self._options.region)

    # -- the address

    def base(self, endpoint: str | None) -> str:
        """Return the bucket's URL at an endpoint; None means AWS."""
        found = _base(self._bucket, self._options, self.region, endpoint) if self.is_plain_address() else None
        return found or self._base_of_boto3(endpoint)

    def is_plain_address(self) -> bool:
        """Whether the address does not need boto3."""
        if any(getattr(self._options, name) for name in ADDRESS) or re.search(_SPECIAL_NAME, self._bucket):
            return False
        if self._settings is None or _has_unknown_variable():
            return False
        rest = self._settings.scoped.keys() - _HARMLESS_SETTINGS - _OF_CREDENTIALS
        if rest - {"s3"} or os.path.lexists(os.path.expanduser("~/.aws/models/s3")):  # noqa: PTH111 - not every user has a home
            return False
        return _HARMLESS_OF_S3.issuperset(nested(self._settings.scoped.get("s3", "")))

    def _base_of_boto3(self, endpoint: str | None) -> str:
        """Ask the endpoint rules, by presigning without keys."""
        from botocore import UNSIGNED
        from botocore.config import Config

        address: dict[str, Any] = parameters(ADDRESS, self._options)
        # "auto" would presign for the global host of AWS, which redirects requests for a new bucket for hours.
        style = "virtual" if self._options.addressing == "auto" and endpoint is None else self._options.addressing
        of_s3: Any = {"addressing_style": style, **address.pop("s3", {})}
        config = Config(  # type: ignore[call-arg]  # the stubs lack ignore_configured_endpoint_urls
            signature_version=UNSIGNED, s3=of_s3, ignore_configured_endpoint_urls=True, **address
        )
        client = self._session.client("s3", endpoint_url=endpoint, region_name=self.region, config=config)
        with contextlib.closing(client):
            url = client.generate_presigned_url("head_object", Params={"Bucket": self._bucket, "Key": _ANY})
        return str(url).partition("?")[0].removesuffix(f"/{_ANY}")

    # -- the credentials

    def credentials(self) -> Any:
        """Return the source of keys. Raises CredentialsError without one."""
        options = self._options
        if options.no_sign_request or options.credentials is not None:
            return None
        if options.session is None and (keys := self.plain_keys()) is not None:
            return keys
        found = self._session.get_credentials()
        if found is None:
            raise errors.CredentialsError(
                "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile` "
                "(or `no_sign_request=True`, for a store that wants none)"
            )
        found.get_frozen_credentials()  # some are fetched only now
        return found

    def plain_keys(self) -> PlainKeys | None:
        """The keys that boto3's chain of providers finds first. None: it finds none, or not all of them."""
        options, settings = self._options, self._settings
        if options.access_key is not None and options.secret_key is not None:
            return PlainKeys(options.access_key, options.secret_key, options.session_token, "explicit")
        if options.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            return None if _OTHERS_OF_KEYS & os.environ.keys() else _keys(map(os.environ.get, names), "env")
        if settings is None or all(map(os.environ.get, _FIRST_PROVIDERS)):
            return None
        if settings.scoped.keys() - _HARMLESS_SETTINGS - {"s3"} or _has_unknown_variable():
            return None
        in_config = "aws_access_key_id" not in settings.credentials
        section: Mapping[str, str] = settings.config if in_config else settings.credentials
        found = map(section.get, ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"))
        return _keys(found, "config-file" if in_config else "shared-credentials-file")


def _has_unknown_variable() -> bool:
    """Whether the environment has a variable of AWS that may change anything."""
    return any(name.startswith("AWS_") and name not in _HARMLESS_VARIABLES for name in os.environ)


def _keys(found: Any, method: str) -> PlainKeys | None:
    access, secret, token = found
    return PlainKeys(access, secret, token, method) if access and secret else None


def _base(bucket: str, options: S3Options, region: str, endpoint: str | None) -> str | None:
    """The bucket's URL by plain rules; None if only the endpoint rules of AWS know it."""
    if endpoint is None:
        plain = options.addressing == "auto" and "." not in bucket and is_valid_name(bucket)
        if not plain or not re.fullmatch(_AWS_REGION, region):
            return None
        of_region = "" if region == DEFAULT_REGION else f".{region}"  # AWS's address for this region has no name of one
        return f"https://{bucket}.s3{of_region}.amazonaws.com"
    parts = urlsplit(endpoint)
    host, place = parts.hostname or "", quote(parts.path.rstrip("/"), safe="/~%")
    if "amazonaws" in host:
        return None
    scheme, netloc = parts.scheme, parts.netloc
    can_be_host = is_valid_name(bucket) and not re.fullmatch(_IP_ADDRESS, host) and ":" not in host
    if options.addressing == "virtual" and can_be_host and not (scheme == "https" and "." in bucket):
        return f"{scheme}://{bucket}.{netloc}{place}"
    return f"{scheme}://{netloc}{place}/{quote(bucket, safe='~')}"


def address_ahead(bucket: str, options: S3Options) -> str | None:
    """Return a bucket's URL, to connect ahead; None if boto3 has to be asked for it. Blocking: this reads files.

    Raises:
        UsageError: The options, or the AWS configuration, can't be used.
    """
    options = options.completed_by(os.environ)
    finder = _Finder(bucket, options, options.region)
    if not finder.is_plain_address():
        return None
    endpoint = options.endpoint_url or endpoint_in_files(options)[1]
    return _base(bucket, options, finder.region, endpoint)


def configured_endpoint(options: S3Options) -> str | None:
    """Return the S3 endpoint that the AWS files name for the profile of `options`; None means AWS. Blocking.

    Raises:
        UsageError: There is no such profile, or it names a section that does not exist.
        Exception: One of botocore's, for `errors.error_of_aws`.
    """
    is_known, found = endpoint_in_files(options)
    if is_known:
        return found
    from botocore import UNSIGNED
    from botocore.config import Config

    session: Any = options.session or _new_session(options.profile, None)
    endpoints: list[str] = []
    for ignores in (False, True):
        config = Config(signature_version=UNSIGNED, ignore_configured_endpoint_urls=ignores)  # type: ignore[call-arg]  # as above
        client = session.client("s3", region_name=session.region_name or DEFAULT_REGION, config=config)
        endpoints.append(str(client.meta.endpoint_url))
        client.close()
    configured, own = endpoints
    return None if configured == own else configured


def _new_session(profile: str | None, region: str | None) -> Any:
    """Make a session. Blocking, and slow: this is the first to import boto3."""
    import boto3
    import botocore.session

    inner = botocore.session.get_session()
    inner.register_component("data_loader", _descriptions())
    return boto3.Session(botocore_session=inner, profile_name=profile, region_name=region)


@functools.cache
def _descriptions() -> Any:
    """botocore's descriptions of AWS. Each session would read its own: 70 ms of CPU, and megabytes."""
    from botocore.loaders import create_loader

    return create_loader()


# -- names of buckets, and of access points, which stand in place of one


def split_bucket(target: str) -> tuple[str, str]:
    """Split "BUCKET/KEY" into (bucket, key). The bucket may be an access point's ARN, which has a slash or a colon.

    Raises:
        UsageError: The ARN is not an access point's, or of a kind that takes no uploads from bigupload.
    """
    if not target.startswith("arn:"):
        bucket, _, key = target.partition("/")
        if bucket.endswith("--op-s3"):
            raise errors.UsageError(_NO_OUTPOSTS)
        return bucket, key
    found = re.fullmatch(_ARN, target)
    if found is None:
        raise errors.UsageError(f"not an access point: {target!r} ({_SHAPE})")
    if found["service"] == "s3-outposts":
        raise errors.UsageError(_NO_OUTPOSTS)
    if found["service"] == "s3-object-lambda":
        raise errors.UsageError("an Object Lambda access point takes no uploads: name the bucket, or its access point")
    if found["kind"] == "accesspoint" and (found["name"].endswith(".mrap") or not found["region"]):
        raise errors.UsageError(
            "Multi-Region Access Points are not supported, as they need another kind of signature (SigV4A): "
            "name one region's bucket or access point"
        )
    rest = found["rest"]
    sound = (found["service"], found["kind"]) == ("s3", "accesspoint") and len(found["account"]) == 12
    if not sound or re.fullmatch(_POINT, found["name"]) is None or rest[:1] not in ("", "/"):
        raise errors.UsageError(f"not an access point: {target!r} ({_SHAPE})")
    return target[: len(target) - len(rest)], rest[1:]


def region_of(bucket: str) -> str | None:
    """Return the region that an access point's ARN names; None for a bucket's name."""
    found = re.fullmatch(_ARN, bucket) if bucket.startswith("arn:") else None
    return None if found is None else found["region"]


def refuse_unsuited(bucket: str, options: S3Options) -> None:
    """Raise UsageError if a bucket's name does not go with the options. Consoles show endpoints that contain it."""
    region = region_of(bucket)
    if region is not None and options.local:
        raise errors.UsageError("the local store has no access points: name a bucket")
    if options.accelerate and (region is not None or "." in bucket):
        what = "an access point" if region is not None else "a bucket whose name has dots"
        raise errors.UsageError(f"accelerate can't be used with {what}: leave it out")
    if region is not None and options.region not in (None, region):
        asked = options.region
        raise errors.UsageError(f"the access point is in region {region}, not in {asked}: leave the region out")
    if urlsplit(options.endpoint_url or "").path.rstrip("/").endswith(f"/{bucket}"):
        raise errors.UsageError(
            f"the endpoint ends with the bucket's name, so that keys would begin with {bucket}/: write it without"
        )


def error_of_aws(e: Exception) -> Exception:
    """Translate an exception of boto3, botocore or the operating system.

    Returns:
        A Fault, if a retry may help; else a public error. An exception of another kind is returned as it is.
    """
    if isinstance(e, errors.BigUploadError | Fault):
        return e
    if out_of_descriptors(e):  # the import of botocore needs descriptors, too
        return Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS)
    import botocore.exceptions as b
    from botocore.parsers import ResponseParserError

    if isinstance(e, b.ProfileNotFound):
        return no_profile(one_line(str(e.kwargs.get("profile"))))
    if isinstance(e, b.ParamValidationError | b.InvalidRegionError | b.ConfigParseError | b.UnknownEndpointError):
        return errors.UsageError(one_line(str(e)))
    if isinstance(e, b.HTTPClientError | b.ConnectionError):
        return _not_now(FaultKind.UNREACHABLE, f"{_host(e)} does not respond ({type(e).__name__})")
    if isinstance(e, ResponseParserError):  # no BotoCoreError: the page of a proxy, in place of a service's response
        return _not_now(FaultKind.BROKEN, "their service's response can't be read, a proxy may have sent it")
    if isinstance(e, b.ClientError):
        error = e.response.get("Error", {})
        said = one_line(f"{error.get('Code', '')} ({error.get('Message', '')})")
        return errors.CredentialsError(f"the AWS credentials can't be used: {e.operation_name} was refused: {said}")
    if isinstance(e, b.NoCredentialsError | b.PartialCredentialsError):
        of_profile = e.kwargs.get("provider") not in (None, "env", "explicit")
        advice = "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile`"
        advice = "Add it to the profile in the AWS configuration" if of_profile else advice
        return errors.CredentialsError(f"incomplete AWS credentials: {one_line(str(e))}. {advice}")
    if isinstance(e, b.CredentialRetrievalError):
        source = str(e.kwargs.get("provider")).replace("custom-process", "the credential_process of the profile")
        said = one_line(str(e.kwargs.get("error_msg") or "").strip()) or "it gives no reason"
        return errors.CredentialsError(f"no AWS credentials: {one_line(source)} failed: {said}")
    if isinstance(e, b.BotoCoreError):
        return errors.CredentialsError(f"the AWS credentials can't be used: {one_line(str(e))}")
    if isinstance(e, EOFError):  # of `getpass`
        return errors.CredentialsError("the AWS profile asks for an MFA code, and there is no terminal to type it into")
    if isinstance(e, OSError):
        what = f" ({one_line(str(e.filename))})" if e.filename else ""
        return errors.UsageError(f"the AWS configuration can't be used: {e.strerror or type(e).__name__}{what}")
    if type(e) is RuntimeError:  # botocore's error for fetched credentials that have ended already
        return errors.CredentialsError("the AWS credentials have expired, also those that their source gave just now")
    if isinstance(e, ValueError | LookupError | TypeError | AttributeError | RuntimeError | ArithmeticError):
        # botocore raises these if another program or service sends something else than credentials.
        return errors.CredentialsError(
            "the AWS credentials can't be used: what their source gave can't be read "
            f"({type(e).__name__}): check the credential_process, or the service, that the profile names"
        )
    return e


def translated(question: Callable[[], R]) -> R:
    """Return the result of `question`, or raise its exception as `error_of_aws` translates it.

    botocore's text may hold a secret, so its exception is not the context of the other.
    """
    try:
        return question()
    except Exception as e:
        error = error_of_aws(e)
    raise error


def no_answer(seconds: float, profile: str | None) -> errors.CredentialsError:
    """Make the error for a source of credentials that hangs."""
    of = f"the profile {profile}" if profile else "the AWS configuration"
    return errors.CredentialsError(
        f"no AWS credentials within {seconds:.0f} s: check the credential_process, or the service, that {of} names"
    )


def _not_now(kind: FaultKind, why: str) -> Fault:
    return Fault(kind, f"the AWS credentials can't be fetched: {why}", error=errors.CredentialsError)


def _host(e: Any) -> str:
    """Return the "host:port" of a URL that one of botocore's exceptions keeps. The rest of the URL may be secret."""
    for name in ("endpoint_url", "proxy_url"):
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            url = urlsplit(e.kwargs[name])
            host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
            if host:
                return f"{host}{f':{url.port}' if url.port else ''}"
    return "their service"

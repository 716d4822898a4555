"""How a bucket is reached where nothing out of the ordinary is configured: known without botocore.

To import botocore and to make a client takes 70 ms of CPU, a third of a short command. Signing needs of it only the
address, the region and the keys. Where options, environment and configuration files are plain, those follow from a few
rules, which are here. Whatever is not known to be harmless is left to botocore: another kind of credentials or address,
a variable or a setting that is not in the lists below. `tests/stores/s3/test_plain_access.py` compares with botocore.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field

from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import ADDRESS
from bigupload.stores.s3.access_points import is_valid_name
from bigupload.stores.s3.aws_session import CONFIGURATION_FILES, configuration_file

_HARMLESS_VARIABLES = frozenset(
    f"AWS_{name}"
    for name in (
        "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "DEFAULT_REGION", "REGION", "PROFILE",
        "CONFIG_FILE", "SHARED_CREDENTIALS_FILE", "CA_BUNDLE", "EC2_METADATA_DISABLED", "PAGER", "DEFAULT_OUTPUT",
        "MAX_ATTEMPTS", "RETRY_MODE", "REQUEST_CHECKSUM_CALCULATION", "RESPONSE_CHECKSUM_VALIDATION",
        "ENDPOINT_URL", "ENDPOINT_URL_S3", "IGNORE_CONFIGURED_ENDPOINT_URLS", "EXECUTION_ENV",
    )
)  # fmt: skip
"""Those of AWS that are read here, or that change nothing: `targets.reach` has resolved the endpoint, and clients are
made with settings of their own in place of these."""
_HARMLESS_SETTINGS = frozenset(
    (
        "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "output", "ca_bundle",
        "endpoint_url", "ignore_configured_endpoint_urls", "retry_mode", "max_attempts", "cli_pager",
        "request_checksum_calculation", "response_checksum_validation",
    )
)  # fmt: skip
"""The same for the settings of a profile."""
_STORE = re.compile(r"(https?://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::(?!80$|443$|80/|443/)[1-9][0-9]{0,4})?)/?")
"""A store's own address. Default ports are not signed, and botocore knows when."""
_REGION = re.compile(r"(?!.*(?:fips|global))[a-z0-9-]{1,63}")
"""A region's name that botocore takes for nothing else."""
_AWS_REGION = re.compile(r"(?:af|ap|ca|eu|il|me|mx|sa|us)-(?:central|north|south|east|west|northeast|southeast)-[1-9]")
"""A region of AWS's main partition."""
_SPECIAL_NAME = re.compile(r"^arn:|--|-s3alias$")
"""Of an access point, or a directory bucket."""
_PROFILE = re.compile(r"[\w.@+-]+")


@dataclass(frozen=True, slots=True)
class PlainKeys:
    """Credentials that do not change. They have the attributes of botocore's."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)
    method: str
    """Where they come from, by botocore's names."""


@dataclass(frozen=True, slots=True)
class PlainAccess:
    """How a bucket is reached and with which keys."""

    base: str
    """The URL to which a slash and the quoted key are appended."""
    region: str
    keys: PlainKeys
    profile: str | None
    """The profile that was chosen."""
    signs = True

    def get_credentials(self) -> PlainKeys:
        """Return the keys."""
        return self.keys


def plain_access(bucket: str, options: S3Options, region: str | None) -> PlainAccess | None:
    """Return how a bucket is reached; None if only botocore knows. Blocking: this reads the configuration files.

    Args:
        bucket: The bucket's name.
        options: How to reach it. Without an endpoint, it is at AWS.
        region: The bucket's region, if it is known already.
    """
    special = (options.session, options.credentials, options.no_sign_request, *(getattr(options, a) for a in ADDRESS))
    if any(special) or _SPECIAL_NAME.search(bucket) or not is_valid_name(bucket):
        return None
    if any(name.startswith("AWS_") and name not in _HARMLESS_VARIABLES for name in os.environ):
        return None
    profile = options.profile or os.environ.get("AWS_PROFILE")
    settings = _settings(profile)
    keys = None if settings is None else _keys(options, settings)
    if settings is None or keys is None:
        return None
    region = region or os.environ.get("AWS_DEFAULT_REGION") or settings.scoped.get("region") or "us-east-1"
    base = _base(bucket, options, region)
    return None if base is None else PlainAccess(base, region, keys, profile)


def _base(bucket: str, options: S3Options, region: str) -> str | None:
    if options.endpoint_url is not None:
        found = _STORE.fullmatch(options.endpoint_url)
        if found is None or "amazonaws" in found[1] or options.addressing == "virtual" or not _REGION.fullmatch(region):
            return None
        return f"{found[1]}/{bucket}"
    if options.addressing != "auto" or "." in bucket or not _AWS_REGION.fullmatch(region):
        return None
    of_region = "" if region == "us-east-1" else f".{region}"  # botocore's address for this region has no name of one
    return f"https://{bucket}.s3{of_region}.amazonaws.com"


@dataclass(frozen=True, slots=True)
class _Settings:
    """A profile's settings in the two files."""

    config: Mapping[str, str]
    credentials: Mapping[str, str]

    @property
    def scoped(self) -> Mapping[str, str]:
        """What botocore takes for the profile's configuration."""
        return {**self.config, **self.credentials}


def _settings(profile: str | None) -> _Settings | None:
    """Read a profile's settings.

    Returns:
        None if botocore has to read them: they hold something that is not known here, or can't be read, or there is no
        such profile, which botocore says.
    """
    if profile is not None and _PROFILE.fullmatch(profile) is None:
        return None
    if os.path.lexists(os.path.expanduser("~/.aws/models")):  # noqa: PTH111 - as `configuration_file`; botocore reads it
        return None
    name = profile or "default"
    config, credentials = (_read(configuration_file(*each)) for each in CONFIGURATION_FILES)
    if config is None or credentials is None:
        return None
    of_config = [config[section] for section in config if _is_of(section, name)]
    found = _Settings(of_config[0] if of_config else {}, credentials.get(name, {}))
    if len(of_config) > 1 or (profile is not None and not found.scoped):
        return None
    return found if _HARMLESS_SETTINGS.issuperset(found.scoped) else None


def _is_of(section: str, profile: str) -> bool:
    """Whether a section of the configuration file is a profile's. botocore reads its name as a shell would."""
    if not section.startswith("profile"):
        return section == profile == "default"
    import shlex

    try:
        words = shlex.split(section)
    except ValueError:
        return False
    return len(words) == 2 and words[1] == profile


def _read(path: str) -> Mapping[str, Mapping[str, str]] | None:
    """The sections of a configuration file; None if botocore has to read it."""
    if not os.path.isfile(path):  # noqa: PTH113 - see `configuration_file`
        return {}
    import configparser

    parser = configparser.RawConfigParser()
    try:
        if not parser.read(path):
            return None
    except (configparser.Error, UnicodeDecodeError):
        return None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    nested = any(value.startswith("\n") for section in sections.values() for value in section.values())
    return None if nested else sections


def _keys(options: S3Options, settings: _Settings) -> PlainKeys | None:
    """The keys that botocore's chain finds first. None: there are none here, or not all of them."""
    found: tuple[str | None, ...]
    if options.access_key is not None:
        found, method = (options.access_key, options.secret_key, options.session_token), "explicit"
    elif options.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        found, method = tuple(map(os.environ.get, names)), "env"
    else:
        in_config = "aws_access_key_id" not in settings.credentials
        section, method = (
            (settings.config, "config-file") if in_config else (settings.credentials, "shared-credentials-file")
        )
        found = tuple(map(section.get, ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")))
    access, secret, token = found
    return PlainKeys(access, secret, token, method) if access and secret else None

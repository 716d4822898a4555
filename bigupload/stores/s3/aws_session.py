"""Where credentials, region and endpoint come from: the caller's boto3 session, or one of botocore's own.

Everything here blocks. botocore is slow to import, so it is imported on first need.
"""

from __future__ import annotations

import configparser
import contextlib
import datetime
import functools
import gzip
import json
import os
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigupload.options import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONFIGURATION_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
)
_CHOOSING = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
"""Variables that say what counts of the files."""


def configuration_file(variable: str, default: str) -> str:
    """Return the path of one of CONFIGURATION_FILES, as botocore would find it.

    Not by pathlib, which raises exceptions where nobody knows the home directory or may look into it.
    """
    return os.path.expanduser(os.path.expandvars(os.environ.get(variable, default)))  # noqa: PTH111 - see above


class AwsSession:
    """What the clients of one bucket are made from."""

    def __init__(self, options: S3Options, credentials: Any = None) -> None:
        """Take the caller's session, or make one from the profile, region and keys of `options` and the AWS chain.

        Args:
            options: How to reach the store.
            credentials: botocore's credentials to use instead.

        Raises:
            botocore.exceptions.ProfileNotFound: There is no such profile.
        """
        self._given: Any = options.session
        self._own: Any = _new_session(options) if self._given is None else None
        self.signs = not options.no_sign_request
        """Whether requests are signed."""
        self.profile: str | None = options.profile or os.environ.get("AWS_PROFILE")
        """The profile that was chosen."""
        if self._given is not None:
            self.profile = self._given.profile_name
        if credentials is not None:
            own: Any = self._own
            own.register_component("credential_provider", _Given(credentials))

    def get_credentials(self) -> Any:
        """Return botocore's credentials, which may refresh themselves; None if there are none."""
        return (self._own if self._given is None else self._given).get_credentials()

    @property
    def region(self) -> str | None:
        """The configured region."""
        region = self._own.get_config_variable("region") if self._given is None else self._given.region_name
        return typing.cast("str | None", region)

    def client(self, **arguments: Any) -> S3Client:
        """Make a client for S3 with the arguments of botocore's `create_client`."""
        make = self._own.create_client if self._given is None else self._given.client
        return typing.cast("S3Client", make("s3", **arguments))


class _Given:
    """In the place of botocore's chain of providers."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def configured_ca_bundle(options: S3Options) -> Path | None:
    """Return the certificates file that the environment or the AWS configuration names, as botocore would find it.

    This reads the configuration without botocore, because parts are sent without it, too.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html
    """
    if named := os.environ.get("AWS_CA_BUNDLE"):
        return Path(named).expanduser()
    profile = options.profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    if options.session is not None:
        profile = options.session.profile_name
    for variable, default in reversed(CONFIGURATION_FILES):  # botocore lets the credentials file win
        parser = configparser.RawConfigParser(strict=False)
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):  # botocore says what is wrong
            parser.read(configuration_file(variable, default))
        for section in (profile, f"profile {profile}", f'profile "{profile}"'):
            if found := parser.get(section, "ca_bundle", fallback=None):
                return Path(found).expanduser()
    named = os.environ.get("REQUESTS_CA_BUNDLE")
    return Path(named).expanduser() if named else None


def configured_endpoint(options: S3Options) -> str | None:
    """Return the S3 endpoint that the AWS configuration files name for the profile of `options`; None means AWS.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html

    Raises:
        botocore.exceptions.InvalidConfigError: The profile names a section that does not exist.
        botocore.exceptions.ProfileNotFound: There is no such profile.
    """
    files = tuple(_identity(configuration_file(*each)) for each in CONFIGURATION_FILES)
    if not any(files):
        return None  # saves importing botocore
    profile = options.profile
    if options.session is not None:
        name = options.session.profile_name
        # boto3 says "default" also where no profile was chosen and there is none of this name.
        profile = name if name != "default" else None
    return _endpoint_in_files(profile, files, tuple(os.environ.get(name) for name in _CHOOSING))


def _identity(path: str) -> tuple[str, int, int, int] | None:
    """What a file's content depends on; None if there is none, or nobody may look."""
    try:
        found = os.stat(path)  # noqa: PTH116 - see `configuration_file`
    except (OSError, ValueError):
        return None
    return path, found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=8)  # to read it takes 5 ms, for each file of a job
def _endpoint_in_files(profile_name: str | None, files: object, environment: object) -> str | None:
    """The endpoint that configuration files name. It depends on all arguments, not only on the first one."""
    import botocore.exceptions

    session: Any = _new_session(S3Options(profile=profile_name))
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    profile = session.get_scoped_config()
    services: Any = {}
    if "services" in profile:
        services = session.full_config.get("services", {}).get(profile["services"])
        if services is None:
            raise botocore.exceptions.InvalidConfigError(
                error_msg=f"the profile uses the services section {profile['services']!r}, which does not exist"
            )
    of_s3 = services.get("s3")
    found = of_s3.get("endpoint_url") if isinstance(of_s3, dict) else None
    return found or profile.get("endpoint_url") or None


def _new_session(options: S3Options) -> Any:
    import botocore.session

    session: Any = botocore.session.get_session()  # the stubs know no credentials that are None
    session.register_component("data_loader", _loader())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_timestamp)
    for name, value in [("profile", options.profile), ("region", options.region)]:
        if value is not None:
            session.set_config_variable(name, value)
    if options.access_key or options.secret_key or options.session_token:
        session.set_credentials(options.access_key, options.secret_key, options.session_token)
    return session


def _parse_timestamp(value: Any) -> datetime.datetime:
    """What botocore's own parser returns, which takes longer than everything else about a row of a list."""
    from botocore.utils import parse_timestamp

    with contextlib.suppress(TypeError, ValueError):
        found = datetime.datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found
    return parse_timestamp(value)


@functools.cache
def _loader() -> Any:
    """Return botocore's descriptions of AWS, read once for all buckets of the process: each copy takes megabytes."""
    from botocore.loaders import JSONFileLoader, Loader

    class DictLoader(JSONFileLoader):
        """Makes dicts, which keep their order. botocore's makes OrderedDicts, in three times the time."""

        def load_file(self, file_path: str) -> Any:
            for ending, opened in ((".json", open), (".json.gz", gzip.open)):
                with contextlib.suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                    return json.load(file)
            return None

    class QuickLoader(Loader):
        """Looks for services in the search paths alone: botocore's own loader opens four hundred directories."""

        def list_available_services(self, type_name: str) -> list[str]:
            places = [path for path in self.search_paths if os.path.isdir(path)]  # noqa: PTH112 - as botocore
            return sorted({each.name for place in places for each in os.scandir(place)})

    return QuickLoader(file_loader=DictLoader())

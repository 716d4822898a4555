"""Read the AWS configuration files, as far as that needs no AWS library: profile, keys, endpoint, region.

To import boto3 and make a session takes 70 ms of CPU, a third of a short command. So plain settings are read here, and
`access` asks boto3 for whatever is not. `tests/stores/s3/test_access.py` compares the two.
https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from bigupload import errors
from bigupload.options import S3Options
from bigupload.records import dataclass

CONFIG = ("AWS_CONFIG_FILE", "~/.aws/config")
CREDENTIALS = ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
"""The variables that name the files, and their usual paths."""
_PROFILE_VARIABLES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_PROFILE = re.compile(r"[\w.@+/:-]+")

Sections = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Settings:
    """A profile's settings in the two files."""

    profile: str | None
    """The profile that was chosen; None: none was, and the one called "default" counts."""
    config: Mapping[str, str]
    credentials: Mapping[str, str]
    services: Sections
    """The sections of the configuration file that are called `services NAME`, by their names."""

    @property
    def scoped(self) -> Mapping[str, str]:
        """The settings of both files. The credentials file comes first."""
        return {**self.config, **self.credentials}


def chosen_profile(options: S3Options) -> str | None:
    """Return the name of the profile that options or environment choose; None: none is chosen."""
    if options.session is not None:
        name = options.session.profile_name
        # boto3 says "default" also where no profile was chosen and there is none of this name.
        return None if name == "default" else str(name)
    return options.profile or next(filter(None, map(os.environ.get, _PROFILE_VARIABLES)), None)


def read_settings(options: S3Options) -> Settings | None:
    """Read the settings of the chosen profile. Blocking.

    Returns:
        None if only an AWS library can interpret the files.

    Raises:
        UsageError: There is no such profile.
    """
    profile = chosen_profile(options)
    if len({os.environ[name] for name in _PROFILE_VARIABLES if os.environ.get(name)}) > 1 and not options.profile:
        return None
    if profile is not None and _PROFILE.fullmatch(profile) is None:
        return None
    config, credentials = (_sections(_identity(_path_of(file))) for file in (CONFIG, CREDENTIALS))
    if config is None or credentials is None:
        return None
    of_profile = profile or "default"
    of_config = [config[section] for section in config if _is_of(section, of_profile)]
    if len(of_config) > 1:
        return None
    if profile is not None and not of_config and profile not in credentials:
        raise no_profile(profile)
    services = {name[9:].strip(): rows for name, rows in config.items() if name.startswith("services ")}
    return Settings(profile, of_config[0] if of_config else {}, credentials.get(of_profile, {}), services)


def no_profile(profile: str) -> errors.UsageError:
    """Make the error for a profile that is in none of the files."""
    files = f"{path_setting(CONFIG)} or the credentials file"
    return errors.UsageError(f"there is no profile {profile} in {files}: name another `profile`, or add it")


def configured_ca_bundle(options: S3Options) -> Path | None:
    """Return the certificates file that the environment or the AWS configuration names.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html
    """
    if named := os.environ.get("AWS_CA_BUNDLE"):
        return Path(named).expanduser()
    try:
        settings = read_settings(options)
    except errors.UsageError:  # whoever asks for credentials says so
        settings = None
    named = _ca_bundle_in_files(options) if settings is None else settings.scoped.get("ca_bundle")
    named = named or os.environ.get("REQUESTS_CA_BUNDLE")
    return Path(named).expanduser() if named else None


def _ca_bundle_in_files(options: S3Options) -> str | None:
    """The same of files that are not read here otherwise: parts need the certificates, too."""
    import configparser

    profile = chosen_profile(options) or "default"
    for file in (CREDENTIALS, CONFIG):
        parser = configparser.RawConfigParser(strict=False)
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(_path_of(file))
        for section in (profile, f"profile {profile}", f'profile "{profile}"'):
            if found := parser.get(section, "ca_bundle", fallback=None):
                return found
    return None


def endpoint_in_files(options: S3Options) -> tuple[bool, str | None]:
    """Return the S3 endpoint that the configuration files name for the chosen profile. Blocking.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html

    Returns:
        Whether the files could be read here, and the endpoint; None means AWS.

    Raises:
        UsageError: There is no such profile, or it names a section that does not exist.
    """
    settings = read_settings(options)
    if settings is None:
        return False, None
    scoped, found = settings.scoped, None
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or scoped.get("ignore_configured_endpoint_urls")
    if ignored is not None and ignored.lower() == "true":
        return True, None
    if (named := scoped.get("services")) is not None:
        if named not in settings.services:
            raise errors.UsageError(
                f"the profile uses the services section {named!r}, which does not exist: add it, or leave it out"
            )
        found = nested(settings.services[named].get("s3", "")).get("endpoint_url")
    return True, found or scoped.get("endpoint_url") or None


def nested(value: str) -> dict[str, str]:
    """Read settings that are nested below one: lines of `name = value`."""
    pairs = (line.partition("=") for line in value.splitlines() if "=" in line)
    return {name.strip(): text.strip() for name, _, text in pairs}


def path_setting(file: tuple[str, str]) -> str:
    """Return the path of CONFIG or CREDENTIALS, as the user writes it."""
    return os.environ.get(*file)


def _path_of(file: tuple[str, str]) -> str:
    """Return a file's path. Not by pathlib, which raises where nobody knows the home directory or may look into it."""
    return os.path.expanduser(os.path.expandvars(path_setting(file)))  # noqa: PTH111 - see above


def _identity(path: str) -> tuple[str, int, int, int]:
    """Return the path and metadata that differ when the file's content does."""
    try:
        found = os.stat(path)  # noqa: PTH116 - see `_path_of`
    except (OSError, ValueError):
        return path, 0, 0, 0
    return path, found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=8)  # a job asks for each of its files
def _sections(file: tuple[str, int, int, int]) -> Sections | None:
    """The sections of a file; None if only an AWS library can name the error in it."""
    path = file[0]
    if not os.path.isfile(path):  # noqa: PTH113 - see `_path_of`
        return {}
    import configparser

    parser = configparser.RawConfigParser()
    try:
        if not parser.read(path):
            return None
    except (configparser.Error, UnicodeDecodeError):
        return None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def profile_names() -> list[str]:
    """Return the names of all profiles in the two files, in order. Blocking."""
    config, credentials = (_sections(_identity(_path_of(file))) or {} for file in (CONFIG, CREDENTIALS))
    found = {*credentials, *map(_profile_of, config)}
    return sorted(name for name in found if name is not None)


def _is_of(section: str, profile: str) -> bool:
    """Whether a section of the configuration file is a profile's."""
    return _profile_of(section) == profile


def _profile_of(section: str) -> str | None:
    """The profile of a section of the configuration file, whose name is read as a shell would; None: it is of none."""
    if not section.startswith("profile"):
        return section if section == "default" else None
    import shlex

    try:
        words = shlex.split(section)
    except ValueError:
        return None
    return words[1] if len(words) == 2 else None

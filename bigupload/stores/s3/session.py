"""botocore sessions: where credentials, region and endpoint come from.

Every function here blocks. botocore is slow to import, so it is imported on first need.
"""

from __future__ import annotations

import functools
import os
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigupload.options import S3Options

if TYPE_CHECKING:
    import botocore.session

_CONFIGURATION_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
)


def new_session(options: S3Options) -> botocore.session.Session:
    """Make a session that has the profile, region and keys of `options`, and everything else from the AWS chain."""
    import botocore.session

    session: Any = botocore.session.get_session()  # the stubs know no credentials that are None
    session.register_component("data_loader", _loader())
    for name, value in [("profile", options.profile), ("region", options.region)]:
        if value is not None:
            session.set_config_variable(name, value)
    if options.access_key or options.secret_key or options.session_token:
        session.set_credentials(options.access_key, options.secret_key, options.session_token)
    return typing.cast("botocore.session.Session", session)


def configured_endpoint(options: S3Options) -> str | None:
    """Return the S3 endpoint that the AWS configuration files name for the profile of `options`; None means AWS.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if not any(Path(os.environ.get(name, default)).expanduser().exists() for name, default in _CONFIGURATION_FILES):
        return None  # saves importing botocore
    import botocore.exceptions

    session: Any = new_session(options)
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


@functools.cache
def _loader() -> Any:
    """Return botocore's descriptions of AWS, read once for all buckets of the process: each copy takes megabytes."""
    from botocore.loaders import Loader

    class QuickLoader(Loader):
        """Looks for services in the search paths alone: botocore's own loader opens four hundred directories."""

        def list_available_services(self, type_name: str) -> list[str]:
            places = [path for path in self.search_paths if os.path.isdir(path)]  # noqa: PTH112 - as botocore
            return sorted({each.name for place in places for each in os.scandir(place)})

    return QuickLoader()

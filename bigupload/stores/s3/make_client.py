"""Make botocore's client for one bucket. Blocking, and slow: it is the first to import botocore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigupload.http.socket_tuning import CONNECT_TIMEOUT
from bigupload.http.trust import CaBundle
from bigupload.options import S3Options
from bigupload.s3_parameters import ADDRESS, parameters
from bigupload.stores.s3._compat import use_virtual_addressing
from bigupload.stores.s3.aws_session import AwsSession
from bigupload.stores.s3.errors import refuse_region_redirect
from bigupload.stores.s3.response_guard import guard

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECTIONS = 64
"""The most connections of one client, and the most requests in flight."""


def make_client(
    session: AwsSession,
    options: S3Options,
    *,
    endpoint: str | None,
    region: str | None,
    within: float,
    ca_bundle: CaBundle,
) -> S3Client:
    """Make a client. Its own retries are off.

    Args:
        session: Where credentials and region come from.
        options: How to reach the store.
        endpoint: The store's address; None means AWS.
        region: The bucket's region, if it is known.
        within: The timeout of its requests, in seconds.
        ca_bundle: Which certificates to trust.
    """
    if options.no_verify_ssl:
        import urllib3

        # The caller has decided. urllib3 would print a warning for each request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    client = session.client(
        endpoint_url=endpoint,
        region_name=region or session.region or "us-east-1",
        config=_config(options, within),
        verify=str(ca_bundle) if isinstance(ca_bundle, Path) else ca_bundle,
    )
    if options.addressing == "auto" and str(client.meta.endpoint_url).endswith(".amazonaws.com"):
        # Otherwise botocore presigns for the global host, which redirects requests for a new bucket for hours.
        use_virtual_addressing(client)
    # A redirected create would succeed, and then every part URL for the wrong region would fail.
    client.meta.events.register("request-created.s3", refuse_region_redirect)
    guard(client)
    return client


def _config(options: S3Options, within: float) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    address: dict[str, Any] = parameters(ADDRESS, options)
    of_s3: Any = {"addressing_style": options.addressing, **address.pop("s3", {})}
    return Config(  # type: ignore[call-arg]  # the stubs lack ignore_configured_endpoint_urls
        # The default presign can be SigV2.
        signature_version=UNSIGNED if options.no_sign_request else "s3v4",
        s3=of_s3,
        retries={"total_max_attempts": 1},
        connect_timeout=min(CONNECT_TIMEOUT, within),
        read_timeout=within,
        max_pool_connections=CONNECTIONS,
        # The engine computes its own checksums. botocore would sign its own into part URLs.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="bigupload",
        # `targets.reach` has resolved the endpoint. By now, AWS_ENDPOINT_URL or a profile may name another store
        # than the manifest does.
        ignore_configured_endpoint_urls=True,
        **address,
    )

"""What a boto3 client says about its store: address, region, credentials, certificates, proxies, retries.

The first functions read what has no public name; `tests/adapters/test_compat.py` fails if one of these names changes.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from pathlib import Path
from typing import Any

from bigupload.core.retry_policy import RetryPolicy
from bigupload.options import S3Options


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
    """Return what a caller of `TransferConfig` has given; None: nothing.

    Versions of boto3 that do not tell the two apart give their default. It is then taken for nothing.
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
    """Return how to reach the store of a client.

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

"""What a boto3 client has no public name for. `tests/adapters/test_compat.py` fails if one of these names changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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

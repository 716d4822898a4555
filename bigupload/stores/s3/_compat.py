"""Every use of a private attribute of botocore. `tests/stores/s3/test_compat.py` fails when botocore changes one.

botocore has no public way to do these things.
"""

from __future__ import annotations

from typing import Any


def refresh_early(credentials: Any, seconds: float) -> None:
    """Refresh temporary credentials that expire within `seconds`. Blocking. botocore itself does that much later.

    Raises:
        Exception: What the source of the credentials raised, if they have expired already.
    """
    window = credentials._advisory_refresh_timeout
    credentials._advisory_refresh_timeout = seconds
    try:
        credentials.get_frozen_credentials()
    finally:
        credentials._advisory_refresh_timeout = window


def seconds_left(credentials: Any) -> float | None:
    """Return for how many seconds temporary credentials are valid; None: they do not expire, or are not fetched yet."""
    if getattr(credentials, "_expiry_time", None) is None:
        return None
    left: float = credentials._seconds_remaining()
    return left

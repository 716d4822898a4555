"""Canaries: each private attribute that `bigupload.stores.s3.renewal` uses is there and does what it is used for.

Where one of these fails, botocore has changed. Mend it there: without it, URLs outlive their credentials.
"""

from __future__ import annotations

import datetime
from typing import Any

from botocore.credentials import Credentials, DeferredRefreshableCredentials, RefreshableCredentials

from bigupload.stores.s3 import renewal


def test_credentials_are_refreshed_early() -> None:
    refreshed: list[str] = []
    now = datetime.datetime.now(datetime.UTC)

    def keys(name: str, minutes: float) -> dict[str, str]:
        until = (now + datetime.timedelta(minutes=minutes)).isoformat()
        return {"access_key": name, "secret_key": "s", "token": "t", "expiry_time": until}

    def refresh() -> dict[str, str]:
        refreshed.append("")
        return keys("new", 120)

    credentials: Any = RefreshableCredentials.create_from_metadata(keys("old", 30), refresh, "test")
    assert credentials.get_frozen_credentials().access_key == "old", "30 minutes are enough for botocore"
    window = credentials._advisory_refresh_timeout
    assert credentials.refresh_needed(refresh_in=3600)
    renewal.refresh_early(credentials, 3600)
    assert credentials.get_frozen_credentials().access_key == "new"
    assert len(refreshed) == 1
    assert credentials._advisory_refresh_timeout == window


def test_the_seconds_that_credentials_are_valid() -> None:
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1000)
    made: Any = RefreshableCredentials("a", "b", "c", ends, dict, "test")
    left = renewal.seconds_left(made)
    assert left is not None
    assert 990 < left <= 1000
    for endless in (DeferredRefreshableCredentials(dict, "test"), Credentials("a", "b"), None):  # not fetched yet, or
        assert renewal.seconds_left(endless) is None

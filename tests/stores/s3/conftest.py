"""A strict store for the calls to S3, and a clock for botocore."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import botocore.auth
import pytest

from bigupload.testing.strict_s3 import StrictS3

from .support import NOON


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime.datetime]:
    """botocore's time: the last of the list. Its signers in awscrt have a clock of their own."""
    times = [NOON]
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: times[-1].replace(tzinfo=None))
    monkeypatch.setitem(botocore.auth.AUTH_TYPE_MAPS, "s3v4", botocore.auth.S3SigV4Auth)
    monkeypatch.setitem(botocore.auth.AUTH_TYPE_MAPS, "s3v4-query", botocore.auth.S3SigV4QueryAuth)
    return times

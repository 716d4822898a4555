"""A strict store for the calls to S3, an AWS configuration of the test's own, and a clock for botocore."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

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
def aws_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test may write `config` and `credentials`. Nothing else says anything of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.endswith("_CA_BUNDLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime.datetime]:
    """botocore's time: the last of the list. Its signers in awscrt have a clock of their own."""
    times = [NOON]
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: times[-1].replace(tzinfo=None))
    monkeypatch.setitem(botocore.auth.AUTH_TYPE_MAPS, "s3v4", botocore.auth.S3SigV4Auth)
    monkeypatch.setitem(botocore.auth.AUTH_TYPE_MAPS, "s3v4-query", botocore.auth.S3SigV4QueryAuth)
    return times

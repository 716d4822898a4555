"""A strict store for the calls to S3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload.testing.strict_s3 import StrictS3


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.create_bucket("bucket")
        yield server

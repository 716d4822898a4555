"""A strict store for processes that are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload.testing.strict_s3 import StrictS3

from .running import PART


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=PART) as server:
        server.create_bucket("bucket")
        yield server

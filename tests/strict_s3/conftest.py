"""StrictS3, and a boto3 client of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.strict_s3.support import BUCKET, PART


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=PART) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def client(s3: StrictS3) -> Iterator[Any]:
    client = s3.client()
    yield client
    client.close()

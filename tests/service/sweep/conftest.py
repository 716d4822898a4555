"""A clock that tests set, and a store that knows less than SeaweedFS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.service.sweep.support import Clock
from tests.tools.buckets import Meddled, options_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    """Knows no batches and no conditions of deleting."""
    with StrictS3(page_size=2) as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
async def strict(s3: StrictS3) -> AsyncIterator[Meddled]:
    """The bucket of a strict store that deletes one object at a time."""
    s3.script("DeleteObjects", Status(501, "NotImplemented"), repeat=True)
    found = Meddled("bucket", options_for(s3))
    yield found
    await found.aclose()

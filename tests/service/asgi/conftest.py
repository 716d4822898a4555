"""A bucket for applications that mount the service."""

from __future__ import annotations

import pytest

from bigupload.service.uploads.bucket_rules import set_up
from bigupload.stores.local_store import LocalStore
from tests.tools.buckets import Meddled, fresh_name, options_for


@pytest.fixture
async def ready(weed: LocalStore) -> str:
    """Its name. It is in SeaweedFS, and has the service's rules."""
    made = Meddled(fresh_name(weed), options_for(weed))
    await set_up(made)
    await made.aclose()
    return made.name

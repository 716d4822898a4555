"""A media service that says whatever a test wants, and its client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bigupload.stores.service_client import ServiceStore
from tests.stores.service_client.support import KEY, Fake, listening


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def now() -> list[float]:
    """The clock: its one element."""
    return [1000.0]


@pytest.fixture
async def store(fake: Fake, now: list[float]) -> AsyncIterator[ServiceStore]:
    async with listening(fake) as url:
        store = ServiceStore(
            url=url, api_key=KEY, filename="movie.mp4", content_type="video/mp4", head=b"head", clock=lambda: now[0]
        )
        yield store
        await store.aclose()

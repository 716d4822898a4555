"""The service that most tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload.local_store import LocalStore
from tests.tools.service import Service, serving


@pytest.fixture(scope="session")
def service(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`bigupload serve --local`, generous with requests, and never sweeping what a test is about to look at."""
    home = tmp_path_factory.mktemp("service")
    with serving(weed, home, "--requests", "10000", "--open-uploads", "1000", "--sweep-every", "0") as running:
        yield running

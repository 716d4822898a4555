"""A service that may import from this machine, and a web server with what it imports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload.stores.local_store import LocalStore
from tests.tools.declared import what_is_wrong
from tests.tools.directories import session_directory
from tests.tools.service import Service, serving
from tests.tools.web_server import WebServer, web_server

GENEROUS = ("--requests", "10000", "--sweep-every", "0", "--imports", "2", "--allow-private-media-hosts")


@pytest.fixture(scope="session")
def importing(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with session_directory(tmp_path_factory, "importing") as home, serving(weed, home, *GENEROUS) as running:
        yield running
        assert what_is_wrong(running.log()) == []
        assert "secret-of-the-url" not in running.log()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server

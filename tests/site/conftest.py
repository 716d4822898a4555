"""The site, built once in each process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.directories import session_directory


@pytest.fixture(scope="package")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the site. That building it gives no warning is also a test of it."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    from tests.tools import site

    with session_directory(tmp_path_factory, "site") as folder:
        site.build(folder)
        yield folder

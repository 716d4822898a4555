"""A file for keys that is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload.service.access.keys import KeyFile
from tests.service.keys.support import NOON


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service" / "keys.json"


@pytest.fixture
def file(path: Path) -> KeyFile:
    return KeyFile(path, clock=lambda: NOON)

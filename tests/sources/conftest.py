"""A file, and the source that has it open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.sources.file import FileSource

from .support import DATA


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    # Long ago, so that whatever happens now differs even where the file system's clock is coarse.
    os.utime(file, ns=(10**18, 10**18))
    return file


@pytest.fixture
def source(path: Path) -> Iterator[FileSource]:
    with FileSource(path) as opened:
        yield opened

"""A manifest's file: not there yet, opened, begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.manifests.journal import FileJournal
from tests.core.samples import header


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "upload.manifest.jsonl"


@pytest.fixture
def journal(path: Path) -> Iterator[FileJournal]:
    with FileJournal(path) as opened:
        yield opened


@pytest.fixture
def begun(journal: FileJournal) -> FileJournal:
    journal.begin(header())
    return journal

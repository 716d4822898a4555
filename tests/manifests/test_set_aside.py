"""A manifest that is set aside for another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.core.manifest import CompletingRecord
from bigupload.manifests.journal import FileJournal, read_manifest
from tests.core.samples import ALL_PARTS, header, lines, part
from tests.manifests.support import no_space


async def test_set_aside_numbers(path: Path) -> None:
    names: list[Path] = []
    with FileJournal(path) as journal:
        for number in range(1, 4):
            journal.begin(dataclasses.replace(header(), upload_id=f"upload {number}"))
            await journal.append(*ALL_PARTS, CompletingRecord(None))
            journal.set_aside(names.append)
            assert not journal.exists
            assert path.exists()
        journal.begin(header())
        assert names == [path.with_name(f"{path.name}.{number}") for number in range(1, 4)]
        await journal.append(part(1))
    for number in range(1, 4):
        kept = read_manifest(path.with_name(f"{path.name}.{number}")).manifest
        assert kept.upload_id == f"upload {number}"
        assert kept.status == "completing"
    assert path.read_bytes() == lines(header(), part(1))


def test_set_aside_keeps_the_lock(path: Path, begun: FileJournal) -> None:
    begun.set_aside()
    begun.begin(header())
    with pytest.raises(errors.ManifestLocked):
        FileJournal(path).open()


def test_without_a_new_manifest_the_old_one_stays(path: Path, begun: FileJournal) -> None:
    begun.set_aside()
    begun.close()
    assert path.read_bytes() == lines(header())
    assert not path.with_name(f"{path.name}.1").exists()


def test_set_aside_that_fails(path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", no_space)
    begun.set_aside()
    with pytest.raises(errors.ManifestUnwritable):
        begun.begin(header())
    assert path.read_bytes() == lines(header())


def test_the_number_is_above_all_that_are_taken(
    path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one look at the directory: trying one number after the other took longer with each upload."""
    for ending in ("1", "9", "9.damaged", "damaged", "x1", "²"):
        path.with_name(f"{path.name}.{ending}").touch()
    monkeypatch.setattr(Path, "exists", no_space)
    names: list[Path] = []
    begun.set_aside(names.append)
    begun.begin(header())
    assert names == [path.with_name(f"{path.name}.10")]

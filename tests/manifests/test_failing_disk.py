"""A disk that fails at every place where it can."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.manifest_lines import encode
from bigupload.manifests.journal import FileJournal
from tests.core.samples import header, lines, part
from tests.manifests.support import no_space


def fail_after(journal: FileJournal, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """os.write writes `count` bytes more, in small pieces, and then the disk is full."""
    real = os.write
    left = count

    def write(fd: int, data: bytes) -> int:
        nonlocal left
        if left == 0:
            no_space()
        done = real(fd, data[: min(left, 7)])
        left -= done
        return done

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("count", [0, 1, 50, len(encode(part(1))), len(encode(part(1))) + 1])
async def test_a_full_disk_leaves_the_file_as_it_was(
    path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    fail_after(begun, monkeypatch, count)
    with pytest.raises(errors.ManifestUnwritable, match="No space left on device") as caught:
        await begun.append(part(1), part(2))
    assert path.read_bytes() == lines(header())
    assert begun.manifest.parts == {}
    assert caught.value.exit_code == 75
    assert caught.value.manifest == path


async def test_short_writes_are_continued(path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_after(begun, monkeypatch, 10_000)
    await begun.append(part(1))
    assert path.read_bytes() == lines(header(), part(1))


async def test_after_a_failed_sync_nothing_counts_any_more(
    path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://wiki.postgresql.org/wiki/Fsync_Errors: a second fsync that succeeds says nothing of the first's data."""
    await begun.append(part(1))
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(errors.ManifestUnwritable):
        await begun.append(part(2))
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(errors.ManifestUnwritable):
            await begun.append(part(2))
    assert set(begun.manifest.parts) == {1}
    begun.close()
    with FileJournal(path) as again:  # but another run may try
        assert set(again.manifest.parts) == {1}
        await again.append(part(2))


async def test_a_failure_reaches_every_append_that_waits(begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    results = await asyncio.gather(*(begun.append(part(n)) for n in (1, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [errors.ManifestUnwritable] * 2
    assert begun.manifest.parts == {}


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_begin_that_fails_leaves_nothing(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    match failing:
        case "write":
            fail_after(journal, monkeypatch, 20)
        case "fsync":
            monkeypatch.setattr(os, "fsync", no_space)
        case "replace":
            monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(errors.ManifestUnwritable) as caught:
        journal.begin(header())
    assert caught.value.manifest is None  # there is nothing to resume from
    assert not journal.exists
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.lock"]


async def test_after_a_begin_that_failed_another_may_come(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(errors.ManifestUnwritable):
        journal.begin(header())
    monkeypatch.undo()
    journal.begin(header())
    await journal.append(part(1))
    fail_after(journal, monkeypatch, 5)
    with pytest.raises(errors.ManifestUnwritable):
        await journal.append(part(2))
    assert path.read_bytes() == lines(header(), part(1))  # truncated to where the good ones end, no byte further


@pytest.mark.parametrize(
    ("number", "status"),
    [
        *((errno.EACCES, 1), (errno.EPERM, 1), (errno.EROFS, 1), (errno.ENOTDIR, 1)),
        *((errno.ENOSPC, 75), (errno.EDQUOT, 75), (errno.EIO, 75), (errno.EMFILE, 75)),
    ],
)
async def test_only_what_may_pass_is_worth_another_try(
    begun: FileJournal, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with FileJournal(begun.path.with_name("other")) as other, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(errors.ManifestUnwritable) as at_the_beginning:
            other.begin(header())
        with pytest.raises(errors.ManifestUnwritable) as later:
            await begun.append(part(1))
    assert (at_the_beginning.value.exit_code, later.value.exit_code) == (status, status)


def test_a_begin_does_not_write_through_a_link(path: Path, journal: FileJournal, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    path.symlink_to(tmp_path / "precious")
    path.with_name(f"{path.name}.new").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.ManifestUnwritable):
        journal.begin(header())
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_directory_that_can_not_be_synced_is_no_obstacle(
    path: Path, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows opens no directories, and some file systems sync none."""
    real = os.open

    def no_directories(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(name) == path.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", no_directories)
    journal.begin(header())
    assert path.read_bytes() == lines(header())

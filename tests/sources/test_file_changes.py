"""Every way to change a file while it is uploaded is noticed, and what changes no byte is no change."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.sources.file import FileSource

from .support import DATA, append


def chmod(path: Path) -> None:
    path.chmod(0o600 if path.stat().st_mode & 0o077 else 0o640)


def hard_link(path: Path) -> None:
    path.with_name("another name").hardlink_to(path)


def set_attribute(path: Path) -> None:
    try:
        os.setxattr(path, "user.note", b"seen")
    except OSError as e:
        if e.errno != errno.ENOTSUP:
            raise
        pytest.skip("this file system has no extended attributes")


def rename_and_back(path: Path) -> None:
    path.rename(path.with_name("elsewhere")).rename(path)


def set_atime(path: Path) -> None:
    os.utime(path, ns=(7 * 10**17, 10**18))


def edit_and_restore_mtime(path: Path) -> None:
    """As rsync -t and editors do: only the ctime shows it."""
    edit_in_place(path)
    os.utime(path, ns=(10**18, 10**18))


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def delete(path: Path) -> None:
    path.unlink()


ONLY_CTIME = [chmod, hard_link, set_attribute, rename_and_back, set_atime, edit_and_restore_mtime, move_away, delete]


@pytest.mark.parametrize("change", ONLY_CTIME)
def test_what_changes_the_ctime_alone_is_no_change(
    path: Path, source: FileSource, change: Callable[[Path], None]
) -> None:
    assert not source.metadata_changed
    change(path)
    source.check()
    assert source.metadata_changed, "it may hide that the bytes changed, too: the engine hashes them once more"
    source.accept_metadata()
    source.check()
    assert not source.metadata_changed
    assert source.fingerprint.ctime_ns == os.fstat(source.fileno()).st_ctime_ns


@pytest.mark.parametrize("change", [chmod, hard_link, set_attribute, rename_and_back, set_atime])
def test_what_touches_no_byte_does_not_hide_another_time(
    path: Path, source: FileSource, change: Callable[[Path], None]
) -> None:
    change(path)
    touch(path)
    with pytest.raises(errors.SourceChanged):
        source.check()


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def edit_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def touch(path: Path) -> None:
    path.touch()


def rename_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(DATA)
    os.utime(other, ns=(10**18, 10**18))
    other.rename(path)


CHANGES: list[tuple[Callable[[Path], None], bool]] = [
    (append, False), (truncate, False), (edit_in_place, True), (touch, True), (rename_over, True),
]  # fmt: skip


@pytest.mark.parametrize(("change", "same_size"), CHANGES)
def test_every_change_is_noticed(
    path: Path, source: FileSource, change: Callable[[Path], None], same_size: bool
) -> None:
    change(path)
    with pytest.raises(errors.SourceChanged) as caught:
        source.check()
    assert caught.value.resumable == same_size
    assert ("`on_change='restart'` uploads it again" in str(caught.value)) == (not same_size)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("change", [delete, move_away])
def test_a_file_that_is_gone_is_still_read(path: Path, source: FileSource, change: Callable[[Path], None]) -> None:
    change(path)
    source.check()
    assert source.is_away
    buffer = bytearray(100)
    assert source.read_into(memoryview(buffer), 0) == 100
    path.with_name("elsewhere").write_bytes(b"short")  # the moved file, or another one
    if change is move_away:
        with pytest.raises(errors.SourceChanged):
            source.check()


def test_a_file_that_came_back(path: Path, source: FileSource) -> None:
    moved = path.rename(path.with_name("elsewhere"))
    source.check()
    moved.rename(path)
    source.check()
    assert not source.is_away


def test_a_descriptor_that_is_stale(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, when the file was deleted by another machine."""

    def stale(_: int) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:  # pytest needs fstat, too
        patched.setattr(os, "fstat", stale)
        with pytest.raises(errors.SourceUnreadable, match="Stale file handle"):
            source.check()


def test_a_path_that_leads_nowhere_any_more(path: Path, tmp_path: Path) -> None:
    """The directory is moved: the file itself has not changed at all."""
    directory = tmp_path / "directory"
    directory.mkdir()
    moved = path.rename(directory / "file")
    with FileSource(moved) as source:
        directory.rename(tmp_path / "elsewhere")
        source.check()
        assert source.is_away

"""Which files of a directory are watched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bigupload.batch.tree import FileEntry, Omitted, Selection
from bigupload.batch.watching import WatchedFiles
from bigupload.errors import UsageError
from bigupload.support.files import ASIDE

WANTED = ["a b.mp4", "a😀.mp4", "new\nline.mp4", "sub/deep/c.mp4", "sub/d.txt"]
TEMPORARY = [".film.mp4.Xy12", "film.mp4.part", "x.tmp", "y.crdownload", "z~", ".hidden/e.mp4", "dir.part/f.mp4"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in [*WANTED, *TEMPORARY]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def watched(directory: Path, *, all_names: bool = False, **more: Any) -> WatchedFiles:
    return WatchedFiles(str(directory), Selection(**more), now=0.0, all_names=all_names)


def keys(files: WatchedFiles) -> list[str]:
    return sorted(found.key for found in files.found() if isinstance(found, FileEntry))


def test_hidden_and_temporary_names(directory: Path) -> None:
    assert keys(watched(directory)) == sorted(WANTED)
    assert keys(watched(directory, all_names=True)) == sorted([*WANTED, *TEMPORARY])
    # Also those that a pattern includes: to name a directory is not to want what is not whole.
    assert keys(watched(directory, include=["*.mp4", "*.part"])) == sorted(WANTED[:4])
    assert keys(watched(directory, exclude=["sub/", "!c.mp4"])) == sorted(WANTED[:4])


def test_symbolic_links_can_not_be_followed(directory: Path) -> None:
    with pytest.raises(UsageError, match="can't follow symbolic links"):
        watched(directory, follow_symlinks=True)


def test_what_is_no_file(directory: Path) -> None:
    os.mkfifo(directory / "fifo")
    (directory / "link").symlink_to(directory / "a b.mp4")
    (directory / "links").symlink_to(directory / "sub")
    (directory / "gone").symlink_to(directory / "nowhere")
    found = list(watched(directory).found())
    omitted = {os.path.basename(each.path): each for each in found if isinstance(each, Omitted)}
    assert {name: each.reason for name, each in omitted.items()} == {
        "fifo": "a named pipe", "link": "a symbolic link", "links": "a symbolic link", "gone": "a symbolic link",
    }  # fmt: skip
    assert not any(each.is_failure for each in omitted.values())
    assert sorted(each.key for each in found if isinstance(each, FileEntry)) == sorted(WANTED)


def test_what_a_move_set_aside(directory: Path) -> None:
    """The watch itself may have done so: it lists the directory while it asks the store."""
    (directory / "sub" / "d.txt").rename(directory / "sub" / f"{ASIDE}0")
    for all_names in (False, True):
        assert not [each for each in watched(directory, all_names=all_names).found() if ASIDE in each.path]


def test_what_vanishes_meanwhile(directory: Path) -> None:
    listing = watched(directory).found()
    first = next(listing)
    assert isinstance(first, FileEntry)
    (directory / "sub" / "d.txt").unlink()
    (directory / "sub" / "deep" / "c.mp4").unlink()
    (directory / "sub" / "deep").rmdir()
    assert all(isinstance(each, FileEntry) for each in listing)

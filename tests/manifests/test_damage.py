"""A manifest's file that is torn, unreadable, or no file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.manifest_lines import encode
from bigupload.manifests.journal import FileJournal, read_manifest
from tests.core.samples import header, lines, part
from tests.manifests.support import existing


@pytest.mark.parametrize("tail", [b'{"type":"part","num', b"\0" * 4096, b"garbage\n" + encode(part(2))])
async def test_a_torn_tail_is_saved_and_cut(path: Path, tail: bytes) -> None:
    good = lines(header(), part(1))
    existing(path, good + tail)
    with FileJournal(path) as journal:
        assert journal.warning is not None
        assert journal.warning.startswith("line 3 can't be read")
        assert path.read_bytes() == good
        saved = path.with_name(f"{path.name}.damaged")
        assert saved.read_bytes() == tail
        assert str(saved) in journal.warning
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        await journal.append(part(3, 5))
    assert path.read_bytes() == good + encode(part(3, 5))


def test_a_tail_that_can_not_be_saved_is_not_cut(path: Path) -> None:
    data = lines(header(), part(1)) + b"garbage"
    existing(path, data)
    path.with_name(f"{path.name}.damaged").mkdir()
    with pytest.raises(errors.ManifestUnwritable) as caught:
        FileJournal(path).open()
    assert path.read_bytes() == data
    assert caught.value.manifest == path


def test_a_tail_is_not_saved_through_a_link(path: Path, tmp_path: Path) -> None:
    existing(path, lines(header()) + b"garbage")
    (tmp_path / "precious").write_bytes(b"precious")
    path.with_name(f"{path.name}.damaged").symlink_to(tmp_path / "precious")
    with pytest.raises(errors.ManifestUnwritable):
        FileJournal(path).open()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_reading_alone_cuts_nothing(path: Path) -> None:
    data = lines(header()) + b"garbage"
    existing(path, data)
    found = read_manifest(path)
    assert found.damage is not None
    assert path.read_bytes() == data
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no lock either


@pytest.mark.parametrize("read", [read_manifest, lambda path: FileJournal(path).open()])
def test_a_first_line_that_can_not_be_read(path: Path, read: Callable[[Path], Any]) -> None:
    existing(path, b"garbage\n" + lines(header()))
    with pytest.raises(errors.ManifestCorrupt, match=str(path)):
        read(path)
    assert path.read_bytes() == b"garbage\n" + lines(header())


def test_an_empty_file_is_no_manifest_yet(path: Path) -> None:
    existing(path, b"")
    with FileJournal(path) as journal:
        assert not journal.exists
        journal.begin(header())
    assert path.read_bytes() == lines(header())


@pytest.mark.parametrize("read", [read_manifest, lambda path: FileJournal(path).open()])
@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_no_regular_file(path: Path, tmp_path: Path, kind: str, read: Callable[[Path], Any]) -> None:
    path.parent.mkdir()
    real = existing(tmp_path / "real", lines(header()))
    match kind:
        case "link":
            path.symlink_to(real)
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    with pytest.raises(errors.ManifestMismatch):
        read(path)
    assert real.read_bytes() == lines(header())


def test_a_missing_manifest(path: Path) -> None:
    with pytest.raises(errors.ManifestNotFound, match=str(path)):
        read_manifest(path)


def test_a_disk_that_can_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    existing(path, lines(header()))
    monkeypatch.setattr(os, "fdopen", lambda *_, **__: Broken())
    with pytest.raises(errors.ManifestMismatch, match="Input/output error"):
        read_manifest(path)


def test_a_manifest_that_may_be_read_but_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everything, so the refusal is played."""
    existing(path, lines(header()))
    real = os.open

    def read_only(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(name) == path and flags & os.O_WRONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(name, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(errors.ManifestUnwritable, match="Read-only file system") as caught:
        FileJournal(path).open()
    assert caught.value.manifest == path
    monkeypatch.undo()
    with FileJournal(path):  # the lock was given back
        pass


def test_a_device_is_no_manifest() -> None:
    with pytest.raises(errors.ManifestMismatch, match="not a regular file"):
        read_manifest(Path(os.devnull))

"""Files and directories in places where other users of the machine could have put something first."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.core.manifest_lines import encode
from bigupload.manifests.journal import MAX_BYTES, FileJournal, read_manifest
from bigupload.support import files
from bigupload.support.files import create_private, is_private_file, only_user_can_write
from tests.core.samples import header, lines, part
from tests.tools.other_systems import OtherOs

if not hasattr(os, "geteuid"):
    pytest.skip("no users to tell apart", allow_module_level=True)

US = os.geteuid() or 1000
THEM = US + 1


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, for whom everybody's files are its own."""
    monkeypatch.setattr(os, "geteuid", lambda: US)


def owned(path: Path, uid: int) -> Path:
    """Its owner can be changed by root alone: else the user is another."""
    if os.getuid() == 0:
        os.chown(path, uid, -1, follow_symlinks=False)
    elif uid != US:
        pytest.skip("only root can give files away")
    return path


@pytest.fixture
def path(tmp_path: Path, user: None) -> Path:
    return owned(tmp_path, US) / "m"


def test_whose_a_file_is(path: Path) -> None:
    path.touch()
    assert is_private_file(owned(path, US).lstat())
    assert not is_private_file(owned(path, THEM).lstat())


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_no_file_is_nobody_s(path: Path, kind: str) -> None:
    match kind:
        case "link":
            path.symlink_to(path.with_name("x"))
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    assert not is_private_file(path.lstat())
    with pytest.raises(OSError):
        create_private(path)
    assert os.path.lexists(path)
    assert not path.with_name("x").exists()


def test_what_an_earlier_run_left_is_made_anew(path: Path) -> None:
    path.write_text("old")
    path.chmod(0o666)
    before = owned(path, US).stat().st_ino
    other = os.open(path, os.O_RDWR)  # whoever has it open has nothing of the new one
    try:
        os.close(create_private(path))
        assert path.stat().st_ino != before
        assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (0, 0o600)
    finally:
        os.close(other)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_can_write(path: Path, mode: int) -> None:
    assert only_user_can_write(path.parent)
    path.parent.chmod(mode)
    assert not only_user_can_write(path.parent)


def test_a_directory_of_somebody_else_and_a_link_of_somebody_else(path: Path) -> None:
    path.mkdir()
    link = path.with_name("link")
    link.symlink_to(owned(path, US))
    assert only_user_can_write(owned(link, US))
    assert not only_user_can_write(owned(link, THEM))
    assert not only_user_can_write(owned(path, THEM))
    assert not only_user_can_write(path.with_name("missing"))


# -- the manifest and what lies beside it


def test_another_users_manifest_is_not_read(path: Path) -> None:
    path.write_bytes(lines(header()))
    owned(path, THEM)
    for read in (read_manifest, lambda path: FileJournal(path).open()):
        with pytest.raises(errors.ManifestMismatch, match="another user's"):
            read(path)


@pytest.mark.parametrize("suffix", [".lock", ".new", ".damaged"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo"])
def test_what_another_user_put_in_the_way(path: Path, suffix: str, kind: str) -> None:
    """Refused, whatever it is: neither written, nor truncated, nor followed, nor waited for."""
    precious = path.with_name("precious")
    precious.write_bytes(b"precious")
    trap = path.with_name(f"m{suffix}")
    match kind:
        case "file":
            trap.write_bytes(b"theirs")
            trap.chmod(0o666)
        case "link":
            trap.symlink_to(precious)
        case "dangling link":
            trap.symlink_to(path.with_name("nowhere"))
        case "fifo":
            os.mkfifo(trap, 0o666)
    owned(trap, THEM)
    if suffix == ".damaged":
        path.write_bytes(lines(header()) + b"torn")
        owned(path, US)
    with pytest.raises(errors.ManifestUnwritable), FileJournal(path) as journal:
        journal.begin(header())
    assert precious.read_bytes() == b"precious"
    assert not path.with_name("nowhere").exists()
    assert kind != "file" or not trap.exists() or trap.read_bytes() == b"theirs"


def test_a_lock_with_a_second_name_is_not_truncated(path: Path) -> None:
    precious = path.with_name("precious")
    precious.write_bytes(b"precious")
    os.link(owned(precious, US), f"{path}.lock")
    with FileJournal(path) as journal:
        journal.begin(header())
    assert precious.read_bytes() == b"precious"


def test_a_manifest_that_is_swapped_while_it_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(lines(header()))
    owned(path, US)
    real = FileJournal._open_file

    def swapped(journal: FileJournal) -> None:
        path.rename(path.with_name("old"))
        path.write_bytes(lines(header()))
        real(journal)

    monkeypatch.setattr(FileJournal, "_open_file", swapped)
    with pytest.raises(errors.ManifestMismatch, match="replaced"):
        FileJournal(path).open()


def test_a_tail_is_cut_from_the_file_that_was_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(lines(header()) + b"torn")
    owned(path, US)
    precious = path.with_name("precious")
    precious.write_bytes(b"precious" * 1000)
    real = FileJournal._cut_tail

    def late(journal: FileJournal, tail: bytes, damage: str) -> None:
        path.unlink()
        path.symlink_to(precious)
        real(journal, tail, damage)

    monkeypatch.setattr(FileJournal, "_cut_tail", late)
    with FileJournal(path):
        assert precious.read_bytes() == b"precious" * 1000


def test_a_file_that_is_longer_than_any_manifest(path: Path) -> None:
    path.write_bytes(lines(header()))
    os.truncate(path, MAX_BYTES + 1)
    owned(path, US)
    with pytest.raises(errors.ManifestCorrupt, match="longer than any"):
        read_manifest(path)


# -- which manifests were begun here


@pytest.fixture
def index(path: Path) -> Path:
    return path.parent / "state" / "begun-here"


def test_what_was_begun_here_is_known_wherever_it_goes(path: Path, index: Path) -> None:
    index.parent.mkdir(mode=0o700)
    owned(index.parent, US)
    with FileJournal(path, index=index) as journal:
        journal.begin(header())
        if os.getuid() == 0:
            for made in (index, *index.iterdir()):
                owned(made, US)
        assert journal.written_here
    assert stat.S_IMODE(index.stat().st_mode) == 0o700
    owned(path, US)
    moved = path.rename(path.with_name("moved"))
    with FileJournal(moved, index=index) as journal:
        assert journal.written_here
    with FileJournal(moved) as journal:
        assert not journal.written_here


def test_what_came_from_elsewhere(path: Path, index: Path) -> None:
    index.parent.mkdir(mode=0o700)
    owned(index.parent, US)
    path.write_bytes(lines(header()) + encode(part(1)))
    owned(path, US)
    with FileJournal(path, index=index) as journal:
        assert journal.exists
        assert not journal.written_here


def test_a_manifest_in_the_state_directory_is_known_where_nobody_else_can_write_there(path: Path, index: Path) -> None:
    index.parent.mkdir(mode=0o700)
    mine = owned(index.parent, US) / "m"
    mine.write_bytes(lines(header()))
    owned(mine, US)
    with FileJournal(mine, index=index) as journal:
        assert journal.written_here
        index.parent.chmod(0o777)
        assert not journal.written_here


@pytest.mark.parametrize("below", [True, False])
def test_on_windows_the_directories_of_a_user_are_those_below_the_home(
    path: Path, index: Path, monkeypatch: pytest.MonkeyPatch, below: bool
) -> None:
    """Python shows the mode 0o777 for each directory there."""
    index.parent.mkdir()
    index.parent.chmod(0o777)
    mine = owned(index.parent, US) / "m"
    mine.write_bytes(lines(header()))
    monkeypatch.setenv("HOME", str(index.parents[1] if below else index.parent / "elsewhere"))
    monkeypatch.setattr(files, "os", OtherOs("geteuid"))
    with FileJournal(owned(mine, US), index=index) as journal:
        assert journal.written_here == below


def test_index_entries_that_somebody_else_made_count_for_nothing(path: Path, index: Path) -> None:
    index.parent.mkdir(mode=0o700)
    owned(index.parent, US)
    with FileJournal(path, index=index) as journal:
        journal.begin(header())
        for made in (index, *index.iterdir()):
            owned(made, US)
        assert journal.written_here
        for theirs in (index, *index.iterdir()):
            owned(theirs, THEM)
            assert not journal.written_here
            owned(theirs, US)

"""A file is deleted only if it is the one that was proved, at that very moment; and nothing of another one is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.manifest import Fingerprint
from bigupload.sources import removal
from bigupload.sources.file import fingerprint_of
from bigupload.sources.removal import (
    FileRemoval,
    aside_name,
    check_can_be_deleted,
    check_top,
    restore,
    restore_below,
)
from bigupload.support import systems
from tests.tools.cases import each_case
from tests.tools.other_systems import OtherOs


def made(directory: Path, name: str = "film.mov") -> Path:
    path = directory / name
    path.write_bytes(b"frames")
    return path


def of(path: Path, *, links: bool = False) -> FileRemoval:
    return FileRemoval(str(path), fingerprint_of(path.stat()), links=links)


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_a_file_is_deleted(tmp_path: Path) -> None:
    path = made(tmp_path)
    removing = of(path)
    assert removing.set_aside()
    assert names(tmp_path) == [aside_name(str(path))]
    removing.delete()
    removing.close()
    assert names(tmp_path) == []


def test_it_gets_its_name_back(tmp_path: Path) -> None:
    path = made(tmp_path)
    removing = of(path)
    removing.set_aside()
    removing.put_back()
    removing.close()
    assert names(tmp_path) == ["film.mov"]
    assert removing.restored == fingerprint_of(path.stat())  # so that the next try knows it again


def write(path: Path) -> None:
    path.write_bytes(b"other!")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"other!")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def restore_time(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"other!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES = [write, append, replace, restore_time, by_directory]


@each_case("change", CHANGES)
def test_a_changed_file_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = made(tmp_path)
    removing = of(path)
    change(path)
    with pytest.raises(errors.SourceChanged, match="was not deleted"):
        removing.set_aside()
    removing.close()
    assert path.exists()


@each_case("change", [replace, by_directory])
def test_what_takes_its_name_after_the_look_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """The renaming takes whatever has the name by then: a look at the same name, and then its deletion, would not."""
    path = made(tmp_path)
    removing, rename = of(path), os.rename

    def renaming(*names: str, **directories: int) -> None:
        change(path)
        monkeypatch.setattr(os, "rename", rename)
        rename(*names, **directories)

    monkeypatch.setattr(os, "rename", renaming)
    with pytest.raises(errors.SourceChanged):
        removing.set_aside()
    removing.close()
    assert names(tmp_path) == ["film.mov"]
    assert path.is_dir() or path.read_bytes() == b"other!"


@each_case("change", [write, append, restore_time])
def test_what_is_written_while_it_is_aside_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = made(tmp_path)
    removing = of(path)
    removing.set_aside()
    removing._let_go()  # else whoever writes would wait for the lease
    change(tmp_path / aside_name(str(path)))
    with pytest.raises(errors.SourceChanged):
        removing.delete()
    removing.close()
    assert names(tmp_path) == ["film.mov"]
    assert path.read_bytes() != b"frames"
    assert removing.restored is None


def test_what_is_written_while_it_is_aside_stays_where_no_change_time_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows the ctime is the time of creation, which a program that writes does not change."""
    path = made(tmp_path)
    real = os.stat
    created = path.stat().st_ctime_ns

    def look(*names: Any, **how: Any) -> Any:
        found = real(*names, **how)
        shown = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**shown | {"st_ctime_ns": created})

    monkeypatch.setattr(systems, "os", OtherOs(name="nt"))
    removing = of(path)
    monkeypatch.setattr(removal, "os", OtherOs(stat=look))
    assert removing.set_aside()
    removing._let_go()  # as above
    aside = tmp_path / aside_name(str(path))
    aside.write_bytes(b"other!!")
    with pytest.raises(errors.SourceChanged):
        removing.delete()
    removing.close()
    assert (names(tmp_path), path.read_bytes()) == (["film.mov"], b"other!!")


def test_a_new_file_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    path = made(tmp_path)
    removing = of(path)
    removing.set_aside()
    path.write_bytes(b"new")
    with pytest.raises(errors.SourceNotDeleted, match=r"film\.mov\.kept-1"):
        removing.put_back()
    removing.close()
    assert path.read_bytes() == b"new"
    assert (tmp_path / "film.mov.kept-1").read_bytes() == b"frames"


@each_case("number", [errno.EPERM, errno.EEXIST])
def test_without_hard_links_it_gets_its_name_back_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on exFAT. EEXIST: there is a new file, which is not replaced."""
    path = made(tmp_path)
    removing = of(path)
    removing.set_aside()
    if number == errno.EEXIST:
        path.write_bytes(b"new")

    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_link)
    if number == errno.EEXIST:
        with pytest.raises(errors.SourceNotDeleted, match="another file took its name"):
            removing.put_back()
        assert names(tmp_path) == ["film.mov", "film.mov.kept-1"]
    else:
        removing.put_back()
        assert names(tmp_path) == ["film.mov"]
    removing.close()


def test_what_a_killed_process_set_aside_gets_its_name_back(tmp_path: Path) -> None:
    for name in ("film.mov", "x" * 250):
        path = made(tmp_path).rename(tmp_path / name)
        path.rename(tmp_path / aside_name(str(path)))
        restore(str(path))
        assert names(tmp_path) == [name]
        path.unlink()


def test_all_files_of_a_directory_get_their_names_back(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for directory in (tmp_path, tmp_path / "a" / "b"):
        path = made(directory)
        path.rename(directory / aside_name(str(path)))
    restore_below(str(tmp_path))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"film.mov"}


def test_what_an_earlier_version_set_aside(tmp_path: Path) -> None:
    """Its name does not hold what the file's was."""
    path = made(tmp_path)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
    path.rename(tmp_path / f".bigupload-moved-{digest}")
    restore_below(str(tmp_path))
    assert names(tmp_path) == [f".bigupload-moved-{digest}"]
    restore(str(path))
    assert names(tmp_path) == ["film.mov"]


def test_killed_while_it_got_its_name_back(tmp_path: Path) -> None:
    """It has both names then, and is one file."""
    path = made(tmp_path)
    os.link(path, tmp_path / aside_name(str(path)))
    restore(str(path))
    assert names(tmp_path) == ["film.mov"]


def test_a_new_file_beside_what_a_killed_process_set_aside(tmp_path: Path) -> None:
    path = made(tmp_path)
    path.rename(tmp_path / aside_name(str(path)))
    path.write_bytes(b"new")
    with pytest.raises(errors.SourceNotDeleted, match="another file took its name"):
        restore(str(path))
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["film.mov", "film.mov.kept-1"]


def test_another_process_that_is_at_it_is_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path)
    first, second = of(path), of(path)
    first.set_aside()
    with pytest.raises(errors.SourceNotDeleted, match="locked") as raised:
        second.set_aside()
    second.close()
    assert raised.value.resumable
    restore(str(path))
    restore_below(str(tmp_path))
    assert names(tmp_path) == [aside_name(str(path))]
    first.delete()
    first.close()
    assert names(tmp_path) == []


def _has_leases(directory: Path) -> bool:
    fcntl = pytest.importorskip("fcntl", reason="leases are Linux's")
    path = made(directory, "probe")
    with path.open("rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except (OSError, AttributeError):
            return False
        finally:
            path.unlink()
    return True


def test_a_file_that_is_open_for_writing_stays(tmp_path: Path) -> None:
    if not _has_leases(tmp_path):
        pytest.skip("this file system has no leases")
    path = made(tmp_path)
    removing = of(path)
    with path.open("r+b"), pytest.raises(errors.SourceNotDeleted, match="open for writing") as raised:
        removing.set_aside()
    removing.close()
    assert raised.value.resumable
    assert names(tmp_path) == ["film.mov"]


def test_a_program_that_opens_it_for_writing_while_it_is_aside_keeps_it(tmp_path: Path) -> None:
    """It has to wait for the lease, which shows it; and the signal of that ends no process."""
    if not _has_leases(tmp_path):
        pytest.skip("this file system has no leases")
    path = made(tmp_path)
    removing = of(path)
    removing.set_aside()
    aside = tmp_path / aside_name(str(path))
    with pytest.raises(BlockingIOError):
        os.close(os.open(aside, os.O_WRONLY | os.O_NONBLOCK))
    with pytest.raises(errors.SourceChanged):
        removing.delete()
    removing.close()
    assert names(tmp_path) == ["film.mov"]


def test_hard_links(tmp_path: Path) -> None:
    path = made(tmp_path)
    os.link(path, tmp_path / "other")
    with pytest.raises(errors.SourceNotDeleted, match="2 hard links"):
        check_can_be_deleted(str(path), links=False)
    check_can_be_deleted(str(path), links=True)
    removing = of(path)
    with pytest.raises(errors.SourceNotDeleted, match="2 hard links"):
        removing.set_aside()
    removing.close()
    assert names(tmp_path) == ["film.mov", "other"]
    removing = of(path, links=True)
    assert removing.set_aside()
    removing.delete()
    removing.close()
    assert names(tmp_path) == ["other"]


def test_symbolic_links(tmp_path: Path) -> None:
    path, link = made(tmp_path), tmp_path / "link"
    link.symlink_to("film.mov")
    with pytest.raises(errors.SourceNotDeleted, match="symbolic link"):
        check_can_be_deleted(str(link), links=False)
    removing = of(link)
    with pytest.raises(errors.SourceNotDeleted, match="symbolic link"):
        removing.set_aside()
    removing.close()
    changed = FileRemoval(str(link), Fingerprint(1, 2, 3, 4), links=True)
    with pytest.raises(errors.SourceChanged):  # it leads elsewhere now
        changed.set_aside()
    changed.close()
    assert names(tmp_path) == ["film.mov", "link"]
    removing = of(link, links=True)
    assert removing.set_aside()
    removing.delete()
    removing.close()
    assert names(tmp_path) == ["film.mov"]
    assert path.read_bytes() == b"frames"


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = made(tmp_path)
    removing = of(path)
    path.unlink()
    assert not removing.set_aside()
    removing.close()
    (tmp_path / "d").mkdir()
    removing = of(made(tmp_path / "d"))
    (tmp_path / "d" / "film.mov").unlink()
    (tmp_path / "d").rmdir()
    assert not removing.set_aside()
    removing.close()


def test_directories_that_become_empty(tmp_path: Path) -> None:
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    path = made(tmp_path / "top" / "a" / "b")
    (tmp_path / "top" / "a" / "stays").touch()
    removing = of(path)
    removing.remove_empty_directories(str(tmp_path / "top"))
    assert path.exists()
    path.unlink()
    removing.remove_empty_directories(str(tmp_path / "top"))
    assert names(tmp_path / "top" / "a") == ["stays"]
    (tmp_path / "top" / "a" / "stays").unlink()
    (tmp_path / "top" / "a" / "b").mkdir()
    removing.remove_empty_directories(str(tmp_path / "top"))
    assert names(tmp_path) == ["top"]
    assert names(tmp_path / "top") == []


_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[2])
from bigupload import errors
from bigupload.sources.removal import check_can_be_deleted, check_top
from bigupload.sources.removal import FileRemoval
from bigupload.sources.file import fingerprint_of
path = sys.argv[1]
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
for look in (lambda: check_can_be_deleted(path, links=False), lambda: check_top(os.path.dirname(path)),
             lambda: FileRemoval(path, fingerprint_of(os.stat(path)), links=False).set_aside()):
    try:
        look()
    except errors.SourceNotDeleted as e:
        print(e)
    else:
        print("may")
"""


def _open_the_way(directory: Path) -> None:
    """Let another user reach a directory: pytest makes those above it for one user alone."""
    for above in (directory, *directory.parents):
        if above.name.startswith(("pytest-", "popen-", "test_")):
            above.chmod(0o755)


def _as_nobody(path: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _NOBODY, str(path), str(Path(removal.__file__).parents[2])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_directory_that_may_not_be_written_to(tmp_path: Path) -> None:
    _open_the_way(tmp_path)
    path = made(tmp_path)
    tmp_path.chmod(0o555)
    try:
        before, top, at_it = _as_nobody(path)
    finally:
        tmp_path.chmod(0o755)
    assert "you may not write to it. Nothing was sent" in before
    assert before == top
    assert at_it.endswith("Permission denied")
    assert names(tmp_path) == ["film.mov"]


def test_another_users_file_in_a_directory_as_tmp(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs files of two users")
    _open_the_way(tmp_path)
    path = made(tmp_path)
    tmp_path.chmod(0o1777)
    before, top, at_it = _as_nobody(path)
    assert "each user deletes only their own files" in before
    assert top == "may"  # who knows whose the others are
    assert "not permitted" in at_it
    assert names(tmp_path) == ["film.mov"]


def test_a_mounted_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path)
    for kind in ("ext4", "fuse.sshfs", "fuse"):
        monkeypatch.setattr(removal, "file_system", lambda _, kind=kind: kind)
        check_can_be_deleted(str(path), links=False)
    monkeypatch.setattr(removal, "file_system", lambda _: "fuse.mountpoint-s3")
    with pytest.raises(errors.SourceNotDeleted, match="mounted bucket"):
        check_can_be_deleted(str(path), links=False)


def test_the_file_system_of_a_device(tmp_path: Path) -> None:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    known = {removal.file_system(os.stat(fields[4]).st_dev) for fields in mounts if os.access(fields[4], os.R_OK)}
    assert "proc" in known
    assert removal.file_system(os.makedev(4000, 4000)) == ""


def test_what_is_not_there_is_no_error_before(tmp_path: Path) -> None:
    check_can_be_deleted(str(tmp_path / "none"), links=False)
    check_top(str(tmp_path / "none"))
    check_top(str(tmp_path))

"""The file to upload: what is refused, what is read, and that every way to change it is noticed."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.sources.file import FileSource

DATA = bytes(range(256)) * 40


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


# -- what can be uploaded


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match="no such file"):
        FileSource(tmp_path / "missing")


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceError):
        FileSource(f"{tmp_path}/a\0b")
    with pytest.raises(errors.SourceError):
        FileSource(tmp_path / ("x" * 5000))


def test_a_file_in_the_place_of_a_directory(path: Path) -> None:
    with pytest.raises(errors.SourceUnreadable, match="Not a directory"):
        FileSource(path / "child")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceUnsupported, match="is a directory"):
        FileSource(tmp_path)


def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(errors.SourceUnsupported, match="not a regular file"):
        FileSource(tmp_path / "fifo")


def test_a_device() -> None:
    with pytest.raises(errors.SourceUnsupported, match="not a regular file"):
        FileSource(os.devnull)


def test_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(errors.SourceUnsupported, match="not a regular file"):
            FileSource("socket")


def test_a_fifo_that_takes_the_files_place_just_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open
    opened: list[int] = []

    def swap_then_open(name: str, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        opened.append(real_open(name, flags))
        return opened[-1]

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(errors.SourceUnsupported):
        FileSource(path)
    with pytest.raises(OSError, match="Bad file descriptor"):  # and it is not left open
        os.fstat(opened[0])


def test_no_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:  # root may read everything, so the refusal is played
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(errors.SourceUnreadable, match="Permission denied") as caught:
        FileSource(path)
    assert isinstance(caught.value.__cause__, PermissionError)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with FileSource(tmp_path / "empty") as source:
        assert source.fingerprint.size == 0
        assert source.read_into(memoryview(bytearray(8)), 0) == 0
        source.check()


@pytest.mark.parametrize("path", ["/proc/cpuinfo", "/proc/self/status"])
def test_a_file_that_has_more_than_it_says(path: str) -> None:
    """Its size is 0: it would become an empty object, proved by the checksum of nothing."""
    with pytest.raises(errors.SourceUnsupported, match=r"more bytes than its size says \(0\).*copy it into a regular"):
        FileSource(path)


def test_a_file_whose_size_does_not_follow_its_bytes(
    path: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that caches attributes: there are more bytes by now, and the size is the old one."""
    status = path.stat()
    append(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda _: status)
        patch.setattr(os, "stat", lambda _: status)
        with pytest.raises(errors.SourceUnsupported, match=f"more bytes than its size says .{len(DATA):,}"):
            source.check()


def test_a_link_is_followed(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with FileSource(link) as source:
        assert source.path == str(link)
        assert source.fingerprint.size == len(DATA)
        source.check()


def test_the_path_is_absolute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with FileSource("file") as source:
        assert source.path == str(path)


def test_the_fingerprint(path: Path, source: FileSource) -> None:
    status = path.stat()
    found = source.fingerprint
    assert (found.size, found.mtime_ns, found.ctime_ns, found.inode) == (
        len(DATA), 10**18, status.st_ctime_ns, status.st_ino,
    )  # fmt: skip


def test_close_is_idempotent_and_closes(path: Path) -> None:
    source = FileSource(path)
    descriptor = source.fileno()
    source.close()
    source.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_close_waits_for_a_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read in an abandoned thread would else read whatever file gets the descriptor's number next."""
    reading, closed = threading.Event(), threading.Event()
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        reading.set()
        assert closed.wait(10)
        return real(fd, buffers, offset)

    source = FileSource(path)
    descriptor = source.fileno()
    monkeypatch.setattr(os, "preadv", preadv)
    buffer = bytearray(100)
    thread = threading.Thread(target=source.read_into, args=(memoryview(buffer), 0))
    thread.start()
    assert reading.wait(10)
    source.close()
    os.fstat(descriptor)
    closed.set()
    thread.join()
    assert buffer == DATA[:100]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(errors.SourceUnreadable, match="it was closed"):
        source.read_into(memoryview(buffer), 0)


# -- reading


@pytest.fixture(params=["preadv", "lseek and read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where os.preadv is missing, the descriptor's one position is shared."""
    if request.param != "preadv":
        monkeypatch.delattr(os, "preadv")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("offset", "size"), [(0, 0), (0, 10), (100, 1), (len(DATA) - 5, 5), (0, len(DATA)), (5000, 3000)]
)
def test_ranges(source: FileSource, offset: int, size: int) -> None:
    buffer = bytearray(size)
    assert source.read_into(memoryview(buffer), offset) == size
    assert buffer == DATA[offset : offset + size]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("offset", "count"), [(len(DATA) - 5, 5), (len(DATA), 0), (len(DATA) + 100, 0)])
def test_past_the_end(source: FileSource, offset: int, count: int) -> None:
    buffer = bytearray(b"\xaa" * 20)
    assert source.read_into(memoryview(buffer), offset) == count
    assert buffer == DATA[offset : offset + count] + b"\xaa" * (20 - count)


def test_short_reads_are_continued(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: real(fd, [buffers[0][:7]], offset))
    buffer = bytearray(1000)
    assert source.read_into(memoryview(buffer), 3) == 1000
    assert buffer == DATA[3:1003]


@pytest.mark.usefixtures("way")
def test_many_threads_read_at_once(source: FileSource) -> None:
    wrong: list[int] = []

    def read(seed: int) -> None:
        buffer = bytearray(100)
        for turn in range(200):
            offset = (seed * 997 + turn * 131) % (len(DATA) - 100)
            source.read_into(memoryview(buffer), offset)
            if buffer != DATA[offset : offset + 100]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_disk_that_fails_says_where(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def fail(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset >= 2000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, [buffers[0][:1000]], offset)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(errors.SourceUnreadable, match="at byte 2,000: Input/output error"):
        source.read_into(memoryview(bytearray(5000)), 0)


# -- holding still


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


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


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


def test_a_file_that_holds_still(source: FileSource) -> None:
    source.read_into(memoryview(bytearray(100)), 0)
    source.check()


@pytest.mark.parametrize(("change", "same_size"), CHANGES)
def test_every_change_is_noticed(
    path: Path, source: FileSource, change: Callable[[Path], None], same_size: bool
) -> None:
    change(path)
    with pytest.raises(errors.SourceChanged) as caught:
        source.check()
    assert caught.value.resumable == same_size
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


def test_rename_over_by_a_file_of_another_size(path: Path, source: FileSource) -> None:
    other = path.with_name("other")
    other.write_bytes(b"short")
    other.rename(path)
    with pytest.raises(errors.SourceChanged):
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

"""The file to upload: what is refused, and what is read."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.sources.file import FileSource

from .support import DATA, append

# -- what can be uploaded


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceError):
        FileSource(f"{tmp_path}/a\0b")
    with pytest.raises(errors.SourceError):
        FileSource(tmp_path / ("x" * 5000))


def test_a_file_in_the_place_of_a_directory(path: Path) -> None:
    with pytest.raises(errors.SourceUnreadable, match="Not a directory"):
        FileSource(path / "child")


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

    def swap_then_open(name: str, flags: int, *_: int) -> int:
        path.unlink()
        os.mkfifo(path)
        opened.append(real_open(name, flags))
        return opened[-1]

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(errors.SourceUnsupported):
        FileSource(path)
    with pytest.raises(OSError, match="Bad file descriptor"):  # and it is not left open
        os.fstat(opened[0])


@pytest.mark.parametrize("path", ["/proc/cpuinfo", "/proc/self/status"])
def test_a_file_that_has_more_than_it_says(path: str) -> None:
    """Its size is 0: it would become an empty object, proved by the checksum of nothing."""
    with pytest.raises(errors.SourceUnsupported, match=r"more bytes than its size of 0, .*copy it into a regular"):
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
        with pytest.raises(errors.SourceUnsupported, match=f"more bytes than its size of {len(DATA):,}"):
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
        monkeypatch.delattr(os, "preadv", raising=False)


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


def test_a_disk_that_fails_says_where(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def fail(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset >= 2000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, [buffers[0][:1000]], offset)

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(errors.SourceUnreadable, match="at byte 2,000: Input/output error"):
        source.read_into(memoryview(bytearray(5000)), 0)

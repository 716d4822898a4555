"""Whether a file's bytes are in the page cache is what the kernel says, and "no" where it can't tell."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bigupload.support import pages

MIB = 1024 * 1024
SIZE = 3 * MIB + 5


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A file that is on disk and in the page cache."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256))
    opened = os.open(path, os.O_RDWR)
    os.fsync(opened)
    try:
        os.preadv(opened, [bytearray(1)], 0, os.RWF_NOWAIT)
    except (AttributeError, OSError):
        os.close(opened)
        pytest.skip("this system or this file system can't tell")
    yield opened
    os.close(opened)


def evict(fd: int) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def test_what_was_just_written_is_cached(fd: int) -> None:
    assert pages.is_cached(fd, 0, SIZE)
    assert pages.is_cached(fd, SIZE - 1, 1)
    buffer = bytearray(1000)
    assert pages.read_cached(fd, memoryview(buffer), 256) == 1000
    assert buffer == (bytes(range(256)) * 4)[:1000]


def test_what_was_evicted_is_not(fd: int) -> None:
    """The kernel is asked again: a page that it holds for something else at that moment stays."""
    for _ in range(100_000):
        evict(fd)
        if not pages.is_cached(fd, 0, SIZE) and pages.read_cached(fd, memoryview(bytearray(1000)), 2 * MIB) == 0:
            return
    pytest.fail("the file is said to be in the page cache")


@pytest.mark.parametrize("offset", [0, 1, MIB - 1, 12_345])
def test_every_mib_that_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    """The kernel evicts as it likes, so the cache is played."""
    for missing in range(offset, offset + SIZE - MIB + 1, 100_000):
        gap = range(missing, missing + MIB)
        monkeypatch.setattr(pages, "read_cached", lambda fd, buffer, at, gap=gap: int(at not in gap))
        assert not pages.is_cached(0, offset, SIZE)


def test_past_the_end_nothing_is_cached(fd: int) -> None:
    assert not pages.is_cached(fd, 0, SIZE + 1)
    assert pages.read_cached(fd, memoryview(bytearray(10)), SIZE - 3) == 3
    assert pages.read_cached(fd, memoryview(bytearray(10)), SIZE) == 0


def test_a_file_system_that_can_not_tell() -> None:
    fd = os.open("/proc/cpuinfo", os.O_RDONLY)
    try:
        assert not pages.is_cached(fd, 0, 1)
    finally:
        os.close(fd)


def test_a_system_that_can_not_tell(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_NOWAIT", None)
    assert not pages.is_cached(fd, 0, 1)
    assert pages.read_cached(fd, memoryview(bytearray(10)), 0) == 0


def test_a_file_system_that_cannot_tell_is_not_a_local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    monkeypatch.setattr(pages, "_NOWAIT", 8)  # also where Python has no name for it
    with path.open("rb") as file:
        monkeypatch.setattr(pages.os, "preadv", raising(OSError(errno.EOPNOTSUPP, "not supported")))
        assert not pages.is_on_local_disk(file.fileno())
        monkeypatch.setattr(pages.os, "preadv", raising(BlockingIOError()))
        assert pages.is_on_local_disk(file.fileno()), "what is not cached is on a disk all the same"
        monkeypatch.setattr(pages, "_NOWAIT", None)
        assert not pages.is_on_local_disk(file.fileno())


def raising(error: OSError) -> Callable[..., int]:
    def preadv(*_: object) -> int:
        raise error

    return preadv

"""What operating systems do otherwise changes nothing of what files, signals and programs do."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bigupload.batch.tree import FileEntry
from bigupload.core.manifest import Fingerprint
from bigupload.manifests import job_record
from bigupload.sources.file import FileSource
from bigupload.support import systems
from bigupload.support.files import create_private, open_to_append
from bigupload.support.systems import end_group, on_signal, open_binary, read_at, sync_to_disk, write_at
from tests.tools.other_systems import LoopOfWindows, OtherOs, translate_line_ends
from tests.tools.waiting import until

FULL = 51
"""F_FULLFSYNC on macOS."""
PIECE = 4096


@pytest.mark.parametrize("opening", [create_private, open_to_append])
def test_bytes_are_written_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: Callable[[Path], int]
) -> None:
    path = tmp_path / "file"
    with monkeypatch.context() as patch:
        if os.name != "nt":  # which does it itself
            translate_line_ends(patch)
        fd = opening(path)
        os.write(fd, b"one\ntwo\x1a\n")
        os.close(fd)
    assert path.read_bytes() == b"one\ntwo\x1a\n"


# -- to the disk


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which ways to sync were taken."""
    taken: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: taken.append("fsync") or real(fd))
    return taken


def _macos(monkeypatch: pytest.MonkeyPatch, syncs: list[str], number: int | None) -> None:
    def control(fd: int, command: int, *_: Any) -> int:
        assert command == FULL
        syncs.append("full")
        if number is not None:
            raise OSError(number, os.strerror(number))
        return 0

    fcntl = pytest.importorskip("fcntl", reason="macOS has it")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)


@pytest.mark.parametrize(
    ("number", "taken"),
    [(None, ["full"]), (errno.ENOTSUP, ["full", "fsync"]), (errno.EINVAL, ["full", "fsync"])],
)
def test_macos_empties_the_disks_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[str], number: int | None, taken: list[str]
) -> None:
    with (tmp_path / "file").open("wb") as file:
        _macos(monkeypatch, syncs, number)
        sync_to_disk(file.fileno())
    assert syncs == taken


def test_a_full_sync_that_fails_is_not_hidden_by_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[str]
) -> None:
    with (tmp_path / "file").open("wb") as file:
        _macos(monkeypatch, syncs, errno.EIO)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            sync_to_disk(file.fileno())
    assert syncs == ["full"]


def test_without_fcntl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: list[str]) -> None:
    monkeypatch.setattr(systems, "_HAS_FCNTL", False)
    with (tmp_path / "file").open("wb") as file, monkeypatch.context() as searched:
        searched.setattr("builtins.__import__", lambda name, *_: pytest.fail(f"searches each directory for {name}"))
        sync_to_disk(file.fileno())
    assert syncs == ["fsync"]


def test_the_databases_empty_the_disks_cache_too(tmp_path: Path) -> None:
    opened = job_record.open_database(tmp_path / "record")
    assert opened.execute("PRAGMA fullfsync").fetchone() == (1,)
    opened.close()


# -- the time of change


@pytest.mark.skipif(os.name == "nt", reason="the first half is of other systems")
def test_the_time_of_creation_is_no_time_of_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    status = path.stat()
    on_windows = Fingerprint(4, status.st_mtime_ns, 0, status.st_ino)
    with FileSource(path) as source:
        assert source.fingerprint.ctime_ns == status.st_ctime_ns
    monkeypatch.setattr(systems, "os", OtherOs(name="nt"))
    with FileSource(path) as source:
        path.chmod(0o600)  # another ctime, which stands for another time of creation
        source.check()
        assert (source.fingerprint, source.metadata_changed) == (on_windows, False)
    assert FileEntry.of(str(path), "file", path.stat()).fingerprint == on_windows


# -- at a position


@pytest.mark.parametrize("lacks", [(), ("preadv", "pread", "pwrite", "pwritev")], ids=["positions", "one position"])
def test_threads_read_and_write_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: tuple[str, ...]
) -> None:
    monkeypatch.setattr(systems, "os", OtherOs(*lacks))
    together = threading.Barrier(4)
    fd = open_binary(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)

    def work(first: int) -> None:
        together.wait(30)
        for number in range(first, 400, 4):
            piece = number.to_bytes(4) * (PIECE // 4)
            assert write_at(fd, memoryview(piece), number * PIECE) == PIECE
            found = bytearray(PIECE)
            assert read_at(fd, memoryview(found), number * PIECE) == PIECE
            assert found == piece

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert read_at(fd, memoryview(bytearray(9)), 400 * PIECE - 3) == 3
    assert read_at(fd, memoryview(bytearray(9)), 400 * PIECE) == 0
    os.close(fd)


def test_threads_that_share_a_position_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is stopped between its `lseek` and its `read`, and another one would move the position there."""
    (tmp_path / "file").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    at_seek, go_on = threading.Event(), threading.Event()

    def seek(descriptor: int, offset: int, how: int) -> int:
        at = os.lseek(descriptor, offset, how)
        if offset == 3:
            at_seek.set()
            go_on.wait(30)
        return at

    monkeypatch.setattr(systems, "os", OtherOs("preadv", lseek=seek))
    first, second = memoryview(bytearray(2)), memoryview(bytearray(2))
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(read_at, fd, first, 3)
        assert at_seek.wait(30)
        fast = threads.submit(read_at, fd, second, 7)
        while not fast.running():
            pass
        go_on.set()
        assert (slow.result(30), fast.result(30)) == (2, 2)
    os.close(fd)
    assert (bytes(first), bytes(second)) == (b"34", b"78")


# -- signals and programs


@pytest.mark.skipif(os.name == "nt", reason="it has no SIGUSR1")
@pytest.mark.parametrize("loop_of", [asyncio.SelectorEventLoop, LoopOfWindows])
def test_a_signal_is_heard_in_the_event_loop(loop_of: Callable[[], asyncio.AbstractEventLoop]) -> None:
    before = signal.getsignal(signal.SIGUSR1)

    async def hear() -> list[int]:
        heard: list[int] = []
        watched = on_signal(asyncio.get_running_loop(), signal.SIGUSR1, heard.append)
        assert watched is (loop_of is asyncio.SelectorEventLoop)
        signal.raise_signal(signal.SIGUSR1)
        await until(lambda: bool(heard))
        return heard

    try:
        with asyncio.Runner(loop_factory=loop_of) as runner:
            assert runner.run(hear()) == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


CHILD = """
import sys
print("begun", flush=True)
sys.stdin.read()
print("still here")
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD!r}], stdin=sys.stdin, stdout=sys.stdout)
"""
TASKKILL = """#!{python}
import os, pathlib, signal, sys
assert sys.argv[1:4] == ["/F", "/T", "/PID"]
pid = int(sys.argv[4])
for child in pathlib.Path(f"/proc/{{pid}}/task/{{pid}}/children").read_text().split():
    os.kill(int(child), signal.SIGKILL)
os.kill(pid, signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="the system has the program")
@pytest.mark.skipif(
    not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="the program that is made here reads it"
)
def test_without_groups_the_program_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "System32" / "taskkill.exe"
    program.parent.mkdir()
    program.write_text(TASKKILL.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    monkeypatch.setattr(systems, "os", OtherOs("killpg"))
    _end_a_program_and_its_child()


@pytest.mark.skipif(os.name != "nt", reason="no system with groups of processes")
def test_windows_ends_the_program_with_what_it_started() -> None:
    _end_a_program_and_its_child()


def _end_a_program_and_its_child() -> None:
    """The child reads this test's pipe to its end, so that it does not end because its parent has."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"begun"
        end_group(process.pid, systems.KILL)
        assert process.wait(60) != 0
        process.stdin.close()
        assert process.stdout.read() == b""


@pytest.mark.parametrize("status", [1, None], ids=["it fails", "it is not there"])
def test_without_that_program_the_one_program_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    if status is not None:
        program = tmp_path / "System32" / "taskkill.exe"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nexit {status}\n")
        program.chmod(0o700)
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    monkeypatch.setattr(systems, "os", OtherOs("killpg"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        end_group(process.pid, systems.KILL)
        assert process.wait(60) in (-systems.KILL, systems.KILL)  # Windows has no signals that end

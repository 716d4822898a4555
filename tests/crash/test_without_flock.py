"""The real command on a file system without `flock`, as Lustre is by default: it is killed, and runs again."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bigupload.testing.faults import Stall
from bigupload.testing.strict_s3 import StrictS3

from .running import Place, end_of, random_file, until

_WITHOUT_FLOCK = """
import errno, fcntl, os, runpy
def flock(fd, operation):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
fcntl.flock = flock
runpy.run_module("bigupload", run_name="__main__", alter_sys=True)
"""
COMMAND = [sys.executable, "-c", _WITHOUT_FLOCK]
MIB = 1024 * 1024
FILES = 4


def _file(directory: Path) -> list[str | Path]:
    random_file(directory / "file", 12 * MIB, seed=1)
    return ["upload", directory / "file", "--to", "s3://bucket/p/file", "--part-size", "5MiB"]


def _job(directory: Path) -> list[str | Path]:
    return ["upload", _tree(directory), "--to", "s3://bucket/p/"]


def _sync(directory: Path) -> list[str | Path]:
    return ["sync", _tree(directory), "--to", "s3://bucket/p/"]


def _tree(directory: Path) -> Path:
    root = directory / "tree"
    root.mkdir()
    for number in range(FILES):
        random_file(root / str(number), 1000, seed=number)
    return root


@pytest.mark.exhaustive
@pytest.mark.parametrize(("call", "after"), [(_file, 0.0), (_job, 0.0), (_sync, 0.0), (_file, 15.0)])
def test_what_is_killed_runs_again_and_what_lives_keeps_its_lock(
    s3: StrictS3, tmp_path: Path, call: Callable[[Path], list[str | Path]], after: float
) -> None:
    """`after`: seconds since the kill."""
    place = Place(tmp_path)
    s3.script("UploadPart" if call is _file else "PutObject", *[Stall(0)] * FILES)
    command = [*call(tmp_path), "--endpoint-url", s3.url, "--progress", "none"]
    operations = ("UploadPart", "PutObject")
    with place.start(*command, command=COMMAND) as process:
        try:
            until(lambda: any(each.op in operations for each in s3.requests), process)
            locked = place.run(*command, command=COMMAND)
        finally:
            process.kill()
        end_of(process)
    for lock in place.state.glob("*.lock*"):
        killed = lock.stat().st_mtime - after
        os.utime(lock, (killed, killed))
    s3.clear()
    s3.release()
    again = place.run(*command, command=COMMAND)
    assert (again.code, again.err) == (0, "")
    assert locked.code == 75
    assert re.search(rf" is running(?: already)? \(process {process.pid} on \S+\): wait", locked.complaint)
    assert not list(place.state.glob("*.lock*")), "locks end with the command"

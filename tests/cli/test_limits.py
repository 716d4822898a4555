"""A system that gives the process no more memory, no descriptor or no larger file, as by `ulimit`: one line, and it
resumes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bigupload.cli import OUT_OF_MEMORY
from bigupload.engine.part_hashing import PartHasher
from bigupload.sources.file import FileSource
from bigupload.sources.objects import SmallFileReader
from bigupload.support.files import OUT_OF_DESCRIPTORS
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place, driver

from .support import IN_PARTS, Command, to

MIB = 1 << 20
_LIMITED = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
runpy.run_module("bigupload", run_name="__main__", alter_sys=True)
"""


def none_left(*_: Any, **__: Any) -> None:
    raise MemoryError


def test_files_that_do_not_fit_end_in_one_line(
    bigupload: Command, s3: StrictS3, place: Place, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = place.directory / "tree"
    tree.mkdir()
    (tree / "small").write_bytes(b"small")
    calls = {
        ("sync", tree, *to(s3, "s3://bucket/p/")): (SmallFileReader, "_read"),
        ("upload", file, *to(s3), *IN_PARTS): (FileSource, "read_into"),  # it comes in an exception group
    }
    for call, (where, name) in calls.items():
        with monkeypatch.context() as patch:
            patch.setattr(where, name, none_left)
            ended = bigupload(*call)
        assert (ended.code, ended.err.splitlines()[-1]) == (75, f"bigupload: {OUT_OF_MEMORY}")
        assert "Traceback" not in ended.err
        assert bigupload(*call).code == 0
    assert s3.objects["bucket"]["key"].body == file.read_bytes()
    assert s3.objects["bucket"]["p/small"].body == b"small"


def test_a_library_that_does_not_fit(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unloaded(*_: Any, **__: Any) -> None:
        raise ImportError("/lib/x.so: failed to map segment from shared object")

    monkeypatch.setattr(FileSource, "read_into", unloaded)
    assert bigupload("upload", file, *to(s3), *IN_PARTS).complaint == f"bigupload: {OUT_OF_MEMORY}"


def test_a_library_that_finds_no_descriptor(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few descriptors, the late import of a module fails, wherever that is."""
    for error in (
        OSError(errno.EMFILE, "Too many open files", "/lib/x.py"),
        ImportError("/lib/x.so: cannot open shared object file: Too many open files"),
    ):

        def unloaded(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(PartHasher, "hash", unloaded)
            ended = bigupload("upload", file, *to(s3), *IN_PARTS)
        said = f"bigupload: {file}: {OUT_OF_DESCRIPTORS}, and try again"
        assert (ended.code, ended.err.splitlines()[-1]) == (75, said)
        assert "Traceback" not in ended.err
        assert bigupload("upload", file, *to(s3), *IN_PARTS).code == 0


def test_another_import_error_is_not_hidden(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr(FileSource, "read_into", broken)
    with pytest.raises((ImportError, BaseExceptionGroup)):
        bigupload("upload", file, *to(s3), *IN_PARTS)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
@pytest.mark.parametrize("kind", ["tree", "stream", "file"])
def test_each_of_several_limits(s3: StrictS3, place: Place, kind: str) -> None:
    directory, given = place.directory, place.directory / "given"
    given.write_bytes(bytes(60 * MIB))
    tree = directory / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / str(number)).write_bytes(bytes(MIB))
    source = {"tree": ["sync", tree], "stream": ["upload", "-"], "file": ["upload", given]}[kind]
    command = [
        *source,
        *to(s3, f"s3://bucket/{kind}/" if kind == "tree" else f"s3://bucket/{kind}"),
        "--progress",
        "none",
        "--give-up-after",
        "5s",
    ]
    command += [] if kind == "tree" else ["--part-size", "20MiB"]
    ended = []
    for limit in (60, 90, 150, 250):
        with given.open("rb") as stdin:
            done = subprocess.run(
                [sys.executable, "-c", _LIMITED, str(limit * MIB), *map(str, command)],
                env=place.environment(), stdin=stdin, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
        # A library of C may abort where it gets no memory: nothing can be said then. asyncio may log a failed read.
        assert done.returncode in (0, 75, -6), (limit, done)
        said = [line for line in done.stderr.splitlines() if line.startswith("bigupload:")]
        assert done.returncode != 75 or any("memory" in line for line in said), done.stderr
        ended.append((limit, done.returncode))
    with given.open("rb") as stdin:
        whole = subprocess.run(
            [sys.executable, "-m", "bigupload", *map(str, command)],
            env=place.environment(), stdin=stdin, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    print(kind, ended)
    assert whole.returncode == 0, whole.stderr
    assert any(code == 75 for _, code in ended)


@pytest.mark.parametrize("most", [0, 4096], ids=["nothing", "a page"])
@pytest.mark.parametrize("command", ["upload", "move", "sync"])
def test_a_file_that_may_not_grow(s3: StrictS3, place: Place, file: Path, command: str, most: int) -> None:
    """The limit is named. SQLite, which writes a job's record, says "disk I/O error"."""
    source = [file.parent] if command == "sync" else [file, *IN_PARTS]
    limited = driver(["--largest-file", str(most)])
    ended = place.run(command, *source, *to(s3, "s3://bucket/p/"), "--progress", "none", command=limited)
    if command != "sync" and most == 4096:
        assert ended.code == 0, "a manifest of two parts is shorter"
    else:
        assert ended.code == 75
        assert "this process may not write so large a file: allow more (ulimit -f)" in ended.complaint

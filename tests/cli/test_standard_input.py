"""`bigupload upload -`: a pipe, what guards it, and its replay."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.cli.unfinished import connection_of
from bigupload.cli.upload import _sample
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.integration.streams import pipe
from tests.tools.cases import each_case

from .support import IN_PARTS, SIZE, Command, assert_refused, to


@contextlib.contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """A pipe in the place of this process's standard input, and somebody who writes into it."""
    with pipe(data) as reading:
        saved = os.dup(0)
        os.dup2(reading.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(saved, 0)
            os.close(saved)


@pytest.fixture
def data(file: Path) -> bytes:
    return file.read_bytes()


def test_a_pipe(bigupload: Command, s3: StrictS3, place: Place, data: bytes) -> None:
    with standard_input(data):
        ended = bigupload("upload", "-", *to(s3, "s3://bucket/a/"), "--name=movie.mov", "--json", "--progress=none")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.result["key"], ended.result["size"], ended.result["path"]) == ("a/movie.mov", SIZE, "movie.mov")
    assert ended.result["verified"] == "full-object"
    assert s3.objects["bucket"]["a/movie.mov"].sha256() == hashlib.sha256(data).hexdigest()


def test_the_same_pipe_again_resumes(bigupload: Command, s3: StrictS3, place: Place, data: bytes) -> None:
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    arguments = ["upload", "-", *to(s3), "--part-size", "5MiB", "--progress=none"]
    with standard_input(data):
        assert bigupload(*arguments).code == 75
    s3.clear("CompleteMultipartUpload")
    assert "key → s3://bucket/key" in bigupload("status").out
    before = s3.count("UploadPart")
    with standard_input(data):
        ended = bigupload(*arguments, "--json")
    assert (ended.code, ended.result["resumed_parts"], ended.result["bytes_sent"]) == (0, 2, 0)
    assert s3.count("UploadPart") == before


def test_it_is_told_which_uploads_need_their_bytes_again(
    bigupload: Command, s3: StrictS3, data: bytes, tmp_path: Path
) -> None:
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    apart = ["--manifest", str(tmp_path / "m.jsonl")]
    for more in (["--expected-size", str(SIZE)], ["--name", "film of mine.mov"], apart):
        with standard_input(data):
            bigupload("upload", "-", *to(s3), "--progress=none", *more)
    ended = bigupload("resume")
    assert (ended.code, ended.out) == (0, "")
    first, *commands, last = ended.err.splitlines()
    assert last.startswith("If --expected-size was wrong, the command fails again")
    assert first == (
        "3 unfinished uploads came from pipes. To resume each, run its program again, with the same bytes:"
    )
    assert commands == [
        f"  PROGRAM | bigupload upload - s3://bucket/key --endpoint-url {s3.url} --expected-size {SIZE}",
        f"  PROGRAM | bigupload upload - s3://bucket/key --name 'film of mine.mov' --endpoint-url {s3.url}",
        f"  PROGRAM | bigupload upload - s3://bucket/key --endpoint-url {s3.url} {' '.join(apart)}",
    ]
    held, *told = bigupload("status").err.splitlines()
    assert (held.partition(": ")[2], told) == ("bigupload abort ID deletes the parts", [first, *commands, last])
    s3.clear("CompleteMultipartUpload")
    before = s3.count("UploadPart")
    for command in commands:
        with standard_input(data):
            assert bigupload(*shlex.split(command)[3:], "--progress=none").code == 0
    assert s3.count("UploadPart") == before, "each command finds its upload"


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("bash") is None, reason="the command is for bash and zsh")
@pytest.mark.parametrize("marker", ["complete", "THE END\n", "it's \t a \\ back\u202eslash", "ä  ö"])
def test_the_command_of_a_pipe_has_its_end_marker(bigupload: Command, s3: StrictS3, data: bytes, marker: str) -> None:
    """Without it, a pipe that breaks off would be taken for a whole one."""
    with standard_input(data):
        assert bigupload("upload", "-", *to(s3), "--end-marker", marker, "--progress=none").code == 75
    _, command = bigupload("resume").err.splitlines()
    _, _, words = command.partition("bigupload upload ")
    bash = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], stdout=subprocess.PIPE, check=True)
    arguments = bash.stdout.decode().split("\0")[:-1]
    assert marker in arguments
    with standard_input(data):
        assert_refused(bigupload("upload", "-", *to(s3), "--progress=none"), 2, "began with an --end-marker")
    with standard_input(data + marker.encode()):
        assert bigupload("upload", *arguments, "--progress=none").code == 0
    assert s3.objects["bucket"]["key"].sha256() == hashlib.sha256(data).hexdigest()


def test_the_command_of_a_pipe_reaches_the_same_store() -> None:
    recorded = {"local": True, "profile": "work", "no_sign_request": True, "sse_customer_key": "x", "secret_key": "y"}
    assert connection_of(recorded) == ["--local", "--profile", "work", "--no-sign-request"]


def test_a_wrong_expected_size_of_an_earlier_run(bigupload: Command, s3: StrictS3, data: bytes) -> None:
    pipe = ["upload", "-", *to(s3), "--part-size=5MiB", "--progress=none"]
    anew = "start anew with --no-resume, and the true --expected-size or none"
    with standard_input(data):
        assert_refused(
            bigupload(*pipe, "--expected-size=7MB"), 75, "7,000,000 were expected: did its writer fail", anew
        )
    wrong = "If --expected-size was wrong, the command fails again: add --no-resume, and give the true size or none"
    *_, command, hint = bigupload("status").err.splitlines()
    assert ("--expected-size 7000000" in command, hint) == (True, wrong)
    with standard_input(data):
        earlier = "7,000,000 were expected, the size that an earlier run recorded: "
        assert_refused(bigupload(*pipe), 75, earlier, anew)
    with standard_input(data):
        begun = "an earlier run began this upload with an expected size of 7,000,000 bytes"
        assert_refused(bigupload(*pipe, f"--expected-size={SIZE}"), 2, begun, anew)
    with standard_input(data):
        assert bigupload(*pipe, "--no-resume").code == 0
    assert s3.objects["bucket"]["key"].body == data


def test_resume_of_all_says_of_each_that_fails_which_command_resumes_it(
    bigupload: Command, s3: StrictS3, file: Path
) -> None:
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    for name in ("a", "b"):
        assert bigupload("upload", file, *to(s3, f"s3://bucket/{name}"), *IN_PARTS, "--progress=none").code == 75
    file.rename(file.with_name("moved"))
    ids = [line.split()[0] for line in bigupload("status").out.splitlines()]
    ended = bigupload("resume", "--progress=none")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        f"bigupload: {file} → s3://bucket/{name} (bigupload resume {each}): no such file: {file}: if it was "
        "moved, name it as --source"
        for name, each in zip("ab", ids, strict=True)
    ]
    named = bigupload("resume", *ids, "--progress=none").err.splitlines()
    assert [line.partition(": no such")[0] for line in named] == [
        f"bigupload: {file} → s3://bucket/{name} ({each})" for name, each in zip("ab", ids, strict=True)
    ]


def test_an_empty_pipe(bigupload: Command, s3: StrictS3) -> None:
    with standard_input(b""):
        assert_refused(bigupload("upload", "-", *to(s3)), 1, "key is empty: did its writer fail?", "--allow-empty")
    with standard_input(b""):
        assert bigupload("upload", "-", *to(s3), "--allow-empty", "--progress=none").code == 0
    assert s3.objects["bucket"]["key"].size == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [5, SIZE], ids=["before a part is sent", "after a part was sent"])
@pytest.mark.parametrize(
    ("guard", "says"),
    [(["--expected-size", str(SIZE + 1)], "were expected"), (["--end-marker", "complete"], "--end-marker")],
)
def test_a_pipe_whose_beginning_fails(
    bigupload: Command, s3: StrictS3, data: bytes, guard: list[str], says: str, size: int
) -> None:
    """The status is that of a stopped upload, however much was sent: the same command may be run again."""
    with standard_input(data[:size]):
        assert_refused(bigupload("upload", "-", *to(s3), *guard, "--progress=none"), 75, says)
    assert "key" not in s3.objects["bucket"]


def test_a_pipe_that_ends_with_its_marker(bigupload: Command, s3: StrictS3, data: bytes) -> None:
    with standard_input(data + b"complete"):
        assert bigupload("upload", "-", *to(s3), "--end-marker", "complete", "--progress=none").code == 0
    assert s3.objects["bucket"]["key"].sha256() == hashlib.sha256(data).hexdigest()


@each_case(
    ("arguments", "says"),
    [
        (["-", "s3://bucket/folder/"], "standard input has no name: give one with --name"),
        (["-", "s3://bucket"], "standard input has no name"),
        (["-", "--local"], "standard input has no name"),
        (["-", "s3://bucket/key", "--skip-existing"], "--skip-existing is for files"),
        (["-", "s3://bucket/key", "--verify-source"], "hashed and sent from one read"),
        (["-", "s3://bucket/key", "--end-marker", ""], "--end-marker has 1 to 4,096 bytes"),
        (["-", "s3://bucket/key", "--temp-dir", "/no/such"], "--temp-dir must be a directory that exists"),
        (["a", "b", "s3://bucket/", "--name", "c"], "--name is for one file"),
        (["a", "b", "s3://bucket/", "--expected-size", "5"], "--expected-size is for one file"),
    ],
)
def test_what_contradicts_itself(bigupload: Command, s3: StrictS3, arguments: list[str], says: str) -> None:
    with standard_input(b"data"):
        ended = bigupload("upload", *arguments, *([] if "--local" in arguments else ["--endpoint-url", s3.url]))
    assert_refused(ended, 2, says)


def test_a_closed_standard_input(bigupload: Command, s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert_refused(bigupload("upload", "-", *to(s3)), 1, "can't read standard input: Bad file descriptor")


def test_a_file_on_standard_input_is_read_from_its_place(bigupload: Command, s3: StrictS3, file: Path) -> None:
    """As by `bigupload upload - < file`: it can seek, so that its size is known."""
    saved = os.dup(0)
    opened = os.open(file, os.O_RDONLY)
    os.dup2(opened, 0)
    os.close(opened)
    try:
        ended = bigupload("upload", "-", *to(s3), "--json", "--progress=none")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert (ended.code, ended.result["size"]) == (0, SIZE)
    assert s3.objects["bucket"]["key"].sha256() == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_that_is_called_dash(
    bigupload: Command, s3: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(b"a file")
    ended = bigupload("upload", "./-", *to(s3), "--json", "--progress=none")
    assert ended.result["path"] == str(tmp_path / "-")


@pytest.mark.parametrize("piped", [True, False])
def test_a_pipe_that_is_not_named_is_told(
    piped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tar c . | bigupload upload --local` uploads the sample, as without the pipe."""
    monkeypatch.setattr("bigupload.stores.local_store.sample_path", lambda: tmp_path)
    readable, writable = os.pipe()
    with open(readable if piped else os.devnull) as stream, contextlib.closing(os.fdopen(writable)):
        monkeypatch.setattr(sys, "stdin", stream)
        assert _sample() == tmp_path
    told = "note: standard input is not read. To upload it, name it: bigupload upload - --local\n"
    assert capsys.readouterr().err == (told if piped else "")
    if not piped:
        os.close(readable)

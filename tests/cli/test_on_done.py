"""`--on-done`: what it gets, and that none of its failures is one of the upload."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from bigupload.cli import on_done
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.tools.receipts import document_of, rows_of

from .support import Command, assert_refused, to

QUIET = ("--progress", "none")
TELLS = """
import json, os, sys
given = {name: value for name, value in os.environ.items() if name.startswith("BIGUPLOAD_DONE_")}
with open(sys.argv[1], "w") as file:
    json.dump({"arguments": sys.argv[2:], "variables": given, "read": sys.stdin.read()}, file)
print("to standard error")
"""


@pytest.fixture
def told(place: Place) -> Path:
    return place.directory / "told.json"


@pytest.fixture
def tells(place: Place, told: Path) -> str:
    """A command that notes what it gets."""
    script = place.directory / "tells.py"
    script.write_text(TELLS)
    return shlex.join([sys.executable, str(script), str(told)])


@pytest.fixture
def small(place: Place) -> Path:
    path = place.directory / "a film; rm -rf $HOME.mov"
    path.write_bytes(b"film")
    return path


def test_what_it_gets_of_one_file(bigupload: Command, s3: StrictS3, small: Path, tells: str, told: Path) -> None:
    options = [*to(s3, "s3://bucket/f/"), *QUIET, "--share", "1h", "--sha256"]
    ended = bigupload("upload", small, *options, "--on-done", f"{tells} 'two words' $HOME ;")
    assert ended.code == 0, ended.err
    found = json.loads(told.read_text())
    assert found["arguments"] == ["two words", "$HOME", ";"], "no shell"
    read = document_of(found["read"])
    link, (row,) = ended.out.strip(), read["files"]
    assert (read["kind"], read["target"], read["endpoint"]) == ("bigupload.receipt", "s3://bucket/f/", s3.url)
    assert read["sums"] == {"files": 1, "size": 4, "failed": 0}
    assert (row["size"], row["share"]["url"]) == (4, link)
    variables = {name.removeprefix("BIGUPLOAD_DONE_"): value for name, value in found["variables"].items()}
    assert variables == {
        "FILES": "1", "SIZE": "4", "TARGET": "s3://bucket/f/", "SOURCE": str(small), "URL": row["url"],
        "BUCKET": "bucket", "KEY": row["key"], "ETAG": row["etag"], "CHECKSUM": row["checksum"],
        "VERIFIED": "full-object", "SHA256": row["sha256"], "LINK": link,
    }  # fmt: skip


@pytest.mark.parametrize("command", ["upload", "sync"])
def test_what_it_gets_of_many(
    bigupload: Command, s3: StrictS3, place: Place, tells: str, told: Path, command: str
) -> None:
    tree = place.directory / "tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_text(name)
    options = [*to(s3, "s3://bucket/p/"), *QUIET, "--receipt", place.directory / "receipt", "--on-done", tells]
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/a", repeat=True)
    assert bigupload(command, tree, *options).code == 1
    assert not told.exists(), "not everything is done"
    s3.clear()
    assert bigupload(command, tree, *options).code == 0
    found = json.loads(told.read_text())
    assert found["variables"] == {
        "BIGUPLOAD_DONE_FILES": "2", "BIGUPLOAD_DONE_SIZE": "2", "BIGUPLOAD_DONE_TARGET": "s3://bucket/p/",
        "BIGUPLOAD_DONE_RECEIPT": str(place.directory / "receipt"),
    }  # fmt: skip
    assert [{**row, "proved_at": ""} for row in document_of(found["read"])["files"]] == [
        {**row, "proved_at": ""} for row in rows_of(place.directory / "receipt")
    ]


def test_a_failure_of_it_is_none_of_the_upload(
    bigupload: Command, s3: StrictS3, small: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_done, "_ENDS_WITHIN", 0.1)
    child = place.directory / "child"
    hangs = f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open({str(child)!r}, "w") as file:
    file.write(str(os.getpid()))
signal.pause()
"""
    (place.directory / "not-executable").write_text("")
    for words, within, says in (
        ([sys.executable, "-c", "raise SystemExit(7)"], "1min", f"--on-done {sys.executable} failed: exit status 7"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "1min", "failed: SIGKILL"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 40)"], "1min", "failed: signal 40"),
        (["no-such-program", "x"], "1min", "--on-done no-such-program can't be started: No such file or directory"),
        ([place.directory / "not-executable"], "1min", "can't be started: Permission denied"),
        ([sys.executable, "-c", hangs], "1s", "did not end within 1 s, and was ended"),
    ):
        command = shlex.join(map(str, words))
        options = ["--on-done", command, "--on-done-timeout", within]
        ended = bigupload("upload", small, *to(s3), *QUIET, *options)
        assert (ended.code, ended.out) == (3, f"{s3.url}/bucket/key\n"), words
        assert says in ended.err.splitlines()[-1]
        assert ended.err.splitlines()[-1].startswith("bigupload: the upload is done, but --on-done ")
        warned = "warning: --on-done: there is no program" in ended.err
        assert warned == (words[0] not in (sys.executable,))
    with pytest.raises(ProcessLookupError):
        os.kill(int(child.read_text()), 0)


def test_what_is_no_command(bigupload: Command, s3: StrictS3, small: Path) -> None:
    before = len(s3.requests)
    there = [*to(s3), *QUIET]
    assert_refused(bigupload("upload", small, *there, "--on-done", "a 'b"), 2, "not a command: no closing quotation")
    assert_refused(bigupload("upload", small, *there, "--on-done", " "), 2, "the command is empty")
    assert_refused(bigupload("upload", small, *there, "--dry-run", "--on-done", "a"), 2, "leave out --on-done")
    assert len(s3.requests) == before


def test_an_upload_that_fails_runs_nothing(
    bigupload: Command, s3: StrictS3, small: Path, tells: str, told: Path
) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), repeat=True)
    assert bigupload("upload", small, *to(s3), *QUIET, "--on-done", tells).code == 1
    assert not told.exists()

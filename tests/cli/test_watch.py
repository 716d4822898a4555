"""`bigupload watch`: what a wrong call says. The rest is in tests/integration and tests/crash."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.receipts import rows_of

from .support import Command, assert_refused


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such-directory", "s3://bucket/"], 1, "no such directory"),
        (["FILE", "s3://bucket/"], 1, "is not a directory"),
        (["", "s3://bucket/"], 2, "the directory's name is empty"),
        (["."], 2, "name one target"),
        ([".", "s3://bucket/", "--to", "s3://bucket/"], 2, "name one target"),
        ([".", "s3://bucket/", "--local"], 2, "--local has its own endpoint: leave out --endpoint-url"),
        ([".", "s3://bucket/key"], 2, "end the target with a slash, as in s3://bucket/key/"),
        ([".", "bucket/"], 2, "not a target"),
        ([".", "s3://nowhere/"], 1, "there is no bucket 'nowhere'"),
        ([".", "s3://bucket/", "--idle", "soon"], 2, "not a time: 'soon'"),
        ([".", "s3://bucket/", "--idle", "0s"], 2, "--idle is 1 second at least"),
        ([".", "s3://bucket/", "--poll", "0s"], 2, "--poll is 1 second at least"),
        ([".", "s3://bucket/", "--until-idle", "0s"], 2, "--until-idle is 1 second at least"),
        ([".", "s3://bucket/", "--checksum", "none"], 2, "'none' is not one of"),
        ([".", "s3://bucket/", "--include", ""], 2, "pattern"),
        ([".", "s3://bucket/", "--mhl"], 2, "when the watch has ended, run bigupload sync"),
        ([".", "s3://bucket/", "--share", "8d"], 2, "--share is a time like '7d'"),
        ([".", "s3://bucket/", "--receipt", "no/r"], 1, "can't write --receipt no/r: No such file or directory"),
        ([".", "s3://bucket/", "--receipt", "FILE"], 2, "would be uploaded itself while it is written"),
        ([".", "s3://bucket/", "--on-done", "a 'b"], 2, "not a command: no closing quotation"),
    ],
)
def test_a_wrong_call(
    bigupload: Command, s3: StrictS3, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    (directory / "file").touch()
    named = {"FILE": str(directory / "file"), ".": str(directory)}
    ended = bigupload(
        "watch", *[named.get(each, each) for each in arguments], "--endpoint-url", s3.url, "--progress", "none",
        *(word for name in ("--until-idle", "--idle") if name not in arguments for word in (name, "1s")),
    )  # fmt: skip
    assert_refused(ended, code, says)
    if "directory" in says:
        assert "watch" not in bigupload("status").out  # nothing is recorded of what is not there


def test_the_help_tells_what_is_left_out_and_what_settled_means(bigupload: Command) -> None:
    shown = " ".join(bigupload("watch", "--help").out.split())
    assert "hidden and temporary names, as .x, x~, x.part and x.tmp, unless --all-names is given" in shown
    assert "settled (10 s without a change, or --idle)" in shown


def test_a_missing_bucket_is_reported_at_the_start(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    ended = bigupload("watch", tmp_path, "s3://nowhere/", "--endpoint-url", s3.url, "--idle", "1d")
    assert (ended.code, ended.err.count("there is no bucket 'nowhere'")) == (1, 1)
    assert {request.op for request in s3.requests} == {"ListObjectsV2"}


@pytest.mark.parametrize("refusal", [Status(403, "AccessDenied"), Status(404)], ids=["denied", "a load balancer's 404"])
def test_a_watch_begins_where_nothing_shows_that_there_is_no_bucket(
    bigupload: Command, s3: StrictS3, tmp_path: Path, refusal: Status
) -> None:
    s3.script("ListObjectsV2", refusal, repeat=True)
    directory = tmp_path / "watched"
    directory.mkdir()
    (directory / "a").write_bytes(b"a")
    watching = ["--idle", "1s", "--until-idle", "1s", "--progress", "none"]
    ended = bigupload("watch", directory, "s3://bucket/", "--endpoint-url", s3.url, *watching)
    assert (ended.code, list(s3.objects["bucket"])) == (0, ["a"])


def test_nothing_is_announced_of_what_can_not_be(bigupload: Command, s3: StrictS3) -> None:
    ended = bigupload("watch", "nowhere", "s3://bucket/", "--endpoint-url", s3.url)
    assert_refused(ended, 1, "no such directory")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("target", [["s3://bigupload/w/"], ["--to", "s3://bigupload/w/"]])
def test_a_folder_in_the_local_store(
    bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch, target: list[str]
) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(file))  # so that what begins is told apart from what is refused
    ended = bigupload("watch", file.parent, *target, "--local", "--progress=none", "--idle=1s", "--until-idle=1s")
    assert_refused(ended, 1, "can't make the local store's directory")


NOTES = """
import json, os, sys
given = [row for row in map(json.loads, sys.stdin) if "source" in row]
with open(sys.argv[1], "a") as file:
    print(os.environ["BIGUPLOAD_DONE_KEY"], os.environ["BIGUPLOAD_DONE_LINK"], len(given), file=file)
sys.exit(os.environ["BIGUPLOAD_DONE_KEY"] == "w/b")
"""


@pytest.mark.slow
def test_what_follows_each_file(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    directory, receipt, noted = tmp_path / "directory", tmp_path / "receipt", tmp_path / "noted"
    directory.mkdir()
    for name in ("a", "b"):
        (directory / name).write_bytes(b"1234")
    (tmp_path / "notes.py").write_text(NOTES)
    command = shlex.join([sys.executable, str(tmp_path / "notes.py"), str(noted)])
    arguments = [
        "watch", directory, "s3://bucket/w/", "--endpoint-url", s3.url, "--idle", "1s", "--until-idle", "1s",
        "--receipt", receipt, "--share", "1h", "--sha256", "--on-done", command,
    ]  # fmt: skip
    ended = bigupload(*arguments)
    assert ended.code == 3
    assert f"the upload is done, but --on-done {sys.executable} failed: exit status 1" in ended.err
    assert sorted(line.split()[0] for line in noted.read_text().splitlines()) == ["w/a", "w/b"]
    assert sorted(line.split()[1] for line in noted.read_text().splitlines()) == sorted(ended.out.splitlines())
    assert ended.err.count("bigupload: the link ends 20") == 2
    assert all(row["sha256"] for row in rows_of(receipt))
    assert bigupload("verify", "--receipt", receipt, "--endpoint-url", s3.url).out == "full-object: 2 files\n"
    before = noted.read_text()
    ended = bigupload(*arguments)
    assert (ended.code, ended.out, noted.read_text()) == (0, "", before), "nothing was sent"


@pytest.mark.slow
def test_what_was_uploaded_is_told_at_the_end(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    for name in ("a", "b", "c\x01"):
        (directory / name).write_bytes(b"1234")
    ended = bigupload(
        "watch", directory, "s3://bucket/w/", "--endpoint-url", s3.url, "--idle", "1s", "--until-idle", "1s",
        "--progress", "plain",
    )  # fmt: skip
    lines = ended.err.splitlines()
    assert ended.code == 1
    assert lines[-1] == "bigupload: uploaded 2 files, 8 B, 1 failed"
    (complaint,) = (line for line in lines if "it is tried again when it changes" in line)
    assert complaint.count(str(directory)) == 1, "the name is told once"

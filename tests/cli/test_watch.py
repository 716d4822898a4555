"""`bigupload watch`: what a wrong call says. The rest is in tests/integration and tests/crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3

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


def test_nothing_is_announced_of_what_can_not_be(bigupload: Command, s3: StrictS3) -> None:
    ended = bigupload("watch", "nowhere", "s3://bucket/", "--endpoint-url", s3.url)
    assert_refused(ended, 1, "no such directory")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("target", [["s3://bigupload/w/"], ["--to", "s3://bigupload/w/"]])
def test_a_folder_in_the_local_store(
    bigupload: Command, file: Path, monkeypatch: pytest.MonkeyPatch, target: list[str]
) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(file))  # so that what begins is told apart from what is refused
    ended = bigupload("watch", file.parent, *target, "--local", "--progress=none")
    assert_refused(ended, 1, "can't make the local store's directory")


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

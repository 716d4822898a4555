"""The command `bigupload bucket setup`: what it says, and on which stream."""

from __future__ import annotations

import pytest

from bigupload import errors
from bigupload.cli import main
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import ask, fresh_name
from tests.tools.cases import each_case

PAGE = "https://page.example"


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bucket", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", StrictS3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", StrictS3.secret_key)


def test_setup_says_what_was_done(
    weed: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(weed.data_dir))
    name = fresh_name(weed)
    assert command("setup", f"s3://{name}", "--local", "--origin", PAGE) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"created the bucket {name}, which did not exist",
        "files and open uploads end after 7 days",
        f"browsers may upload from {PAGE}",
        "anyone may read media/*",
    ]
    assert told.err == ""
    assert ask(weed.endpoint_url, "GET", f"/{name}/media/nothing")[0] == 404
    assert command("setup", f"s3://{name}/", "--local", "--no-public-read") == 0
    again = capsys.readouterr().out
    assert again.startswith(f"the bucket {name} exists\n")
    assert "anonymous reads are refused media/*" in again
    assert ask(weed.endpoint_url, "GET", f"/{name}/media/nothing")[0] == 403


def test_setup_warns_on_standard_error(s3: StrictS3, credentials: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("setup", "s3://bucket", "--endpoint-url", s3.url) == 0
    told = capsys.readouterr()
    assert told.out == "created the bucket bucket, which did not exist\n"
    assert len(told.err.splitlines()) == 3
    assert all(line.startswith("bigupload: warning: ") for line in told.err.splitlines())


@each_case(
    ("arguments", "word"),
    [
        (["setup", "bucket"], "not a target"),
        (["setup", "s3://bucket/media"], "names more than a bucket"),
        (["sweep", "s3://bucket/media/"], "names more than a bucket"),
        (["setup", "s3://b", "--local", "--endpoint-url", "http://127.0.0.1:1"], "has its own endpoint"),
        (["setup", "s3://b", "--origin", "https://page.example/"], "not an origin"),
        (["setup", "s3://b", "--origin", "page.example"], "not an origin"),
        (["setup", "s3://b", "--origin", "https://"], "not an origin"),
        (["setup", "s3://b", "--origin", "https://[page"], "not an origin"),
    ],
)
def test_calls_that_make_no_sense(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*arguments) == errors.EXIT_USAGE
    assert word in capsys.readouterr().err


def test_a_store_that_refuses_ends_the_command(
    s3: StrictS3, credentials: None, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.script("HeadBucket", Status(403, "AccessDenied"), repeat=True)
    assert command("setup", "s3://bucket", "--endpoint-url", s3.url) == errors.AccessDenied("").exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "403" in line

"""`bigupload bucket sweep`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.cli import main
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import COMMAND, Place
from tests.service.sweep.support import EXE, made, stored


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bucket", "sweep", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def filled(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> StrictS3:
    """With one object that is not media."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    client = s3.client()
    client.put_object(Bucket="bucket", Key=made("exe.mp4"), Body=EXE, ContentType="video/mp4")
    client.close()
    return s3


def test_the_command_tells_each_removal(filled: StrictS3, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("s3://bucket", "--endpoint-url", filled.url, "--dry-run") == 0
    told = capsys.readouterr()
    assert told.out.split() == ["not", "media", "4.1", "kB", made("exe.mp4")]
    assert told.err == "would delete 1 of 1 objects (4.1 kB) and 0 open uploads; 0 failed\n"
    assert filled.objects["bucket"]
    assert command("s3://bucket", "--endpoint-url", filled.url, "--json") == 0
    removal, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert removal == {"key": made("exe.mp4"), "reason": "not media", "size": len(EXE), "dry_run": False}
    assert (totals["not_media"], totals["looked_at"], totals["bytes_freed"]) == (1, 1, len(EXE))
    assert not stored(filled)


def test_the_command_fails_for_now_where_something_failed(filled: StrictS3, capsys: pytest.CaptureFixture[str]) -> None:
    filled.script("DeleteObject", Status(503, "SlowDown"))
    assert command("s3://bucket", "--endpoint-url", filled.url) == errors.EXIT_RESUMABLE
    assert capsys.readouterr().err.endswith("1 failed\n")


def test_the_command_on_a_bucket_that_is_not_there(filled: StrictS3, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("s3://nothing", "--endpoint-url", filled.url) == errors.EXIT_FAILED
    assert "there is no bucket 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nobody_reads_what_is_deleted(filled: StrictS3, tmp_path: Path, more: list[str]) -> None:
    """As with `| head -0`: it deletes all of it, and says on standard error that nothing could be printed."""
    client = filled.client()
    for name in ("2.mp4", "3.mp4", "4.mp4"):
        client.put_object(Bucket="bucket", Key=made(name), Body=EXE, ContentType="video/mp4")
    client.close()
    reads, writes = os.pipe()
    os.close(reads)
    sweep = ["bucket", "sweep", "s3://bucket", "--endpoint-url", filled.url, *more]
    ended = Place(tmp_path).run(*sweep, output=writes)
    os.close(writes)
    assert (ended.code, stored(filled)) == (errors.EXIT_FAILED, set())
    assert ended.err == (
        "bigupload: deleted 4 of 4 objects (16.4 kB) and 0 open uploads; 0 failed, but can't write the results to "
        "standard output: Broken pipe\n"
    )


def test_a_closed_standard_output(filled: StrictS3, tmp_path: Path) -> None:
    """It is as /dev/null."""
    closing = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND]
    ended = Place(tmp_path).run("bucket", "sweep", "s3://bucket", "--endpoint-url", filled.url, command=closing)
    assert (ended.code, stored(filled)) == (errors.EXIT_OK, set())
    assert ended.err == "deleted 1 of 1 objects (4.1 kB) and 0 open uploads; 0 failed\n"


def test_a_dry_run_that_nobody_reads_ends(filled: StrictS3, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    sweep = ["bucket", "sweep", "s3://bucket", "--endpoint-url", filled.url, "--dry-run"]
    ended = Place(tmp_path).run(*sweep, output=writes)
    os.close(writes)
    assert (ended.code, ended.err) == (errors.EXIT_FAILED, "")
    assert stored(filled)

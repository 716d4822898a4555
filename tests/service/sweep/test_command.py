"""`bigupload bucket sweep`."""

from __future__ import annotations

import json

import pytest

from bigupload import errors
from bigupload.cli import main
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
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

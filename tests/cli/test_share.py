"""`bigupload share`, and `upload --share`: the link works, and says when it ends."""

from __future__ import annotations

import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import bigupload as package
from bigupload import Credentials, S3Options, Share, errors
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import Command, assert_refused, to

QUIET = ("--progress", "none")
WEEK = 7 * 86_400


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as response:
        body: bytes = response.read()
    return body


def ends_in(link: dict[str, str]) -> float:
    return datetime.fromisoformat(link["expires_at"]).timestamp() - time.time()


@pytest.fixture
def small(place: Place) -> Path:
    path = place.directory / "a film.mov"
    path.write_bytes(b"film")
    return path


@pytest.fixture
def log(place: Place) -> Iterator[Path]:
    path = place.directory / "log"
    yield path
    for handler in logging.getLogger("bigupload").handlers[:]:
        handler.close()


def test_a_link_reads_the_object(bigupload: Command, s3: StrictS3, small: Path, log: Path) -> None:
    ended = bigupload("upload", small, *to(s3, "s3://bucket/f/"), "--share", "7d", "--log-file", log, "-vv")
    link = ended.out.strip()
    assert ended.code == 0
    assert fetched(link) == b"film"
    assert "X-Amz-Expires=604800" in link
    assert "bigupload: the link ends 20" in ended.err
    assert "X-Amz-Signature" not in ended.err + log.read_text()
    url = "s3://bucket/f/a film.mov"
    ended = bigupload("share", url, "--for", "1h", "--endpoint-url", s3.url)
    assert fetched(ended.out.strip()) == b"film"
    assert ended.err.startswith("bigupload: the link ends 20")
    assert ended.err.endswith(" UTC\n")
    found = bigupload("share", url, "--for", "90min", "--endpoint-url", s3.url, "--json").result
    assert fetched(found["url"]) == b"film"
    assert 5390 < ends_in(found) <= 5400
    assert (found["note"], found["refused"]) == (None, None)


def test_the_results_of_many_files_have_links(bigupload: Command, s3: StrictS3, small: Path) -> None:
    tree = small.parent / "tree"
    tree.mkdir()
    (tree / "a film").write_bytes(b"film")
    (tree / "b").write_bytes(b"b")
    options = [*to(s3, "s3://bucket/p/"), "--share", "2d"]
    ended = bigupload("upload", tree, *options, "--json")
    *files, _ = map(json.loads, ended.out.splitlines())
    assert {fetched(each["share"]["url"]) for each in files} == {b"film", b"b"}
    ended = bigupload("upload", tree, *options)
    assert {fetched(line) for line in ended.out.splitlines()} == {b"film", b"b"}
    assert "bigupload: 2 links; the first ends 20" in ended.err


def test_a_sync_shares_what_it_sends(bigupload: Command, s3: StrictS3, small: Path) -> None:
    tree = small.parent / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"a")
    there = ["sync", tree, *to(s3, "s3://bucket/p/"), "--share", "2d"]
    ended = bigupload(*there)
    assert [fetched(line) for line in ended.out.splitlines()] == [b"a"]
    assert "bigupload: the link ends 20" in ended.err
    (tree / "b").write_bytes(b"b")
    assert [fetched(line) for line in bigupload(*there).out.splitlines()] == [b"b"]


def test_without_the_right_to_read_the_upload_is_a_success(bigupload: Command, s3: StrictS3, small: Path) -> None:
    s3.script("HeadObject", Status(403, "AccessDenied"), repeat=True)
    there = to(s3, "s3://bucket/key")
    ended = bigupload("upload", small, *there, "--share", "7d", *QUIET)
    assert (ended.code, ended.out) == (3, f"{s3.url}/bucket/key\n"), "the object's own address"
    assert "the upload is done, but there is no link: these credentials may not read s3://bucket/key" in ended.err
    result = bigupload("upload", small, *there, "--share", "7d", "--json", *QUIET).result
    assert (result["verified"], result["share"]["url"]) == ("full-object", None)
    assert result["share"]["refused"].startswith("these credentials may not read")
    assert_refused(bigupload("share", *there[1:]), 1, "these credentials may not read s3://bucket/key")


def test_a_clock_that_is_off_is_not_called_a_right(
    bigupload: Command, s3: StrictS3, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link is signed with the store's time."""
    there = to(s3, "s3://bucket/key")
    assert bigupload("upload", small, *there, *QUIET).code == 0
    monkeypatch.setattr(s3, "clock", lambda: time.time() - 3601)
    ended = bigupload("share", *there[1:], "--for", "1h", "--json")
    assert ended.code == 0, ended.err
    signed = re.search(r"X-Amz-Date=([0-9TZ]+)", ended.out)
    assert signed is not None
    at = datetime.strptime(signed[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    assert at < time.time() - 3500


def test_what_is_refused_before_anything_is_sent(bigupload: Command, s3: StrictS3, small: Path) -> None:
    before = len(s3.requests)
    there = [*to(s3), *QUIET]
    for arguments, says in (
        (["--share", "8d"], "--share is a time like '7d', from 1 second to 7 days, and not 8 d"),
        (["--share", "0s"], "--share is a time like '7d'"),
        (["--share", "soon"], "not a time: 'soon'"),
        (["--share", "1d", "--no-sign-request"], "a link is signed with credentials: leave out --no-sign-request"),
    ):
        assert_refused(bigupload("upload", small, *there, *arguments), 2, says)
    assert_refused(
        bigupload("upload", small, "--service", "http://127.0.0.1:1", "--share", "1d"), 2, "leave out --share"
    )
    assert_refused(bigupload("upload", small, *there, "--dry-run", "--share", "1d"), 2, "leave out --share")
    assert_refused(bigupload("share", *there[1:4], "--for", "8d"), 2, "--for is a time like '7d'")
    assert_refused(bigupload("share", "s3://bucket/", *there[2:4]), 2, "names no object")
    assert len(s3.requests) == before
    assert_refused(bigupload("share", "s3://bucket/none", *there[2:4]), 1, "there is no object at s3://bucket/none")


async def share(s3: StrictS3, lasts: timedelta | None, token: str | None = None) -> Share:
    def credentials() -> Credentials:
        until = None if lasts is None else datetime.now(UTC) + lasts
        return Credentials(access_key=s3.access_key, secret_key=s3.secret_key, session_token=token, expires_at=until)

    options = S3Options(endpoint_url=s3.url, region=s3.region, credentials=credentials)
    return await package.share("s3://bucket/key", s3=options)


async def test_temporary_credentials_end_it_sooner(s3: StrictS3) -> None:
    client = s3.client()
    client.put_object(Bucket="bucket", Key="key", Body=b"film")
    client.close()
    link = await share(s3, timedelta(hours=2))
    assert link.url is not None
    assert fetched(link.url) == b"film"
    assert link.note == "sooner than the 7 d asked for, because the temporary credentials end then"
    assert link.expires_at is not None
    left = datetime.fromisoformat(link.expires_at).timestamp() - time.time()
    assert 7190 < left <= 7200
    assert link.url not in repr(link)
    link = await share(s3, None)
    assert link.note is None
    assert "X-Amz-Expires=604800" in (link.url or "")
    s3.objects["bucket"].clear()
    with pytest.raises(errors.ObjectNotFound, match="no object at s3://bucket/key"):
        await share(s3, None)

"""`bigupload upload URL`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.tools.web_server import WebServer, web_server

from .support import Command, assert_refused, to

SECRET = "a-bearer-secret"


@pytest.fixture
def web(file: Path) -> Iterator[WebServer]:
    with web_server() as server:
        server.serve("/film.mov", file.read_bytes())
        yield server


def holds(s3: StrictS3, file: Path, key: str) -> bool:
    found = s3.objects["bucket"].get(key)
    return found is not None and found.sha256() == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_url(bigupload: Command, s3: StrictS3, file: Path, web: WebServer, place: Place) -> None:
    url = f"{web.url}/film.mov?X-Amz-Signature={SECRET}"
    log = place.directory / "log"
    ended = bigupload(
        "--log-file", log, "-vv", "upload", url, "s3://bucket/a/", "--endpoint-url", s3.url, "--json", "--progress=json"
    )
    assert (ended.code, ended.result["key"], ended.result["path"]) == (0, "a/film.mov", "film.mov"), ended.err
    assert (ended.result["guarded_by"], ended.result["verified"]) == ("version", "full-object")
    assert holds(s3, file, "a/film.mov")
    assert SECRET not in ended.out + ended.err + log.read_text(encoding="utf-8")
    assert f"{web.url}/film.mov → s3://bucket/a/film.mov" in log.read_text(encoding="utf-8")


def test_an_error_has_its_public_name(bigupload: Command, s3: StrictS3, web: WebServer, place: Place) -> None:
    """The media service's imports read more of it, from a class that nobody else knows."""
    log = place.directory / "log"
    wrong = [f"{web.url}/film.mov", *to(s3), "--expected-size", "5", "--json", "--progress", "none"]
    ended = bigupload("--log-file", log, "upload", *wrong)
    assert (ended.code, json.loads(ended.out)["error"]) == (2, "UsageError")
    assert "failed: UsageError: " in log.read_text(encoding="utf-8")


def test_the_same_command_and_resume(bigupload: Command, s3: StrictS3, file: Path, web: WebServer) -> None:
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    url = f"{web.url}/film.mov"
    pace = ["--part-size", "5MiB", "--concurrency", "1", "--progress", "none"]
    assert bigupload("upload", url, *to(s3), *pace).code == 75
    status = bigupload("status", "--json")
    assert json.loads(status.out)["path"] == url
    assert bigupload("resume").code == 75
    assert bigupload("upload", url, *to(s3), *pace).code == 75
    s3.clear()
    web.asked.clear()
    assert bigupload("resume").code == 0
    assert web.ranges == []  # all of it is recorded
    assert holds(s3, file, "key")


def test_a_manifest_whose_url_had_a_query(bigupload: Command, s3: StrictS3, file: Path, web: WebServer) -> None:
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    url = f"{web.url}/film.mov?{SECRET}"
    assert bigupload("upload", url, *to(s3), "--progress=none").code == 75
    s3.clear()
    manifest = json.loads(bigupload("status", "--json").out)["manifest"]
    assert SECRET not in Path(manifest).read_text()
    served = web.files.pop("/film.mov")
    assert_refused(bigupload("resume", manifest, "--progress=none"), 1, "/film.mov: the server responded 404")
    web.files["/film.mov"] = served
    assert bigupload("resume", manifest, "--source", url).code == 0
    assert holds(s3, file, "key")


def test_an_object_and_where_targets_are_named(bigupload: Command, s3: StrictS3, file: Path) -> None:
    assert bigupload("upload", file, *to(s3, "s3://bucket/a.bin")).code == 0
    at = ["--endpoint-url", s3.url]
    assert bigupload("upload", "s3://bucket/a.bin", "s3://bucket/b/", *at).code == 0
    assert bigupload("upload", "s3://bucket/a.bin", "--to", "s3://bucket/c/", *at).code == 0
    assert bigupload("upload", "s3://bucket/a.bin", "s3://bucket/b/a.bin", "s3://bucket/d/", *at).code == 2
    for key in ("b/a.bin", "c/a.bin"):
        assert holds(s3, file, key)
    assert_refused(bigupload("upload", "s3://bucket/a.bin", file, *at), 2, "the target comes last")


def test_urls_that_can_t_be_used(bigupload: Command, s3: StrictS3) -> None:
    password = f"https://user:{SECRET}@127.0.0.1/film.mov"
    for url, says in (
        (password, "holds a user name or a password, which would be recorded and shown: use a presigned URL, or"),
        (f"gopher://user:{SECRET}@127.0.0.1/x", "a URL of the scheme gopher:// can't be read"),
        ("https:///x", "names no host"),
    ):
        ended = bigupload("upload", url, *to(s3), "--progress=none")
        assert_refused(ended, 2, says)
        assert SECRET not in ended.err
    for more, says in (((), "not a target"), (("--local",), "holds a user name or a password")):
        ended = bigupload("upload", password, *more, "--progress=none")
        assert_refused(ended, 2, says)
        assert SECRET not in ended.err


def test_what_is_wrong_in_one_line(bigupload: Command, s3: StrictS3, web: WebServer) -> None:
    web.serve("/empty.mov", b"")
    for path, code, says in (
        ("/none.mov?s", 1, f"bigupload: {web.url}/none.mov: the server responded 404: there is no such file"),
        ("/empty.mov", 1, "--allow-empty uploads an empty object"),
    ):
        assert_refused(bigupload("upload", web.url + path, *to(s3), "--progress=none"), code, says)


def test_where_a_path_is_wanted(bigupload: Command, place: Place) -> None:
    """Taken for a path, a URL would be told and recorded with its query."""
    url = f"https://127.0.0.1/film.mov?{SECRET}"
    for arguments in (
        ("verify", url, "s3://bucket/key"),
        ("verify", url, "s3://bucket/key", "--download"),
        ("watch", url, "s3://bucket/folder/"),
        ("resume", url),
        ("abort", url),
        ("resume", place.directory / "m", "--source", url.replace("https", "gopher")),
    ):
        ended = bigupload(*arguments)
        assert_refused(ended, 2, "://… is a URL, and this takes a path")
        assert SECRET not in ended.err
    assert not any(SECRET in str(path) for path in place.directory.rglob("*"))


@pytest.mark.parametrize("wrong", ["s3://bucket/raw/", "s3://bucket", "gopher://host/x", "https:///x"])
def test_a_wrong_source_is_found_before_another_is_sent(
    bigupload: Command, s3: StrictS3, file: Path, wrong: str
) -> None:
    before = len(s3.requests)
    ended = bigupload("upload", wrong, file, "--to", "s3://bucket/", "--endpoint-url", s3.url, "--progress=none")
    assert_refused(ended, 2, "target comes last" if wrong.startswith("s3") else "URL")
    assert len(s3.requests) == before
    if wrong.startswith("s3"):
        assert_refused(
            bigupload("upload", wrong, file, "--local"), 2, f"{wrong} names no object to read; a target comes"
        )

"""`bigupload gc`: orphaned uploads are aborted, others stay."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any, Self

import pytest

from bigupload.core.manifest import Aborted, PartDropped
from bigupload.core.manifest_lines import encode
from bigupload.manifests.journal import FileJournal
from bigupload.testing.faults import Call, Ok, Status
from bigupload.testing.strict_s3 import StrictS3
from bigupload.verification import orphans
from tests.crash.running import Ended

from .support import PART, Command, assert_refused, to

DAY = 86_400


def begin(s3: StrictS3, key: str, *, days: float = 30, parts: int = 2, bucket: str = "bucket") -> str:
    """An upload that was begun `days` ago and of which no part has arrived since."""
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32")["UploadId"]
    for number in range(1, parts + 1):
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * 1000)
    client.close()
    grow_old(s3, upload, days=days)
    return str(upload)


def grow_old(s3: StrictS3, upload: str, *, days: float) -> None:
    found = s3.uploads[upload]
    found.initiated = time.time() - days * DAY
    for part in found.parts.values():
        part.last_modified = found.initiated


def gc(bigupload: Command, s3: StrictS3, *arguments: str | Path, url: str = "s3://bucket/") -> Ended:
    return bigupload("gc", url, "--endpoint-url", s3.url, *arguments)


def rows(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.out.splitlines()]


def test_an_upload_that_was_replaced_is_listed_no_more(
    bigupload: Command, s3: StrictS3, file: Path, stopped: Path
) -> None:
    """Its manifest was set aside, and owns nothing."""
    assert bigupload("upload", file, *to(s3), "--no-resume", "--progress", "none").code == 0
    (upload,) = s3.uploads
    (replaced,) = (row["id"] for row in rows(bigupload("status", "--json")) if row["status"] == "replaced")
    grow_old(s3, upload, days=30)
    assert gc(bigupload, s3, "--dry-run").err.startswith("would abort 1 orphaned upload")
    assert "1 replaced" in bigupload("status").err
    assert gc(bigupload, s3).err.startswith("aborted 1 orphaned upload")
    assert [row["status"] for row in rows(bigupload("status", "--json"))] == ["completed"]
    assert bigupload("status").err == ""
    assert_refused(bigupload("abort", replaced), 1, f"no such manifest: {replaced}")


def test_what_is_nobody_s_goes(bigupload: Command, s3: StrictS3) -> None:
    old, young = begin(s3, "raw/old"), begin(s3, "raw/young", days=6.9)
    elsewhere = begin(s3, "other/old")
    ended = gc(bigupload, s3, "--dry-run", url="s3://bucket/raw/")
    assert ended.code == 0
    assert ended.out.split() == ["30", "d", "2", "parts", "2", "kB", "raw/old"]
    assert ended.err == "would abort 1 orphaned upload (2 kB); 1 not idle long enough\n"
    assert set(s3.uploads) == {old, young, elsewhere}

    ended = gc(bigupload, s3, "--json", url="s3://bucket/raw/")
    (row,) = rows(ended)
    assert 30 * DAY <= row.pop("idle") < 30 * DAY + 600
    assert abs(dt.datetime.fromisoformat(row.pop("initiated")).timestamp() - time.time() + 30 * DAY) < 600
    assert row == {
        "bucket": "bucket", "key": "raw/old", "upload_id": old, "parts": 2, "held": 2000, "dry_run": False,
    }  # fmt: skip
    assert ended.err.startswith("aborted 1 orphaned upload (2 kB)")
    assert set(s3.uploads) == {young, elsewhere}
    assert gc(bigupload, s3, "--older-than", "6d", url="s3://bucket/raw/").code == 0
    assert set(s3.uploads) == {elsewhere}


def test_an_upload_that_is_fed_from_elsewhere_stays(bigupload: Command, s3: StrictS3) -> None:
    """It takes weeks, and its manifest is on another machine."""
    alive = begin(s3, "key")
    s3.uploads[alive].parts[2].last_modified = time.time() - DAY
    assert gc(bigupload, s3).err == "aborted 0 orphaned uploads (0 B); 1 not idle long enough\n"
    assert set(s3.uploads) == {alive}
    assert gc(bigupload, s3, "--older-than", "12h").code == 0
    assert not s3.uploads


def test_what_a_manifest_owns_stays(bigupload: Command, s3: StrictS3, stopped: Path, tmp_path: Path) -> None:
    (own,) = s3.uploads
    grow_old(s3, own, days=300)
    begin(s3, "key")  # the same key, owned by no manifest
    assert gc(bigupload, s3).err.endswith("; 1 owned by manifests of this machine\n")
    assert set(s3.uploads) == {own}
    # Its manifest lies where only --state finds it: as a file of any name, or in a directory.
    apart = tmp_path / "apart"
    apart.mkdir()
    moved = stopped.rename(apart / stopped.name)
    assert len(gc(bigupload, s3, "--dry-run").out.splitlines()) == 1
    for state in (apart, moved):
        assert gc(bigupload, s3, "--state", state).out == ""
    named = moved.rename(apart / "any name")
    assert gc(bigupload, s3, "--state", named).out == ""
    assert set(s3.uploads) == {own}
    assert_refused(gc(bigupload, s3, "--state", moved), 2, "no such manifest or directory", stopped.name)


@pytest.mark.parametrize("end", ["abort", "set aside"])
def test_what_a_manifest_is_done_with_goes(
    bigupload: Command, s3: StrictS3, file: Path, stopped: Path, end: str
) -> None:
    (own,) = s3.uploads
    grow_old(s3, own, days=8)
    if end == "abort":  # and yet its parts are there
        with stopped.open("ab") as journal:
            journal.write(encode(Aborted()))
    else:
        assert bigupload("upload", file, *to(s3), "--no-resume", "--progress", "none").code == 0
    assert len(gc(bigupload, s3).out.splitlines()) == 1
    assert not s3.uploads


def test_a_damaged_manifest_may_own_whatever_has_its_key(bigupload: Command, s3: StrictS3, stopped: Path) -> None:
    """What was lost can be a restart, with another upload id."""
    restarted, other = begin(s3, "key"), begin(s3, "key2")
    with stopped.open("ab") as journal:
        journal.write(b'{"type":"resta')
    assert [row["upload_id"] for row in rows(gc(bigupload, s3, "--json"))] == [other]
    assert restarted in s3.uploads
    before = stopped.read_bytes()
    assert gc(bigupload, s3).code == 0
    assert stopped.read_bytes() == before  # it is somebody else's to mend


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["no manifest", "empty", "link", "newer"])
def test_nothing_goes_beside_a_manifest_that_can_not_be_read(
    bigupload: Command, s3: StrictS3, stopped: Path, tmp_path: Path, kind: str
) -> None:
    orphan = begin(s3, "orphan")
    bad = stopped.with_name("bad.manifest.jsonl")
    if kind == "link":
        bad.symlink_to(tmp_path / "nowhere")
    else:
        newer = stopped.read_bytes().replace(b'"version":1', b'"version":99')
        bad.write_bytes({"no manifest": b"junk\n", "empty": b"", "newer": newer}[kind])
    ended = gc(bigupload, s3)
    assert_refused(ended, 1, "nothing is aborted: a manifest that can't be read may own the upload", str(bad))
    assert orphan in s3.uploads
    ended = gc(bigupload, s3, "--dry-run")
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)
    assert "warning: nothing is aborted while this manifest may own the uploads: " in ended.err
    summary = "would abort 1 orphaned upload (2 kB), but nothing while a manifest can't be read"
    assert ended.err.splitlines()[-1].startswith(summary)
    bad.unlink()
    assert gc(bigupload, s3).code == 0
    assert orphan not in s3.uploads


def test_a_directory_of_manifests_that_can_not_be_listed(
    bigupload: Command, s3: StrictS3, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(s3, "orphan")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(orphans.os, "scandir", refuse)
    assert_refused(gc(bigupload, s3), 1, "can't list the state directory", "Permission denied")
    assert len(s3.uploads) == 2


def test_a_manifest_that_is_at_work(bigupload: Command, s3: StrictS3, stopped: Path) -> None:
    (own,) = s3.uploads
    grow_old(s3, own, days=30)
    with FileJournal(stopped):
        assert gc(bigupload, s3).err.endswith("; 1 owned by manifests of this machine\n")
    assert set(s3.uploads) == {own}


def test_an_upload_that_is_adopted_meanwhile(bigupload: Command, s3: StrictS3, stopped: Path) -> None:
    """Its manifest comes to be between the first look and the last."""
    orphan = begin(s3, "orphan", parts=1)
    text = stopped.read_text()
    (own,) = set(s3.uploads) - {orphan}
    fresh = stopped.with_name("fresh.manifest.jsonl")
    s3.script("ListParts", Call(lambda _: fresh.write_text(text.replace(own, orphan))))
    assert gc(bigupload, s3).out == ""
    assert orphan in s3.uploads


def test_uploads_that_end_meanwhile(bigupload: Command, s3: StrictS3) -> None:
    begin(s3, "a")
    s3.script("ListParts", Call(lambda store: store.uploads.clear()))
    assert gc(bigupload, s3) == Ended(0, "", "aborted 0 orphaned uploads (0 B)\n")
    begin(s3, "b")
    s3.script("AbortMultipartUpload", Call(lambda store: store.uploads.clear()))
    assert gc(bigupload, s3).code == 0


def test_parts_that_outlive_an_abort(bigupload: Command, s3: StrictS3) -> None:
    """A part was in flight: the upload is listed again and aborted again."""
    before = s3.count("AbortMultipartUpload")
    found = s3.uploads[begin(s3, "key")]
    late = dict(found.parts)
    found.in_flight = 1

    def arrive(_: StrictS3) -> None:
        found.in_flight, found.parts = 0, late

    s3.script("ListParts", Ok(), Call(arrive))
    ended = gc(bigupload, s3)
    assert (ended.code, s3.uploads) == (0, {})
    assert s3.count("AbortMultipartUpload") == before + 2


def test_every_page(bigupload: Command, s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3.knobs, "page_size", 2)
    for number in range(5):
        begin(s3, f"key{number // 2}", parts=3)
    s3.script("ListMultipartUploads", Status(503, "SlowDown"), Status(500, "InternalError"))
    s3.script("AbortMultipartUpload", Status(500, "InternalError"))
    monkeypatch.setattr(orphans.RetryPolicy, "delay", lambda *_: 0)
    ended = gc(bigupload, s3, "--json")
    assert [(row["parts"], row["held"]) for row in rows(ended)] == [(3, 3000)] * 5
    assert not s3.uploads


def test_what_is_denied_does_not_stop_the_rest(
    bigupload: Command, s3: StrictS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, abort = begin(s3, "look"), begin(s3, "abort")
    begin(s3, "mine")
    s3.script("ListParts", Status(403, "AccessDenied"), key="look", repeat=True)
    s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), key="abort", repeat=True)
    ended = gc(bigupload, s3)
    assert ended.code == 1
    assert ended.out.split()[-1] == "mine"
    assert set(s3.uploads) == {look, abort}
    lines = sorted(ended.err.splitlines())
    assert [line.split(": ")[:2] for line in lines[1:]] == [["bigupload", "abort"], ["bigupload", "look"]]
    assert lines[0] == "aborted 1 orphaned upload (2 kB); 2 failed"
    # What passes is worth another try.
    s3.clear()
    s3.script("AbortMultipartUpload", Status(503, "SlowDown"), key="abort", repeat=True)
    monkeypatch.setattr(orphans.RetryPolicy, "delay", lambda *_: 0)
    assert gc(bigupload, s3).code == 75
    assert set(s3.uploads) == {abort}


def test_who_may_not_list_at_all(bigupload: Command, s3: StrictS3) -> None:
    begin(s3, "key")
    s3.script("ListMultipartUploads", Status(403, "AccessDenied"), repeat=True)
    assert_refused(gc(bigupload, s3), 1, "403 AccessDenied")
    s3.clear()
    assert_refused(gc(bigupload, s3, url="s3://nowhere"), 1, "there is no bucket 'nowhere'")


def test_ages_are_the_store_s(bigupload: Command, s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock here that is months ahead makes nothing old."""

    class Ahead(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return super().now(tz) + dt.timedelta(days=100)

    young, old = begin(s3, "young", days=1), begin(s3, "old", days=8)
    monkeypatch.setattr(orphans, "datetime", Ahead)
    assert [row["upload_id"] for row in rows(gc(bigupload, s3, "--json"))] == [old]
    assert set(s3.uploads) == {young}


def test_a_media_service_s_uploads_are_left_to_it(bigupload: Command, s3: StrictS3) -> None:
    media = begin(s3, "media/owner/file.mp4")
    begin(s3, "mine")
    assert gc(bigupload, s3).err == "aborted 1 orphaned upload (2 kB); 1 left to the media service\n"
    assert gc(bigupload, s3, url="s3://bucket/med").out == ""
    assert set(s3.uploads) == {media}
    assert gc(bigupload, s3, url="s3://bucket/media/").code == 0
    assert not s3.uploads


def test_names_can_not_drive_a_terminal(bigupload: Command, s3: StrictS3) -> None:
    begin(s3, "raw/\x9b2Jgone\u202e", parts=1)
    s3.script("AbortMultipartUpload", Status(403, "AccessDenied", "\x1b]0;no\x07"), repeat=True)
    ended = gc(bigupload, s3)
    assert ended.code == 1
    s3.clear()
    shown = gc(bigupload, s3)
    assert shown.out.endswith("  raw/ 2Jgone\\u202e\n")
    for text in (ended.err, shown.out):
        assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("time", ["0", "2", "two days", "-1d", "1y"])
def test_times_that_are_none(bigupload: Command, s3: StrictS3, time: str) -> None:
    assert_refused(gc(bigupload, s3, "--older-than", time), 2, "write it like 2d, 12h or 30min")


def test_all_that_is_open_by_the_user_s_word(bigupload: Command, s3: StrictS3) -> None:
    begin(s3, "key", days=0, parts=0)
    ended = gc(bigupload, s3, "--older-than", "0s")
    assert ended.out.split()[2:] == ["0", "parts", "0", "B", "key"]
    assert not s3.uploads


def test_status_shows_what_is_held(bigupload: Command, s3: StrictS3, stopped: Path) -> None:
    assert bigupload("status").err == (
        "1 unfinished, with at least 5.2 MB in the store: "
        "bigupload resume continues, bigupload abort ID deletes the parts\n"
    )
    assert json.loads(bigupload("status", "--json").out)["held"] == PART
    with stopped.open("ab") as journal:
        journal.write(encode(PartDropped(1, "gone")))
    assert bigupload("status").err == (
        "1 unfinished, with no part recorded: bigupload resume continues, bigupload abort ID deletes the parts\n"
    )
    assert bigupload("abort", stopped).code == 0
    assert bigupload("status").err == ""
    assert json.loads(bigupload("status", "--json").out)["held"] == 0

"""Commands where a file system is full, or is not mounted any more."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place
from tests.tools.mounts import mounted

from .support import Command, assert_refused

CHECK = ("status", "--complete-within", "60h")


@pytest.fixture
def tree(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = place.directory / "tree"
    root.mkdir()
    (root / "a").write_text("a")
    monkeypatch.chdir(place.directory)
    return root


def sync(s3: StrictS3, *more: str) -> list[str]:
    return ["sync", "tree", "s3://bucket/p/", "--endpoint-url", s3.url, "--progress", "none", *more]


def fill(directory: Path) -> None:
    with (directory / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(directory).f_bavail == 0


def test_a_record_is_read_on_a_full_disk(bigupload: Command, s3: StrictS3, tree: Path, place: Place) -> None:
    """SQLite wants room for two files beside it, even to read it."""
    place.state.mkdir()
    with mounted(place.state, "512k"):
        assert bigupload(*sync(s3)).code == 0
        before = {path.name: path.stat().st_mtime_ns for path in place.state.iterdir()}
        fill(place.state)
        ended = bigupload(*CHECK)
        assert (ended.code, ended.err) == (0, "")
        assert json.loads(bigupload("status", "--json").out)["status"] == "finished"
        (place.state / "fill").unlink()
        assert {path.name: path.stat().st_mtime_ns for path in place.state.iterdir()} == before, "nothing was written"
        fill(place.state)
        assert bigupload(*sync(s3, "--dry-run")).code == 0
        refused = bigupload(*sync(s3))
        assert_refused(refused, 75, "can't write the job's record", "free some space on that disk, then run again")


def test_a_record_that_can_not_be_read_is_no_missing_one(
    bigupload: Command, s3: StrictS3, tree: Path, place: Place
) -> None:
    """A killed sync leaves its last rows in a file beside the record, and to read that takes a third one."""
    place.state.mkdir()
    with mounted(place.state, "512k"):
        assert bigupload(*sync(s3)).code == 0
        (record,) = place.state.glob("*.job.sqlite")
        record.with_name(f"{record.name}-wal").write_bytes(bytes(100))
        fill(place.state)
        for path in place.state.glob("*-shm"):
            path.unlink()
        refused = bigupload(*CHECK)
        assert_refused(refused, 1, f"can't read the record {record}: ", "no space left on that disk", "bigupload abort")
        assert "no sync is recorded" not in refused.err
    place.state.joinpath("damaged.job.sqlite").write_bytes(b"x" * 1000)
    assert_refused(bigupload(*CHECK), 1, "damaged.job.sqlite: file is not a database", "bigupload abort damaged")
    assert bigupload("resume").err == "1 record can't be read: see bigupload status\n"
    assert bigupload("abort", "damaged").err == "forgot the job: its files stay in the bucket\n"
    assert_refused(bigupload(*CHECK), 1, "no sync is recorded")


def test_without_a_record_that_can_be_read_it_deletes_nothing(
    bigupload: Command, s3: StrictS3, tree: Path, place: Place
) -> None:
    """What was mounted is only in the record."""
    place.state.mkdir()
    with mounted(place.state, "512k"):
        assert bigupload(*sync(s3)).code == 0
        (record,) = place.state.glob("*.job.sqlite")
        record.with_name(f"{record.name}-wal").write_bytes(bytes(100))
        (tree / "a").rename(tree / "b")
        fill(place.state)
        for path in place.state.glob("*-shm"):
            path.unlink()
        planned = bigupload(*sync(s3, "--delete", "--no-resume", "--dry-run"))
        assert_refused(planned, 75, f"can't read the record {record}: ", "no space left on that disk", "--allow-empty")
    record = place.state / record.name
    record.write_bytes(b"x" * 1000)
    for more in (("--no-resume",), ("--no-resume", "--dry-run"), ("--dry-run",)):
        refused = bigupload(*sync(s3, "--delete", *more))
        assert_refused(refused, 1, f"can't read the record {record}: file is not a database", "--allow-empty")
        assert "sync once with --no-resume and without --delete" in refused.err
    assert [*s3.objects["bucket"]] == ["p/a"]


def test_a_sync_names_what_is_not_mounted(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    disk = tree / "disk"
    disk.mkdir()
    with mounted(disk):
        (disk / "film").write_text("film")
        assert bigupload(*sync(s3)).code == 0
    (tree / "b").write_text("b")
    assert bigupload(*sync(s3)).code == 0
    (tree / "b").unlink()
    planned = bigupload(*sync(s3, "--delete", "--dry-run"))
    assert planned.code == 75
    assert [line.split()[-1] for line in planned.out.splitlines()] == ["s3://bucket/p/b"]
    ended = bigupload(*sync(s3, "--delete"))
    assert (ended.code, ended.out) == (75, "deleted s3://bucket/p/b\n")
    assert "tree/disk was a file system of its own when its files were synced, and is none now" in ended.err
    assert "so nothing was deleted below it: mount it and try again" in ended.err
    assert "If its files were deleted: --allow-empty" in ended.err
    kept = "a file system may not be mounted at tree/disk"
    assert f"some objects were kept: {kept}" in ended.err
    assert sorted(s3.objects["bucket"]) == ["p/a", "p/disk/film"]
    assert bigupload(*CHECK).code == 0, "the one before was complete"
    ended = bigupload(*sync(s3, "--delete", "--json-summary"))
    assert (ended.code, json.loads(ended.out)["not_deleted"]) == (75, kept)
    assert f"nothing was deleted: {kept}" in ended.err
    ended = bigupload(*sync(s3, "--delete", "--allow-empty"))
    assert (ended.code, sorted(s3.objects["bucket"])) == (0, ["p/a"])
    for name in ("1", "2"):
        (disk / name).touch()
    assert bigupload(*sync(s3)).code == 0
    (disk / "1").unlink()
    ended = bigupload(*sync(s3, "--delete"))
    assert (ended.code, sorted(s3.objects["bucket"])) == (0, ["p/a", "p/disk/2"]), "it is a directory as any other"

"""The record of a job: what was recorded is found again, unless the file has changed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.manifests import clean_up, job_record
from bigupload.manifests.job_record import (
    JOB_SUFFIX,
    JobRecord,
    OtherJobs,
    RecordedFile,
    file_of_row,
    known_jobs,
    open_database,
    read_job,
    stored_path,
)
from tests.tools.cases import each_case

FILE = RecordedFile(
    key="a/ü.bin",
    path="/files/ü\udcff.bin",
    fingerprint=Fingerprint(10, 2**60, 2**61, 2**62),
    etag='"etag"',
    checksum="crc64nvme:AAAAAAAAAAA=",
    verified=Verified.FULL_OBJECT,
    version_id=None,
)


@pytest.fixture
def threads() -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool


def record(directory: Path, threads: concurrent.futures.Executor, *, resume: bool = True) -> JobRecord:
    made = JobRecord(directory / "id.job.sqlite", "name", "s3://b/", now=lambda: "2026-01-01", executor=threads)
    made.open(resume=resume)
    return made


async def test_what_is_recorded_is_found_by_the_next_run(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    with record(tmp_path, threads) as first:
        assert first.is_new
        await first.record([FILE, dataclasses.replace(FILE, key="other", checksum=None, version_id="v")])
        await first.record([])
    with record(tmp_path, threads) as second:
        assert not second.is_new
        assert second.find(FILE.key, FILE.path, FILE.fingerprint) == FILE
        found = second.find("other", FILE.path, FILE.fingerprint)
        assert found is not None
        assert (found.checksum, found.version_id) == (None, "v")
    assert (tmp_path / "id.job.sqlite").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["id.job.sqlite"]


@pytest.mark.parametrize("changed", ["size", "mtime_ns", "ctime_ns", "inode"])
async def test_a_file_that_changed_is_not_found(
    tmp_path: Path, threads: concurrent.futures.Executor, changed: str
) -> None:
    with record(tmp_path, threads) as made:
        await made.record([FILE])
        now = dataclasses.replace(FILE.fingerprint, **{changed: 11})
        assert made.find(FILE.key, FILE.path, now) is None
        assert made.find(FILE.key, "/another/path", FILE.fingerprint) is None
        await made.record([dataclasses.replace(FILE, fingerprint=now)])
        assert made.find(FILE.key, FILE.path, now) is not None


async def test_files_that_are_looked_up_together(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    others = [dataclasses.replace(FILE, key=f"{number:03}", etag=f'"{number}"') for number in range(300)]
    keys = [FILE.key, *(each.key for each in others)]
    with record(tmp_path, threads) as first:
        assert first.find_all(keys) == {}
        await first.record([FILE, *others])
    with record(tmp_path, threads) as made:
        found = made.find_all([*keys, "never recorded"])
        assert [*found] == sorted(keys)
        assert file_of_row(FILE.key, FILE.path, FILE.fingerprint, found[FILE.key]) == FILE
        f = FILE.fingerprint
        assert found[FILE.key][:5] == (stored_path(FILE.path), f.size, f.mtime_ns, f.ctime_ns, f.inode)
        assert found["017"][5] == '"17"'
        assert made.find_all([]) == {}
        await made.record([dataclasses.replace(FILE, location=("key", "url"))])
    with record(tmp_path, threads) as of_service:
        assert of_service.find_all(keys) == {}, "only `find` knows what the service named them"


@pytest.mark.parametrize("known", [None, 2, 3])
async def test_what_is_known_to_be_kept_is_not_looked_at(
    tmp_path: Path, threads: concurrent.futures.Executor, known: int | None
) -> None:
    looked: list[str] = []

    def keep(key: str) -> bool:
        looked.append(key)
        return key != "1"

    with record(tmp_path, threads) as made:
        await made.record([dataclasses.replace(FILE, key=str(number)) for number in range(3)])
        await made.finish(keep=keep, known=known)
        assert looked == ([] if known == 3 else ["0", "1", "2"])
    (job,) = known_jobs(tmp_path)
    assert (job.status, job.files) == ("finished", 3 if known == 3 else 2)


async def test_a_finished_job_begins_anew(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    with record(tmp_path, threads) as made:
        await made.record([dataclasses.replace(FILE, key=str(number)) for number in range(1000)])
        before = read_job(made.path)
        assert (before.status, before.files, before.bytes) == ("unfinished", 1000, 10_000)
        await made.finish()
    (job,) = known_jobs(tmp_path)
    assert (job.status, job.files, job.bytes, job.name) == ("finished", 1000, 10_000, "name")
    with record(tmp_path, threads) as again:
        assert again.is_new
        assert read_job(again.path).status == "unfinished"


async def test_a_sync_reads_what_other_jobs_recorded(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    def job(name: str, target: str = "s3://b/") -> JobRecord:
        path = tmp_path / f"{name}{JOB_SUFFIX}"
        return JobRecord(path, name, target, now=lambda: "2026-01-01", executor=threads)

    for name, target in (("same", "s3://b/"), ("other", "s3://other/"), ("mine", "s3://b/")):
        with job(name, target) as made:
            made.open(resume=True)
            await made.record([dataclasses.replace(FILE, key=f"of {name}")])
            if name == "same":
                await made.finish()
    (tmp_path / f"damaged{JOB_SUFFIX}").write_bytes(b"damaged" * 1000)
    (tmp_path / f"link{JOB_SUFFIX}").symlink_to(tmp_path / f"same{JOB_SUFFIX}")
    with contextlib.closing(OtherJobs(job("mine").path, "s3://b/")) as others:
        (rows,) = others.find_all(["of same", "of other", "of mine"])
        assert {key: file_of_row(key, FILE.path, FILE.fingerprint, row) for key, row in rows.items()} == {
            "of same": dataclasses.replace(FILE, key="of same")
        }


async def test_the_oldest_records_go_when_all_take_too_much_room(
    tmp_path: Path, threads: concurrent.futures.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        path = tmp_path / f"{number}{JOB_SUFFIX}"
        with JobRecord(path, "name", f"s3://{number}/", now=lambda: "2026-01-01", executor=threads) as made:
            made.open(resume=True)
            await made.record([FILE])
            if number != 1:
                await made.finish()
        os.utime(path, (number, number))
    monkeypatch.setattr(clean_up, "KEEP_JOBS_BYTES", path.stat().st_size * 5 // 2)
    clean_up.clean(tmp_path, now=10)
    assert sorted(job.target for job in known_jobs(tmp_path)) == ["s3://1/", "s3://2/", "s3://3/"]
    monkeypatch.setattr(clean_up, "KEEP_JOBS_BYTES", 1)
    clean_up.clean(tmp_path, now=10)
    assert sorted(job.target for job in known_jobs(tmp_path)) == ["s3://1/", "s3://3/"]


async def test_a_second_holder_is_refused(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    with record(tmp_path, threads), pytest.raises(errors.ManifestLocked, match=f"process {os.getpid()}"):
        record(tmp_path, threads)


def test_another_program_s_database_is_left_alone(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    theirs = sqlite3.connect(tmp_path / "id.job.sqlite")
    theirs.execute("CREATE TABLE file (key TEXT)")
    theirs.close()
    before = (tmp_path / "id.job.sqlite").read_bytes()
    with pytest.raises(errors.ManifestCorrupt, match="another program or version"):
        record(tmp_path, threads)
    assert (tmp_path / "id.job.sqlite").read_bytes() == before
    assert read_job(tmp_path / "id.job.sqlite").status == "unreadable"


def test_a_full_disk_leaves_no_record(
    tmp_path: Path, threads: concurrent.futures.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> sqlite3.Connection:
        opened = open_database(path)
        opened.execute("PRAGMA max_page_count = 1")  # SQLite says then what it says of a full disk
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(job_record, "open_database", full)
        with pytest.raises(errors.ManifestUnwritable, match="full; free some space on that disk") as caught:
            record(tmp_path, threads)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert list(tmp_path.iterdir()) == []
    record(tmp_path, threads).close()


def test_a_record_that_is_made_is_whole_at_its_place(
    tmp_path: Path, threads: concurrent.futures.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a process is killed, there is none, or one that the next run goes on with."""
    place, seen = tmp_path / "id.job.sqlite", []

    def seeing(path: Path) -> sqlite3.Connection:
        seen.append(place.exists())
        if place.exists():
            with contextlib.closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as opened:
                assert opened.execute("SELECT count(*) FROM job").fetchone() == (1,)
        return open_database(path)

    monkeypatch.setattr(job_record, "open_database", seeing)
    record(tmp_path, threads).close()
    assert seen[:2] == [False, True]


async def test_an_empty_record_is_called_empty_and_goes_on(
    tmp_path: Path, threads: concurrent.futures.Executor
) -> None:
    """As earlier versions left it when the disk was full."""
    path = tmp_path / "id.job.sqlite"
    path.touch(0o600)
    (job,) = known_jobs(tmp_path)
    assert (job.status, job.is_empty) == ("unreadable", True)
    assert job.error is not None
    assert job.error.startswith("it is empty")
    with record(tmp_path, threads) as made:
        await made.record([FILE])
    assert read_job(path).files == 1
    path.write_bytes(b"")
    (tmp_path / "id.job.sqlite.new").touch(0o600)  # of a process that was killed
    assert clean_up.clean(tmp_path, older_than=0).others >= 2
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_its_place_is_refused(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    (tmp_path / "id.job.sqlite").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_bytes(b"theirs")
    with pytest.raises(errors.ManifestError):
        record(tmp_path, threads)
    with pytest.raises(errors.ManifestError):
        record(tmp_path, threads, resume=False)
    assert (tmp_path / "victim").read_bytes() == b"theirs"


async def test_a_directory_that_can_t_be_written_says_so(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.ManifestUnwritable, match="BIGUPLOAD_STATE_DIR") as caught:
        record(tmp_path / "file", threads)
    assert caught.value.exit_code == 1


async def test_a_record_that_may_only_be_read_says_so(
    tmp_path: Path, threads: concurrent.futures.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everything, so SQLite's refusal is played."""
    with record(tmp_path, threads) as first:
        assert first._writing is not None
        first._writing.execute("PRAGMA query_only = ON")
        with pytest.raises(errors.ManifestUnwritable, match="readonly") as caught:
            await first.record([FILE])
    assert caught.value.exit_code == 1


async def test_a_record_that_is_kept_forgets_only_what_is_gone(
    tmp_path: Path, threads: concurrent.futures.Executor
) -> None:
    with record(tmp_path, threads) as first:
        await first.record([dataclasses.replace(FILE, key=f"{number:05}") for number in range(10_001)])
        await first.finish(keep=lambda key: key.endswith("0"))
    job = read_job(first.path)
    assert (job.status, job.files, job.bytes) == ("finished", 1001, 10_010)
    second = JobRecord(first.path, "name", "s3://b/", now=lambda: "2026-01-02", executor=threads)
    with second:
        second.open(resume=True, keep=True)
        assert read_job(first.path).status == "unfinished"
        assert second.find("00010", FILE.path, FILE.fingerprint) is not None
        assert second.find("00011", FILE.path, FILE.fingerprint) is None
        await second.finish(keep=lambda key: True)
    assert read_job(first.path).status == "finished"
    with record(tmp_path, threads) as third:
        assert third.is_new, "a job that does not keep them forgets them"


async def test_writes_at_one_time_come_one_after_another(tmp_path: Path) -> None:
    """A sync records files that it sent, files that were there and mounts: these are separate tasks."""
    keys = [f"{number:03}" for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool, record(tmp_path, pool) as first:
        mounts = [first.record_mounts({f"{key}/"}) for key in keys]
        await asyncio.gather(*mounts, *(first.record([dataclasses.replace(FILE, key=key)]) for key in keys))
        assert all(first.find(key, FILE.path, FILE.fingerprint) for key in keys)
    with record(tmp_path, pool) as second:
        assert second.mounts == first.mounts


async def test_a_look_into_a_record_changes_nothing(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    def looked() -> JobRecord:
        made = JobRecord(tmp_path / "id.job.sqlite", "name", "s3://b/", now=lambda: "2026-01-02", executor=threads)
        made.peek()
        return made

    with looked() as none:
        assert none.is_new
    assert list(tmp_path.iterdir()) == []
    with record(tmp_path, threads) as first:
        await first.record([FILE])
        with looked() as other:  # the lock is held
            assert other.find(FILE.key, FILE.path, FILE.fingerprint) == FILE
        await first.finish(keep=lambda key: True)
    before = first.path.read_bytes()
    with looked() as other:
        assert not other.is_new
    assert first.path.read_bytes() == before
    first.path.write_bytes(b"damaged" * 1000)
    with looked() as other:
        assert other.is_new


async def test_what_a_media_service_chose_is_recorded(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    located = dataclasses.replace(FILE, location=("media/1.jpg", "https://cdn/1.jpg"))
    with record(tmp_path, threads) as first:
        await first.record([located, dataclasses.replace(FILE, key="other")])
    with record(tmp_path, threads) as second:
        assert second.find(FILE.key, FILE.path, FILE.fingerprint) == located
        found = second.find("other", FILE.path, FILE.fingerprint)
        assert found is not None
        assert found.location is None


async def test_a_record_of_an_earlier_version_goes_on(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    """It had no table of places, two tables of one row, and no column but the first six."""
    with record(tmp_path, threads) as first:
        await first.record([FILE])
    with contextlib.closing(sqlite3.connect(tmp_path / "id.job.sqlite")) as opened:
        for column in ("command", "arguments", "directory", "endpoint", "past", "token", "gone"):
            opened.execute(f"ALTER TABLE job DROP COLUMN {column}")
        opened.execute("DROP TABLE place")
        opened.execute("CREATE TABLE past (finished TEXT)")
        opened.execute("INSERT INTO past VALUES ('2025-12-31')")
        opened.execute("CREATE TABLE own (token TEXT)")
        opened.execute("INSERT INTO own VALUES ('random')")
        opened.execute("PRAGMA user_version = 2")
        opened.execute("UPDATE job SET name = 'sync /a b', target = 's3://b/ at local'")
        opened.commit()
    job = read_job(first.path)
    assert (job.command, job.arguments, job.endpoint) == ("sync", ("/a b",), "local")
    assert (job.last_finished, job.gone, job.files, job.status) == ("2025-12-31", 2, 1, "unfinished")
    with record(tmp_path, threads) as second:
        assert second.find(FILE.key, FILE.path, FILE.fingerprint) == FILE
        assert second.token == "random"
    job = read_job(first.path)
    assert (job.last_finished, job.gone, job.files) == ("2025-12-31", 0, 1)


@each_case(
    ("name", "command", "arguments", "directory"),
    [
        ("'/a b' '--files-from=/c d/-'", "upload", ("/a b", "--files-from=-"), "/c d"),
        ("--files-from=/-", "upload", ("--files-from=-",), "/"),
        ("--exclude=x --files-from=/c/list", "upload", ("--exclude=x", "--files-from=/c/list"), None),
        ("watch /a b", "watch", ("/a b",), None),
        (f"/{'a' * 199}… {'0' * 16}", None, (), None),  # it was cut
        ("/it's", None, (), None),
        ("nightly", None, (), None),
    ],
)
def test_the_name_of_a_job_in_an_earlier_version(
    name: str, command: str | None, arguments: tuple[str, ...], directory: str | None
) -> None:
    found = job_record._job_of_text(name)
    assert found == (None if command is None else name)
    assert found is None or (found.command, (*found.arguments,), found.directory) == (command, arguments, directory)


async def test_a_file_takes_as_much_room_as_the_page_says(tmp_path: Path, threads: concurrent.futures.Executor) -> None:
    """docs/many-files.md has the figure: of keys with 26 characters, and paths with 40."""
    page = (Path(__file__).parents[2] / "docs" / "many-files.md").read_text(encoding="utf-8")
    (said,) = set(re.findall(r"(\d+) bytes a file", page)) - {"24"}
    fingerprint = Fingerprint(100_000, 1_790_000_000_123_456_789, 1_790_000_000_123_456_789, 9_000_000)
    count = 20_000
    files = [
        dataclasses.replace(
            FILE,
            key=f"2026/holiday/img{number:07}.jp",
            path=f"/home/someone/2026/holiday/img{number:07}.jp",
            fingerprint=fingerprint,
            etag='"9dd4e461268c8034f5c8564e155c67a6"',
        )
        for number in range(count)
    ]
    with record(tmp_path, threads) as opened:
        await opened.record(files)
    size = (tmp_path / "id.job.sqlite").stat().st_size
    assert size / count == pytest.approx(int(said), rel=0.1)

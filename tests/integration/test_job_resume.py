"""A job that stopped continues by the same call: nothing is sent twice but what was in flight."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import UploadFailed, UploadResult, Verified, errors
from bigupload.api.steps.delete_source import OpenDeleteSource
from bigupload.batch.tree import FileEntry
from bigupload.manifests.clean_up import clean
from bigupload.manifests.job_record import JOB_SUFFIX, JobRecord, RecordedFile, known_jobs
from bigupload.testing.faults import Stall, Status

from .support import BUCKET, FAST, PART, World

TO = f"s3://{BUCKET}/p/"


def files(world: World, count: int) -> list[Path]:
    return [world.file(100 + number, f"{number:02}.bin", number) for number in range(count)]


async def sent(world: World, sources: Any, *, only: int | None = None, **more: Any) -> list[Any]:
    """The outcomes; `only`: leave after so many, while the last file is on its way."""
    if only is not None:
        world.s3.script("PutObject", Stall(), key=f"p/{sources[-1].name}")
    async with bigupload.Uploader(retry=FAST, concurrency=2) as uploader:
        outcomes = uploader.upload_many(sources, **{"to": TO, "s3": world.options(), "job": "nightly", **more})
        found: list[UploadResult | UploadFailed] = []
        async with contextlib.aclosing(outcomes):
            async for each in outcomes:
                found.append(each)
                if len(found) == only:
                    break
    if only is not None:
        world.s3.release()
        world.s3.clear()
    return found


def state(world: World) -> Path:
    return world.directory / "state"


def puts(world: World) -> list[str]:
    return [str(each.key) for each in world.s3.requests if each.op == "PutObject"]


async def test_the_same_call_sends_what_is_missing(world: World) -> None:
    paths = files(world, 30)
    await sent(world, paths, only=10)
    (job,) = known_jobs(state(world))
    assert (job.status, job.name) == ("unfinished", "nightly")
    assert job.target == f"{TO} at {world.s3.url}"
    assert 10 <= job.files < 30
    before = len(puts(world))
    assert job.files <= before <= job.files + 6  # what was in flight
    outcomes = await sent(world, paths)
    assert {each.skipped for each in outcomes} == {True, False}
    assert sum(each.skipped for each in outcomes) == job.files
    assert len(puts(world)) == before + 30 - job.files
    skipped = next(each for each in outcomes if each.skipped)
    assert (skipped.size, skipped.bytes_sent, skipped.manifest) == (skipped.path.stat().st_size, 0, job.record)
    assert {each.url for each in outcomes} == {f"{world.s3.url}/{BUCKET}/p/{path.name}" for path in paths}
    (job,) = known_jobs(state(world))
    assert (job.status, job.files, job.bytes) == ("finished", 30, sum(path.stat().st_size for path in paths))


async def test_a_finished_job_begins_anew_and_so_does_one_that_is_not_resumed(world: World) -> None:
    paths = files(world, 3)
    for _ in range(2):
        assert not any(each.skipped for each in await sent(world, paths))
    await sent(world, paths, only=1)
    assert not any(each.skipped for each in await sent(world, paths, resume=False))


async def test_a_large_file_that_is_complete_and_not_recorded_is_not_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the two."""
    paths = [*files(world, 1), world.file(3 * PART, "large.bin")]
    record = JobRecord.record

    async def fail(job: JobRecord, done: Sequence[RecordedFile]) -> None:
        await record(job, [each for each in done if each.key != "large.bin"])
        if any(each.key == "large.bin" for each in done):
            raise errors.ManifestUnwritable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(JobRecord, "record", fail)
        with pytest.raises(errors.ManifestUnwritable):
            await sent(world, paths, part_size=PART)
    assert world.s3.count("CompleteMultipartUpload") == 1
    results = {each.path.name: each for each in await sent(world, paths, part_size=PART)}
    assert (results["large.bin"].skipped, results["large.bin"].verified) == (True, Verified.FULL_OBJECT)
    assert world.s3.count("CreateMultipartUpload") == 1
    assert not any(each.skipped for each in await sent(world, paths, part_size=PART)), "that job was finished"
    assert world.s3.count("CreateMultipartUpload") == 2


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """A run that is killed after the store's responses, and before they are recorded."""

    async def fail(job: JobRecord, done: Sequence[RecordedFile]) -> None:
        raise errors.ManifestUnwritable("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobRecord, "record", fail)
        with pytest.raises(errors.ManifestUnwritable):
            yield


@pytest.mark.parametrize("late", [False, True], ids=["at once", "while the next run sends it"])
@pytest.mark.parametrize("echo", [True, False], ids=["with checksums", "without checksums"])
async def test_if_none_match_knows_what_the_killed_run_of_the_job_sent(world: World, echo: bool, late: bool) -> None:
    world.s3.knobs.echo_checksums = echo
    paths, s3 = files(world, 1), world.options(if_none_match=True)
    with unrecorded():
        await sent(world, paths, s3=s3)
    if late:
        world.s3.script("HeadObject", Status(404, "NotFound"))
    (result,) = await sent(world, paths, s3=s3)
    assert isinstance(result, UploadResult), result
    assert result.verified is (Verified.FULL_OBJECT if echo else Verified.COMPOSITE_ETAG)
    assert world.s3.count("PutObject", status=200) == 1
    (again,) = await sent(world, paths, s3=s3)
    assert isinstance(again.error, errors.TargetExists), "that job was finished"


async def test_if_none_match_takes_no_object_of_another_for_the_jobs_own(world: World) -> None:
    """Its bytes are the file's, and another job wrote it."""
    paths, s3 = files(world, 1), world.options(if_none_match=True)
    with unrecorded():
        await sent(world, paths, s3=s3)
    (failed,) = await sent(world, paths, s3=s3, job="weekly")
    assert isinstance(failed.error, errors.TargetExists)
    (world.directory / "other").mkdir()
    other = world.file(paths[0].stat().st_size, "other/00.bin")
    other.write_bytes(paths[0].read_bytes())
    (failed,) = await sent(world, [other], s3=s3)
    assert isinstance(failed.error, errors.TargetExists), "another file of the job"
    assert len(puts(world)) == 1


@pytest.mark.parametrize("change", ["bytes", "size", "nothing to prove it by"])
async def test_if_none_match_keeps_what_the_killed_run_sent_of_a_file_that_changed(world: World, change: str) -> None:
    (path,), s3 = files(world, 1), world.options(if_none_match=True)
    if change == "nothing to prove it by":
        world.s3.knobs.echo_checksums, world.s3.knobs.etags = False, "opaque"
    with unrecorded():
        await sent(world, [path], s3=s3)
    if change != "nothing to prove it by":
        path.write_bytes(b"x" * (path.stat().st_size + (change == "size")))
    (failed,) = await sent(world, [path], s3=s3)
    assert isinstance(failed.error, errors.TargetExists), failed
    assert len(puts(world)) == 1


async def test_a_move_with_if_none_match_deletes_what_the_killed_run_of_the_job_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise errors.ManifestUnwritable("the disk is full")

    paths = files(world, 2)
    more: dict[str, Any] = {"s3": world.options(if_none_match=True), "then": bigupload.DeleteSource()}
    with monkeypatch.context() as patch:
        patch.setattr(OpenDeleteSource, "__call__", fail)
        with pytest.raises(errors.ManifestUnwritable):
            await sent(world, paths, **more)
    assert puts(world)
    outcomes = await sent(world, paths, **more)
    assert all(isinstance(each, UploadResult) and each.source_deleted for each in outcomes), outcomes
    assert not any(path.exists() for path in paths)
    assert len(puts(world)) == 2


async def test_a_large_file_that_is_not_proved_well_enough_is_sent_again(world: World) -> None:
    """Its manifest is complete, and no word for it to the next run, which may prove it better."""
    paths = [*files(world, 1), world.file(3 * PART, "large.bin")]
    more: dict[str, Any] = {"part_size": PART, "require_proof": Verified.FULL_OBJECT}
    outcomes = await sent(world, paths, checksum="sha256", **more)
    assert [type(each.error) for each in outcomes if isinstance(each, UploadFailed)] == [errors.ProofTooWeak]
    (large,) = [each for each in await sent(world, paths, **more) if not getattr(each, "skipped", False)]
    assert (large.verified, world.s3.count("CreateMultipartUpload")) == (Verified.FULL_OBJECT, 2)


async def test_a_file_that_can_not_be_looked_at_is_not_gone(world: World) -> None:
    loop = world.directory / "loop"
    loop.symlink_to(loop)
    await sent(world, [*files(world, 1), loop / "file"])
    (job,) = known_jobs(state(world))
    assert (job.status, job.gone) == ("unfinished", 0)
    clean(state(world), older_than=0, keep=0)
    assert known_jobs(state(world)) == [job]


async def test_a_changed_file_is_sent_again(world: World) -> None:
    paths = files(world, 5)
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/04.bin", repeat=True)
    await sent(world, paths)
    paths[1].write_bytes(b"other bytes")
    os.utime(paths[2], (1, 1))
    world.s3.clear()
    outcomes = await sent(world, paths)
    assert {each.path.name for each in outcomes if not each.skipped} == {"01.bin", "02.bin", "04.bin"}
    assert world.s3.objects[BUCKET]["p/01.bin"].body == b"other bytes"


async def test_a_job_with_failures_is_unfinished_and_only_they_are_sent_again(world: World) -> None:
    paths = files(world, 5)
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/04.bin", repeat=True)
    outcomes = await sent(world, paths)
    (failed,) = [each for each in outcomes if isinstance(each, UploadFailed)]
    assert failed.key == "p/04.bin"
    world.s3.clear()
    before = len(puts(world))
    assert sum(each.skipped for each in await sent(world, paths)) == 4
    assert puts(world)[before:] == ["p/04.bin"]
    assert known_jobs(state(world))[0].status == "finished"


async def test_large_files_are_recorded_too(world: World) -> None:
    large = world.file(3 * PART, "large.bin")
    missing = world.directory / "missing.bin"
    await sent(world, [large, missing])
    outcomes = await sent(world, [large, missing])
    assert [each.skipped for each in outcomes if isinstance(each, UploadResult)] == [True]
    assert world.s3.count("CompleteMultipartUpload") == 1


async def test_the_metadata_of_a_listing_are_enough(world: World) -> None:
    """A file that was listed is not looked at again."""
    path = world.file(10)
    entry = FileEntry.of(str(path), "listed", path.stat())
    missing = world.directory / "missing.bin"
    await sent(world, [entry, missing])
    path.unlink()
    outcomes = await sent(world, [entry, missing])
    assert [each.key for each in outcomes if isinstance(each, UploadResult) and each.skipped] == ["p/listed"]


async def test_another_name_or_target_is_another_job(world: World) -> None:
    paths = files(world, 3)
    await sent(world, paths, only=1)
    assert not any(each.skipped for each in await sent(world, paths, job="weekly"))
    assert not any(each.skipped for each in await sent(world, paths, to=f"s3://{BUCKET}/q/"))
    assert len(known_jobs(state(world))) == 3


async def test_the_same_job_twice_at_a_time_is_refused(world: World) -> None:
    world.s3.hold("PutObject")
    path = world.file(10)
    first = asyncio.create_task(sent(world, [path]))
    await world.s3.wait_for_async("PutObject")
    with pytest.raises(errors.ManifestLocked, match="this job is running already"):
        await sent(world, [path])
    world.s3.release()
    assert len(await first) == 1


async def test_a_damaged_record_says_what_to_do(world: World) -> None:
    paths = files(world, 3)
    await sent(world, paths, only=1)
    (record,) = state(world).glob(f"*{JOB_SUFFIX}")
    record.write_bytes(b"damaged" * 1000)
    with pytest.raises(errors.ManifestCorrupt, match="resume=False"):
        await sent(world, paths)
    assert known_jobs(state(world))[0].status == "unreadable"
    assert len(await sent(world, paths, resume=False)) == 3


async def test_an_empty_record_is_a_job_that_was_killed_at_its_beginning(world: World) -> None:
    paths = files(world, 3)
    await sent(world, paths, only=1)
    (record,) = state(world).glob(f"*{JOB_SUFFIX}")
    record.write_bytes(b"")
    assert len(await sent(world, paths)) == 3


async def test_finished_records_are_cleaned_and_unfinished_ones_stay(world: World) -> None:
    paths = files(world, 3)
    await sent(world, paths)
    await sent(world, paths, only=1, job="weekly")
    clean(state(world), older_than=0, keep=0)
    assert [job.name for job in known_jobs(state(world))] == ["weekly"]
    assert sorted(path.name.partition(".")[2] for path in state(world).glob("*.job*")) == ["job.sqlite"]


async def test_two_files_with_one_key_do_not_replace_each_other(world: World) -> None:
    (world.directory / "other").mkdir()
    paths = [world.file(10), world.file(11, "other/file.bin")]
    outcomes = await sent(world, paths)
    (failed,) = [each for each in outcomes if isinstance(each, UploadFailed)]
    assert failed.source == str(paths[1])
    assert isinstance(failed.error, errors.UsageError)
    assert world.s3.objects[BUCKET]["p/file.bin"].size == 10


PROGRAM = """
import asyncio, json, os, sys
import bigupload

async def main():
    directory, url, region = sys.argv[1:]
    sources = sorted(os.path.join(directory, name) for name in os.listdir(directory))
    s3 = bigupload.S3Options(endpoint_url=url, region=region)
    uploader = bigupload.Uploader(concurrency=4)
    async for each in bigupload.upload_many(sources, to="s3://bucket/p/", s3=s3, job="killed", uploader=uploader):
        print(json.dumps([each.key, each.skipped]), flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 40, 150])
def test_a_killed_process_sends_again_only_what_was_in_flight(world: World, lines: int) -> None:
    directory = world.directory / "files"
    directory.mkdir()
    for number in range(300):
        (directory / f"{number:03}").write_bytes(os.urandom(number))
    command = [sys.executable, "-c", PROGRAM, str(directory), world.s3.url, world.s3.region]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline())[0] for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
    world.s3.settle()
    before = puts(world)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    outcomes = dict(json.loads(line) for line in done.stdout.splitlines())
    assert len(outcomes) == 300
    assert all(outcomes[key] for key in told), "what was told is recorded"
    assert len(puts(world)) - len(set(puts(world))) <= 4 + len(before) - sum(outcomes.values())
    assert sum(outcomes.values()) >= len(told)
    for path in directory.iterdir():
        assert world.s3.objects[BUCKET][f"p/{path.name}"].body == path.read_bytes()

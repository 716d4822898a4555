"""Watched directories: what the library uploads of them, again or not at all. The loop itself is tests/batch's."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import UploadFailed, UploadResult, errors, events
from bigupload.api import operations
from bigupload.api.many_items import ManyItem
from bigupload.api.watching import WatchMany
from bigupload.manifests.job_record import JOB_SUFFIX, known_jobs
from bigupload.manifests.journal import FileJournal
from bigupload.sources.file import fingerprint_of
from tests.tools.cases import each_case

from .support import FAST, PART, World, content, no_leaks, of_function


@pytest.fixture
def directory(recordings: Path) -> Path:
    return recordings


async def watch(world: World, directory: Path, **more: Any) -> AsyncGenerator[UploadResult | UploadFailed, None]:
    options: dict[str, Any] = {"to": "s3://bucket/raw/", "s3": world.options(), "retry": FAST, "idle": 0.05} | more
    options.setdefault("on_event", world.events.append)
    async with contextlib.aclosing(bigupload.watch(directory, **of_function(options))) as outcomes:
        async for outcome in outcomes:
            yield outcome


async def until_idle(world: World, directory: Path, **more: Any) -> dict[str, UploadResult | UploadFailed]:
    found = watch(world, directory, until_idle=0.05, **more)
    return {str(path_of(outcome).relative_to(directory)): outcome async for outcome in found}


def path_of(outcome: UploadResult | UploadFailed) -> Path:
    return Path(outcome.source) if isinstance(outcome, UploadFailed) else outcome.path


def write(path: Path, size: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(size, seed))
    return path


@pytest.mark.slow
async def test_files_that_are_there_and_that_come(world: World, directory: Path) -> None:
    write(directory / "a.mp4", PART + 1)
    async with no_leaks(), contextlib.aclosing(watch(world, directory)) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, UploadResult)
            if outcome.path.name == "b 😀.mp4":
                break
            write(directory / "sub" / "deep" / "b 😀.mp4", 3 * PART)
    assert world.holds(directory / "a.mp4", "raw/a.mp4")
    assert world.holds(directory / "sub/deep/b 😀.mp4", "raw/sub/deep/b 😀.mp4")


async def test_what_is_gone_is_forgotten(world: World, directory: Path) -> None:
    for name in ("a", "b"):
        write(directory / name, 10)
    await until_idle(world, directory)
    (directory / "a").unlink()
    await until_idle(world, directory)
    (job,) = known_jobs(world.directory / "state")
    assert (job.status, job.files) == ("finished", 1)


@pytest.mark.slow
async def test_what_is_uploaded_is_not_sent_again(world: World, directory: Path) -> None:
    paths = [write(directory / name, 2 * PART) for name in ("a", "b", "c")]
    first = await until_idle(world, directory)
    assert [outcome.skipped for outcome in first.values() if isinstance(outcome, UploadResult)] == [False] * 3
    requests = len(world.s3.requests)
    again = await until_idle(world, directory)
    assert [outcome.skipped for outcome in again.values() if isinstance(outcome, UploadResult)] == [True] * 3
    assert len(world.s3.requests) == requests  # the manifests say so
    os.utime(paths[0], ns=(1, 1))  # other metadata: its bytes are compared
    write(paths[1], 2 * PART, seed=1)
    write(paths[2], 2 * PART + 1)
    sent = len(world.sent())
    third = await until_idle(world, directory)
    assert {name: outcome.skipped for name, outcome in third.items() if isinstance(outcome, UploadResult)} == {
        "a": True, "b": False, "c": False,
    }  # fmt: skip
    assert len(world.sent()) == sent + 2 + 3
    assert "uploading it again" in world.warnings()
    for path in paths:
        assert world.holds(path, f"raw/{path.name}")


async def test_a_watch_that_ended_by_itself_is_finished_and_keeps_its_files(world: World, directory: Path) -> None:
    write(directory / "good", 10)
    odd = write(directory / "bell\a", 10)

    def status() -> str:
        (job,) = known_jobs(world.directory / "state")
        return job.status

    await until_idle(world, directory)
    assert status() == "unfinished", "a file failed"
    odd.unlink()
    await until_idle(world, directory)
    assert status() == "finished"
    requests = len(world.s3.requests)
    (outcome,) = (await until_idle(world, directory)).values()
    assert isinstance(outcome, UploadResult)
    assert (outcome.skipped, len(world.s3.requests), status()) == (True, requests, "finished")
    assert outcome.manifest.name.endswith(JOB_SUFFIX), "the record says so"


@pytest.mark.slow
async def test_it_changes_again_and_again(world: World, directory: Path) -> None:
    path, seed = write(directory / "a", PART), 0
    async with contextlib.aclosing(watch(world, directory)) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, UploadResult)
            assert world.holds(path, "raw/a")
            seed += 1
            if seed == 3:
                break
            write(path, PART + seed, seed)
    assert seed == 3


@pytest.mark.slow
async def test_without_the_manifests(world: World, directory: Path, tmp_path: Path) -> None:
    """Those of old uploads are deleted. The objects themselves prove what is there."""
    write(directory / "a", 3 * PART)
    await until_idle(world, directory)
    sent = len(world.sent())
    (outcome,) = (await until_idle(world, directory, state_dir=tmp_path / "other")).values()
    assert isinstance(outcome, UploadResult)
    assert outcome.skipped
    assert len(world.sent()) == sent


@pytest.mark.slow
async def test_its_record_outlives_the_manifests(world: World, directory: Path, tmp_path: Path) -> None:
    """Manifests of completed uploads are deleted after a while; and what was compared is not hashed again."""
    path = write(directory / "a", 3 * PART)
    await until_idle(world, directory)
    os.utime(path, ns=(1, 1))
    await until_idle(world, directory)
    for manifest in (tmp_path / "state").glob("*.manifest.jsonl"):
        manifest.unlink()
    requests = len(world.s3.requests)
    (outcome,) = (await until_idle(world, directory)).values()
    assert isinstance(outcome, UploadResult)
    assert (outcome.skipped, outcome.key, outcome.size) == (True, "raw/a", 3 * PART)
    assert len(world.s3.requests) == requests


@pytest.mark.slow
async def test_files_that_end_at_once_are_recorded(world: World, directory: Path) -> None:
    """Their record takes one call at a time."""
    names = [f"{number}" for number in range(40)]
    for name in names:
        write(directory / name, 1)
    found = await until_idle(world, directory)
    assert [type(outcome) for outcome in found.values()] == [UploadResult] * 40
    again = await until_idle(world, directory)
    assert all(isinstance(outcome, UploadResult) and outcome.skipped for outcome in again.values())


async def test_a_small_file_takes_no_lock(world: World, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no manifest, and ten thousands of them may wait."""
    locked: list[Path] = []
    open_journal = FileJournal.open
    monkeypatch.setattr(FileJournal, "open", lambda self: [locked.append(self.path), open_journal(self)])
    paths = [write(directory / name, 10) for name in ("a", "b")]
    await until_idle(world, directory)
    write(paths[0], 11)
    await until_idle(world, directory)
    assert all(world.holds(path, f"raw/{path.name}") for path in paths)
    assert locked == []


@pytest.mark.parametrize("written", ["before it is opened", "after it was opened"])
async def test_it_is_written_twice_within_a_tick_of_the_clock(
    world: World, directory: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """The first write comes after the watch has looked, the second after the upload, and leaves the same times."""
    path = write(directory / "a", 10)
    looks = 0
    upload, send = operations.upload, WatchMany._send

    async def send_after_write(self: WatchMany, item: ManyItem) -> Any:
        nonlocal looks
        looks += 1
        if looks == 1 and written == "before it is opened":
            write(path, 10, seed=1)
        return await send(self, item)

    async def upload_between(*given: Any, **more: Any) -> Any:
        if looks == 1 and written == "after it was opened":
            write(path, 10, seed=1)
        result, fingerprint = await upload(*given, **more)
        if looks == 1:
            write(path, 10, seed=2)
            fingerprint = fingerprint_of(path.stat())
        return result, fingerprint

    monkeypatch.setattr(operations, "upload", upload_between)
    monkeypatch.setattr(WatchMany, "_send", send_after_write)
    await until_idle(world, directory)
    assert looks > 1
    assert world.holds(path, "raw/a")


@pytest.mark.slow
async def test_its_record_is_damaged(world: World, directory: Path, tmp_path: Path) -> None:
    write(directory / "a", PART)
    await until_idle(world, directory)
    (record,) = (tmp_path / "state").glob("*.job.sqlite")
    record.write_bytes(b"no database" * 1000)
    with pytest.raises(errors.ManifestCorrupt, match="delete it"):
        await until_idle(world, directory)
    record.unlink()
    (outcome,) = (await until_idle(world, directory)).values()
    assert isinstance(outcome, UploadResult)
    assert outcome.skipped


async def test_it_is_watched_already(world: World, directory: Path) -> None:
    write(directory / "a", PART)
    async with contextlib.aclosing(watch(world, directory)) as outcomes:
        await anext(outcomes)
        assert world.holds(directory / "a", "raw/a")
        with pytest.raises(errors.ManifestLocked, match="another process watches this directory") as caught:
            await until_idle(world, directory)
        assert caught.value.exit_code == errors.EXIT_RESUMABLE


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(5, 6), (5, 5), (6, 2)])
@pytest.mark.parametrize("followed", [False, True])
async def test_an_unfinished_upload_of_other_bytes(
    world: World, directory: Path, before: int, after: int, followed: bool
) -> None:
    path = write(directory / "a", before * PART)
    more = {"follow": True, "idle": 1} if followed else {}
    world.parts = 4
    to = "s3://bucket/raw/a"
    await world.interrupted(path, after=3, to=to, manifest=None, **more)
    write(path, after * PART, seed=1)
    (outcome,) = (await until_idle(world, directory)).values()
    assert isinstance(outcome, UploadResult)
    assert world.holds(path, "raw/a")
    assert not world.s3.uploads  # nothing is left behind


@pytest.mark.slow
async def test_a_file_that_fails_does_not_stop_the_others(world: World, directory: Path) -> None:
    for name in ("good", "bell\a", "exists"):
        write(directory / name, 10)
    async with bigupload.Uploader() as uploader:
        await uploader.upload(b"another", to="s3://bucket/raw/exists", s3=world.options())
    found = await until_idle(world, directory, s3=world.options(if_none_match=True))
    assert isinstance(found["good"], UploadResult)
    for name, error in (("bell\a", errors.SourceError), ("exists", errors.TargetExists)):
        outcome = found[name]
        assert isinstance(outcome, UploadFailed)
        assert isinstance(outcome.error, error)
        assert not outcome.error.resumable
        assert outcome.retry_in is None


@pytest.mark.slow
async def test_there_is_no_such_bucket(world: World, directory: Path) -> None:
    write(directory / "a", 10)
    async with no_leaks():
        with pytest.raises(errors.BucketNotFound):
            await until_idle(world, directory, to="s3://nowhere/")
    with pytest.raises(errors.SourceNotFound, match="no such directory"):
        await until_idle(world, directory / "nowhere")


@pytest.mark.slow
async def test_its_uploader_is_closed(world: World, directory: Path) -> None:
    async with no_leaks():
        async with bigupload.Uploader() as uploader:
            watched = uploader.watch(directory, to="s3://bucket/", s3=world.options(), idle=0.05)
            step = asyncio.ensure_future(anext(watched))
            await asyncio.sleep(0)
        with pytest.raises(errors.UploadCancelled):
            await step
        late = uploader.watch
        with pytest.raises(errors.UsageError, match="was closed"):
            late(directory, to="s3://bucket/")


@pytest.mark.slow
async def test_what_its_on_event_raises(world: World, directory: Path) -> None:
    def on_event(event: events.Event) -> None:
        if isinstance(event, events.UploadCompleted):
            raise ZeroDivisionError

    write(directory / "a", 10)
    async with no_leaks():
        with pytest.raises(ZeroDivisionError):
            await until_idle(world, directory, on_event=on_event)


@pytest.mark.slow
async def test_the_kernel_refuses_to_tell(world: World, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")  # what inotify says of too many watches

    monkeypatch.setattr("watchfiles.watch", refuse)
    write(directory / "a", 10)
    (outcome,) = (await until_idle(world, directory)).values()
    assert isinstance(outcome, UploadResult)
    assert "reports no changes" in world.warnings()


@each_case(
    ("options", "says"),
    [
        ({"to": "s3://bucket/key"}, "end the target with a slash"),
        ({"to": "https://example.org/"}, "not a target"),
        ({"to": None}, "needs a target"),
        ({"checksum": "none"}, "`checksum='none'` can't be used"),
        ({"idle": 0.5}, "`idle` is 1 second at least"),
        ({"poll": 0.5}, "`poll` is 1 second at least"),
        ({"poll": "often"}, "not a time"),
        ({"until_idle": float("nan")}, "`until_idle` is a number of seconds"),
        ({"selection": bigupload.Selection(follow_symlinks=True)}, "can't follow symbolic links"),
        ({"selection": "*.mp4"}, "selection must be"),
    ],
)
async def test_wrong_arguments(world: World, options: dict[str, Any], says: str) -> None:
    async with bigupload.Uploader() as uploader:
        with pytest.raises(errors.UsageError, match=says.replace("(", r"\(")):
            uploader.watch(world.directory, **({"to": "s3://bucket/", "s3": world.options()} | options))


@pytest.mark.slow
async def test_without_watchfiles(world: World, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match=r"pip install .*\[watch\]"):
        await until_idle(world, directory)
    write(directory / "a", 10)
    (outcome,) = (await until_idle(world, directory, poll=1)).values()
    assert isinstance(outcome, UploadResult)

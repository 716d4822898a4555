"""`DeleteSource`: a file is deleted only when its object is proved and there, and the same call completes the rest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import UploadFailed, UploadResult, Verified, errors
from bigupload.api.steps.delete_source import OpenDeleteSource
from bigupload.sources.removal import FileRemoval, aside_name
from bigupload.testing.faults import Call, Reset, Status
from bigupload.testing.strict_s3.model import Checksum
from tests.tools.cases import each_case
from tests.tools.receipts import rows_of

from .support import BUCKET, FAST, PART, World, content, of_function, with_steps

TO = f"s3://{BUCKET}/p/"
SIZES = [PART // 2, 3 * PART]


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(directory))
    return directory


@pytest.fixture
def source(world: World) -> Path:
    directory = world.directory / "source"
    directory.mkdir()
    return directory


def write(path: Path, size: int = PART // 2, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(size, seed))
    return path


async def move(world: World, path: Any, **more: Any) -> UploadResult:
    more = {"to": TO, "s3": world.options(), "retry": FAST, "delete_source": True, "part_size": PART} | more
    return await bigupload.upload(path, **of_function(more))


async def move_all(world: World, sources: Any, **more: Any) -> list[UploadResult | UploadFailed]:
    async with bigupload.Uploader(retry=FAST) as uploader:
        more = {"to": TO, "s3": world.options(), "delete_source": True, "part_size": PART} | more
        return [outcome async for outcome in uploader.upload_many(sources, **with_steps(more))]


def ops(world: World, since: int = 0) -> list[str]:
    return [request.op for request in list(world.s3.requests)[since:]]


def stored(world: World) -> dict[str, bytes]:
    return {key: bytes(found.body) for key, found in world.s3.objects[BUCKET].items()}


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_is_deleted_when_its_object_is_proved(world: World, source: Path, size: int) -> None:
    path = write(source / "file.bin", size)
    body = path.read_bytes()
    result = await move(world, path)
    assert result.source_deleted
    assert result.verified is Verified.FULL_OBJECT
    assert files(source) == []
    assert stored(world) == {"p/file.bin": body}
    assert ops(world)[-1] == "HeadObject"  # asked for while the file was set aside
    count = len(world.s3.requests)
    if size > PART:  # its manifest knows it, as after a kill behind the deletion
        again = await move(world, path)
        assert (again.source_deleted, again.skipped, again.url) == (True, True, result.url)
        assert ops(world, count) == ["HeadObject"], "nothing is reported that is not so any more"
    else:
        with pytest.raises(errors.SourceNotFound):
            await move(world, path)
    with pytest.raises(errors.SourceNotFound):  # that was not moved
        await move(world, source / "other.bin")
    with pytest.raises(errors.SourceNotFound):  # nor to there
        await move(world, path, to=f"s3://{BUCKET}/q/")


async def test_a_file_that_was_deleted_is_moved_if_the_store_has_its_object(world: World, source: Path) -> None:
    path = write(source / "file.bin", 3 * PART)
    await move(world, path)
    objects = world.s3.objects[BUCKET]
    moved = objects.pop("p/file.bin")
    with pytest.raises(errors.ObjectNotFound, match=r"no object at .* any more: .* was deleted by an earlier"):
        await move(world, path)
    await bigupload.upload(b"another", to=f"s3://{BUCKET}/p/file.bin", s3=world.options(), name="x")
    with pytest.raises(errors.ObjectMismatch, match="is no longer the object that was proved"):
        await move(world, path)
    objects["p/file.bin"] = moved
    assert (await move(world, path)).source_deleted


def change(path: Path) -> None:
    path.write_bytes(b"y" * path.stat().st_size)


def replace(path: Path) -> None:
    other = path.with_name("new")
    other.write_bytes(b"y" * path.stat().st_size)
    other.replace(path)


@each_case("how", [change, replace])
async def test_a_file_that_changes_between_proof_and_deletion_stays(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path], None]
) -> None:
    path = write(source / f"{how.__name__}.bin")
    set_aside = FileRemoval.set_aside

    def changing(self: FileRemoval) -> bool:
        how(path)
        return set_aside(self)

    with monkeypatch.context() as patch:
        patch.setattr(FileRemoval, "set_aside", changing)
        with pytest.raises(errors.SourceChanged, match="was not deleted"):
            await move(world, path)
    assert path.read_bytes() == b"y" * (PART // 2)
    assert files(source) == [path.name]
    assert (await move(world, path)).source_deleted  # as it is now
    assert stored(world)[f"p/{path.name}"] == b"y" * (PART // 2)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shorten(path: Path) -> None:
    path.write_bytes(b"begun anew")


async def move_by(world: World, how: str, directory: Path) -> list[Any]:
    if how == "upload":
        return [await move(world, directory / "file.bin", to=f"{TO}{directory.name}/")]
    told: list[Any] = []
    options: Any = {"to": f"{TO}{directory.name}/", "s3": world.options(), "delete_source": True, "part_size": PART}
    if how == "sync":
        await bigupload.sync(directory, on_outcome=told.append, **of_function(options))
        return told
    return await move_all(world, bigupload.select_files(directory), **options, job="job")


@each_case("how", ["upload", "upload_many", "sync"])
async def test_the_same_call_moves_a_file_that_has_another_size_since_its_upload_began(
    world: World, source: Path, how: str
) -> None:
    """Nothing of what it was stays in the store."""
    for change_size in (append, shorten):
        directory = source / f"{how}-{change_size.__name__}"
        path, key = write(directory / "file.bin", 3 * PART), f"p/{directory.name}/file.bin"
        world.s3.script("UploadPart", Status(403, "AccessDenied"), key=key, part_number=2, repeat=True)
        with contextlib.suppress(errors.AccessDenied):
            await move_by(world, how, directory)
        assert len(world.s3.uploads) == 1
        world.s3.clear("UploadPart")
        change_size(path)
        body = path.read_bytes()
        (result,) = await move_by(world, how, directory)
        assert result.source_deleted
        assert files(directory) == []
        assert stored(world)[key] == body
        assert world.s3.uploads == {}


@each_case("how", ["upload", "upload_many"])
async def test_a_file_that_changes_while_it_is_sent_is_moved_as_it_is_then(
    world: World, source: Path, how: str
) -> None:
    path, key = write(source / how / "file.bin", 3 * PART), f"p/{how}/file.bin"
    world.s3.script("UploadPart", Call(lambda _: append(path)), key=key, part_number=1)
    (result,) = await move_by(world, how, source / how)
    assert result.source_deleted
    assert stored(world)[key] == content(3 * PART) + b"more"
    assert world.s3.uploads == {}


async def test_a_file_that_changes_may_be_an_error(world: World, source: Path) -> None:
    path = write(source / "file.bin", 3 * PART)
    world.s3.script("UploadPart", Call(lambda _: append(path)), part_number=1)
    for _ in range(2):
        with pytest.raises(errors.SourceChanged, match="`on_change='restart'`"):
            await move(world, path, on_change="raise")
    assert files(source) == ["file.bin"]
    assert len(world.s3.uploads) == 1, "its manifest has it"


def gone(world: World) -> None:
    del world.s3.objects[BUCKET]["p/file.bin"]


@pytest.mark.parametrize("size", SIZES)
async def test_an_object_that_is_the_file_itself_is_not_deleted(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """As of a mounted bucket, or a directory that a store serves: without the file, there is no object."""
    path = write(source / "file.bin", size)
    set_aside = FileRemoval.set_aside

    def with_its_object(self: FileRemoval) -> bool:
        found = set_aside(self)
        gone(world)
        return found

    monkeypatch.setattr(FileRemoval, "set_aside", with_its_object)
    with pytest.raises(errors.ObjectNotFound, match="was not deleted"):
        await move(world, path)
    assert files(source) == ["file.bin"]


REPLACED = {
    "other bytes": {"checksum": Checksum("CRC64NVME", "FULL_OBJECT", "AAAAAAAAAAA=")},
    "other bytes, with another checksum": {"checksum": Checksum("CRC32", "FULL_OBJECT", "AAAAAA==")},
    "another version": {"version_id": "another"},
}
"""What HEAD shows of an object of the same size, where ETags do not depend on the content."""


@each_case("replaced", [*REPLACED])
async def test_another_object_of_the_same_size_and_etag_keeps_the_file(
    world: World, source: Path, replaced: str
) -> None:
    world.s3.knobs.versioning = True
    set_aside = FileRemoval.set_aside
    for size in SIZES:
        path = write(source / f"{replaced} {size}.bin", size)

        def with_another(self: FileRemoval) -> bool:
            for name, value in REPLACED[replaced].items():
                setattr(world.object(f"p/{Path(self._path).name}"), name, value)
            return set_aside(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FileRemoval, "set_aside", with_another)
            with pytest.raises(errors.ObjectMismatch, match="is no longer the object that was proved"):
                await move(world, path)
        assert path.exists()
        assert (await move(world, path)).source_deleted  # it is sent again
        assert stored(world)[f"p/{path.name}"] == content(size)


async def test_who_may_not_look_at_the_object_deletes_nothing(world: World, source: Path) -> None:
    path = write(source / "file.bin")
    world.s3.script("HeadObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.SourceNotDeleted, match="s3:GetObject"):
        await move(world, path)
    assert files(source) == ["file.bin"]


@pytest.mark.parametrize("size", SIZES)
async def test_a_store_that_is_away_for_the_last_question(world: World, source: Path, size: int) -> None:
    """The file has its name again. What was sent in parts is compared by its content, and not sent again."""
    path = write(source / "file.bin", size)
    world.s3.script("HeadObject", Reset(), repeat=True)
    with pytest.raises(errors.StoreError) as raised:
        await move(world, path)
    assert raised.value.resumable
    assert files(source) == ["file.bin"]
    world.s3.clear("HeadObject")
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert set(ops(world, count)) == ({"HeadObject"} if size > PART else {"PutObject", "HeadObject"})


async def test_a_cancel_while_the_file_is_set_aside(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(source / "file.bin")
    is_aside = asyncio.Event()

    async def never(*_: Any) -> None:
        is_aside.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(OpenDeleteSource, "_require_object", never)
        task = asyncio.create_task(move(world, path))
        await is_aside.wait()
        assert files(source) == [aside_name(str(path))]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files(source) == ["file.bin"]
    assert (await move(world, path)).source_deleted


BAD = {
    "follow": ({"follow": True, "part_size": None}, "a growing file is not deleted"),
    "proof": ({"delete_if_proved": "hope"}, "unknown proof"),
    "sha256": ({"checksum": "sha256"}, r"use `DeleteSource\(proved_by='composite-checksum'\)`"),
    "none": ({"checksum": "none"}, r"use `DeleteSource\(proved_by='size'\)`"),
}


@each_case("name", BAD)
async def test_options_that_contradict_it(world: World, source: Path, name: str) -> None:
    more, says = BAD[name]
    with pytest.raises(errors.UsageError, match=says):
        await move(world, write(source / "file.bin"), **more)
    assert ops(world) == []


async def _chunks() -> AsyncIterator[bytes]:
    yield b"x"


@each_case("given", [b"bytes", "https://127.0.0.1:1/film.mov", f"s3://{BUCKET}/key", _chunks])
async def test_what_is_no_file_of_this_machine(world: World, given: Any) -> None:
    given = given() if callable(given) else given
    with pytest.raises(errors.UsageError, match="is for files of this machine"):
        await move(world, given, name="name")
    (outcome,) = await move_all(world, [(given, "name")])
    assert isinstance(outcome, UploadFailed)
    assert isinstance(outcome.error, errors.UsageError)
    assert ops(world) == []


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def hard_link(path: Path) -> None:
    os.link(path, path.with_name("second.bin"))


def symbolic_link(path: Path) -> None:
    path.rename(path.with_name("true.bin"))
    path.symlink_to("true.bin")


@each_case("make", [fifo, hard_link, symbolic_link])
async def test_sources_that_are_refused_before_anything_is_sent(
    world: World, source: Path, make: Callable[[Path], None]
) -> None:
    path = write(source / make.__name__ / "file.bin")
    make(path)
    before = files(source)
    with pytest.raises(errors.SourceError, match=r"not a regular file|hard links|symbolic link"):
        await move(world, path)
    (outcome,) = await move_all(world, [path])
    assert isinstance(outcome, UploadFailed)
    assert files(source) == before
    assert not [op for op in ops(world) if op not in ("HeadBucket",)]


async def test_links_that_may_be_deleted(world: World, source: Path) -> None:
    """Of two names of one file, one call deletes one: the other has another ctime then."""
    write(source / "a.bin")
    os.link(source / "a.bin", source / "b.bin")
    (source / "link").symlink_to("target")
    write(source / "target")
    outcomes = await move_all(world, [source / "a.bin", source / "b.bin"], delete_links=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, UploadFailed)]
    assert [type(each.error) for each in failed] == [errors.SourceNotDeleted]
    assert "the same file as" in str(failed[0].error)
    (done,) = await move_all(world, [failed[0].source], delete_links=True)
    assert isinstance(done, UploadResult)
    assert done.source_deleted
    assert (await move(world, source / "link", delete_links=True)).source_deleted
    assert files(source) == ["target"]
    assert stored(world).keys() == {"p/a.bin", "p/b.bin", "p/link"}


async def test_what_bigupload_itself_keeps(world: World, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = world.directory / "local-store"
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(store))
    for path in (write(store / "data" / "1.dat"), write(state / "a.manifest.jsonl")):
        with pytest.raises(errors.SourceNotDeleted, match="bigupload itself keeps"):
            await move(world, path)
        assert path.exists()
    assert ops(world) == []


# -- many files


@pytest.mark.exhaustive
@pytest.mark.parametrize("job", [None, "job"])
async def test_many_files(world: World, source: Path, job: str | None) -> None:
    for number in range(5):
        write(source / "a" / "b" / f"{number}.bin", seed=number)
    write(source / "a" / "large.bin", 3 * PART)
    write(source / "kept" / "held.bin")
    os.link(source / "kept" / "held.bin", source / "kept" / "second.bin")
    before = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*.bin")}
    more = {"job": job, "delete_empty_dirs": True}
    outcomes = await move_all(world, bigupload.select_files(source), **more)
    assert sum(isinstance(each, UploadResult) and each.source_deleted for each in outcomes) == 6
    assert sum(isinstance(each, UploadFailed) for each in outcomes) == 2
    assert files(source) == ["kept", "kept/held.bin", "kept/second.bin"]
    moved = {f"p/{key}": body for key, body in before.items() if not key.startswith("kept")}
    assert stored(world) == moved
    (source / "kept" / "second.bin").unlink()
    results = await move_all(world, bigupload.select_files(source), **more)
    assert [(each.key, each.skipped) for each in results if isinstance(each, UploadResult)] == [
        ("p/kept/held.bin", False)
    ]
    assert len(results) == 1
    assert await move_all(world, bigupload.select_files(source), **more) == []
    assert source.is_dir()  # the one that was named stays
    assert files(source) == []
    assert stored(world) == moved | {"p/kept/held.bin": before["kept/held.bin"]}


async def test_a_job_that_was_stopped_has_what_it_deleted_in_its_receipt(world: World, source: Path) -> None:
    """Once, with the digests that nobody can compute now."""
    paths = [write(source / f"{number}.bin", seed=number) for number in range(5)]
    digests = {f"p/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    receipt = source.parent / "receipt.json"
    more: dict[str, Any] = {"job": "job", "receipt": receipt, "sha256": True, "delete_source": True}
    async with bigupload.Uploader() as uploader:
        outcomes = uploader.upload_many(bigupload.select_files(source), to=TO, s3=world.options(), **with_steps(more))
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                assert isinstance(outcome, UploadResult)
                assert outcome.source_deleted
                break
    gone = {f"p/{path.name}" for path in paths if not path.exists()}
    assert gone
    assert gone <= {each["key"] for each in rows_of(receipt)}
    told = await move_all(world, bigupload.select_files(source), **more)
    assert {each.key for each in told if isinstance(each, UploadResult)} == digests.keys() - gone
    rows = rows_of(receipt)
    assert {each["key"]: each["sha256"] for each in rows} == digests
    assert len(rows) == 5
    assert await move_all(world, bigupload.select_files(source), **more) == []


async def test_named_files_that_a_stopped_job_deleted(world: World, source: Path) -> None:
    """The job's record has them, and the store is asked for each. Others are missing."""
    paths = [write(source / name, seed=seed) for seed, name in enumerate(("gone", "there", "refused"))]
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/refused", repeat=True)
    listed = [*paths, source / "never"]

    async def run() -> dict[str, Any]:
        given = [bigupload.Omitted(str(each), "no such file", is_failure=True, key=each.name) for each in listed]
        found = [path if path.exists() else omitted for path, omitted in zip(listed, given, strict=True)]
        outcomes = await move_all(world, found, job="job")
        return {Path(each.source if isinstance(each, UploadFailed) else each.path).name: each for each in outcomes}

    told = await run()
    assert [told[name].source_deleted for name in ("gone", "there")] == [True, True]
    assert files(source) == ["refused"]
    world.s3.clear("PutObject")
    del world.s3.objects[BUCKET]["p/gone"]
    told = await run()
    assert isinstance(told["gone"].error, errors.ObjectNotFound)
    assert (told["there"].source_deleted, told["there"].skipped) == (True, True)
    assert told["refused"].source_deleted
    assert isinstance(told["never"].error, errors.SourceError)


async def test_a_job_that_was_stopped_after_its_records(world: World, source: Path) -> None:
    """What the job's record has is asked for again before it is deleted, and sent again where it is not there."""
    for number in range(3):
        write(source / f"{number}.bin", seed=number)
    path = source / "1.bin"
    bodies = {f"p/{each.name}": each.read_bytes() for each in source.iterdir()}
    os.link(path, source / "link")  # so that the job does not finish
    await move_all(world, bigupload.select_files(source), job="job", delete_source=False)
    (source / "link").unlink()
    async with contextlib.AsyncExitStack() as opened:  # the record says that all of them are there
        uploader = await opened.enter_async_context(bigupload.Uploader())
        record = uploader._resources.state.job_record("job", f"{TO} at {world.s3.url}")
        opened.enter_context(record).open(resume=True, keep=True)
    del world.s3.objects[BUCKET]["p/1.bin"]
    outcomes = await move_all(world, bigupload.select_files(source), job="job")
    assert all(isinstance(each, UploadResult) and each.source_deleted for each in outcomes)
    assert {key: body for key, body in stored(world).items() if key != "p/link"} == bodies
    assert files(source) == []


async def test_a_sync(world: World, source: Path) -> None:
    for number in range(3):
        write(source / "a" / f"{number}.bin", seed=number)
    told: list[Any] = []
    options: Any = {"to": TO, "s3": world.options(), "on_outcome": told.append}
    await bigupload.sync(source, **of_function(options))
    await bigupload.sync(source, **of_function(options), then=bigupload.DeleteSource(), dry_run=True)
    assert len(files(source)) == 4
    told.clear()
    result = await bigupload.sync(source, **of_function(options), then=bigupload.DeleteSource(empty_dirs=True))
    assert (result.uploaded, result.same, result.failed) == (0, 3, 0)
    assert all(each.source_deleted for each in told)
    assert files(source) == []
    assert len(stored(world)) == 3
    again = await bigupload.sync(source, **of_function(options), then=bigupload.DeleteSource())
    assert (again.uploaded, again.same) == (0, 0), "nothing is left, which is right here"
    for wrong in ({"delete": True}, {"size_only": True}):
        with pytest.raises(errors.UsageError, match="can't be used with `DeleteSource`"):
            await bigupload.sync(source, **of_function(options), then=bigupload.DeleteSource(), **wrong)
    assert len(stored(world)) == 3


# -- watches


async def watched(world: World, source: Path, until: Callable[[], bool], **more: Any) -> list[Any]:
    """What becomes of the files, until something holds after one of them."""
    told: list[Any] = []
    options: Any = {"to": TO, "s3": world.options(), "idle": 1, "poll": 1, "delete_source": True} | more
    async with (
        bigupload.Uploader(retry=FAST) as uploader,
        contextlib.aclosing(uploader.watch(source, **with_steps(options))) as outcomes,
    ):
        async for outcome in outcomes:
            told.append(outcome)
            if until():
                return told
    return told


@pytest.mark.slow
async def test_a_watch(world: World, source: Path) -> None:
    body = write(source / "a" / "file.bin").read_bytes()
    os.utime(source / "a" / "file.bin", (1, 1))
    told = await watched(world, source, lambda: not files(source), delete_empty_dirs=True)
    assert [each.source_deleted for each in told] == [True]
    assert stored(world) == {"p/a/file.bin": body}


@pytest.mark.slow
async def test_a_watch_passes_over_a_file_that_vanishes(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it moved one of the same name before, whose object is no longer there."""
    path = write(source / "file.bin")
    await watched(world, source, lambda: not files(source))
    del world.s3.objects[BUCKET]["p/file.bin"]
    write(path, seed=1)
    begin = OpenDeleteSource.begin

    async def begin_without_it(self: OpenDeleteSource, of_file: str) -> None:
        path.unlink()
        await begin(self, of_file)

    monkeypatch.setattr(OpenDeleteSource, "begin", begin_without_it)
    assert await watched(world, source, lambda: False, until_idle=1) == []
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows itself refuses to rename an open file")
async def test_a_watch_waits_for_the_program_that_has_a_file_open(world: World, source: Path) -> None:
    """It sends the file once."""
    import fcntl

    path = write(source / "file.bin")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # a lock shows it on any file system
        told = await watched(world, source, lambda: True)
        assert isinstance(told[0].error, errors.SourceNotDeleted)
        assert told[0].retry_in is not None
        told = await watched(world, source, lambda: True)
        assert isinstance(told[0].error, errors.SourceNotDeleted)

    told = await watched(world, source, lambda: not files(source))
    assert told[-1].source_deleted
    assert ops(world).count("PutObject") == 1


# -- events and records


async def test_a_kill_before_the_record_sends_nothing_again(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest says that the upload of this very file is complete, and the store has the object."""
    path = write(source / "file.bin", 3 * PART)

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OpenDeleteSource, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            await move(world, path)
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert set(ops(world, count)) == {"HeadObject"}
    path = write(source / "file.bin", 3 * PART)
    with monkeypatch.context() as patch:
        patch.setattr(OpenDeleteSource, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            await move(world, path, resume=False)
    del world.s3.objects[BUCKET]["p/file.bin"]
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert ops(world, count).count("UploadPart") == 3
    assert stored(world) == {"p/file.bin": content(3 * PART)}


# -- what a killed process has set aside


def aside(path: Path) -> None:
    """As a kill between the two names leaves it."""
    path.rename(path.with_name(aside_name(str(path))))


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_was_set_aside(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = write(source / "file.bin", size)

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OpenDeleteSource, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            await move(world, path)
    aside(path)
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert files(source) == []
    assert stored(world) == {"p/file.bin": content(size)}
    assert set(ops(world, count)) == ({"HeadObject"} if size > PART else {"PutObject", "HeadObject"})


@each_case("how", ["upload_many", "sync", "named", "a name of 250 bytes"])
async def test_files_that_were_set_aside_get_their_names_back(world: World, source: Path, how: str) -> None:
    directory = source / how[:5]
    name = "x" * 250 if how.startswith("a name") else "file.bin"
    path = write(directory / "a" / name)
    write(directory / "b")
    aside(path)
    if how == "sync":
        await bigupload.sync(
            directory, to=f"{TO}{how}/", s3=world.options(), then=bigupload.DeleteSource(), on_outcome=lambda _: None
        )
    elif how == "upload_many":
        await move_all(world, bigupload.select_files(directory), to=f"{TO}{how}/")
    else:
        await move_all(world, [(path, f"a/{name}"), directory / "b"], to=f"{TO}{how}/")
    assert files(directory) == ["a"]
    assert {key for key in stored(world) if key.startswith(f"p/{how}/")} == {f"p/{how}/a/{name}", f"p/{how}/b"}


async def test_a_new_file_has_the_name(world: World, source: Path) -> None:
    """Both are moved."""
    path = write(source / "file.bin", seed=1)
    aside(path)
    write(path, seed=2)
    outcomes = await move_all(world, bigupload.select_files(source))
    assert files(source) == []
    assert all(isinstance(each, UploadResult) for each in outcomes)
    assert sorted(stored(world).values()) == sorted([content(PART // 2, 1), content(PART // 2, 2)])

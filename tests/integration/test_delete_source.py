"""`delete_source`: a file is deleted only when its object is proved and there, and the same call completes the rest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import bigupload
from bigupload import UploadFailed, UploadResult, Verified, errors, events
from bigupload.api.source_deletes import SourceDeletes
from bigupload.manifests.move_record import NAME, MoveRecord, MoveState
from bigupload.sources.removal import FileRemoval, aside_name
from bigupload.testing.faults import Call, Reset, Status
from bigupload.testing.strict_s3.model import Checksum
from tests.tools.cases import each_case

from .support import BUCKET, FAST, PART, World, content

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
    return await bigupload.upload(path, **more)


async def move_all(world: World, sources: Any, **more: Any) -> list[UploadResult | UploadFailed]:
    async with bigupload.Uploader(retry=FAST) as uploader:
        more = {"to": TO, "s3": world.options(), "delete_source": True, "part_size": PART} | more
        return [outcome async for outcome in uploader.upload_many(sources, **more)]


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
    again = await move(world, path)  # as after a kill behind the last record
    assert (again.source_deleted, again.skipped, again.url) == (True, True, result.url)
    assert ops(world, count) == ["HeadObject"], "nothing is reported that is not so any more"
    with pytest.raises(errors.SourceNotFound):  # that was not moved
        await move(world, source / "other.bin")
    with pytest.raises(errors.SourceNotFound):  # nor to there
        await move(world, path, to=f"s3://{BUCKET}/q/")


async def test_a_file_that_was_deleted_is_moved_if_the_store_has_its_object(world: World, source: Path) -> None:
    path = write(source / "file.bin")
    await move(world, path)
    objects = world.s3.objects[BUCKET]
    moved = objects.pop("p/file.bin")
    with pytest.raises(errors.ObjectNotFound, match=r"no object at .* any more: .* was deleted by an earlier"):
        await move(world, path)
    (outcome,) = await move_all(world, [path])
    assert isinstance(outcome, UploadFailed)
    await bigupload.upload(b"another", to=f"s3://{BUCKET}/p/file.bin", s3=world.options(), name="x")
    with pytest.raises(errors.ObjectMismatch, match="is no longer the object that was proved"):
        await move(world, path)
    objects["p/file.bin"] = moved
    assert (await move(world, path)).source_deleted


@each_case("proof", [None, "composite-etag"])
async def test_a_weaker_proof_keeps_the_file_unless_it_is_named(world: World, source: Path, proof: str | None) -> None:
    world.s3.knobs.echo_checksums = False
    path = write(source / "file.bin", 3 * PART)
    more = {} if proof is None else {"delete_if_proved": proof}
    if proof is None:
        with pytest.raises(errors.SourceNotDeleted, match="`delete_if_proved='composite-etag'`"):
            await move(world, path, **more)
        assert stored(world).keys() == {"p/file.bin"}
        assert files(source) == ["file.bin"]
    else:
        assert (await move(world, path, **more)).source_deleted


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
    write_row = MoveRecord.write

    async def changing(self: MoveRecord, move: Any) -> None:
        await write_row(self, move)
        how(path)

    with monkeypatch.context() as patch:
        patch.setattr(MoveRecord, "write", changing)
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
        await bigupload.sync(directory, on_outcome=told.append, **options)
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


async def test_another_object_under_the_key_keeps_the_file(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(source / "file.bin")
    set_aside = FileRemoval.set_aside

    def with_another(self: FileRemoval) -> bool:
        world.object("p/file.bin").etag = f'"{"0" * 32}"'
        return set_aside(self)

    monkeypatch.setattr(FileRemoval, "set_aside", with_another)
    with pytest.raises(errors.ObjectMismatch, match="no longer the object"):
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
    """The file has its name again, and the same call deletes it without sending it."""
    path = write(source / "file.bin", size)
    world.s3.script("HeadObject", Reset(), repeat=True)
    with pytest.raises(errors.StoreError) as raised:
        await move(world, path)
    assert raised.value.resumable
    assert files(source) == ["file.bin"]
    world.s3.clear("HeadObject")
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert set(ops(world, count)) == {"HeadObject"}


async def test_a_cancel_while_the_file_is_set_aside(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(source / "file.bin")
    is_aside = asyncio.Event()

    async def never(*_: Any) -> None:
        is_aside.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(SourceDeletes, "_require_object", never)
        task = asyncio.create_task(move(world, path))
        await is_aside.wait()
        assert files(source) == [aside_name(str(path))]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert files(source) == ["file.bin"]
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert set(ops(world, count)) == {"HeadObject"}


BAD = {
    "follow": ({"follow": True, "part_size": None}, "a growing file is not deleted"),
    "keep_for": ({"delete_source": False, "keep_for": "7d"}, "`keep_for` is for `delete_source=True`"),
    "empty_dirs": ({"delete_source": False, "delete_empty_dirs": True}, "`delete_empty_dirs` is for"),
    "negative": ({"keep_for": -1}, "`keep_for` is a number"),
    "ten thousand years": ({"keep_for": "3650000d"}, "`keep_for` is at most a thousand years"),
    "proof": ({"delete_if_proved": "hope"}, "unknown proof"),
    "sha256": ({"checksum": "sha256"}, "add `delete_if_proved='composite-checksum'`"),
    "none": ({"checksum": "none"}, "add `delete_if_proved='size'`"),
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


async def test_an_open_file_object_is_no_path(world: World, source: Path) -> None:
    path = write(source / "file.bin")
    with path.open("rb") as file, pytest.raises(errors.UsageError, match="is for files of this machine"):
        await move(world, file)
    assert path.exists()


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


async def test_a_record_that_can_t_be_written_deletes_nothing(world: World, source: Path, state: Path) -> None:
    path = write(source / "file.bin")
    state.mkdir()
    (state / NAME).mkdir()
    with pytest.raises(errors.ManifestError, match=NAME):
        await move(world, path)
    assert files(source) == ["file.bin"]
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
    assert {each.key: each.skipped for each in results if isinstance(each, UploadResult)} == {
        "p/kept/held.bin": False, **(dict.fromkeys(moved, True) if job is not None else {}),
    }  # fmt: skip
    assert len(results) == (7 if job is not None else 1)  # a job that was not finished reports all of its files
    assert await move_all(world, bigupload.select_files(source), **more) == []
    assert source.is_dir()  # the one that was named stays
    assert files(source) == []
    assert stored(world) == moved | {"p/kept/held.bin": before["kept/held.bin"]}


async def test_a_job_that_was_stopped_reports_what_it_deleted(world: World, source: Path) -> None:
    """The next run of the job yields it, once, and its receipt has it, with the digests that nobody can compute now."""
    paths = [write(source / f"{number}.bin", seed=number) for number in range(5)]
    digests = {f"p/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    receipt = source.parent / "receipt.json"
    more: dict[str, Any] = {"job": "job", "receipt": receipt, "sha256": True, "delete_source": True}
    async with bigupload.Uploader() as uploader:
        outcomes = uploader.upload_many(bigupload.select_files(source), to=TO, s3=world.options(), **more)
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                assert isinstance(outcome, UploadResult)
                assert outcome.source_deleted
                break
    gone = {f"p/{path.name}" for path in paths if not path.exists()}
    assert gone
    assert gone <= {each["key"] for each in json.loads(receipt.read_text())["files"]}
    for given in (bigupload.select_files(source), paths):  # of a directory, and by their names
        told = [each for each in await move_all(world, given, **more) if isinstance(each, UploadResult)]
        assert {each.key for each in told if each.source_deleted} == digests.keys()
        assert len(told) == 5
        rows = json.loads(receipt.read_text())["files"]
        assert {each["key"]: each["sha256"] for each in rows} == digests
    assert await move_all(world, bigupload.select_files(source), **more) == []


@each_case("how", ["upload_many", "sync"])
async def test_what_a_stopped_job_deleted_is_asked_for_again(world: World, source: Path, how: str) -> None:
    """An object that is gone since is a failure of the next run, and of no other."""
    directory, receipt = source / how, source.parent / f"{how}.json"
    for seed, name in enumerate(("gone", "there", "refused")):
        write(directory / name, seed=seed)

    async def run(**more: Any) -> list[Any]:
        told: list[Any] = []
        options: Any = {"to": f"{TO}{how}/", "s3": world.options(), "delete_source": True, **more}
        if how == "sync":
            await bigupload.sync(directory, on_outcome=told.append, **options)
            return told
        return await move_all(world, bigupload.select_files(directory), job="job", **options)

    world.s3.script("PutObject", Status(403, "AccessDenied"), key=f"p/{how}/refused", repeat=True)
    await run()
    assert files(directory) == ["refused"]
    world.s3.clear("PutObject")
    del world.s3.objects[BUCKET][f"p/{how}/gone"]
    told = {each.key.rpartition("/")[2]: each for each in await run(receipt=receipt)}
    assert isinstance(told["gone"].error, errors.ObjectNotFound)
    assert told["there"].source_deleted
    assert told["refused"].source_deleted
    assert {each["key"].rpartition("/")[2] for each in json.loads(receipt.read_text())["files"]} == {"there", "refused"}
    assert not [each for each in await run() if each.key.endswith("gone")]


@each_case("is_named", [False, True])
async def test_the_file_that_a_killed_call_deleted_last_is_asked_for_again(
    world: World, source: Path, state: Path, is_named: bool
) -> None:
    """It was killed between the deletion and its record."""
    directory = source / str(is_named)
    paths, to = [write(directory / name) for name in ("gone", "there")], f"{TO}{directory.name}/"
    await move_all(world, paths, to=to)
    with contextlib.closing(sqlite3.connect(state / NAME)) as opened, opened:
        opened.execute("UPDATE move SET state = ?", (MoveState.DELETING.value,))
    del world.s3.objects[BUCKET][f"p/{directory.name}/gone"]
    outcomes = await move_all(world, paths if is_named else [write(directory / "new")], to=to)
    told = {each.key.rpartition("/")[2]: each for each in outcomes}
    failed, found = told["gone"], told["there"]
    assert isinstance(failed, UploadFailed)
    assert isinstance(failed.error, errors.ObjectNotFound)
    assert isinstance(found, UploadResult)
    assert found.source_deleted
    assert len(outcomes) == len(told)


@pytest.mark.parametrize("job", [None, "job"])
async def test_a_file_that_is_gone_gets_the_link_that_is_asked_for_now(
    world: World, source: Path, job: str | None
) -> None:
    """A killed call could not print it."""
    path = write(source / "file.bin")
    again: dict[str, Any] = {"share": "1h"}
    if job is None:
        await move(world, path)
        result = await move(world, path, **again)
    else:
        await move_all(world, [path], job=job)
        (outcome,) = await move_all(world, [path], job=job, **again)
        assert isinstance(outcome, UploadResult)
        result = outcome
    assert result.source_deleted
    assert result.share is not None
    assert result.share.url is not None
    async with aiohttp.ClientSession() as session, session.get(result.share.url) as response:
        assert await response.read() == content(PART // 2)


@pytest.mark.parametrize("job", [None, "job"])
async def test_a_digest_that_is_asked_for_at_the_end_of_a_while(
    world: World, source: Path, days: list[float], job: str | None
) -> None:
    path = write(source / "file.bin")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    call = partial(move, world, path) if job is None else partial(move_all, world, [path], job=job)
    await call(keep_for="7d")
    days[0] = 8
    found: Any = await call(keep_for="7d", sha256=True)
    result = found if job is None else found[0]
    assert (result.source_deleted, result.skipped, result.sha256) == (True, True, digest)


async def test_the_record_of_an_earlier_version(world: World, source: Path, state: Path) -> None:
    write(source / "file.bin")
    await move_all(world, [source / "file.bin"])
    with contextlib.closing(sqlite3.connect(state / NAME)) as opened, opened:
        columns = [row[1] for row in opened.execute("PRAGMA table_info(move)")]
        of_then = ", ".join(name for name in columns if name not in ("sha256", "xxh128", "job"))
        opened.execute(f"CREATE TABLE earlier AS SELECT {of_then} FROM move")
        opened.execute("DROP TABLE move")
        opened.execute("ALTER TABLE earlier RENAME TO move")
    (again,) = await move_all(world, [source / "file.bin"])
    assert isinstance(again, UploadResult)
    assert again.source_deleted


async def test_named_files_that_an_earlier_call_moved(world: World, source: Path) -> None:
    paths = [write(source / f"{number}.bin", seed=number) for number in range(3)]
    await move_all(world, paths[:2])
    outcomes = await move_all(world, [*paths, source / "never.bin"])
    told = {Path(each.source).name if isinstance(each, UploadFailed) else each.path.name: each for each in outcomes}
    assert {name: isinstance(each, UploadResult) and each.source_deleted for name, each in told.items()} == {
        "0.bin": True, "1.bin": True, "2.bin": True, "never.bin": False,
    }  # fmt: skip
    assert isinstance(told["never.bin"], UploadFailed)
    assert isinstance(told["never.bin"].error, errors.SourceNotFound)


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
    await bigupload.sync(source, **options)
    await bigupload.sync(source, **options, delete_source=True, dry_run=True)
    assert len(files(source)) == 4
    told.clear()
    result = await bigupload.sync(source, **options, delete_source=True, delete_empty_dirs=True)
    assert (result.uploaded, result.same, result.failed) == (0, 3, 0)
    assert all(each.source_deleted for each in told)
    assert files(source) == []
    assert len(stored(world)) == 3
    again = await bigupload.sync(source, **options, delete_source=True)  # nothing is left, which is right here
    assert (again.uploaded, again.same) == (0, 0)
    for wrong in ({"delete": True}, {"size_only": True}):
        with pytest.raises(errors.UsageError, match="can't be used with `delete_source`"):
            await bigupload.sync(source, **options, delete_source=True, **wrong)
    assert len(stored(world)) == 3


# -- later


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Days that the clock is ahead: the last one counts."""
    ahead, now = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead[-1] * 86_400)
    return ahead


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_stays_for_a_while(world: World, source: Path, days: list[float], size: int) -> None:
    path = write(source / "file.bin", size)
    first = await move(world, path, keep_for="7d")
    assert first.source_kept_until is not None
    assert not first.source_deleted
    count = len(world.s3.requests)
    days.append(6.9)
    second = await move(world, path, keep_for="7d")
    assert (second.source_kept_until, second.skipped) == (first.source_kept_until, True)
    assert files(source) == ["file.bin"]
    days.append(7.1)
    assert (await move(world, path, keep_for="7d")).source_deleted
    assert set(ops(world, count)) == {"HeadObject"}
    assert files(source) == []


@each_case("what", ["the file", "the object"])
async def test_what_changes_meanwhile_is_sent_again_and_stays_as_long(
    world: World, source: Path, days: list[float], what: str
) -> None:
    path = write(source / f"{what}.bin")
    await move(world, path, keep_for="7d")
    if what == "the file":
        change(path)
    else:
        del world.s3.objects[BUCKET][f"p/{path.name}"]
    days.append(days[-1] + 7.1)
    count = len(world.s3.requests)
    result = await move(world, path, keep_for="7d")
    assert result.source_kept_until is not None
    assert "PutObject" in ops(world, count)
    days.append(days[-1] + 7.1)
    assert (await move(world, path, keep_for="7d")).source_deleted


@each_case("how", ["upload_many", "sync"])
async def test_jobs_that_keep_files_for_a_while(world: World, source: Path, days: list[float], how: str) -> None:
    directory = source / how
    for number in range(3):
        write(directory / f"{number}.bin", seed=number)

    async def run() -> list[Any]:
        told: list[Any] = []
        options: Any = {"to": f"{TO}{how}/", "s3": world.options(), "delete_source": True, "keep_for": "7d"}
        if how == "sync":
            await bigupload.sync(directory, on_outcome=told.append, **options)
            return told
        return await move_all(world, bigupload.select_files(directory), job="job", **options)

    assert all(each.source_kept_until for each in await run())
    days.append(days[-1] + 8)
    write(directory / "new.bin")
    count = len(world.s3.requests)
    told = {each.path.name: each.source_deleted for each in await run()}
    assert told == {"0.bin": True, "1.bin": True, "2.bin": True, "new.bin": False}
    assert ops(world, count).count("PutObject") == 1
    assert files(directory) == ["new.bin"]


# -- watches


async def watched(world: World, source: Path, until: Callable[[], bool], **more: Any) -> list[Any]:
    """What becomes of the files, until something holds after one of them."""
    told: list[Any] = []
    options: Any = {"to": TO, "s3": world.options(), "idle": 1, "poll": 1, "delete_source": True} | more
    async with (
        bigupload.Uploader(retry=FAST) as uploader,
        contextlib.aclosing(uploader.watch(source, **options)) as outcomes,
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
async def test_a_watch_deletes_what_has_stayed_for_long_enough(world: World, source: Path, days: list[float]) -> None:
    write(source / "file.bin")
    told = await watched(world, source, lambda: True, keep_for="7d")
    assert [each.source_kept_until is not None for each in told] == [True]
    days.append(8)
    told = await watched(world, source, lambda: not files(source), keep_for="7d")
    assert told[-1].source_deleted


@pytest.mark.slow
async def test_a_watch_passes_over_a_file_that_vanishes(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it moved one of the same name before, whose object is no longer there."""
    path = write(source / "file.bin")
    await watched(world, source, lambda: not files(source))
    del world.s3.objects[BUCKET]["p/file.bin"]
    write(path, seed=1)
    begin = SourceDeletes.begin

    async def begin_without_it(self: SourceDeletes, *of_file: str) -> UploadResult | None:
        path.unlink()
        return await begin(self, *of_file)

    monkeypatch.setattr(SourceDeletes, "begin", begin_without_it)
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
        patch.setattr(SourceDeletes, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            await move(world, path)
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert set(ops(world, count)) == {"HeadObject"}
    path = write(source / "file.bin", 3 * PART)
    with monkeypatch.context() as patch:
        patch.setattr(SourceDeletes, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            await move(world, path, resume=False)
    del world.s3.objects[BUCKET]["p/file.bin"]
    count = len(world.s3.requests)
    assert (await move(world, path)).source_deleted
    assert ops(world, count).count("UploadPart") == 3
    assert stored(world) == {"p/file.bin": content(3 * PART)}


async def test_the_record(world: World, source: Path, state: Path) -> None:
    path = write(source / "file.bin")
    heard: list[events.Event] = []
    result = await move(world, path, on_event=heard.append)
    assert isinstance(heard[-1], events.UploadCompleted)
    assert (state / NAME).stat().st_mode & 0o777 == 0o600
    async with bigupload.Uploader() as uploader:
        (row,) = await uploader._resources.state.moves().of_base(
            f"s3://{BUCKET}/p/file.bin at {world.s3.url}", MoveState.DELETED
        )
    assert (row.path, row.etag, row.verified, row.url) == (str(path), result.etag, result.verified, result.url)

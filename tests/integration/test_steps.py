"""Steps: what they refuse before anything is sent, their order, and a step of the caller's own."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import DeleteSource, Digest, Link, Receipt, Row, UploadFailed, UploadResult, errors
from tests.tools.cases import each_case

from .support import BUCKET, FAST, PART, World

TO = f"s3://{BUCKET}/p/"


async def own(row: Row) -> Row:
    return row


async def upload(world: World, source: Any, *then: Any, **more: Any) -> UploadResult:
    options: dict[str, Any] = {"s3": world.options(), "part_size": PART, **more}
    return await bigupload.upload(source, TO, then=then, uploader=bigupload.Uploader(retry=FAST), **options)


@each_case(
    "then, says",
    [
        ((DeleteSource(), Receipt("r.json")), "name it last"),
        ((DeleteSource(), Link("1h")), "name it last"),
        ((DeleteSource(), DeleteSource()), "DeleteSource is there twice"),
        ((Receipt("a"), Receipt("b")), "Receipt is there twice"),
        ((Link,), "a step is .*, not Link"),
        ((7,), "a step is .*, not int"),
        (lambda row: row, "which is not async"),
        ("receipt.json", "a step is .*, not str"),
    ],
)
async def test_what_is_no_row_of_steps(world: World, then: Any, says: str) -> None:
    path = world.file(10)
    with pytest.raises(errors.UsageError, match=says):
        await bigupload.upload(path, TO, s3=world.options(), then=then)
    assert not world.s3.requests


async def test_what_a_step_can_not_do(world: World) -> None:
    path = world.file(10)
    for source, step, more, says in (
        (b"bytes", DeleteSource(), {"name": "x"}, "is for files of this machine"),
        (b"bytes", Digest("sha256"), {"name": "x"}, "is for files"),
        (path, Link("1h"), {"s3": world.options(no_sign_request=True)}, "signed with credentials"),
        (path, DeleteSource(), {"checksum": "md5"}, "proves at most composite-etag"),
        (path, Receipt(path), {}, "would replace the file"),
    ):
        with pytest.raises(errors.UsageError, match=says):
            await upload(world, source, step, **more)
    for make, says in (
        (lambda: Digest(), "takes 'sha256'"),
        (lambda: Digest("md5"), "takes 'sha256'"),
        (lambda: Link("8d"), "from 1 second to 7 days"),
        (lambda: DeleteSource(proved_by="hope"), "unknown proof"),
        (lambda: Receipt(7), "must be a path"),
    ):
        with pytest.raises(errors.UsageError, match=says):
            make()
    assert not world.s3.requests
    assert path.exists()


@pytest.mark.parametrize("size", [10, 3 * PART])
async def test_each_step_gets_what_the_one_before_it_returned(world: World, size: int) -> None:
    path, seen = world.file(size), list[Row]()
    receipt = world.directory / "receipt.json"

    async def see(row: Row) -> Row:
        seen.append(row)
        return dataclasses.replace(row, result=dataclasses.replace(row.proved, seconds=7.0))

    result = await upload(world, path, Digest("sha256"), see, Link("1h"), see, Receipt(receipt), DeleteSource())
    first, second = seen
    assert first.result is not None
    assert second.result is not None
    assert (first.path, first.source) == (str(path), str(path))
    assert first.result.sha256 == result.sha256 == hashlib.sha256(world.object("p/file.bin").body).hexdigest()
    assert (first.result.share, second.result.seconds, result.seconds) == (None, 7.0, 7.0)
    assert second.result.share is not None
    assert (result.source_deleted, path.exists(), receipt.exists()) == (True, False, True)


async def test_a_step_of_the_callers_own_that_fails(world: World) -> None:
    """Its error is the file's, and the steps after it are not done. Any other exception ends the call."""

    async def refuse(row: Row) -> Row:
        if row.source.endswith("a"):
            raise errors.SourceError("the database is away")
        return row

    async def fail(_: Row) -> Row:
        raise ZeroDivisionError

    paths = [world.file(10, name, seed) for seed, name in enumerate("ab")]
    outcomes = bigupload.upload_many(paths, TO, s3=world.options(), then=(refuse, DeleteSource()))
    told = {Path(each.source if isinstance(each, UploadFailed) else each.path).name: each async for each in outcomes}
    assert isinstance(told["a"], UploadFailed)
    assert "the database is away" in str(told["a"].error)
    assert isinstance(told["b"], UploadResult)
    assert [path.exists() for path in paths] == [True, False]
    assert world.holds(paths[0], "p/a")
    with pytest.raises(errors.SourceError, match="the database is away"):
        await upload(world, paths[0], refuse, DeleteSource())
    with pytest.raises(ZeroDivisionError):
        await upload(world, paths[0], fail, DeleteSource())
    with pytest.raises(errors.UsageError, match="a step returns the row, and this one returned NoneType"):
        await upload(world, paths[0], _nothing)
    assert paths[0].exists()


async def _nothing(_: Row) -> None:
    return None


async def test_one_step_needs_no_tuple(world: World) -> None:
    path = world.file(10)
    result = await bigupload.upload(path, TO, s3=world.options(), then=DeleteSource())
    assert (await upload(world, world.file(10, "other"), DeleteSource(), own)).source_deleted, "and one may follow"
    assert (result.source_deleted, path.exists()) == (True, False)


@pytest.mark.parametrize("job", [None, "nightly"])
@pytest.mark.parametrize("size", [10, 2 * PART])
async def test_what_a_step_waits_for_is_cancelled(world: World, size: int, job: str | None) -> None:
    """That ends the call, as any other exception of a step. A call that is cancelled is another thing."""
    paths = [world.file(size, f"{number}.bin") for number in range(4)]

    async def waits(row: Row) -> Row:
        if row.source.endswith("1.bin"):
            never = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(never.cancel)
            await never
        return row

    async with asyncio.timeout(30):
        async with bigupload.Uploader(retry=FAST) as uploader:
            outcomes = uploader.upload_many(
                paths, to=TO, s3=world.options(), part_size=PART, then=waits, **({"job": job} if job else {})
            )
            with pytest.raises(RuntimeError, match="a step was cancelled"):
                [each async for each in outcomes]
            with pytest.raises(RuntimeError, match="a step was cancelled"):
                await uploader.upload(paths[1], to=TO, s3=world.options(), part_size=PART, then=waits)


@pytest.mark.parametrize("change", [{"result": None}, {"path": "/etc/passwd"}, {"key": "other"}])
async def test_a_step_changes_what_is_not_its_own(world: World, change: dict[str, Any]) -> None:
    async def changes(row: Row) -> Row:
        return dataclasses.replace(row, **change)

    path = world.file(10)
    with pytest.raises(errors.UsageError, match="a step keeps a row's result"):
        await upload(world, path, changes, DeleteSource())
    assert path.exists()


@pytest.mark.parametrize("size", [10, 2 * PART])
async def test_a_file_whose_step_failed_is_not_sent_again(world: World, size: int) -> None:
    async def fails(row: Row) -> Row:
        raise errors.SourceError("the database is away")

    paths = [world.file(size, f"{number}.bin") for number in range(3)]
    async with bigupload.Uploader(retry=FAST) as uploader:
        found = []
        for step in (fails, own):
            options: Any = {"to": TO, "s3": world.options(), "part_size": PART, "job": "nightly"}
            found.append([each async for each in uploader.upload_many(paths, then=step, **options)])
    assert all(isinstance(each, UploadFailed) for each in found[0])
    assert all(isinstance(each, UploadResult) and each.skipped for each in found[1])


async def test_the_outcomes_before_an_exception_of_a_step_are_yielded(world: World) -> None:
    """The files of these are deleted: nobody else would tell the program."""
    paths, ended = [world.file(10, f"{number:02}.bin") for number in range(20)], asyncio.Event()

    async def fails(row: Row) -> Row:
        if row.source.endswith("19.bin"):
            await ended.wait()
            raise ZeroDivisionError
        return row

    got, deleted = list[Any](), 0

    async def counts(row: Row) -> Row:
        nonlocal deleted
        deleted += 1
        if deleted == 19:
            ended.set()
        return row

    async def move(uploader: bigupload.Uploader) -> None:
        options: Any = {"to": TO, "s3": world.options(), "job": "nightly", "then": (fails, DeleteSource(), counts)}
        async for each in uploader.upload_many(paths, **options):
            got.append(each)

    async with bigupload.Uploader(retry=FAST) as uploader:
        with pytest.raises(ZeroDivisionError):
            await move(uploader)
    assert sorted(each.path for each in got) == paths[:19] == [path for path in paths if not path.exists()]


async def test_a_sync_does_the_steps_of_files_that_are_there_side_by_side(world: World) -> None:
    at_once, most, together = 0, 0, asyncio.Event()

    async def counts(row: Row) -> Row:
        nonlocal at_once, most
        at_once, most = at_once + 1, max(most, at_once + 1)
        if at_once == 5:
            together.set()
        async with asyncio.timeout(30):
            await together.wait()
        at_once -= 1
        return row

    (world.directory / "tree").mkdir()
    for number in range(5):
        world.file(10, f"tree/{number}")
    for _ in range(2):
        most = 0
        together.clear()
        result = await bigupload.sync(world.directory / "tree", TO, s3=world.options(), then=counts)
        assert (result.uploaded + result.same, most) == (5, 5)
    assert result.same == 5

"""`receipt` of the library's calls: written beside the uploads, whole or not at all, and never over a source."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiofiles.threadpool.binary import AsyncFileIO

import bigupload
from bigupload import UploadFailed, UploadResult, errors
from bigupload.api.steps.receipt import OpenReceipt
from bigupload.testing.faults import Status
from bigupload.verification.receipts import head_line, read_receipt
from tests.tools.cases import each_case
from tests.tools.mounts import mounted
from tests.tools.receipts import FullDisk, read, rows_of

from .support import BUCKET, FAST, PART, World, of_function

TO = f"s3://{BUCKET}/p/"


@pytest.fixture
def receipt(world: World) -> Path:
    return world.directory / "receipt.json"


@pytest.fixture
def tree(world: World) -> Path:
    root = world.directory / "tree"
    root.mkdir()
    for name, size in (("a", 10), ("b", 3 * PART), ("c", 20)):
        world.file(size, f"tree/{name}")
    return root


def keys(path: Path) -> list[str]:
    return sorted(file.key for file in read_receipt(path).files)


def growing(path: Path, endpoint: str | None = None) -> contextlib.AbstractAsyncContextManager[OpenReceipt]:
    return OpenReceipt(path, TO, endpoint, deletes=True, grows=True).opened()


async def many(world: World, sources: Any, **more: Any) -> list[UploadResult | UploadFailed]:
    outcomes = bigupload.upload_many(
        sources, to=TO, s3=world.options(), part_size=PART, **of_function({"retry": FAST} | more)
    )
    return [each async for each in outcomes]


@each_case("size", [10, 3 * PART])
async def test_of_one_upload(world: World, receipt: Path, size: int) -> None:
    path = world.file(size, f"{size}.bin")
    to = f"s3://{BUCKET}/{size}"
    result = await world.upload(path, to=to, manifest=None, part_size=PART, receipt=receipt, sha256=True)
    document = read(receipt)
    assert (document["target"], document["endpoint"]) == (to, world.s3.url)
    (row,) = document["files"]
    of_result = dataclasses.asdict(result) | {"source": str(path), "proved_at": row["proved_at"]}
    assert row == {name: of_result[name] for name in row}


async def test_of_many(world: World, tree: Path, receipt: Path) -> None:
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/a", repeat=True)
    await many(world, sorted(tree.iterdir()), receipt=str(receipt))
    assert read(receipt)["sums"] == {"files": 2, "size": 3 * PART + 20, "failed": 1}
    assert keys(receipt) == ["p/b", "p/c"]


async def test_of_a_sync_also_what_was_there(world: World, tree: Path, receipt: Path) -> None:
    async def sync() -> dict[str, Any]:
        await bigupload.sync(
            tree,
            to=TO,
            s3=world.options(),
            part_size=PART,
            then=bigupload.Receipt(receipt),
            uploader=bigupload.Uploader(retry=FAST),
        )
        return read(receipt)

    assert (await sync())["sums"] == {"files": 3, "size": 3 * PART + 30, "failed": 0}
    (tree / "a").unlink()
    again = await sync()
    assert {row["key"]: row["skipped"] for row in again["files"]} == {"p/b": True, "p/c": True}


async def test_what_fails_leaves_an_earlier_receipt(world: World, tree: Path, receipt: Path) -> None:
    receipt.write_text("earlier")
    world.s3.script("PutObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied):
        await world.upload(tree / "a", manifest=None, receipt=receipt)
    await many(world, [tree / "a"], receipt=receipt)
    assert receipt.read_text() == "earlier"
    assert [path.name for path in receipt.parent.iterdir() if "receipt" in path.name] == ["receipt.json"]


async def test_what_is_refused_before_anything_is_sent(world: World, tree: Path) -> None:
    before, s3 = len(world.s3.requests), world.options()
    film = tree / "a"
    body = film.read_bytes()
    partial = world.file(10, "list.partial")
    with pytest.raises(errors.OutputUnwritable, match=r"can't write `Receipt` .*no/r: No such file"):
        await world.upload(film, manifest=None, receipt=world.directory / "no/r")
    with pytest.raises(errors.OutputUnwritable, match="it is a directory"):
        await many(world, [film], receipt=tree)
    for source, name in ((film, film), (partial, world.directory / "list")):
        with pytest.raises(errors.UsageError, match="would replace the file that is uploaded"):
            await world.upload(source, manifest=None, receipt=name)
    with pytest.raises(errors.UsageError, match="would be uploaded itself"):
        await bigupload.sync(tree, to=TO, s3=s3, then=bigupload.Receipt(tree / "r"))
    with pytest.raises(errors.UsageError, match="leave out `Receipt`"):
        await bigupload.sync(tree, to=TO, s3=s3, dry_run=True, then=bigupload.Receipt(world.directory / "r"))
    with pytest.raises(errors.UsageError, match="Receipt must be a path, not bytes"):
        await world.upload(film, manifest=None, receipt=b"r")
    assert len(world.s3.requests) == before
    assert (film.read_bytes(), partial.stat().st_size) == (body, 10)


async def test_one_that_can_not_be_written_at_the_end(world: World, tree: Path) -> None:
    """The upload is a success, and the message says so."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(errors.OutputUnwritable, match=r"the upload is done, but can't write `Receipt` /dev/full"):
        await world.upload(tree / "b", manifest=None, receipt="/dev/full")
    assert world.holds(tree / "b")


async def test_a_receipt_never_replaces_one_of_many_sources(world: World, tree: Path) -> None:
    film = tree / "b"
    with pytest.raises(errors.OutputUnwritable, match=r"the upload is done, but the receipt would replace .*/b"):
        await many(world, iter([tree / "a", film]), receipt=film)
    assert world.holds(film, "p/b")


async def test_a_sync_shares_what_it_sent(world: World, tree: Path) -> None:
    told: list[Any] = []
    options: dict[str, Any] = {"to": TO, "s3": world.options(), "part_size": PART, "share": "1h"}
    await bigupload.sync(tree, on_outcome=told.append, **of_function(options))
    assert all("X-Amz-Expires=3600" in each.share.url for each in told)
    world.file(30, "tree/d")
    told.clear()
    await bigupload.sync(tree, on_outcome=told.append, **of_function(options))
    assert {each.path.name: each.share is not None for each in told} == {"a": False, "b": False, "c": False, "d": True}


# -- of calls that delete their sources


@pytest.mark.exhaustive
@pytest.mark.parametrize("function", ["upload_many", "sync", "upload"])
async def test_no_file_is_deleted_that_is_not_in_the_receipt(
    world: World, tree: Path, receipt: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk showed when the files were gone, and the receipt was lost with all that it had."""
    disk, files = FullDisk(monkeypatch), sorted(tree.iterdir())
    options: dict[str, Any] = {"to": TO, "s3": world.options(), "retry": FAST, "part_size": PART, "receipt": receipt}
    options["delete_source"] = True

    async def move() -> list[errors.BigUploadError]:
        if function == "upload_many":
            done = [each async for each in bigupload.upload_many(files, job="move", **of_function(options))]
        elif function == "sync":
            done = []
            keep: Any = done.append
            await bigupload.sync(tree, on_outcome=keep, **of_function(options))
        else:
            try:
                await bigupload.upload(files[1], **of_function(options))
            except errors.BigUploadError as e:
                return [e]
            return []
        return [each.error for each in done if isinstance(each, UploadFailed)]

    failed = await move()
    stay = [files[1]] if function == "upload" else files
    assert len(failed) == len(stay)
    assert all(path.exists() for path in files)
    for error in failed:
        assert isinstance(error, errors.SourceNotDeleted)
        assert error.resumable
        assert "is in the store and stays here: can't write `Receipt`" in str(error)
        assert "No space left on device" in str(error)
    assert not receipt.exists() or read(receipt)["files"] == []
    disk.room = float("inf")
    assert not await move()
    assert not any(path.exists() for path in stay)
    rows = read(receipt)["files"]
    assert sorted(row["source"] for row in rows) == sorted(map(str, stay))


async def test_a_full_disk_leaves_a_receipt_whole(
    world: World, tree: Path, receipt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    disk.room = float("inf")
    await many(world, [tree / "a"], receipt=receipt, delete_source=True)
    before = receipt.read_bytes()
    for room in (0, 1, 100, 300):
        disk.room = room
        (failed,) = await many(world, [tree / "b"], receipt=receipt, delete_source=True)
        assert isinstance(failed, UploadFailed)
        assert receipt.read_bytes() == before


async def test_a_file_system_that_is_full_leaves_a_receipt_whole(world: World, tree: Path) -> None:
    """A write may end in the middle of a row."""
    disk = world.directory / "disk"
    disk.mkdir()
    result = await world.upload(tree / "a", manifest=None)
    with mounted(disk, "16k"):
        receipt = disk / "receipt"
        async with growing(receipt) as given:
            count = 0
            with contextlib.suppress(errors.OutputUnwritable):
                while count < 100:
                    await given.add(dataclasses.replace(result, key=f"p/{count}"))
                    count += 1
            assert count < 100
            assert [file.key for file in read_receipt(receipt).files] == [f"p/{number}" for number in range(count)]
            given.failed = 1
            await given.end()
        assert len(read(receipt)["files"]) == count > 0
        async with growing(receipt) as given:
            with pytest.raises(errors.OutputUnwritable, match="No space left on device"):
                await given.add(result)
        assert len(read(receipt)["files"]) == count


async def test_the_next_move_continues_the_receipt(world: World, tree: Path, receipt: Path) -> None:
    for name in ("a", "b"):
        (result,) = await many(world, [tree / name], receipt=receipt, delete_source=True)
        assert isinstance(result, UploadResult)
        assert result.source_deleted
    document = read(receipt)
    assert [row["key"] for row in document["files"]] == ["p/a", "p/b"]
    assert document["sums"] == {"files": 2, "size": 3 * PART + 10, "failed": 0}
    await many(world, [tree / "a"], receipt=receipt, delete_source=True)  # is gone
    assert read(receipt)["files"] == document["files"]
    with pytest.raises(errors.UsageError, match="is the receipt of"):
        await world.upload(tree / "c", manifest=None, to=f"s3://{BUCKET}/q/", receipt=receipt, delete_source=True)
    assert (tree / "c").exists()


async def test_a_receipt_that_lost_files_is_not_continued(world: World, tree: Path, receipt: Path) -> None:
    """Further sums would hide that."""
    for name in ("a", "b"):
        await many(world, [tree / name], receipt=receipt, delete_source=True)
    lines = receipt.read_bytes().splitlines(keepends=True)
    assert ["source" in json.loads(line) for line in lines] == [False, True, False, True, False]
    for damaged, says in (
        ([lines[0], *lines[2:]], "it has the rows of 0 files, and its sums say 1"),
        ([*lines[:3], *lines[4:]], "it has the rows of 1 file, and its sums say 2"),
        ([lines[0], lines[1][:-9] + b"\n", *lines[2:]], "a field is missing or wrong"),
        ([line.replace(b'"size": 10, "url"', b'"size": 9, "url"') for line in lines], "its files have "),
    ):
        receipt.write_bytes(b"".join(damaged))
        with pytest.raises(errors.UsageError, match=f"is a receipt that was damaged: {says}.*name another file"):
            await many(world, [tree / "c"], receipt=receipt, delete_source=True)
        assert receipt.read_bytes() == b"".join(damaged)
        assert (tree / "c").exists()


async def test_what_a_crash_tears_is_cut_off(world: World, tree: Path, receipt: Path) -> None:
    """Also between a row and its sums: each whole row stays, and the receipt is whole again."""
    for name in ("a", "b"):
        await many(world, [tree / name], receipt=receipt, delete_source=True)
    whole = receipt.read_bytes()
    ends = [end + more for end, byte in enumerate(whole, 1) if byte == ord("\n") for more in (-1, 0, 1, 100)]
    for end in ends[1:-2]:
        receipt.write_bytes(whole[:end])
        rows = rows_of(receipt)
        lines, _, torn = whole[:end].rpartition(b"\n")
        if lines.rpartition(b"\n")[2].startswith(b'{"sums"'):
            found_then = read_receipt(receipt)
            assert (len(found_then.files), found_then.is_torn) == (len(rows), torn != b"")
        else:
            with pytest.raises(
                errors.UsageError,
                match="does not end with its sums",
            ):
                read_receipt(receipt)
        async with growing(receipt, world.s3.url):
            found = read(receipt)
        assert found["files"] == rows
        assert found["sums"] == {"files": len(rows), "size": sum(row["size"] for row in rows), "failed": 0}
    assert receipt.read_bytes() == whole, "a whole one stays as it is"
    await many(world, [tree / "c"], receipt=receipt, delete_source=True)
    assert keys(receipt) == ["p/a", "p/b", "p/c"]


async def test_another_file_with_the_same_etag_has_its_own_row(world: World, tree: Path, receipt: Path) -> None:
    """Not every store's ETag depends on the content."""
    result = dataclasses.replace(await world.upload(tree / "a", manifest=None), source_deleted=True)
    async with growing(receipt) as given:
        for each in (result, dataclasses.replace(result, checksum="crc64nvme:AAAAAAAAAAA="), result):
            await given.add(each)
    assert [row["checksum"] for row in read(receipt)["files"]] == [result.checksum, "crc64nvme:AAAAAAAAAAA="]


async def test_rows_of_one_moment_are_one_write(
    world: World, tree: Path, receipt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that is cancelled while it writes for others leaves no row twice."""
    result = await world.upload(tree / "a", manifest=None)
    async with growing(receipt) as given:
        files = [dataclasses.replace(result, key=f"p/{number}", source_deleted=True) for number in range(10)]
        adding = [asyncio.create_task(given.add(each)) for each in files]
        writing, going_on, append = asyncio.Event(), asyncio.Event(), AsyncFileIO.write

        async def write(file: AsyncFileIO, text: Any) -> int:
            if b'"p/9"' in bytes(text):  # the second one
                writing.set()
                await going_on.wait()
            return await append(file, text)

        monkeypatch.setattr(AsyncFileIO, "write", write)
        await writing.wait()
        adding[1].cancel()
        going_on.set()
        done = await asyncio.gather(*adding, return_exceptions=True)
    assert [type(each) for each in done] == [type(None), asyncio.CancelledError, *[type(None)] * 8]
    lines = [json.loads(line) for line in receipt.read_bytes().splitlines()]
    keys = [line.get("key", "sums") for line in lines[1:]]
    assert keys == ["p/0", "sums", *(f"p/{number}" for number in range(1, 10)), "sums"]


async def test_a_move_of_nothing_leaves_no_receipt(world: World, tree: Path, receipt: Path) -> None:
    world.s3.script("PutObject", Status(403, "AccessDenied"), repeat=True)
    await many(world, [tree / "a"], receipt=receipt, delete_source=True)
    assert not receipt.exists()


# -- of a watch


async def watched(world: World, directory: Path, receipt: Path, **more: Any) -> list[Any]:
    options: dict[str, Any] = {"to": TO, "s3": world.options(), "retry": FAST, "idle": 0.05, "until_idle": 0.05}
    async with contextlib.aclosing(
        bigupload.watch(directory, **of_function(options | {"receipt": receipt} | more))
    ) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_the_receipt_of_a_watch_is_continued(world: World, recordings: Path, receipt: Path) -> None:
    for name, size in (("a", 10), ("b", 3 * PART)):
        world.file(size, f"recordings/{name}")
    await watched(world, recordings, receipt, sha256=True)
    first = read(receipt)
    assert first["sums"] == {"files": 2, "size": 3 * PART + 10, "failed": 0}
    assert {row["key"]: row["sha256"] for row in first["files"]} == {
        f"p/{name}": hashlib.sha256((recordings / name).read_bytes()).hexdigest() for name in ("a", "b")
    }
    before = receipt.read_bytes()
    await watched(world, recordings, receipt)
    assert read(receipt)["files"] == first["files"], "what it has is not added again"
    world.file(20, "recordings/c")
    world.file(11, "recordings/a", seed=1)  # another file: the last row counts
    receipt.write_bytes(before[: before.rindex(b'"sums"') + 5])  # as a crash may leave it
    await watched(world, recordings, receipt)
    found = read(receipt)
    assert found["files"][:2] == first["files"]
    assert sorted(row["key"] for row in found["files"][2:]) == ["p/a", "p/c"]
    assert found["sums"] == {"files": 4, "size": 3 * PART + 41, "failed": 0}
    assert {file.key: file.size for file in read_receipt(receipt).files} == {"p/a": 11, "p/b": 3 * PART, "p/c": 20}


async def test_a_watch_deletes_no_file_without_its_receipt(
    world: World, recordings: Path, receipt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = world.file(3 * PART, "recordings/film")
    write, tries = AsyncFileIO.write, 0

    async def full(*args: Any) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            assert film.exists()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return await write(*args)

    monkeypatch.setattr(AsyncFileIO, "write", full)
    monkeypatch.setattr("bigupload.core.settling.FIRST_PAUSE", 0.0)
    # A file that failed is tried again as long as the watch is not idle.
    failed, result = await watched(world, recordings, receipt, delete_source=True, until_idle=1.0)
    assert isinstance(failed.error, errors.SourceNotDeleted)
    assert failed.retry_in is not None
    assert "No space left on device" in str(failed.error)
    assert (result.source_deleted, film.exists(), keys(receipt)) == (True, False, ["p/film"])
    assert len(world.sent()) == 3, "it was not sent again"


async def test_what_a_watch_refuses(world: World, recordings: Path, receipt: Path) -> None:
    inside, foreign = recordings / "r", world.file(10, "film.mov")
    with pytest.raises(errors.UsageError, match="would be uploaded itself"):
        await watched(world, recordings, inside)
    with pytest.raises(errors.UsageError, match=r"film\.mov is not a receipt: name another file"):
        await watched(world, recordings, foreign)
    assert foreign.stat().st_size == 10
    await watched(world, recordings, receipt)
    assert not receipt.exists(), "it has no file"
    async with growing(receipt, world.s3.url):
        with pytest.raises(errors.OutputUnwritable, match="another process writes it"):
            await watched(world, recordings, receipt)
    receipt.write_bytes(head_line(TO, world.s3.url))
    with pytest.raises(errors.UsageError, match=r"is the receipt of s3://bucket/p/, and this is s3://bucket/q/"):
        await watched(world, recordings, receipt, to="s3://bucket/q/")
    os.mkfifo(world.directory / "pipe")
    for name in ("pipe", "/dev/null"):  # which could be read for ever
        with pytest.raises(errors.OutputUnwritable, match="it is not a regular file"):
            await watched(world, recordings, world.directory / name)
    with pytest.raises(errors.OutputUnwritable, match="No such file"):
        await watched(world, recordings, world.directory / "no" / "r")
    assert {request.op for request in world.s3.requests} == {"ListObjectsV2"}, "a watch looks for its bucket"


async def test_a_watch_shares_what_it_sends(world: World, recordings: Path, receipt: Path) -> None:
    world.file(3 * PART, "recordings/film")
    (sent,) = await watched(world, recordings, receipt, share="1h")
    assert "X-Amz-Expires=3600" in sent.share.url
    assert "X-Amz-" not in receipt.read_text()
    (there,) = await watched(world, recordings, receipt, share="1h")
    assert (there.skipped, there.share) == (True, None)

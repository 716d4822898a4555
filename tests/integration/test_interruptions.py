"""Cancelled at any moment, or a file that does not hold still: resumable, and no object that is not the file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.engine import completion, multipart_upload
from tests.tools.waiting import until

from .support import BUCKET, FAST, PART, World, no_leaks, write

# --- cancellation


async def by_task(
    run: Callable[[], Awaitable[Any]], when: Callable[[], Awaitable[None]], after: Callable[[], None]
) -> None:
    task = asyncio.ensure_future(run())
    await when()
    task.cancel()
    await asyncio.sleep(0)
    after()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(
    run: Callable[[], Awaitable[Any]], when: Callable[[], Awaitable[None]], after: Callable[[], None]
) -> None:
    async def expire(timeout: asyncio.Timeout) -> None:
        await when()
        timeout.reschedule(asyncio.get_running_loop().time())
        await until(timeout.expired)
        after()

    with pytest.raises(TimeoutError):  # noqa: PT012 - the end of the block raises it
        async with asyncio.timeout(None) as timeout:
            expiring = asyncio.create_task(expire(timeout))
            await run()
    await expiring


async def by_scope(
    run: Callable[[], Awaitable[Any]], when: Callable[[], Awaitable[None]], after: Callable[[], None]
) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await when()
            scope.cancel()
            for _ in range(10):  # anyio knocks once a turn of the loop
                await asyncio.sleep(0)
            after()

        cancelling = asyncio.create_task(cancel())
        await run()
    await cancelling
    assert scope.cancelled_caught


@pytest.mark.parametrize("acted", [False, True], ids=["before it acted", "after it acted"])
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("way", [by_task, by_timeout, by_scope], ids=["task", "timeout", "scope"])
@pytest.mark.exhaustive
async def test_a_cancelled_upload_can_be_resumed(world: World, way: Any, op: str, acted: bool) -> None:
    path = world.file(3 * PART)
    world.s3.hold(op, acted=acted)
    async with no_leaks():
        await way(lambda: world.upload(path, concurrency=2), lambda: world.s3.wait_for_async(op), world.s3.release)
    manifest = world.manifest
    # A call that is in its thread is waited for, and what came of it is recorded.
    assert manifest.status == ("completed" if op == "CompleteMultipartUpload" else "uploading")
    assert world.s3.count("CreateMultipartUpload") == 1
    result = await world.resume()
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CreateMultipartUpload") == 1
    assert world.s3.count("CompleteMultipartUpload") == 1


async def test_cancelled_while_it_lists(world: World) -> None:
    path = world.file(3 * PART)
    await world.interrupted(path, after=1)
    world.s3.hold("ListParts")
    async with no_leaks():
        await by_task(world.resume, lambda: world.s3.wait_for_async("ListParts"), world.s3.release)
    result = await world.resume()
    assert world.holds(path)
    assert result.resumed_parts >= 1


@pytest.mark.parametrize("way", [by_task, by_timeout, by_scope], ids=["task", "timeout", "scope"])
async def test_cancelled_while_it_lists_for_ever(world: World, way: Any) -> None:
    """Nothing changes in the store, so that nothing is waited for."""
    path = world.file(3 * PART)
    await world.interrupted(path, after=1)
    world.s3.hold("ListParts")
    async with asyncio.timeout(60):
        await way(world.resume, lambda: world.s3.wait_for_async("ListParts"), lambda: None)
    world.s3.release()
    await world.settled()
    await world.resume()
    assert world.holds(path)


async def test_cancelled_before_it_began(world: World) -> None:
    task = asyncio.create_task(world.upload(world.file(PART)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not world.s3.requests


async def test_cancelled_again_and_again_while_complete_is_seen_through(world: World) -> None:
    path = world.file(PART)
    world.s3.hold("CompleteMultipartUpload")
    task = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("CompleteMultipartUpload")
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    world.s3.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.manifest.status == "completed"


@pytest.mark.parametrize("op", ["CreateMultipartUpload", "CompleteMultipartUpload"])
@pytest.mark.parametrize("way", [by_task, by_timeout, by_scope], ids=["task", "timeout", "scope"])
async def test_a_cancelled_upload_does_not_wait_for_a_store_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, way: Any, op: str
) -> None:
    """It would wait for the response for as long as botocore does, 300 s: the store is released only afterwards."""
    for module in (multipart_upload, completion):
        monkeypatch.setattr(module, "CANCEL_GRACE", 0.05)
    path = world.file(3 * PART)
    world.s3.hold(op, acted=True)
    async with asyncio.timeout(60):
        await way(lambda: world.upload(path), lambda: world.s3.wait_for_async(op), lambda: None)
    if op == "CompleteMultipartUpload":
        assert world.manifest.status == "completing"
    else:
        assert not world.manifest_path.exists() or not world.manifest_path.stat().st_size
    world.s3.release()
    await world.settled()
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CompleteMultipartUpload") == 1


# --- the source must hold still


def change_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * PART + 3)
        file.write(b"changed")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def rename_over(path: Path) -> None:
    other = path.with_name("other")
    write(other, path.stat().st_size, seed=5)
    other.rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("checksum", ["auto", "md5", "none"])
@pytest.mark.parametrize("change", [change_in_place, append, truncate, rename_over, remove])
async def test_a_file_that_changes_meanwhile_makes_no_object(
    world: World, change: Callable[[Path], None], checksum: str
) -> None:
    path = world.file(4 * PART)
    world.s3.hold("UploadPart")
    task = asyncio.create_task(world.upload(path, concurrency=1, checksum=checksum))
    await world.s3.wait_for_async("UploadPart")
    change(path)
    world.s3.release()
    with pytest.raises(errors.SourceChanged) as caught:
        await task
    assert caught.value.resumable == (change not in (append, truncate))
    assert not world.object()
    assert world.s3.count("CompleteMultipartUpload") == 0
    assert world.manifest.status == "uploading"


async def test_a_file_that_changes_before_complete_makes_no_object(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart", acted=True)
    task = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("UploadPart", 2)
    change_in_place(path)
    world.s3.release()
    with pytest.raises(errors.SourceChanged):
        await task
    assert world.s3.count("CompleteMultipartUpload") == 0


async def uploaded_while(world: World, change: Callable[[Path], None]) -> tuple[Path, list[str]]:
    """Upload a file of three parts, with `change` after the first. The parts that are hashed again, and why."""
    path = world.file(3 * PART)
    hashing: list[str] = []

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded) and event.number == 1:
            change(path)
        if isinstance(event, events.Hashing):
            hashing.append(event.reason)

    await bigupload.upload(
        path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=FAST,
        concurrency=1, on_event=on_event,
    )  # fmt: skip
    return path, hashing


async def test_a_new_mode_is_no_change_and_the_file_is_hashed_once_more(world: World) -> None:
    path, hashing = await uploaded_while(world, lambda path: path.chmod(0o600))
    assert world.holds(path)
    assert hashing == ["the file's mode, owner or links changed: it is hashed once more"]


async def test_a_new_mode_does_not_hide_other_bytes(world: World) -> None:
    def change(path: Path) -> None:
        before = path.stat()
        with path.open("r+b") as file:
            file.write(b"changed")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        path.chmod(0o600)

    with pytest.raises(errors.SourceChanged, match="part 1 "):
        await uploaded_while(world, change)
    assert not world.object()


async def test_verify_source_finds_what_the_times_hide(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a write through a mapping that was dirty already: the bytes change, neither mtime nor ctime do."""
    path = world.file(3 * PART)
    monkeypatch.setattr("bigupload.sources.file.FileSource.check", lambda self: None)

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded) and event.number == 3:
            with path.open("r+b") as file:
                file.write(b"changed")

    with pytest.raises(errors.SourceChanged, match="part 1 "):
        await bigupload.upload(
            path, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, retry=FAST,
            concurrency=1, verify_source=True, on_event=on_event,
        )  # fmt: skip
    assert not world.object()


async def test_verify_source_of_a_file_that_held_still(world: World) -> None:
    path = world.file(3 * PART)
    result = await world.upload(path, verify_source=True)
    assert result.verified is Verified.FULL_OBJECT
    assert [event.parts for event in world.told(events.Hashing)] == [3]

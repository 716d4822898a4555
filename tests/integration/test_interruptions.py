"""Cancelled at any moment: resumable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from bigupload import Verified, events
from bigupload.core.flight import Flight
from bigupload.engine import multipart_upload
from bigupload.engine.context import PutInFlight
from tests.tools.waiting import until

from .support import PART, World, no_leaks

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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "CompleteMultipartUpload"])
@pytest.mark.parametrize("way", [by_task, by_timeout, by_scope], ids=["task", "timeout", "scope"])
async def test_a_cancelled_upload_does_not_wait_for_a_store_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, way: Any, op: str
) -> None:
    """It would wait for as long as a complete may take, 300 s: the store is released only afterwards."""
    monkeypatch.setattr(multipart_upload, "CANCEL_GRACE", 0.05)
    path = world.file(3 * PART)
    world.s3.hold(op, acted=True)
    cancelling = asyncio.ensure_future(
        way(lambda: world.upload(path), lambda: world.s3.wait_for_async(op), lambda: None)
    )
    done, _ = await asyncio.wait([cancelling], timeout=60)
    if not done:  # nothing else would end it
        world.s3.release()
    await cancelling
    assert done
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


# --- parts that are held


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is held until it is one of the two oldest ones, as if it had met a slow link."""
    begin = PutInFlight.__init__

    def begin_held(self: PutInFlight, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.is_paused = True

    monkeypatch.setattr(PutInFlight, "__init__", begin_held)
    monkeypatch.setattr(Flight, "writers", lambda self, waiting: 2)


@pytest.mark.usefixtures("held")
async def test_parts_that_are_held_are_sent_once(world: World) -> None:
    path = world.file(6 * PART)
    result = await world.upload(path)
    assert (result.verified, result.retries) == (Verified.FULL_OBJECT, 0)
    assert world.s3.count("UploadPart") == 6
    assert not any(isinstance(event, events.Retrying) for event in world.events)
    assert world.holds(path)


@pytest.mark.usefixtures("held")
async def test_cancelled_while_parts_are_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.file(6 * PART)
    of_all = 0
    monkeypatch.setattr(Flight, "writers", lambda self, waiting: of_all)
    async with no_leaks():
        uploading = asyncio.create_task(world.upload(path))
        await until(lambda: world.s3.count("UploadPart") == 6)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
    assert not world.manifest.parts
    of_all = 2
    await world.resume()
    assert world.holds(path)

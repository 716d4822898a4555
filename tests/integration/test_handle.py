"""An upload beside its caller: its handle; and what ends it from outside."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import bigupload
from bigupload import errors, events
from bigupload.events import PartUploaded, Progress, UploadCompleted, UploadStarted
from bigupload.testing.faults import Reset, Status
from tests.tools.waiting import until

from .stopped import PARTS, SIZE
from .support import BUCKET, FAST, World, no_leaks, of_function

pytestmark = pytest.mark.usefixtures("no_complaints")


@asynccontextmanager
async def uploading(world: World) -> AsyncIterator[bigupload.Uploader]:
    async with bigupload.Uploader(retry=FAST, concurrency=2) as uploader:
        yield uploader


def target(world: World, **more: Any) -> Any:
    return {"to": f"s3://{BUCKET}/key", "s3": world.options(), "manifest": world.manifest_path, **more}


async def test_progress_manifest_and_result(world: World) -> None:
    path = world.file(SIZE)
    world.s3.hold("UploadPart")
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(path, **target(world))
        assert (handle.done(), handle.manifest, handle.progress.size) == (False, None, 0)
        assert repr(handle).endswith("key: 0 bytes uploaded>")
        seen = aiter(handle)
        assert isinstance(await anext(seen), UploadStarted)
        assert handle.manifest == world.manifest_path
        assert (handle.progress.size, handle.progress.parts, handle.progress.parts_uploaded) == (SIZE, PARTS, 0)
        world.s3.release()
        first, second = await asyncio.gather(handle.result(), handle)
        assert first is second
        assert repr(handle) == f"<UploadHandle {path} → s3://{BUCKET}/key: complete>"
        assert handle.done()
        assert first == await handle  # again, when it is over
        progress = handle.progress
        assert (progress.bytes_uploaded, progress.bytes_in_flight, progress.parts_uploaded) == (SIZE, 0, PARTS)
        assert handle.manifest == world.manifest_path == first.manifest
        assert progress.upload == events.UploadIdentity(
            source=str(path), target=f"s3://{BUCKET}/key", id=world.manifest.header.id, manifest=world.manifest_path
        )
    assert world.holds(path)


async def test_its_events(world: World) -> None:
    async with uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world), on_event=world.events.append)
        seen = [event async for event in handle]
        assert [e for e in seen if not isinstance(e, Progress)] == [
            e for e in world.events if not isinstance(e, Progress)
        ]
        assert {UploadStarted, PartUploaded, UploadCompleted} <= {type(event) for event in seen}
        assert handle.done()
        assert [event async for event in handle] == []
        await handle


async def test_a_reader_who_stops_reading(world: World) -> None:
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))
        async for event in handle:
            assert isinstance(event, UploadStarted)
            break
        assert (await handle).parts == PARTS


async def test_cancel(world: World) -> None:
    path = world.file(SIZE)
    world.s3.hold("UploadPart")
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(path, **target(world))
        await world.s3.wait_for_async("UploadPart")
        waiting = asyncio.create_task(handle.result())
        handle.cancel()
        handle.cancel()
        with pytest.raises(errors.UploadCancelled, match="its handle's cancel was called") as caught:
            await handle
        with pytest.raises(errors.UploadCancelled):
            await waiting
        assert caught.value.manifest == handle.manifest == world.manifest_path
        assert (caught.value.resumable, caught.value.exit_code) == (True, 75)
        world.s3.release()
        await world.settled()
        await uploader.resume(handle.manifest)
    assert world.holds(path)


async def test_cancel_when_the_store_made_the_upload_and_nobody_was_told(world: World) -> None:
    world.s3.hold("CreateMultipartUpload", acted=True)
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world), on_event=world.events.append)
        await world.s3.wait_for_async("CreateMultipartUpload")
        handle.cancel()
        world.s3.release()
        await handle.aclose()
        assert [type(event) for event in world.events] == [events.UploadStopped], "of no UploadStarted"
        assert handle.manifest == world.manifest_path
        assert world.manifest.status == "uploading"


async def test_cancel_before_it_began(world: World) -> None:
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))
        handle.cancel()
        with pytest.raises(errors.UploadCancelled) as caught:
            await handle
        assert caught.value.manifest is handle.manifest is None
    assert not world.s3.requests


async def test_cancel_from_another_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    world.s3.hold("UploadPart")
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))
        await world.s3.wait_for_async("UploadPart")
        with monkeypatch.context() as patched:  # as if the main thread left `asyncio.run` at this moment
            patched.setattr(handle, "_loop", closed)
            await asyncio.to_thread(handle.cancel)
        await asyncio.to_thread(handle.cancel)
        with pytest.raises(errors.UploadCancelled):
            await handle
        world.s3.release()


async def test_a_waiter_that_gives_up_does_not_cancel_the_upload(world: World) -> None:
    world.s3.hold("UploadPart")
    async with uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))
        await world.s3.wait_for_async("UploadPart")
        with anyio.move_on_after(0):
            await handle
        assert not handle.done()
        world.s3.release()
        assert (await handle).parts == PARTS


async def test_a_task_that_is_cancelled_from_outside(world: World) -> None:
    """As `asyncio.run` does at its end, or a debugger: who waits is not cancelled, and gets an error."""
    world.s3.hold("UploadPart")
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))
        await world.s3.wait_for_async("UploadPart")
        (task,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("bigupload ")]
        task.cancel()
        with pytest.raises(errors.UploadCancelled, match="its task was cancelled") as caught:
            await handle
        assert caught.value.manifest == world.manifest_path
        never = uploader.start(world.file(SIZE, "other"), **target(world))
        (task,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("bigupload ")]
        task.cancel()  # before its first step
        with pytest.raises(errors.UploadCancelled):
            await never
        world.s3.release()


def errors_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [r for r in caplog.records if r.levelno == logging.ERROR and r.name.startswith(("bigupload", "asyncio"))]


async def test_a_failure_that_nobody_awaits_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))
        async for _ in handle:
            pass
        assert handle.done()
        manifest = handle.manifest
        del handle
        gc.collect()
    (record,) = errors_in(caplog)
    assert record.getMessage().endswith(f"(resume {manifest})")
    assert record.getMessage().startswith(f"{world.directory / 'file.bin'} → s3://{BUCKET}/key: failed: AccessDenied")


async def test_a_bug_that_nobody_awaits_is_logged_with_its_traceback(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def on_event(event: events.Event) -> None:
        raise ZeroDivisionError("a bug of the application")

    async with no_leaks(), uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world), on_event=on_event)
        async for _ in handle:
            pass
    (record,) = errors_in(caplog)
    assert record.exc_info is not None
    assert "a bug of the application" in caplog.text


async def test_wrong_arguments_are_refused_at_once(world: World) -> None:
    async with no_leaks(), uploading(world) as uploader:
        for wrong in ({"to": None}, {"part_size": -1}, {"checksum": "crc64"}, {"require_proof": "some"}):
            with pytest.raises(errors.UsageError):
                uploader.start(world.file(SIZE), **(target(world) | wrong))
        with pytest.raises(
            TypeError, match=r"start\(\) got an unexpected keyword argument 'part_sice': did you mean part_size\?"
        ):
            uploader.start(world.file(SIZE), **target(world), part_sice=1)


async def test_the_function(world: World) -> None:
    path = world.file(SIZE)
    async with no_leaks():
        handle = bigupload.start(path, **of_function({"retry": FAST} | target(world)))
        assert (await handle).parts == PARTS
        assert world.holds(path)
        world.s3.hold("UploadPart")
        async with aclosing(bigupload.start(path, **of_function({"retry": FAST} | target(world)))) as h:
            await world.s3.wait_for_async("UploadPart")
        assert h.done()
        with pytest.raises(errors.UploadCancelled):
            await h
        world.s3.release()
        with pytest.raises(errors.SourceNotFound):
            await bigupload.start(world.directory / "none", **of_function(target(world)))


async def test_a_result_is_awaited_where_its_loop_is(world: World) -> None:
    async with uploading(world) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world))

        def elsewhere() -> None:
            with pytest.raises(errors.UsageError, match="belongs to another event loop"):
                asyncio.run(handle.result())

        await asyncio.to_thread(elsewhere)
        await handle


# --- the end of the Uploader's context


async def test_leaving_the_context_ends_the_uploads(world: World) -> None:
    """Those of handles, and those that other tasks await, who get an error that says why."""
    world.s3.hold("UploadPart")
    path, other = world.file(SIZE), world.file(SIZE, "other")
    async with no_leaks():
        async with uploading(world) as uploader:
            handle = uploader.start(path, **target(world))
            task = asyncio.create_task(
                uploader.upload(other, to=f"s3://{BUCKET}/other", s3=world.options(), manifest=world.directory / "m")
            )
            await until(lambda: handle.manifest is not None and (world.directory / "m").exists())
        assert handle.done()
        assert not task.cancelling()
        for awaiting in (handle.result(), task):
            with pytest.raises(errors.UploadCancelled, match="because its Uploader was closed"):
                await awaiting
        world.s3.release()
    await world.settled()
    await bigupload.resume(world.manifest_path, uploader=bigupload.Uploader(retry=FAST))
    assert world.holds(path)


async def test_leaving_the_context_ends_every_other_call(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    url, s3 = f"s3://{BUCKET}/key", world.options()
    for op, call in {
        "HeadObject": lambda u: u.verify(path, url, s3=s3),
        "GetObject": lambda u: u.read_back(path, url, s3=s3),
        "ListMultipartUploads": lambda u: u.abort_orphans(url, s3=s3),
    }.items():
        world.s3.hold(op)
        async with bigupload.Uploader(retry=FAST) as uploader:
            task = asyncio.create_task(call(uploader))
            await world.s3.wait_for_async(op)
        with pytest.raises(errors.UploadCancelled):
            await task
        world.s3.release()
        await world.settled()


async def test_leaving_the_context_while_it_completes(world: World) -> None:
    """Within the grace, so that what came of it is known."""
    path = world.file(SIZE)
    world.s3.hold("CompleteMultipartUpload")
    async with no_leaks():
        async with uploading(world) as uploader:
            handle = uploader.start(path, **target(world))
            await world.s3.wait_for_async("CompleteMultipartUpload")
            asyncio.get_running_loop().call_later(0, world.s3.release)
        assert world.manifest.status == "completed"
        with pytest.raises(errors.UploadCancelled) as caught:
            await handle
    assert caught.value.manifest is not None
    assert (await bigupload.resume(caught.value.manifest)).path == path
    assert world.holds(path)


async def test_a_cancel_while_the_context_ends(world: World) -> None:
    """Uploads are awaited nevertheless."""
    world.s3.hold("CompleteMultipartUpload")
    handles: list[bigupload.UploadHandle] = []

    async def main() -> None:
        async with uploading(world) as uploader:
            handles.append(uploader.start(world.file(SIZE), **target(world)))
            await world.s3.wait_for_async("CompleteMultipartUpload")

    async with no_leaks():
        task = asyncio.create_task(main())
        await world.s3.wait_for_async("CompleteMultipartUpload")
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        world.s3.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert handles[0].done()
    assert world.manifest.status in ("completed", "completing")


# --- what an error says of the manifest


async def test_a_cancelled_upload_says_what_resumes_it(world: World) -> None:
    note = f"the upload can be resumed: bigupload resume {world.manifest_path}"
    world.s3.hold("UploadPart")
    task = asyncio.create_task(world.upload(world.file(SIZE)))
    await world.s3.wait_for_async("UploadPart")
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert cancelled.value.__notes__ == [note]
    with pytest.raises(TimeoutError) as late:  # noqa: PT012 - the end of the block raises it
        async with asyncio.timeout(None) as timeout:
            begun = asyncio.create_task(until(lambda: len(world.told(UploadStarted)) == 2))
            begun.add_done_callback(lambda _: timeout.reschedule(0))
            await world.upload(world.directory / "file.bin")
    await begun
    assert late.value.__cause__ is not None
    assert late.value.__cause__.__notes__ == [note]
    world.s3.release()


async def test_a_bug_in_on_event_says_what_resumes_the_upload(world: World) -> None:
    def on_event(event: events.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await bigupload.upload(world.file(SIZE), **of_function(target(world)), on_event=on_event)
    assert caught.value.__notes__ == [f"the upload can be resumed: bigupload resume {world.manifest_path}"]


@pytest.mark.parametrize("tls", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
async def test_resets_and_cancels_leave_nothing_to_complain_about(
    request: pytest.FixtureRequest, tmp_path: Path, small_limits: None, tls: bool
) -> None:
    """The fixture `no_complaints` sees it: such as "Future exception was never retrieved"."""
    world = World(request.getfixturevalue("s3_tls" if tls else "s3"), tmp_path)
    path = world.file(SIZE)
    world.s3.script("UploadPart", Reset(1000), part_number=1)
    world.s3.script("UploadPart", Reset(70_000), part_number=2)
    async with no_leaks(), uploading(world) as uploader:
        for after in range(PARTS):
            handle = uploader.start(path, **target(world))
            async for event in handle:
                if isinstance(event, PartUploaded):
                    handle.cancel()
            if after < PARTS - 1 and not world.object():
                with pytest.raises(errors.UploadCancelled):
                    await handle
            else:
                await handle.aclose()
        await uploader.upload(path, **target(world))
    assert world.holds(path)

"""`on_event`: which upload an event is of, and functions that are async, slow, or wrong."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import bigupload
from bigupload import errors, events
from bigupload.api.calls import CallRegistry
from bigupload.api.event_delivery import EventHandler, EventQueue
from bigupload.events import PartUploaded, Progress, ReadingBack, UploadCompleted, UploadIdentity, UploadStarted
from bigupload.testing.faults import Status

from .stopped import PARTS, SIZE
from .support import BUCKET, FAST, World, no_leaks, of_function

pytestmark = pytest.mark.usefixtures("no_complaints")


def target(world: World, **more: Any) -> Any:
    return {"to": f"s3://{BUCKET}/key", "s3": world.options(), "manifest": world.manifest_path, **more}


def without_progress(told: list[events.Event]) -> list[events.Event]:
    """The events that every reader gets: of `Progress`, a slow one gets the newest."""
    return [event for event in told if not isinstance(event, Progress)]


# --- which upload


async def test_one_function_tells_many_uploads_apart(world: World) -> None:
    told: dict[UploadIdentity, list[events.Event]] = {}
    paths = [world.file(SIZE, f"file-{n}", seed=n) for n in range(4)]

    def on_event(event: events.Event) -> None:
        told.setdefault(event.upload, []).append(event)

    async with bigupload.Uploader(retry=FAST) as uploader, asyncio.TaskGroup() as tasks:
        for path in paths:
            tasks.create_task(uploader.upload(path, to=f"s3://{BUCKET}/", s3=world.options(), on_event=on_event))
    assert {upload.source for upload in told} == {str(path) for path in paths}
    known = {each.id: each for each in await bigupload.list_uploads()}
    for upload, mine in told.items():
        assert isinstance(mine[0], UploadStarted)
        assert isinstance(mine[-1], UploadCompleted)
        assert sorted(e.number for e in mine if isinstance(e, PartUploaded)) == list(range(1, PARTS + 1))
        assert (str(mine[0].path), mine[0].target, mine[0].manifest) == (upload.source, upload.target, upload.manifest)
        assert known[upload.id].manifest == upload.manifest
    assert len(told) == len(known) == len(paths)


async def test_each_call_says_which_upload(stopped: World) -> None:
    """`resume`, `skip_existing`, `read_back` and `abort`: the same upload has the same identity."""
    world, path = stopped, str(stopped.directory / "file.bin")
    (begun,) = {event.upload for event in world.events} or {None}
    upload = UploadIdentity(
        source=path, target=f"s3://{BUCKET}/key", id=world.manifest.header.id, manifest=world.manifest_path
    )
    assert begun in (None, upload)
    world.events.clear()
    await world.resume()
    await world.upload(world.directory / "file.bin", skip_existing=True)
    assert {event.upload for event in world.events} == {upload}
    world.events.clear()
    await bigupload.read_back(path, upload.target, s3=world.options(), on_event=world.events.append)
    assert {event.upload for event in world.events} == {
        UploadIdentity(source=path, target=upload.target, id="", manifest=None)
    }


async def test_abort_says_which_upload(stopped: World) -> None:
    stopped.s3.script("AbortMultipartUpload", Status(503, "SlowDown"))
    identity = stopped.manifest.header.id
    told: list[events.Event] = []
    await bigupload.abort(stopped.manifest_path, on_event=told.append, uploader=bigupload.Uploader(retry=FAST))
    assert [(type(e), e.upload.id, e.upload.manifest) for e in told] == [
        (events.Retrying, identity, stopped.manifest_path)
    ]


# --- async


class Recorder:
    """An async handler that notices if it gets the next event before it is done with the last one."""

    def __init__(self) -> None:
        self.told: list[events.Event] = []
        self._busy = False

    async def __call__(self, event: events.Event) -> None:
        assert not self._busy
        self._busy = True
        for _ in range(3):
            await asyncio.sleep(0)
        self._busy = False
        self.told.append(event)


def plain(told: Recorder) -> Callable[[events.Event], Awaitable[None]]:
    return lambda event: told(event)


def partial(told: Recorder) -> Callable[[events.Event], Awaitable[None]]:
    async def two(_: int, event: events.Event) -> None:
        await told(event)

    return functools.partial(two, 7)


def of_tasks(told: Recorder) -> Callable[[events.Event], Awaitable[None]]:
    return lambda event: asyncio.ensure_future(told(event))


def now_and_then(told: Recorder) -> Callable[[events.Event], Awaitable[None] | None]:
    """Awaitable or not: it is a plain function that returns a coroutine for some events."""

    def on_event(event: events.Event) -> Awaitable[None] | None:
        if isinstance(event, PartUploaded):
            return told(event)
        told.told.append(event)
        return None

    return on_event


WAYS = [lambda told: told, plain, partial, of_tasks, now_and_then]


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", WAYS, ids=["object", "lambda", "partial", "tasks", "some events"])
async def test_an_async_function_is_awaited_in_order(world: World, way: Any) -> None:
    told = Recorder()
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world), on_event=way(told))
        expected = [event async for event in handle]
        await handle
    assert without_progress(told.told) == without_progress(expected)
    assert isinstance(told.told[-1], UploadCompleted)


async def test_a_queue_is_a_function_for_events(world: World) -> None:
    told: asyncio.Queue[events.Event] = asyncio.Queue(1)
    async with no_leaks():
        handle = bigupload.start(world.file(SIZE), on_event=told.put, **of_function({"retry": FAST} | target(world)))
        while not isinstance(event := await told.get(), UploadCompleted):
            assert event.upload.source == str(world.directory / "file.bin")
        await handle


async def test_parts_do_not_wait_for_a_slow_function(world: World) -> None:
    """It hangs at the first event until the object is there. Then it gets what a reader has seen, in that order."""
    told: list[events.Event] = []
    there = asyncio.Event()

    async def on_event(event: events.Event) -> None:
        await there.wait()
        told.append(event)

    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world), on_event=on_event)
        seen = []
        async for event in handle:
            seen.append(event)
            if isinstance(event, UploadCompleted):
                there.set()
        await handle
    assert sorted(event.number for event in told if isinstance(event, PartUploaded)) == list(range(1, PARTS + 1))
    assert without_progress(told) == without_progress(seen)
    assert [e for e in told if isinstance(e, Progress)] == [e for e in seen if isinstance(e, Progress)][-1:]
    assert isinstance(told[-1], UploadCompleted)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [UploadStarted, PartUploaded, UploadCompleted])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
async def test_what_it_raises_ends_the_upload(world: World, kind: type[Any], is_async: bool) -> None:
    told: list[events.Event] = []

    def on_event(event: events.Event) -> None:
        assert not any(isinstance(each, kind) for each in told), "no event comes after it raised"
        told.append(event)
        if isinstance(event, kind):
            raise ZeroDivisionError

    async def later(event: events.Event) -> None:
        await asyncio.sleep(0)
        on_event(event)

    async with no_leaks():
        with pytest.raises(ZeroDivisionError):
            await bigupload.upload(
                world.file(SIZE),
                on_event=later if is_async else on_event,
                **of_function({"retry": FAST, "concurrency": 1} | target(world)),
            )
    assert world.manifest.status == ("completed" if kind is UploadCompleted else "uploading")
    await bigupload.resume(world.manifest_path, uploader=bigupload.Uploader(retry=FAST))
    assert world.holds(world.directory / "file.bin")


async def test_what_it_raises_of_a_failed_upload(world: World) -> None:
    """It has had every event before the error is raised, and its own exception wins, as of a plain function."""
    world.s3.script("UploadPart", Status(403, "AccessDenied"), part_number=3, repeat=True)
    told = Recorder()
    path = world.file(SIZE)
    handle = bigupload.start(path, on_event=told, **of_function({"retry": FAST, "concurrency": 1} | target(world)))
    expected = [event async for event in handle]
    with pytest.raises(errors.AccessDenied):
        await handle
    assert without_progress(told.told) == without_progress(expected)
    ended = asyncio.Event()

    async def wrong(event: events.Event) -> None:
        await ended.wait()
        raise ZeroDivisionError

    handle = bigupload.start(path, on_event=wrong, **of_function({"retry": FAST} | target(world)))
    async for event in handle:
        if isinstance(event, events.Retrying):
            ended.set()
    ended.set()
    with pytest.raises(ZeroDivisionError):
        await handle


async def test_a_cancellation_of_its_own_ends_the_upload(world: World) -> None:
    """As when it awaits a task that is cancelled. A plain function that raises CancelledError does so, too."""

    async def on_event(event: events.Event) -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async with no_leaks(), asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await bigupload.upload(
                world.file(SIZE),
                on_event=on_event,
                **of_function({"retry": FAST} | target(world)),
            )
    assert world.manifest.status == "uploading"


@pytest.mark.parametrize("way", ["handle", "task", "timeout"])
async def test_a_cancelled_upload_cancels_it(world: World, way: str) -> None:
    waits = asyncio.Event()
    cancelled: list[bool] = []

    async def on_event(event: events.Event) -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    path = world.file(SIZE)
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        if way == "handle":
            handle = uploader.start(path, **target(world), on_event=on_event)
            await waits.wait()
            await handle.aclose()
        elif way == "task":
            task = asyncio.create_task(uploader.upload(path, **target(world), on_event=on_event))
            await waits.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(TimeoutError):  # noqa: PT012 - the end of the block raises it
                async with asyncio.timeout(None) as timeout:
                    waiting = asyncio.create_task(waits.wait())
                    waiting.add_done_callback(lambda _: timeout.reschedule(0))
                    await uploader.upload(path, **target(world), on_event=on_event)
    assert cancelled == [True]


async def test_a_coroutine_that_has_not_begun() -> None:
    """It is closed: Python would complain that it was never awaited."""
    made = Recorder()(events.Warned(message="w"))
    handler = EventHandler(lambda _: made, pytest.fail)
    handler(events.Warned(message="w"))
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await asyncio.wait_for(handler.drain(), 60)
    for _ in range(2):
        await handler.aclose()
    assert made.cr_frame is None, "it is not closed"


async def test_closing_while_it_hangs_at_the_end_gives_the_result(world: World) -> None:
    async def on_event(event: events.Event) -> None:
        if isinstance(event, UploadCompleted):
            await asyncio.Event().wait()

    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        handle = uploader.start(world.file(SIZE), **target(world), on_event=on_event)
        async for event in handle:
            if isinstance(event, UploadCompleted):
                break
        for _ in range(100):
            await asyncio.sleep(0)
        assert not handle.done()
    assert (await handle).parts == PARTS


@pytest.mark.parametrize("way", ["await", "iterate", "close"])
async def test_it_can_not_wait_for_the_upload_that_waits_for_it(world: World, way: str) -> None:
    async def on_event(event: events.Event) -> None:
        if way == "await":
            await handle
        elif way == "iterate":
            async for _ in handle:
                pass
        else:
            await handle.aclose()

    async with asyncio.timeout(60):
        handle = bigupload.start(world.file(SIZE), on_event=on_event, **of_function({"retry": FAST} | target(world)))
        with pytest.raises(errors.UsageError, match="on_event can't wait for its own upload"):
            await handle


async def test_it_can_not_close_the_uploader_of_the_upload_that_waits_for_it(world: World) -> None:
    """Nothing is closed by that: the Uploader's other uploads go on."""
    uploader = bigupload.Uploader(retry=FAST)

    async def on_event(event: events.Event) -> None:
        await uploader.__aexit__(None, None, None)

    async with asyncio.timeout(60), uploader:
        with pytest.raises(errors.UsageError, match="on_event can't close the Uploader"):
            await uploader.upload(world.file(SIZE), **target(world), on_event=on_event)
        await uploader.upload(world.file(SIZE), **target(world))


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_task_that_it_waits_for_may_close_the_uploader(world: World, is_async: bool) -> None:
    """Nobody knows that the upload waits for such a task, as `asyncio.wait_for` makes one on Python 3.11."""
    uploader = bigupload.Uploader(retry=FAST)
    tasks: list[asyncio.Task[None]] = []

    def close(event: events.Event) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(uploader.__aexit__(None, None, None)))
        return tasks[-1]

    async def on_event(event: events.Event) -> None:
        await close(event)

    async with asyncio.timeout(60), uploader:
        with pytest.raises(errors.UploadCancelled):
            await uploader.upload(world.file(SIZE), **target(world), on_event=on_event if is_async else close)
    assert len(tasks) == 1
    await asyncio.wait(tasks)


class Call:
    """In place of `calls.OpenCall`."""

    def __init__(self, *, is_around: bool) -> None:
        self.handler = SimpleNamespace(is_around=is_around)
        self.ended = asyncio.Event()
        self.is_stopped = False

    def stop(self, reason: BaseException) -> None:
        self.is_stopped = True


async def test_who_closes_from_on_event_waits_for_the_other_uploads_though_it_is_cancelled() -> None:
    """The end of the upload around it cancels it, and the others still use the connections."""
    calls, around, beside = CallRegistry(), Call(is_around=True), Call(is_around=False)
    calls.open()
    for call in (around, beside):
        calls.add(call)  # type: ignore[arg-type]  # it has what `CallRegistry` asks of a call
    closing = asyncio.create_task(calls.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    closing.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert around.is_stopped
    assert beside.is_stopped
    assert not closing.done()
    calls.discard(beside)  # type: ignore[arg-type]  # as above
    beside.ended.set()
    with pytest.raises(asyncio.CancelledError):
        await closing


async def test_it_may_wait_for_another_upload_though_there_is_one_place(world: World) -> None:
    """Who waits for `on_event` alone has given the place back."""
    async with asyncio.timeout(60), bigupload.Uploader(retry=FAST, max_uploads=1) as uploader:

        async def on_event(event: events.Event) -> None:
            if isinstance(event, UploadStarted):
                await uploader.upload(world.file(SIZE, "other"), to=f"s3://{BUCKET}/other", s3=world.options())

        await uploader.upload(world.file(SIZE), **target(world), on_event=on_event)
    assert set(world.s3.objects[BUCKET]) == {"key", "other"}


async def test_an_async_function_for_every_call(stopped: World) -> None:
    told = Recorder()
    await bigupload.resume(stopped.manifest_path, on_event=told, uploader=bigupload.Uploader(retry=FAST))
    assert isinstance(told.told[-1], UploadCompleted)
    path = stopped.directory / "file.bin"
    await bigupload.read_back(path, f"s3://{BUCKET}/key", s3=stopped.options(), on_event=told)
    last = told.told[-1]
    assert isinstance(last, ReadingBack)
    assert last.bytes_compared == SIZE


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks yet")
async def test_eager_tasks(world: World) -> None:
    """A task may have ended before it is known which one it is."""
    told: list[events.Event] = []

    async def on_event(event: events.Event) -> None:
        told.append(event)

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # of 3.12
    async with asyncio.timeout(60):
        handle = bigupload.start(world.file(SIZE), on_event=on_event, **of_function({"retry": FAST} | target(world)))
        expected = [event async for event in handle]
        await handle
    assert without_progress(told) == without_progress(expected)
    assert isinstance(told[-1], UploadCompleted)


# --- the queue


def progress(done: int) -> Progress:
    return Progress(bytes_uploaded=done, bytes_in_flight=0, size=9, parts_uploaded=0, parts=1, concurrency=1, retries=0)


async def test_only_the_newest_progress_waits() -> None:
    queue, warned = EventQueue(), events.Warned(message="w")
    for event in (progress(1), warned, progress(2), progress(3), warned):
        queue.put(event)
    queue.close()
    assert [event async for event in queue] == [warned, progress(3), warned]


async def test_no_more_events_wait_than_the_most(caplog: pytest.LogCaptureFixture) -> None:
    queue = EventQueue(most=3)
    told = [events.Warned(message=str(n)) for n in range(6)]
    for event in told:
        queue.put(event)
    queue.close()
    assert [event async for event in queue] == told[3:]
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "3 events wait because their reader is too slow" in record.getMessage()
    assert await anext(queue, None) is None

"""How a call ends for its `on_event`: by a last event, which ends its bar, and without hiding its error."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

import bigupload
from bigupload import errors, events
from bigupload.api import many
from bigupload.manifests.job_record import JobRecord
from bigupload.testing.faults import Status
from bigupload.verification import file_digests
from tests.tools.web_server import WebFault, WebServer

from .other_tools import URL, put
from .support import BUCKET, FAST, PART, World, of_function

SIZE = 3 * PART


class Told:
    """An `on_event` that shows what it is told."""

    def __init__(self, show: Callable[[events.Event], None]) -> None:
        self.show = show
        self.events: list[events.Event] = []

    def __call__(self, event: events.Event) -> None:
        self.events.append(event)
        self.show(event)


@pytest.fixture
def show() -> Any:
    return bigupload.rich_progress(Console(file=io.StringIO(), width=160))


async def upload(world: World, source: Any = None, **options: Any) -> None:
    source = world.file(SIZE) if source is None else source
    options = {"part_size": PART, "retry": FAST, **options}
    await bigupload.upload(source, to=f"s3://{BUCKET}/", s3=world.options(), **of_function(options))


# -- each bar ends


def assert_ended(show: Any) -> None:
    assert not show._bars
    assert show._live is None


async def test_a_read_back_that_finds_another_byte(world: World, show: Any) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes()[:-1] + b"~")
    told = Told(show)
    with pytest.raises(errors.ObjectMismatch) as caught:
        await bigupload.read_back(path, URL, s3=world.options(), on_event=told)
    stopped = events.UploadStopped(upload=told.events[0].upload, reason=str(caught.value), resumable=False)
    assert told.events[-1] == stopped
    assert_ended(show)


async def test_a_job_that_is_cancelled_at_once(world: World, show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_REPORT_EVERY", 3600)
    began = asyncio.Event()

    def on_event(event: events.Event) -> None:
        show(event)
        if isinstance(event, events.UploadStarted):
            began.set()

    async def job() -> None:
        to = {"to": f"s3://{BUCKET}/p/", "s3": world.options(), "part_size": PART, "limit_rate": PART}
        async for _ in bigupload.upload_many([world.file(SIZE)], on_event=on_event, **of_function(to)):
            pass

    task = asyncio.create_task(job())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_ended(show)


async def test_an_outage_while_a_remote_source_is_opened(world: World, web: WebServer, url: str, show: Any) -> None:
    web.faults.append(WebFault(status=503))
    told = Told(show)
    await upload(world, url, on_event=told)
    assert told.events[0].upload != told.events[-1].upload
    assert_ended(show)


async def test_a_remote_source_that_can_t_be_opened(world: World, web: WebServer, url: str, show: Any) -> None:
    web.faults += [WebFault(status=503), WebFault(status=404)]
    told = Told(show)
    with pytest.raises(errors.SourceError):
        await upload(world, url, on_event=told)
    assert isinstance(told.events[-1], events.UploadStopped)
    assert_ended(show)


# -- what the last event is


async def test_a_completed_upload_is_not_said_to_have_stopped(
    world: World, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: Any) -> file_digests.ReadFile:
        raise errors.SourceChanged("changed after it was uploaded", same_size=True)

    monkeypatch.setattr(file_digests, "_read", changed)
    told = Told(show)
    with pytest.raises(errors.SourceChanged):
        await upload(world, on_event=told, sha256=True, checksum="md5")
    assert isinstance(told.events[-1], events.UploadCompleted)


async def test_a_job_is_finished_when_that_is_recorded(
    world: World, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def finish(*_: Any, **__: Any) -> None:
        raise errors.ManifestUnwritable("the disk is full")

    monkeypatch.setattr(JobRecord, "finish", finish)
    told = Told(show)
    to = {"to": f"s3://{BUCKET}/p/", "s3": world.options(), "job": "nightly"}
    with pytest.raises(errors.ManifestUnwritable):
        [_ async for _ in bigupload.upload_many([world.file(10)], on_event=told, **of_function(to))]
    assert not [event for event in told.events if isinstance(event, events.JobProgress) and event.is_finished]
    assert isinstance(told.events[-1], events.UploadStopped)
    assert_ended(show)


# -- an error of `on_event` does not hide the call's own


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_event_fails_when_it_is_told_the_end(
    world: World, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    def plain(event: events.Event) -> None:
        if isinstance(event, events.UploadStopped):
            raise LookupError

    async def awaited(event: events.Event) -> None:
        plain(event)

    world.s3.script("UploadPart", *[Status(403, "AccessDenied")] * 100)
    with pytest.raises(errors.AccessDenied):
        await upload(world, on_event=awaited if is_async else plain)
    assert "the function for events failed after its call had failed" in caplog.text


async def test_on_event_fails_when_it_is_told_of_a_cancellation(world: World) -> None:
    began = asyncio.Event()

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.UploadStarted):
            began.set()
        if isinstance(event, events.UploadStopped):
            raise LookupError

    task = asyncio.create_task(upload(world, on_event=on_event, limit_rate=PART))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

"""`rich_progress` and `tqdm_progress`: what a program's user sees of its uploads, and how each ends."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress as RichOwn

import bigupload
from bigupload import errors, events
from bigupload.testing.faults import Status
from tests.tools.waiting import until

from .stopped import SIZE
from .support import BUCKET, FAST, PART, World, of_function

Shown = Callable[[], str]


@pytest.fixture(params=["rich", "tqdm"])
def display(request: pytest.FixtureRequest) -> tuple[Any, Shown]:
    """A display, and what it has written."""
    out = io.StringIO()
    if request.param == "rich":
        return bigupload.rich_progress(Console(file=out, width=160)), out.getvalue
    # The last drawing of each bar is what stays.
    return bigupload.tqdm_progress(file=out, ncols=200), out.getvalue


def lines(shown: Shown) -> list[str]:
    """The last state of each row or bar, in the order in which they began."""
    last: dict[str, str] = {}
    for drawn in re.split(r"[\r\n]", shown().replace("\x1b[A", "")):
        if drawn.strip():
            last[drawn.split()[0].rstrip(":")] = drawn.strip()
    return list(last.values())


async def upload(world: World, **options: Any) -> None:
    await bigupload.upload(
        world.file(SIZE),
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        **of_function({"retry": FAST} | options),
    )


async def test_an_upload(world: World, display: tuple[Any, Shown]) -> None:
    show, shown = display
    await upload(world, on_event=show)
    [line] = lines(shown)
    assert line.startswith("file.bin")
    assert re.search(r"100 ?%", line)
    assert line.endswith(("proved: full-object", "proved: full-object]"))


async def test_many_uploads_with_one_display(world: World, display: tuple[Any, Shown]) -> None:
    show, shown = display
    async with bigupload.Uploader(retry=FAST) as uploader, asyncio.TaskGroup() as tasks:
        for n in range(4):
            path = world.file(SIZE, f"file-{n}", seed=n)
            tasks.create_task(uploader.upload(path, to=f"s3://{BUCKET}/", s3=world.options(), on_event=show))
    assert sorted(re.findall(r"^file-(\d)", "\n".join(lines(shown)), re.MULTILINE)) == ["0", "1", "2", "3"]
    assert shown().count("proved: full-object") >= 4


async def test_a_stream_of_unknown_size(world: World, display: tuple[Any, Shown]) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(PART)

    show, shown = display
    to = {"to": f"s3://{BUCKET}/key", "s3": world.options(), "name": "pipe", "part_size": PART}
    await bigupload.upload(blocks(), on_event=show, **of_function(to))
    [line] = lines(shown)
    assert line.startswith("pipe")
    assert "proved: full-object" in line


async def test_an_upload_that_fails(world: World, display: tuple[Any, Shown]) -> None:
    show, shown = display
    world.s3.script("UploadPart", *[Status(403, "AccessDenied")] * 100)
    with pytest.raises(errors.AccessDenied):
        await upload(world, on_event=show)
    [line] = lines(shown)
    assert line.startswith("file.bin")
    assert "stopped" in line
    assert not show._bars


async def test_a_job_is_one_row(world: World, display: tuple[Any, Shown]) -> None:
    show, shown = display
    files = [world.file(SIZE, f"file-{n}", seed=n) for n in range(3)] + [world.directory / "missing"]
    told: list[events.Event] = []

    def on_event(event: events.Event) -> None:
        told.append(event)
        show(event)

    many = bigupload.upload_many(
        files,
        to=f"s3://{BUCKET}/folder/",
        s3=world.options(),
        on_event=on_event,
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert len([outcome async for outcome in many]) == 4
    [line] = [line for line in lines(shown) if line.startswith("folder")]
    assert "4 of 4 files done, 1 failed" in line
    assert not [line for line in lines(shown) if not line.startswith("folder")]
    assert [isinstance(event, events.JobProgress) and event.is_finished for event in told[-2:]] == [False, True]


async def test_a_resumed_upload_begins_at_what_is_there(stopped: World, display: tuple[Any, Shown]) -> None:
    show, _ = display
    began: list[int] = []

    def on_event(event: events.Event) -> None:
        show(event)
        if isinstance(event, events.UploadStarted):
            [bar] = show._bars.values()
            began.append(bar.acknowledged if hasattr(bar, "acknowledged") else bar.n)
            began.append(event.resumed_bytes)

    await bigupload.resume(
        stopped.manifest_path, s3=stopped.options(), on_event=on_event, uploader=bigupload.Uploader(retry=FAST)
    )
    assert began[0] == began[1] > 0
    assert not show._bars


async def test_a_rate_of_tqdm_does_not_count_what_was_there() -> None:
    show = bigupload.tqdm_progress(file=io.StringIO())
    identity = events.UploadIdentity(source="/f", target="s3://b/k", id="1", manifest=None)
    show(
        events.UploadStarted(
            upload=identity, path=Path("/f"), target="s3://b/k", size=100, part_size=10, parts=10, manifest=Path("m"),
            resumed_parts=4, resumed_bytes=40,
        )
    )  # fmt: skip
    [bar] = show._bars.values()
    assert (bar.initial, bar.n, bar.total) == (40, 40, 100)
    show.close()


async def test_a_display_inside_of_another_one(world: World) -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True)
    with RichOwn(console=console):
        await upload(world, on_event=bigupload.rich_progress(console))
    assert "proved: full-object" in out.getvalue()


def test_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match=r"^`tqdm_progress` needs tqdm: pip install tqdm"):
        bigupload.tqdm_progress()


# --- the event by which they end


async def test_the_last_event_of_an_upload_that_fails(world: World) -> None:
    world.s3.script("UploadPart", *[Status(403, "AccessDenied")] * 100)
    told: list[events.Event] = []

    async def on_event(event: events.Event) -> None:
        told.append(event)

    with pytest.raises(errors.AccessDenied) as caught:
        await upload(world, on_event=on_event)
    last = events.UploadStopped(upload=told[0].upload, reason=str(caught.value), resumable=caught.value.resumable)
    assert told[-1] == last


async def test_the_last_event_of_an_upload_that_is_cancelled(world: World) -> None:
    told: list[events.Event] = []
    task = asyncio.create_task(upload(world, on_event=told.append, limit_rate=PART))
    await until(lambda: any(isinstance(event, events.UploadStarted) for event in told))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told[-1] == events.UploadStopped(upload=told[0].upload, reason="cancelled", resumable=True)


async def test_a_call_of_which_nothing_was_told_tells_no_end(world: World) -> None:
    told: list[events.Event] = []
    with pytest.raises(errors.SourceNotFound):
        await bigupload.upload(
            world.directory / "missing", to=f"s3://{BUCKET}/key", s3=world.options(), on_event=told.append
        )
    assert told == []


async def test_a_foreign_error_is_told_by_its_name_alone(world: World) -> None:
    def blocks() -> Any:
        yield bytes(PART * 2)
        raise LookupError("with a secret")

    told: list[events.Event] = []
    to = {"to": f"s3://{BUCKET}/key", "s3": world.options(), "name": "pipe", "part_size": PART}
    with pytest.raises((LookupError, errors.BigUploadError)):
        await bigupload.upload(blocks(), on_event=told.append, **of_function(to))
    assert isinstance(told[-1], events.UploadStopped)
    assert "secret" not in told[-1].reason

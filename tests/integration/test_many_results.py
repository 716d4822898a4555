"""The reader of a job's results: it may be slow, leave early, or be told that the job has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import bigupload
from bigupload import errors, events
from bigupload.batch import job

from .support import FAST, World, no_leaks
from .test_many_files import TO, sent


async def test_a_slow_reader_holds_the_job_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_MOST_WAITING", 3)
    path = world.file(1)
    taken = 0

    def sources() -> Iterator[tuple[Path, str]]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield path, str(number)

    async with bigupload.Uploader(retry=FAST, concurrency=2) as uploader:
        outcomes = uploader.upload_many(sources(), to=TO, s3=world.options())
        async with contextlib.aclosing(outcomes):
            await anext(outcomes)
            # A job whose results are read takes turns with it for the same slots: meanwhile it would go on.
            others = [(path, f"other/{number}") for number in range(100)]
            assert len([each async for each in uploader.upload_many(others, to=TO, s3=world.options())]) == 100
            assert taken < 30


async def test_a_reader_who_leaves_cancels_what_is_in_flight(world: World) -> None:
    world.s3.hold("PutObject")
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        outcomes = uploader.upload_many([world.file(10)], to=TO, s3=world.options())
        reading = asyncio.ensure_future(anext(outcomes))
        await world.s3.wait_for_async("PutObject")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await outcomes.aclose()
    world.s3.release()


async def test_closing_the_uploader_ends_the_job(world: World) -> None:
    world.s3.hold("PutObject")
    uploader = bigupload.Uploader(retry=FAST)
    async with uploader:
        outcomes = uploader.upload_many([world.file(10)], to=TO, s3=world.options())
        reading = asyncio.ensure_future(anext(outcomes))
        await world.s3.wait_for_async("PutObject")
    with pytest.raises(errors.UploadCancelled):
        await reading
    world.s3.release()


async def test_what_the_sources_raise_ends_the_job(world: World) -> None:
    def sources() -> Iterator[Path]:
        yield world.file(10)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sent(sources(), world.options())


async def test_an_on_event_that_raises_ends_the_job(world: World) -> None:
    def on_event(event: events.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sent([world.file(10)], world.options(), on_event=on_event)


async def test_its_uploader_is_closed_before_the_first_step(world: World) -> None:
    async with no_leaks():
        async with bigupload.Uploader() as uploader:
            outcomes = uploader.upload_many([(b"a", "a")], to="s3://bucket/", s3=world.options())
            step = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(0)
        with pytest.raises(errors.UploadCancelled):
            await step
    assert "a" not in world.s3.objects["bucket"]

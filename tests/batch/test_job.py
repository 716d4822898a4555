"""A job takes items as it needs them, records what was done, and ends as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from bigupload.batch.job import Job
from tests.tools.cases import each_case


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


class Recorded:
    """Keeps what was recorded; `fails` makes it raise."""

    def __init__(self, *, fails: bool = False) -> None:
        self.results: list[int] = []
        self._fails = fails

    async def record(self, results: Sequence[int]) -> None:
        await asyncio.sleep(0)
        if self._fails:
            raise OSError
        self.results += results


async def double(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


async def collected(job: Job[int, int]) -> list[int]:
    running = asyncio.create_task(job.run())
    running.add_done_callback(lambda _: job.close())
    found = [each async for each in job.results()]
    await running
    return found


@each_case("count", [0, 1, 2, 5000])
@each_case("at_once", [1, 7])
@each_case("records", [False, True])
async def test_each_item_has_its_result(count: int, at_once: int, records: bool) -> None:
    recorder = Recorded() if records else None
    found = await collected(Job(numbers(count), double, at_once=lambda: at_once, record=recorder and recorder.record))
    assert sorted(found) == [2 * number for number in range(count)]
    assert recorder is None or sorted(recorder.results) == sorted(found)


async def test_as_many_at_once_as_there_may_be_and_never_none() -> None:
    """The limit falls and rises while all of them work."""
    limits = iter([8] * 40 + [1] * 40 + [5] * 10_000)
    active, most, now = 0, 0, 8

    def at_once() -> int:
        nonlocal now
        now = next(limits)
        return now

    async def work(item: int) -> int:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1
        return item

    assert len(await collected(Job(numbers(500), work, at_once=at_once))) == 500
    assert most == 8


async def test_an_item_that_raises_ends_the_job_and_the_rest_is_recorded() -> None:
    recorder = Recorded()

    async def work(item: int) -> int:
        if item == 50:
            raise ZeroDivisionError
        return item

    with pytest.raises(ZeroDivisionError):
        await collected(Job(numbers(100), work, at_once=lambda: 1, record=recorder.record))
    assert recorder.results == list(range(50))


async def test_a_cancel_records_what_was_done() -> None:
    recorder, stuck = Recorded(), asyncio.Event()

    async def work(item: int) -> int:
        if item == 50:
            stuck.set()
            await asyncio.Event().wait()
        return item

    running = asyncio.create_task(Job(numbers(100), work, at_once=lambda: 1, record=recorder.record).run())
    await stuck.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert recorder.results == list(range(50))


@pytest.mark.parametrize(("at_once", "most"), [(7, 128), (128, 128), (132, 132)])
async def test_a_slow_record_holds_the_job_up(at_once: int, most: int) -> None:
    """What is not recorded is done again after a kill, so it must be little: docs/many-files.md says how little."""
    done, written = 0, asyncio.Event()

    async def work(item: int) -> int:
        nonlocal done
        done += 1
        return await double(item)

    class Slow(Recorded):
        async def record(self, results: Sequence[int]) -> None:
            await written.wait()
            await super().record(results)

    collecting = asyncio.create_task(collected(Job(numbers(1000), work, at_once=lambda: at_once, record=Slow().record)))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert done == most
    written.set()
    assert len(await collecting) == 1000


async def test_what_can_t_be_recorded_ends_the_job() -> None:
    with pytest.raises(OSError):
        await collected(Job(numbers(5000), double, at_once=lambda: 3, record=Recorded(fails=True).record))


async def test_an_item_that_raises_ends_a_job_that_waits_for_its_next_item() -> None:
    """Of a watch, the next file may come in a week. The worker that began first waits for it."""

    async def slow() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await asyncio.Event().wait()

    began = asyncio.Event()

    async def work(item: int) -> int:
        if item == 2:
            began.set()
            raise ZeroDivisionError
        if item == 1:
            await began.wait()
        return item

    with pytest.raises(ZeroDivisionError):
        await collected(Job(slow(), work, at_once=lambda: 4))

"""A job: the same work for each of many items, several at a time, for a reader who may be slow.

Items are taken from their iterator as they are needed, and results wait until the reader takes them. So neither the
number of items nor a slow reader makes it need more memory.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from bigupload import errors
from bigupload.records import dataclass
from bigupload.support.cancellation import end_task, retrieve, run_shielded

T = TypeVar("T")
R = TypeVar("R")

_MOST_WAITING = 1000
"""Results that wait for the reader."""
_MOST_UNRECORDED = 128
"""Items that are begun and not recorded, where a disk is slow: after a kill their work is done again. There are more
only if more may be worked on at once."""


def affects_all(error: errors.BigUploadError, *, others_go: bool) -> bool:
    """Whether every other file would fail with an error now.

    Args:
        error: What the upload of one file ended with.
        others_go: Whether the store has responded to others since that file was first tried.
    """
    return error.fails_others in ("now", "always") or (error.fails_others == "unless they go" and not others_go)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFailed:
    """A file of a job that was not uploaded. The job goes on with the others."""

    source: str
    """The file's path, or the name of another source."""
    key: str
    """The object's key; empty if the file has none."""
    error: errors.BigUploadError
    """The error. `resume` takes `error.manifest`, if there is something to resume. The same job resumes it, too."""
    retry_in: float | None = None
    """Seconds until `watch` tries it again; None: when the file has changed, and in other jobs never."""


class _Buffer(Generic[R]):
    """Values on their way from many tasks to one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: list[R] = []
        self._closed = False
        self._room = asyncio.Event()
        self._filled = asyncio.Event()

    async def put(self, value: R) -> None:
        """Add a value, and wait while too many are there. After `close` it is dropped."""
        while len(self._values) >= self._most and not self._closed:
            self._room.clear()
            await self._room.wait()
        if not self._closed:
            self._values.append(value)
            self._filled.set()

    async def take(self) -> list[R]:
        """Wait for values, and take all that are there; none after the last."""
        while not self._values and not self._closed:
            self._filled.clear()
            await self._filled.wait()
        taken, self._values = self._values, []
        self._room.set()
        return taken

    def take_all(self) -> None:
        """Let nobody wait for room any more."""
        self._most = sys.maxsize
        self._room.set()

    def close(self) -> None:
        """Add no more."""
        self._closed = True
        self._room.set()
        self._filled.set()


class Job(Generic[T, R]):
    """One run of a job."""

    def __init__(
        self,
        items: AsyncIterator[T],
        work: Callable[[T], Awaitable[R | None]],
        *,
        at_once: Callable[[], int],
        record: Callable[[Sequence[R]], Awaitable[None]] | None = None,
    ) -> None:
        """Begin nothing.

        Args:
            items: What to do; taken one after another.
            work: Does it for one item. What it raises ends the job. None is not a result.
            at_once: For how many items at a time, at least 1. It is called again and again.
            record: Brings results to disk before the reader gets them: the next run of the job need not repeat them.
        """
        self._items = items
        self._work = work
        self._at_once = at_once
        self._record = record
        self._taking = asyncio.Lock()
        self._exhausted = False
        self._workers: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        """Set when a worker ends."""
        self._active = 0
        """Workers that will take another item."""
        self._unrecorded = 0
        """Items that are begun and not recorded, if they are recorded."""
        self._fewer = asyncio.Event()
        """Set when `_unrecorded` falls."""
        self._results: _Buffer[R] = _Buffer(_MOST_WAITING)
        self._done: _Buffer[R] = self._results if record is None else _Buffer(_MOST_WAITING)

    async def run(self) -> None:
        """Do all of it. Ends early if the work or the items raise; what was done until then is recorded.

        Raises:
            BaseException: What the work, the items or `record` raised first.
        """
        tasks = [asyncio.create_task(self._work_all())]
        if self._record is not None:
            tasks.append(asyncio.create_task(self._record_all(self._record)))
        for each in tasks:
            each.add_done_callback(retrieve)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await run_shielded(self._end(tasks))
        for each in tasks:
            if not each.cancelled():
                each.result()

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """End what still runs, but record what was done."""
        working, *recording = tasks
        self._results.take_all()  # its reader gets what was done, before it gets the error
        for each in (working, *self._workers):
            each.cancel()
        await asyncio.wait([working, *self._workers])
        self._done.close()
        if recording:
            await asyncio.wait(recording)

    async def _work_all(self) -> None:
        """Start workers until the items are exhausted, and wait for all of them."""
        self._start_workers()
        while self._workers:
            await self._ended.wait()
            self._ended.clear()
            ended = {each for each in self._workers if each.done()}
            self._workers -= ended
            for each in ended:
                each.result()
        self._done.close()

    def _start_workers(self) -> None:
        """Start one more worker if there may be one. Each item that is taken starts one at most."""
        if not self._exhausted and self._active < self._at_once():
            self._active += 1
            worker = asyncio.create_task(self._worker())
            worker.add_done_callback(retrieve)  # of several that fail, only one is reported
            worker.add_done_callback(lambda _: self._ended.set())
            self._workers.add(worker)

    async def _worker(self) -> None:
        while self._active <= self._at_once():
            async with self._taking:
                if self._record is not None:
                    await self._may_begin()
                if self._exhausted:
                    return
                try:
                    item = await anext(self._items)
                except StopAsyncIteration:
                    self._exhausted = True
                    return
                self._unrecorded += 1
            self._start_workers()
            result = await self._work(item)
            if result is not None:
                await self._done.put(result)
            else:
                self._recorded(1)
        self._active -= 1  # at once: the others see that there are no longer too many

    async def _may_begin(self) -> None:
        """Wait while too many items are begun and not recorded."""
        while self._unrecorded >= max(_MOST_UNRECORDED, self._at_once()):
            self._fewer.clear()
            await self._fewer.wait()

    def _recorded(self, count: int) -> None:
        self._unrecorded -= count
        self._fewer.set()

    async def _record_all(self, record: Callable[[Sequence[R]], Awaitable[None]]) -> None:
        while batch := await self._done.take():
            await record(batch)
            self._recorded(len(batch))
            for result in batch:
                await self._results.put(result)
        self._results.close()

    def close(self) -> None:
        """Let `results` end, also if `run` was never called. Idempotent."""
        self._results.close()

    async def results(self) -> AsyncIterator[R]:
        """Each result as it comes. Ends after the last one that `run` lets through; `run` returns whether all came."""
        while batch := await self._results.take():
            for result in batch:
                yield result


async def results_while(job: Job[T, R], running: Coroutine[Any, Any, None]) -> AsyncGenerator[R, None]:
    """Yield a job's results while a coroutine runs it. If this is closed early, the coroutine is cancelled and awaited.

    Args:
        job: The job.
        running: Calls its `run`.

    Raises:
        BaseException: What the coroutine raised, after the results that it let through.
    """
    task = asyncio.create_task(running)
    task.add_done_callback(lambda _: job.close())
    try:
        async for result in job.results():
            yield result
        await task
    finally:
        await end_task(task)

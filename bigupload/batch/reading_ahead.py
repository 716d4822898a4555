"""A blocking iterator, read in a thread while its reader is busy with what came before.

It is read far ahead, so that it is soon known how much there is to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio

from bigupload.batch.tree import FileEntry, Found, Omitted
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread

T = TypeVar("T")

_MOST = 500
_MOST_BATCHES = 20
"""Batches that wait for the reader: 10,000 files, of some 400 bytes each."""
_LONGEST = 0.1
"""Seconds after which a batch is handed over, so that the first files are uploaded while the others are looked for."""


@dataclass(slots=True)
class FoundFiles:
    """The counts of a listing so far. Its reader may not have got all of it."""

    files: int = 0
    """Files, and what failed in the place of one."""
    bytes: int = 0
    is_complete: bool = False
    """Whether the listing has ended."""

    def add(self, items: Sequence[object]) -> None:
        """Count the files among items."""
        for item in items:
            if isinstance(item, FileEntry):
                self.files += 1
                self.bytes += item.size
            elif isinstance(item, Omitted):
                self.files += item.is_failure


class CountedFiles(AsyncGenerator[Found, None]):
    """A generator of files, with what its listing has found so far."""

    def __init__(self, files: AsyncGenerator[Found, None], found: FoundFiles) -> None:
        """Begin nothing.

        Args:
            files: The generator.
            found: What its listing counts in.
        """
        self.found = found
        self._files = files

    async def asend(self, value: None) -> Found:
        """Return the next one."""
        return await self._files.asend(value)

    async def athrow(
        self, typ: Any, val: BaseException | object = None, tb: TracebackType | None = None
    ) -> Found:  # as its base class has it
        """Raise an exception in the generator."""
        return await self._files.athrow(typ, val, tb)

    async def aclose(self) -> None:
        """End it."""
        await self._files.aclose()


@dataclass(frozen=True, slots=True)
class _Batch(Generic[T]):
    items: Sequence[T]
    is_last: bool
    error: Exception | None = None


async def read_ahead(
    items: Iterator[T], found: FoundFiles | None = None, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[T]:
    """Read an iterator in a thread, about 10,000 items ahead.

    A reader that is cancelled, or closes this, does not wait for the thread: it may hang in a file system.

    Args:
        items: What to read.
        found: Counts what was read.
        clock: A monotonic clock in seconds. Tests pass their own.

    Raises:
        BaseException: What the iterator raises, after the items before.
    """
    batches: asyncio.Queue[_Batch[T]] = asyncio.Queue(_MOST_BATCHES)
    reading = asyncio.create_task(_read(items, found, clock, batches))
    try:
        is_last = False
        while not is_last:
            batch = await batches.get()
            is_last = batch.is_last
            for item in batch.items:
                yield item
            if batch.error is not None:
                raise batch.error
            await asyncio.sleep(0)  # where batches are waiting already, nothing else would get a turn
    finally:
        reading.cancel()


async def _read(
    items: Iterator[T], found: FoundFiles | None, clock: Callable[[], float], batches: asyncio.Queue[_Batch[T]]
) -> None:
    """Read items in a thread, until the last one."""
    threads = anyio.CapacityLimiter(1)
    is_last = False
    while not is_last:
        try:
            batch = await run_in_daemon_thread(partial(_next_batch, items, clock), threads)
        except Exception as e:  # no thread can be started
            batch = _Batch([], is_last=True, error=e)
        is_last = batch.is_last
        if found is not None:
            found.add(batch.items)
            found.is_complete = is_last and batch.error is None
        await batches.put(batch)


def _next_batch(items: Iterator[T], clock: Callable[[], float]) -> _Batch[T]:
    batch: list[T] = []
    until = clock() + _LONGEST
    try:
        for item in items:
            batch.append(item)
            if len(batch) == _MOST or clock() >= until:
                return _Batch(batch, is_last=False)
    except Exception as e:
        return _Batch(batch, is_last=True, error=e)
    return _Batch(batch, is_last=True)

"""A blocking iterator in a thread: batches, errors, and a reader who leaves while it hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from bigupload.batch.listing import FoundFiles, read_ahead
from bigupload.batch.tree import FileEntry, Found, Omitted
from tests.tools.waiting import until


async def test_everything_comes_in_order() -> None:
    assert [item async for item in read_ahead(iter(range(1234)))] == list(range(1234))
    assert [item async for item in read_ahead(iter(()))] == []


async def test_how_far_is_read_ahead_and_what_was_found() -> None:
    """Twenty batches wait, one is being read or waits for room, and the reader has one."""
    found = FoundFiles()

    def items() -> Iterator[Found]:
        yield Omitted("pipe", "a named pipe", is_failure=False)
        yield Omitted("bad", "its name is not UTF-8", is_failure=True)
        for number in range(20_000):
            yield FileEntry(str(number), str(number), size=2, mtime_ns=0)

    reader = read_ahead(items(), found, clock=lambda: 0.0)
    await anext(reader)
    await until(lambda: found.files == 22 * 500 - 1)
    for _ in range(400):
        await anext(reader)
    assert (found.files, found.bytes, found.is_complete) == (10_999, 2 * 10_998, False)
    async for _ in reader:
        pass
    assert (found.files, found.bytes, found.is_complete) == (20_001, 40_000, True)


async def test_a_slow_iterator_hands_over_what_it_has() -> None:
    taken = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        yield 2
        taken.wait()
        yield 3

    ticks = iter([0.0, 0.05, 0.2])
    reader = read_ahead(items(), clock=lambda: next(ticks, 0.2))
    try:
        assert [await anext(reader), await anext(reader)] == [1, 2]
    finally:
        taken.set()
    assert await anext(reader) == 3


async def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("broken")

    reader = read_ahead(items())
    assert await anext(reader) == 1
    with pytest.raises(OSError, match="broken"):
        await anext(reader)


async def test_a_reader_that_is_cancelled_does_not_wait_for_a_hanging_disk() -> None:
    release, hangs = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        hangs.set()
        release.wait()

    async def read() -> None:
        async for _ in read_ahead(items(), clock=iter(range(1000)).__next__):
            pass

    reading = asyncio.create_task(read())
    try:
        await until(hangs.is_set)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not release.is_set()
    finally:
        release.set()

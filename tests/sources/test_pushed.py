"""Bytes that a program writes into the buffers of whoever uploads them: from another thread, or in the same loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import errors
from bigupload.sources import producers
from bigupload.sources.producers import PushedBytes
from tests.sources.streams import DATA, PLAN, chunked, cut, pool, stream_of
from tests.tools.cases import each_case, examples

Push = Callable[[PushedBytes, bytes], Awaitable[None]]


async def in_thread(pushed: PushedBytes, data: bytes) -> None:
    def write() -> None:
        with memoryview(data) as view:  # which the thread would release a moment after its end
            pushed.push(view)

    await asyncio.to_thread(write)


async def in_loop(pushed: PushedBytes, data: bytes) -> None:
    await pushed.push_in_loop(memoryview(data))


WAYS: list[Push] = [in_thread, in_loop]


@contextlib.asynccontextmanager
async def filling(pushed: PushedBytes, buffer: bytearray) -> AsyncIterator[asyncio.Task[int]]:
    """Offer a buffer meanwhile."""
    task = asyncio.create_task(pushed.fill(memoryview(buffer)))
    await asyncio.sleep(0)  # the task has begun
    yield task
    task.cancel()
    await asyncio.wait({task})


@each_case("push", WAYS)
@settings(deadline=None, max_examples=examples(60))
@given(
    size=st.integers(0, len(DATA)),
    cuts=st.lists(st.integers(0, len(DATA)), max_size=20),
    memory=st.sampled_from([300, 1_000, 100_000]),
)
def test_the_writes_make_no_difference(push: Push, size: int, cuts: list[int], memory: int) -> None:
    """The same parts, also where a write spans several, and where parts wait in files."""
    data = DATA[:size]

    async def written() -> list[bytes]:
        pushed = PushedBytes()
        found = asyncio.create_task(cut(stream_of(pushed, parts=pool(memory), allow_empty=True)))
        for chunk in chunked(data, [min(at, size) for at in cuts]):
            await push(pushed, chunk)
        await pushed.finish()
        assert pushed.taken == size
        return [piece for part, piece in await found]

    found = asyncio.run(written())
    assert [len(piece) for piece in found] == [part.size for part in PLAN.closed(size)]
    assert b"".join(found) == data


@each_case("push", WAYS)
async def test_a_write_goes_straight_into_the_buffer(push: Push) -> None:
    """Without another copy, and without waking who waits for a full one."""
    pushed, buffer = PushedBytes(), bytearray(10)
    async with filling(pushed, buffer) as filled:
        await push(pushed, b"abcd")
        assert buffer == b"abcd" + bytes(6)
        await push(pushed, b"ef")
        await asyncio.sleep(0)
        assert not filled.done()
        await push(pushed, b"ghij")
        assert await filled == 10
    assert buffer == b"abcdefghij"


async def test_a_large_write_lets_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of it is copied at a time, without a wait for more room."""
    monkeypatch.setattr(producers, "_MOST", 3)
    pushed, buffer = PushedBytes(), bytearray(10)
    async with filling(pushed, buffer) as filled:
        writing = threading.Thread(target=pushed.push, args=(memoryview(b"abcdefghij"),), daemon=True)
        writing.start()
        assert await asyncio.wait_for(filled, 30) == 10
    assert buffer == b"abcdefghij"


@each_case("push", WAYS)
async def test_a_write_that_spans_several_buffers(push: Push) -> None:
    """It has returned only when all of it was taken; and what is written of is the program's again then."""
    pushed, data = PushedBytes(), bytearray(DATA[:25])
    writing = asyncio.ensure_future(push(pushed, data))
    found = b""
    for _ in range(2):
        buffer = bytearray(10)
        found += buffer[: await pushed.fill(memoryview(buffer))]
        assert not writing.done()
    buffer = bytearray(10)
    async with filling(pushed, buffer) as filled:
        await writing
        data.clear()
        await pushed.finish()
        found += buffer[: await filled]
    assert found == DATA[:25]
    assert await pushed.fill(memoryview(buffer)) == 0


@each_case("push", WAYS)
@each_case("taken", [0, 10])
async def test_a_write_that_waits_gets_what_ended_the_upload(push: Push, taken: int) -> None:
    pushed = PushedBytes()
    writing = asyncio.ensure_future(push(pushed, DATA))
    if taken:
        assert await pushed.fill(memoryview(bytearray(taken))) == taken
    await asyncio.sleep(0)
    pushed.stop(errors.AccessDenied("refused"))
    pushed.stop(errors.UploadCancelled("later"))
    with pytest.raises(errors.AccessDenied):
        await writing
    with pytest.raises(errors.AccessDenied):
        await push(pushed, b"")
    with pytest.raises(errors.AccessDenied):
        await pushed.finish()


@each_case("push", WAYS)
async def test_nothing_is_written_into_a_buffer_that_was_taken_back(push: Push) -> None:
    pushed, buffer = PushedBytes(), bytearray(10)
    async with filling(pushed, buffer):
        await push(pushed, b"ab")
    writing = asyncio.ensure_future(push(pushed, b"cd"))
    other = bytearray(10)
    async with filling(pushed, other):
        await writing
    assert (buffer[:4], other[:4]) == (b"ab\0\0", b"cd\0\0")


async def test_a_write_does_not_overtake_another() -> None:
    """Not even one that need not wait, while the other one has not yet learnt that there is room."""
    pushed, buffer = PushedBytes(), bytearray(10)
    first = asyncio.create_task(in_loop(pushed, b"abc"))
    await asyncio.sleep(0)
    async with filling(pushed, buffer):
        assert not first.done()
        await in_loop(pushed, b"x")
    assert buffer[:5] == b"abcx\0"


async def test_a_write_that_was_cancelled_half_way() -> None:
    """Nobody can write the rest of it. One of which nothing was taken was not made."""
    pushed = PushedBytes()
    writing = asyncio.create_task(in_loop(pushed, DATA))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    writing = asyncio.create_task(in_loop(pushed, DATA[:20]))
    assert await pushed.fill(memoryview(bytearray(10))) == 10
    writing.cancel()
    await asyncio.wait({writing})
    for late in (in_loop(pushed, b"x"), in_thread(pushed, b"x"), pushed.finish()):
        with pytest.raises(errors.UploadCancelled, match="interrupted half-way"):
            await late


async def test_the_end_comes_after_the_writes_that_wait() -> None:
    pushed = PushedBytes()
    first, ending, late = (
        asyncio.create_task(each) for each in (in_loop(pushed, b"abc"), pushed.finish(), in_loop(pushed, b"x"))
    )
    buffer = bytearray(2)
    assert (await pushed.fill(memoryview(buffer)), await pushed.fill(memoryview(buffer))) == (2, 1)
    await asyncio.gather(first, ending)
    with pytest.raises(ValueError, match="closed writer"):
        await late
    with pytest.raises(ValueError, match="closed writer"):
        await in_thread(pushed, b"x")
    assert await pushed.fill(memoryview(buffer)) == 0, "a write that was refused ends nothing"


async def test_writes_that_need_not_wait_let_other_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload runs in this loop, too: what fills a large part in small writes must not hold up its requests."""
    monkeypatch.setattr(producers, "_REST", 100)
    pushed, turns = PushedBytes(), itertools.count()

    async def turn() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    other = asyncio.create_task(turn())
    async with filling(pushed, bytearray(1_000)):
        before = next(turns)
        for _ in range(50):
            await in_loop(pushed, b"0123456789")
        assert next(turns) - before >= 4
    other.cancel()


async def test_no_wake_up_is_lost() -> None:
    """Both threads meet at every byte."""
    pushed, buffer, found = PushedBytes(), memoryview(bytearray(1)), bytearray()

    def write() -> None:
        for at in range(0, len(DATA), 3):
            pushed.push(memoryview(DATA[at : at + 3]))
        asyncio.run_coroutine_threadsafe(pushed.finish(), loop).result()

    loop, thread = asyncio.get_running_loop(), threading.Thread(target=write)
    thread.start()
    while await pushed.fill(buffer):
        found += buffer
    await asyncio.to_thread(thread.join)
    assert found == DATA

"""A block that is ended from outside, whatever else cancels its task; and anyio's scopes around what knows none."""

from __future__ import annotations

import asyncio
import sys

import anyio
import pytest

from bigupload.support.cancellation import Stoppable, checkpoint_if_cancelled, shield
from bigupload.support.fair_slots import FairSlots


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_cancel_ends_the_block_and_nothing_behind_it() -> None:
    block = Stoppable()
    asyncio.get_running_loop().call_soon(block.cancel)
    with block:
        await for_ever()
    assert block.cancelled_caught
    assert cancellations() == 0
    await asyncio.sleep(0)


async def test_a_block_that_was_cancelled_before_ends_at_its_first_await() -> None:
    block, entered = Stoppable(), False
    block.cancel()
    block.cancel()
    with block:
        entered = True
        await for_ever()
    assert entered
    assert block.cancelled_caught


async def test_a_block_that_cancels_itself_and_awaits_nothing_more_is_not_cancelled() -> None:
    block = Stoppable()
    with block:
        block.cancel()
    assert block.cancel_called
    assert not block.cancelled_caught
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_what_is_awaited_while_the_block_ends_is_awaited() -> None:
    block, steps = Stoppable(), []
    asyncio.get_running_loop().call_soon(block.cancel)
    with block:
        try:
            await for_ever()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
                steps.append(cancellations())
    assert steps == [1, 1, 1]
    assert block.cancelled_caught


async def test_an_error_goes_through_a_block_that_is_cancelled() -> None:
    block = Stoppable()

    async def fail() -> None:
        with block:
            try:
                await for_ever()
            finally:
                raise ZeroDivisionError

    asyncio.get_running_loop().call_soon(block.cancel)
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not block.cancelled_caught
    assert cancellations() == 0


async def test_a_block_that_ends_by_itself_all_the_same_was_not_cancelled() -> None:
    block = Stoppable()
    asyncio.get_running_loop().call_soon(block.cancel)
    with block:
        try:
            await for_ever()
        except asyncio.CancelledError:
            ended = "by itself"
    assert ended == "by itself"
    assert not block.cancelled_caught
    assert cancellations() == 0


@pytest.mark.parametrize("first", ["task", "block"])
async def test_a_cancellation_of_the_task_goes_through(first: str) -> None:
    block = Stoppable()

    async def work() -> None:
        with block:
            await for_ever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    for cancel in (task.cancel, block.cancel) if first == "task" else (block.cancel, task.cancel):
        cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not block.cancelled_caught


async def test_blocks_within_one_another() -> None:
    outer, inner = Stoppable(), Stoppable()
    asyncio.get_running_loop().call_soon(outer.cancel)
    with outer:
        with inner:
            await for_ever()
        raise AssertionError("the inner block was not the one")
    assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)


async def test_a_scope_of_anyio_around_the_block_goes_through_it() -> None:
    block = Stoppable()
    with anyio.CancelScope() as scope, block:
        scope.cancel()
        block.cancel()
        await for_ever()
    assert scope.cancelled_caught
    assert not block.cancelled_caught
    assert cancellations() == 0


async def test_a_group_of_anyio_in_the_block_ends_with_its_tasks() -> None:
    block, ended = Stoppable(), []

    async def child(number: int) -> None:
        try:
            await for_ever()
        finally:
            ended.append(number)

    asyncio.get_running_loop().call_soon(block.cancel)
    with block:
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(child, number)
    assert sorted(ended) == [0, 1, 2]
    assert block.cancelled_caught


async def test_a_scope_that_was_cancelled_is_noticed_where_nothing_waits() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with FairSlots(1).queue(lambda: 0):
            raise AssertionError("it has a slot")
    assert scope.cancelled_caught


async def test_a_shield_keeps_scopes_away() -> None:
    steps = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        with shield():
            for _ in range(3):
                await asyncio.sleep(0)
                steps += 1
    assert steps == 3


async def test_without_anyio_there_is_no_scope_to_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "anyio")
    await checkpoint_if_cancelled()
    with shield():
        await asyncio.sleep(0)
    assert "anyio" not in sys.modules

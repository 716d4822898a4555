"""Group commit, and seeing a thing through whatever cancels the caller."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bigupload.support.batching import Batcher
from bigupload.support.cancellation import end_task, run_shielded
from tests.tools.cases import each_case


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


class Work:
    """A `perform` whose batches end when the test says so, one by one or all."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.failures: dict[int, BaseException] = {}
        self._gates: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._all = False

    def end(self, *batches: int) -> None:
        for number in batches:
            self._gates[number].set()

    def end_all(self) -> None:
        self._all = True
        self.end(*self._gates)

    async def __call__(self, items: Sequence[Any]) -> list[Any]:
        number = len(self.batches)
        self.batches.append(list(items))
        if not self._all:
            await self._gates[number].wait()
        if number in self.failures:
            raise self.failures[number]
        return [f"did {item}" for item in items]


def submit(batcher: Batcher[Any, Any], *items: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(batcher.submit(item)) for item in items]


async def under_way(work: Work, batcher: Batcher[Any, Any], *items: Any) -> list[asyncio.Task[Any]]:
    """Tasks whose items are in one batch, the second, which has begun; its leader is the first of them."""
    (first,) = submit(batcher, "first")
    await settle()
    tasks = submit(batcher, *items)
    await settle()
    work.end(0)
    await settle()
    assert first.result() == "did first"
    assert work.batches == [["first"], list(items)]
    return tasks


async def test_who_comes_meanwhile_shares_the_next_batch() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=100)
    first = submit(batcher, 0)
    await settle()
    others = submit(batcher, 1, 2, 3)
    await settle()
    assert work.batches == [[0]]
    work.end_all()
    assert await asyncio.gather(*first, *others) == ["did 0", "did 1", "did 2", "did 3"]
    assert work.batches == [[0], [1, 2, 3]]


async def test_no_batch_is_larger_than_the_most() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=3)
    tasks = submit(batcher, *range(10))
    await settle()
    work.end_all()
    assert await asyncio.gather(*tasks) == [f"did {n}" for n in range(10)]
    assert work.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9]]


async def test_batches_do_not_overlap() -> None:
    running = most = 0

    async def perform(items: Sequence[int]) -> Sequence[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return items

    batcher = Batcher(perform, max_batch=2)
    assert await asyncio.gather(*submit(batcher, *range(9))) == list(range(9))
    assert most == 1


async def test_a_failure_reaches_all_of_its_batch_and_no_one_else() -> None:
    work = Work()
    work.failures[1] = OSError("disk full")
    batcher = Batcher(work, max_batch=2)
    tasks = submit(batcher, 0, 1, 2, 3)
    await settle()
    work.end_all()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert work.batches == [[0], [1, 2], [3]]
    assert results == ["did 0", work.failures[1], work.failures[1], "did 3"]


async def test_too_few_results_reach_all_of_the_batch() -> None:
    """A caller whose item had none would look for its batch for ever, without waiting for anything."""
    batcher: Batcher[int, int] = Batcher(lambda items: one_too_few(items), max_batch=10)
    async with asyncio.timeout(60):
        found = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert [str(each) for each in found] == ["0 results for 1 items", "1 results for 2 items", "1 results for 2 items"]


async def one_too_few(items: Sequence[int]) -> Sequence[int]:
    await asyncio.sleep(0)
    return items[1:]


async def test_a_cancelled_leader_hands_the_batch_on() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=100)
    leader, *followers = await under_way(work, batcher, 0, 1, 2)
    leader.cancel()
    await settle()
    assert leader.cancelled()
    assert work.batches[1:] == [[0, 1, 2], [1, 2]]
    work.end_all()
    assert await asyncio.gather(*followers) == ["did 1", "did 2"]


async def test_a_leader_that_is_cancelled_keeps_the_order() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=2)
    leader, follower = await under_way(work, batcher, 0, 1)
    later = submit(batcher, 2, 3)
    await settle()
    leader.cancel()
    await settle()
    work.end_all()
    assert await asyncio.gather(follower, *later) == ["did 1", "did 2", "did 3"]
    assert work.batches[2:] == [[1, 2], [3]]


async def test_a_cancelled_follower_leaves_before_its_batch_begins() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=100)
    (first,) = submit(batcher, 0)
    await settle()
    gone, stays = submit(batcher, 1, 2)
    await settle()
    gone.cancel()
    await settle()
    work.end_all()
    assert await asyncio.gather(first, stays) == ["did 0", "did 2"]
    assert work.batches == [[0], [2]]


async def test_a_follower_cancelled_within_its_batch_harms_no_one() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=100)
    leader, gone, stays = await under_way(work, batcher, 0, 1, 2)
    gone.cancel()
    await settle()
    assert gone.cancelled()
    work.end_all()
    assert await asyncio.gather(leader, stays) == ["did 0", "did 2"]
    assert len(work.batches) == 2


async def test_a_failure_that_a_cancelled_caller_will_not_fetch() -> None:
    """asyncio complains aloud about exceptions that nobody fetched, when they are forgotten."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))

    async def scene() -> None:
        work = Work()
        work.failures[1] = OSError("disk full")
        leader, gone = await under_way(work, Batcher(work, max_batch=100), 0, 1)
        gone.cancel()
        await settle()
        work.end_all()
        await asyncio.wait([leader])
        assert isinstance(leader.exception(), OSError)

    await scene()
    await settle()
    gc.collect()
    assert complaints == []


async def test_every_caller_cancelled_leaves_the_batcher_usable() -> None:
    work = Work()
    batcher = Batcher(work, max_batch=100)
    tasks = await under_way(work, batcher, 0, 1, 2)
    for task in tasks:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in tasks)
    work.end_all()
    assert await batcher.submit(9) == "did 9"


# -- run_shielded


class Slow:
    """Work that ends when the test says so."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.done = False
        self.interrupted = False
        self._failure = failure

    async def __call__(self) -> str:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.interrupted = True
            raise
        self.done = True
        if self._failure is not None:
            raise self._failure
        return "done"


@each_case("failure", [None, OSError("no")])
@each_case("times", [1, 3])
async def test_task_cancel_waits_for_the_end(times: int, failure: Exception | None) -> None:
    work = Slow(failure)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    task = asyncio.create_task(run_shielded(work()))
    await settle()
    for _ in range(times):
        task.cancel()
        await settle()
        assert not task.done()
    work.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.done
    assert not work.interrupted
    await settle()
    assert complaints == []


async def test_who_is_cancelled_while_a_task_ends_waits_for_it_and_drops_what_it_raises() -> None:
    gate, reached = asyncio.Event(), asyncio.Event()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fail_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            reached.set()
            await gate.wait()
            raise OSError("no")

    task = asyncio.create_task(fail_at_the_end())
    await settle()
    ending = asyncio.create_task(end_task(task))
    await reached.wait()
    ending.cancel()
    await settle()
    assert not ending.done()
    gate.set()
    await asyncio.wait({ending})
    assert ending.cancelled()
    assert task.done()
    del task, ending
    gc.collect()
    assert complaints == []


async def by_timeout(work: Slow, started: Callable[[], None]) -> None:
    async def hurried() -> None:
        async with asyncio.timeout(3600) as timeout:
            timeout.reschedule(asyncio.get_running_loop().time())  # over as soon as anything waits
            started()
            await run_shielded(work())

    with pytest.raises(TimeoutError):
        await hurried()


async def by_cancel_scope(work: Slow, started: Callable[[], None]) -> None:
    with anyio.CancelScope() as scope:
        started()
        scope.cancel()
        await run_shielded(work())
        await anyio.lowlevel.checkpoint()  # anyio's cancellation is a state: it is met at the next chance
    assert scope.cancelled_caught


async def by_task_group(work: Slow, started: Callable[[], None]) -> None:
    async def fail() -> None:
        await settle()
        raise ZeroDivisionError

    async def see() -> None:
        started()
        await run_shielded(work())

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(see)
            group.start_soon(fail)

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert caught.group_contains(ZeroDivisionError)


@pytest.mark.parametrize("way", [by_timeout, by_cancel_scope, by_task_group])
async def test_every_way_to_be_cancelled_waits_for_the_end(way: Callable[[Slow, Callable[[], None]], Any]) -> None:
    work = Slow()
    started = asyncio.Event()
    task = asyncio.create_task(way(work, started.set))
    await started.wait()
    for _ in range(5):
        await settle()
    assert not task.done()
    assert not work.interrupted
    work.gate.set()
    await task
    assert work.done


async def test_under_a_cancelled_scope_it_waits_without_spinning() -> None:
    """anyio knocks again at every turn of the loop: unshielded, each knock would be one more await of the work."""
    work = Slow()
    awaits = 0

    def counting(wait: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(what: Any) -> Any:
            nonlocal awaits
            awaits += 1
            return wait(what)

        return counted

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run_shielded(work())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "shield", counting(asyncio.shield))
        patch.setattr(asyncio, "wait", counting(asyncio.wait))
        task = asyncio.create_task(main())
        await settle()
        work.gate.set()
        await task
    assert awaits == 2, "once until it is cancelled, once until the work ends"


async def test_work_that_is_cancelled_itself_raises_that() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_shielded(work())

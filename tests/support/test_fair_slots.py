"""Who gets a free slot next, and that none is lost to a cancel."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.support.fair_slots import FairSlots, SlotQueue
from tests.tools.cases import examples

KB, MB, GB = 1000, 10**6, 10**9


class Holder:
    """A task that waits for a slot, and gives it back when the test says so."""

    def __init__(self, queue: SlotQueue, name: str, granted: list[Holder]) -> None:
        self.name = name
        self.has_slot = False
        self._end = asyncio.Event()
        self._granted = granted
        self.task = asyncio.create_task(self._run(queue))

    async def _run(self, queue: SlotQueue) -> None:
        async with queue:
            self.has_slot = True
            self._granted.append(self)
            try:
                await self._end.wait()
            finally:
                self.has_slot = False

    def end(self) -> None:
        self._end.set()


class Scene:
    """Queues by name, and their holders in the order in which they got slots."""

    def __init__(self, total: int) -> None:
        self.slots = FairSlots(total)
        self.left: dict[str, int] = {}
        self.queues: dict[str, SlotQueue] = {}
        self.granted: list[Holder] = []
        self.holders: list[Holder] = []

    async def ask(self, name: str, left: int = GB, *, times: int = 1, priority: int = 0) -> None:
        if name not in self.queues:
            self.left[name] = left
            self.queues[name] = self.slots.queue(lambda: self.left[name], priority)
        for _ in range(times):
            self.holders.append(Holder(self.queues[name], name, self.granted))
        await settle()

    async def end(self, *, first: Callable[[Holder], bool] = lambda _: True) -> None:
        """End the holder that has had its slot for longest, of those that `first` chooses."""
        next(each for each in self.granted if each.has_slot and first(each)).end()
        await settle()

    async def end_all(self) -> None:
        while any(each.has_slot for each in self.granted):
            await self.end()
        assert all(each.task.done() for each in self.holders)
        assert self.slots.borrowed_tokens == 0

    @property
    def order(self) -> list[str]:
        return [each.name for each in self.granted]

    @property
    def holding(self) -> Counter[str]:
        return Counter(each.name for each in self.granted if each.has_slot)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("left", "goes_first"), [(100 * KB, True), (20 * MB, True), (50 * MB, False)])
async def test_a_small_one_that_comes_last_goes_first(left: int, goes_first: bool) -> None:
    """Before others that have waited for most of a round. It need not be tiny: less than a quarter is small."""
    scene = Scene(4)
    for number in range(50):
        await scene.ask(f"big {number}", 100 * MB, times=20)
    for _ in range(70):
        await scene.end()
    await scene.ask("late", left)
    before = len(scene.order)
    await scene.end()
    assert (scene.order[before:] == ["late"]) is goes_first
    await scene.end_all()


async def test_equals_take_turns() -> None:
    scene = Scene(1)
    await scene.ask("holder")
    for name in "abc":
        await scene.ask(name, times=5)
    await scene.end_all()
    assert "".join(scene.order[1:]) == "abc" * 5


async def test_slots_are_shared_equally_though_some_are_held_for_longer() -> None:
    """Turns alone would give slot after slot to the one that keeps them."""
    scene = Scene(8)
    await scene.ask("slow", times=100)
    assert scene.holding == {"slow": 8}
    await scene.ask("fast", times=200)
    for _ in range(4):
        await scene.end()
    for _ in range(100):
        assert scene.holding == {"slow": 4, "fast": 4}
        await scene.end(first=lambda holder: holder.name == "fast")
    await scene.end_all()


async def test_small_ones_without_end_do_not_starve_a_big_one() -> None:
    scene = Scene(1)
    await scene.ask("small 0", KB)
    await scene.ask("big", 5_000 * GB, times=20)
    for number in range(1, 200):
        if scene.order[-1] != "big":  # else the one before still waits
            await scene.ask(f"small {number}", KB)
        await scene.end()
    turns = [number for number, name in enumerate(scene.order) if name == "big"]
    assert len(turns) >= 8
    assert max(later - before for before, later in zip([0, *turns], turns, strict=False)) <= 24
    await scene.end_all()


async def test_what_has_few_bytes_left_goes_first() -> None:
    scene = Scene(1)
    await scene.ask("holder")
    await scene.ask("all of it left", 80 * MB)
    await scene.ask("nearly done", 5 * MB)
    await scene.end_all()
    assert scene.order == ["holder", "nearly done", "all of it left"]


async def test_a_higher_priority_takes_all_slots_until_it_wants_none() -> None:
    scene = Scene(2)
    await scene.ask("later", KB, times=2, priority=-1)
    await scene.ask("usual", KB, times=2)
    await scene.ask("urgent", GB, times=3, priority=1)
    await scene.end_all()
    assert scene.order == ["later"] * 2 + ["urgent"] * 3 + ["usual"] * 2


async def test_more_slots_are_given_at_once_and_fewer_as_they_come_back() -> None:
    scene = Scene(1)
    await scene.ask("a", times=9)
    assert scene.slots.borrowed_tokens == 1
    scene.slots.total_tokens = 4
    await settle()
    assert scene.slots.borrowed_tokens == scene.slots.total_tokens == 4
    scene.slots.total_tokens = 2
    assert scene.slots.borrowed_tokens == 4
    for expected in (3, 2, 2):
        await scene.end()
        assert scene.slots.borrowed_tokens == expected
    await scene.end_all()


async def test_a_cancel_at_the_moment_of_the_grant_passes_the_slot_on() -> None:
    scene = Scene(1)
    for name in "abc":
        await scene.ask(name)
    a, b, _ = scene.holders
    a.end()
    await asyncio.sleep(0)  # `a` gives its slot to `b`, which has not run yet
    assert scene.slots.borrowed_tokens == 1
    b.task.cancel()
    await settle()
    assert scene.order == ["a", "c"]
    await scene.end_all()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 4)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("resize"), st.integers(1, 6)),
        st.tuples(st.just("run"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
@settings(deadline=None, max_examples=examples(100))  # by the clock of a busy machine
def test_no_slot_is_lost_and_none_is_idle(steps: list[tuple[str, int]]) -> None:
    """Steps in any order, most of them before the tasks concerned have run: cancels meet grants in every way."""
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int]]) -> None:
    scene = Scene(2)
    for number in range(5):
        name = f"queue {number}"
        scene.queues[name] = scene.slots.queue(lambda number=number: number * 10 * MB, number // 4)  # type: ignore[misc]  # mypy takes the default for an argument
    for what, number in steps:
        if what == "ask":
            name = f"queue {number}"
            scene.holders.append(Holder(scene.queues[name], name, scene.granted))
        elif what == "resize":
            scene.slots.total_tokens = number
        elif what == "run":
            await settle()
        elif number < len(scene.holders):
            holder = scene.holders[number]
            holder.end() if what == "end" else holder.task.cancel()
        else:
            await asyncio.sleep(0)
    await settle()
    holding = sum(scene.holding.values())
    waiting = sum(not each.task.done() and not each.has_slot for each in scene.holders)
    assert scene.slots.borrowed_tokens == holding
    assert not waiting or holding >= scene.slots.total_tokens
    for each in scene.holders:
        each.end()
    await settle()
    while not all(each.task.done() for each in scene.holders):
        await settle()
    assert scene.slots.borrowed_tokens == 0
    assert not scene.slots._waiting
    for each in scene.queues.values():
        assert (each._held, len(each._waiters)) == (0, 0)


SIZES = st.lists(st.sampled_from([KB, MB, 20 * MB, 500 * MB, 40 * GB]), min_size=2, max_size=8)


@given(SIZES, st.integers(1, 5))
@settings(deadline=None, max_examples=examples(100))  # by the clock of a busy machine
def test_every_queue_gets_its_turn_in_bounded_time(sizes: list[int], total: int) -> None:
    """Between two slots of a queue there is no more than what the docstring says, whatever the others have left."""
    asyncio.run(_rotate(sizes, total))


async def _rotate(sizes: list[int], total: int) -> None:
    scene = Scene(total)
    for number, size in enumerate(sizes):
        await scene.ask(str(number), size, times=30)
    for _ in range(15 * len(sizes)):
        await scene.end()
    longest = 11 * len(sizes) + total
    for number in range(len(sizes)):
        turns = [place for place, name in enumerate(scene.order) if name == str(number)]
        if len(turns) == 30:
            continue
        for before, later in zip([0, *turns], [*turns, len(scene.order)], strict=True):
            assert later - before <= longest
    for holder in scene.holders:
        holder.task.cancel()
    await settle()
    assert scene.slots.borrowed_tokens == 0

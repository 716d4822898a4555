"""Outages: what is told of them, and when the requests that wait one out are sent again."""

from __future__ import annotations

import anyio
import pytest

from bigupload import events
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Effects, Retrier

from .test_retrying import HOUR, World, fault, world

__all__ = ["world"]  # a fixture


class Held:
    """A sleep that ends when the test says so, or at once if it is short."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.naps.append(seconds)
        if seconds > 10:
            await anyio.sleep_forever()


async def test_the_end_of_an_outage_ends_the_waits_after_a_moment(world: World) -> None:
    """The last parts of an upload waited for up to 20 s after the store was back."""
    held = Held()
    effects = Effects(clock=lambda: world.now, sleep=held, random=lambda: 0.25)
    retrier = Retrier(policy=RetryPolicy(base_delay=400.0, max_delay=1000.0), emit=world.told.append, effects=effects)
    retrier.record_response()
    world.now += 1
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(retrier.pause, retrier.attempts(), fault(), world.now)
            await anyio.wait_all_tasks_blocked()
            assert held.naps == [100.0] * 3
            retrier.policy = RetryPolicy(base_delay=8.0)
            retrier.record_response()
    assert held.naps == [100.0] * 3 + [2.0] * 3
    assert isinstance(world.told[-1], events.OutageEnded)


async def test_a_part_with_few_attempts_left_waits_its_time(world: World) -> None:
    """A store that comes and goes responds to one request and not to the next: early attempts would be used up."""
    held = Held()
    effects = Effects(clock=lambda: world.now, sleep=held, random=lambda: 1.0)
    policy = RetryPolicy(base_delay=20.0, max_delay=400.0, attempts=8)
    retrier = Retrier(policy=policy, emit=world.told.append, effects=effects)
    attempts = retrier.attempts()
    retrier.record_response()
    for _ in range(5):  # half of them and one
        attempts.after(fault(FaultKind.BROKEN), silence=0.0)
    world.now += 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(retrier.pause, attempts, fault(), world.now)
        await anyio.wait_all_tasks_blocked()
        assert isinstance(world.told[-1], events.OutageStarted)
        retrier.record_response()
        await anyio.wait_all_tasks_blocked()
        assert len(held.naps) == 1, "no shorter wait has begun"
        tasks.cancel_scope.cancel()


async def test_a_wait_beside_responses_is_as_long_as_the_policy_says(world: World) -> None:
    held = Held()
    effects = Effects(clock=lambda: world.now, sleep=held, random=lambda: 1.0)
    retrier = Retrier(policy=RetryPolicy(base_delay=20.0), emit=world.told.append, effects=effects)
    world.now += 1
    retrier.record_response()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(retrier.pause, retrier.attempts(), fault(), world.now - 1)
        await anyio.wait_all_tasks_blocked()
        retrier.record_response()
        await anyio.wait_all_tasks_blocked()
        assert held.naps == [20.0], "it still waits: there is no outage that could end"
        tasks.cancel_scope.cancel()


# -- telling of an outage


async def test_an_outage_is_told_when_it_begins_now_and_then_and_when_it_ends(world: World) -> None:
    """However many parts meet it, and however often: each attempt had a line of its own."""
    retrier = world.retrier(give_up_after=900.0, max_delay=20.0)
    retrier.record_response()
    world.now += 1
    parts = [retrier.attempts() for _ in range(20)]
    for _ in range(30):
        for attempts in parts:
            await retrier.pause(attempts, fault(), world.now)
            world.now -= world.slept[-1]  # they wait at the same time
        world.now += 10
    retrier.record_response()
    retrier.record_response()
    assert retrier.counts.retries == 600
    assert world.told == [
        events.OutageStarted(reason="it failed", gives_up_in=pytest.approx(900.0)),
        *(
            events.OutageContinues(
                reason="it failed", lasted=pytest.approx(lasted), gives_up_in=pytest.approx(900.0 - lasted)
            )
            for lasted in (60.0, 120.0, 180.0, 240.0)
        ),
        events.OutageEnded(lasted=pytest.approx(300.0)),
    ]


async def test_an_outage_says_of_what_it_is(world: World) -> None:
    retrier = world.retrier()
    retrier.peer = "the source"
    retrier.record_response()
    await retrier.pause(retrier.attempts(), fault(), world.now + 1)
    retrier.record_response()
    assert [event.peer for event in world.told] == ["the source"] * 2


async def test_a_store_that_refuses_is_no_outage(world: World) -> None:
    retrier = world.retrier()
    await retrier.pause(retrier.attempts(), fault(FaultKind.BUSY, status=503), world.now)
    retrier.record_response()
    assert [type(event) for event in world.told] == [events.Retrying]


async def test_a_long_wait_that_the_store_asks_for_is_said_and_bounded(world: World) -> None:
    retrier = world.retrier(give_up_after=900.0)
    busy = Fault(FaultKind.BUSY, "it failed", status=503, retry_after=HOUR)
    await retrier.pause(retrier.attempts(), busy, world.now)
    (told,) = world.told
    assert told == events.Retrying(part=None, attempt=1, delay=900.0, reason="it failed; the store asks to wait 1:00 h")
    assert world.slept == [900.0]

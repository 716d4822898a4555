"""Retrier by a clock that the tests turn, and what the uploads of one Uploader share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from bigupload import errors, events
from bigupload.core.retry_policy import Fault, FaultKind, Retry, RetryPolicy
from bigupload.engine.retrying import Effects, Retrier

HOUR = 3600.0


@dataclass
class World:
    """Time moves when the tests say so, and by what is slept."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    told: list[events.Event] = field(default_factory=list)

    def retrier(self, **policy: Any) -> Retrier:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += seconds

        effects = Effects(clock=lambda: self.now, sleep=sleep, random=lambda: 1.0)
        return Retrier(policy=RetryPolicy(**policy), emit=self.told.append, effects=effects)


@pytest.fixture
def world() -> World:
    return World()


def fault(kind: FaultKind = FaultKind.UNREACHABLE, status: int | None = None) -> Fault:
    return Fault(kind, "it failed", status=status)


@pytest.mark.parametrize("before", [True, False])
async def test_an_earlier_run_s_response_makes_silence_an_outage(world: World, before: bool) -> None:
    asked = 0

    async def answered_before() -> bool:
        nonlocal asked
        asked += 1
        return before

    retrier = world.retrier(give_up_after=HOUR)
    retrier.answered_before = answered_before
    assert (await outage(world, retrier) >= HOUR) is before
    assert asked == 1


async def outage(world: World, retrier: Retrier, *, each: float = 0.0) -> float:
    """Fail to connect until it is over, every attempt taking `each` seconds; how long that was."""
    began = world.now
    attempts = retrier.attempts()

    async def fail_on() -> None:
        for _ in range(1000):
            since = world.now
            world.now += each
            await retrier.pause(attempts, fault(), since)
        raise AssertionError("it never gives up")

    with pytest.raises(errors.StoreUnreachable):
        await fail_on()
    return world.now - began


# -- how long nothing was heard


async def test_hours_before_the_first_silent_attempt_do_not_count(world: World) -> None:
    """A part may be on its way for hours without a response to anything: that is no outage yet."""
    retrier = world.retrier(give_up_after=900.0)
    retrier.record_response()
    world.now += 9 * HOUR
    attempts = retrier.attempts()
    assert await retrier.pause(attempts, fault(), world.now - 0.1) == Retry(0.5)
    assert attempts.made == 1  # an outage, which is waited out, and no counted failure


@pytest.mark.parametrize("limit", [900.0, 60.0, 7200.0])
async def test_an_outage_is_given_up_after_its_time(world: World, limit: float) -> None:
    retrier = world.retrier(give_up_after=limit, max_delay=20.0)
    retrier.record_response()
    world.now += 9 * HOUR
    lasted = await outage(world, retrier, each=10.0)
    assert limit <= lasted <= limit + 30.0


async def test_all_parts_share_one_outage(world: World) -> None:
    """A request that first fails late gets no new time limit."""
    retrier = world.retrier(give_up_after=900.0)
    retrier.record_response()
    world.now += 1
    began = world.now
    await retrier.pause(retrier.attempts(), fault(), began)
    world.now = began + 899
    await retrier.pause(retrier.attempts(), fault(), world.now)
    world.now = began + 900
    with pytest.raises(errors.StoreUnreachable, match="15:00 min"):
        await retrier.pause(retrier.attempts(), fault(), world.now)


@pytest.mark.parametrize("contacts_store", [True, False])
async def test_the_success_of_a_request_is_a_contact(world: World, contacts_store: bool) -> None:
    retrier = world.retrier()

    async def succeed() -> str:
        return "done"

    call = retrier.request(succeed) if contacts_store else retrier.request(succeed, contacts_store=False)
    assert await call == "done"
    assert retrier.contact.responded_at == (world.now if contacts_store else None)


async def test_a_contact_ends_the_outage(world: World) -> None:
    retrier = world.retrier(give_up_after=900.0)
    for _ in range(3):
        retrier.record_response()
        world.now += 1
        began = world.now
        await retrier.pause(retrier.attempts(), fault(), began)
        world.now = began + 899
        await retrier.pause(retrier.attempts(), fault(), world.now)
    assert retrier.counts.retries == 6, "899 s of silence, three times, ended nothing"


async def test_a_response_is_a_contact_whatever_it_says(world: World) -> None:
    retrier = world.retrier()
    since = world.now
    await retrier.pause(retrier.attempts(), fault(FaultKind.SERVER, status=500), since)
    assert retrier.contact.responded_at == since


# -- pausing


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        (FaultKind.BUSY, Retry(0.5)),
        (FaultKind.REFUSED, Retry(0.0, resign=True)),
        (FaultKind.CORRUPTED, Retry(0.0, rehash=True)),
    ],
)
async def test_a_pause_says_what_is_to_be_made_anew(world: World, kind: FaultKind, again: Retry) -> None:
    retrier = world.retrier()
    assert await retrier.pause(retrier.attempts(), fault(kind, status=400), world.now, part=3) == again
    assert world.slept == [again.delay]
    assert world.told == [events.Retrying(part=3, attempt=1, delay=again.delay, reason="it failed")]
    assert retrier.counts.retries == 1


async def test_what_is_final_is_raised_without_a_pause(world: World) -> None:
    retrier = world.retrier()
    with pytest.raises(errors.StoreRefused):
        await retrier.pause(retrier.attempts(), fault(FaultKind.FINAL, status=400), world.now)
    assert (world.slept, world.told, retrier.counts.retries) == ([], [], 0)


# -- requests


class Call:
    """Fails with `faults` one after another, then succeeds."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self._faults:
            raise self._faults.pop(0)
        return "response"


async def test_a_request_is_asked_until_it_gets_a_response(world: World) -> None:
    retrier = world.retrier()
    call = Call(fault(FaultKind.BUSY, 503), fault(FaultKind.SERVER, 500))
    assert await retrier.request(call) == "response"
    assert call.made == 3
    assert world.slept == [0.5, 1.0]


async def test_faults_that_are_the_callers_are_not_retried_and_are_a_contact(world: World) -> None:
    retrier = world.retrier()
    call = Call(fault(FaultKind.GONE))
    with pytest.raises(Fault):
        await retrier.request(call, expected=frozenset({FaultKind.GONE}))
    assert call.made == 1
    assert retrier.contact.responded_at == world.now


# -- what uploads share


# -- what several tasks raised

"""A peer that takes connections and never responds: given up after `give_up_after`, as one that nothing connects to."""

from __future__ import annotations

import pytest

from bigupload import errors
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.context import PutInFlight
from bigupload.engine.retrying import Retrier
from bigupload.ports import SignedRequest
from bigupload.sources.objects import MemorySource
from tests.tools.gauges import FakeGauge

from .test_retrying import World, world

__all__ = ["world"]  # a fixture

SILENT = pytest.mark.parametrize("kind", [FaultKind.STALLED, FaultKind.BROKEN])


async def silence(world: World, retrier: Retrier, kind: FaultKind, *, each: float) -> tuple[float, str]:
    """Get no response until it is given up, each attempt taking `each` seconds; how long that was, and the error."""
    began, attempts = world.now, retrier.attempts()

    async def fail_on() -> None:
        while True:
            since = world.now
            world.now += each
            await retrier.pause(attempts, Fault(kind, "no response"), since)

    with pytest.raises(errors.StoreUnreachable) as caught:
        await fail_on()
    return world.now - began, str(caught.value)


@SILENT
@pytest.mark.parametrize("contact", ["none", "shown", "responded"])
async def test_silence_ends_it(world: World, kind: FaultKind, contact: str) -> None:
    """Whether the store has responded before, has only taken bytes, or has never been heard of."""
    retrier = world.retrier(give_up_after=180.0, base_delay=0.0)
    if contact == "responded":
        retrier.record_response()
        world.now += 1
    elif contact == "shown":
        retrier.record_contact(world.now)
    lasted, error = await silence(world, retrier, kind, each=100.0)
    assert lasted == 200.0
    assert "no response of the store for 3:20 min (no response)" in error
    assert error.endswith("run again later, or allow a longer `give_up_after`")


async def test_the_error_names_the_limit(world: World) -> None:
    """It is shorter than the wait for one response."""
    retrier = world.retrier(give_up_after=20.0, base_delay=0.0)
    lasted, error = await silence(world, retrier, FaultKind.STALLED, each=retrier.policy.response_within)
    assert lasted == 60.0
    assert "for 1:00 min" in error
    assert "; the limit is 20 s, checked when an attempt fails" in error


async def test_silence_is_that_of_all_requests(world: World) -> None:
    retrier = world.retrier(give_up_after=180.0, base_delay=0.0)
    began = world.now
    world.now += 100
    await retrier.pause(retrier.attempts(), Fault(FaultKind.STALLED, "no response"), began)
    lasted, _ = await silence(world, retrier, FaultKind.STALLED, each=100.0)
    assert lasted == 100.0


async def test_a_response_ends_the_silence(world: World) -> None:
    """Of another part: the eight attempts count, and no time."""
    retrier = world.retrier(give_up_after=180.0, base_delay=0.0)
    attempts = retrier.attempts()
    for _ in range(7):
        since = world.now
        world.now += 50
        retrier.record_response()
        world.now += 100
        await retrier.pause(attempts, Fault(FaultKind.STALLED, "no response"), since)
    retrier.record_response()
    with pytest.raises(errors.StoreUnreachable, match=r"\(8 attempts\)"):
        await retrier.pause(attempts, Fault(FaultKind.STALLED, "no response"), world.now)


async def test_a_store_that_asks_to_slow_down_is_not_silent(world: World) -> None:
    retrier = world.retrier(give_up_after=1.0, base_delay=0.0)
    attempts = retrier.attempts()
    for _ in range(7):
        since = world.now
        world.now += 100
        await retrier.pause(attempts, Fault(FaultKind.BUSY, "busy", status=503), since)


async def test_a_peer_that_takes_bytes_is_not_silent(world: World) -> None:
    """A part takes twenty minutes on a slow link that breaks before its end: no response came in that time."""
    retrier = world.retrier(give_up_after=900.0, base_delay=0.0)
    retrier.record_response()
    attempts = retrier.attempts()
    for _ in range(7):
        since = world.now
        world.now += 1200
        broken = Fault(FaultKind.BROKEN, "no response")
        broken.moved_at = world.now - 1
        await retrier.pause(attempts, broken, since)


async def test_one_broken_connection_is_no_silence(world: World) -> None:
    """However short the time for an outage is."""
    retrier = world.retrier(give_up_after=0.0, base_delay=0.0)
    attempts = retrier.attempts()
    retrier.record_response()
    for _ in range(3):
        world.now += 1
        await retrier.pause(attempts, Fault(FaultKind.BROKEN, "no response"), world.now - 1)


def test_bytes_that_buffers_take_show_no_life() -> None:
    """Those of the first seconds: the peer need not have read one."""
    source, part = MemorySource("a", b"x" * 100), Part(1, 0, 100)
    for seconds, expected in ((4.0, None), (6.0, 106.0)):
        put = PutInFlight(source, part, SignedRequest("https://store/a", {}, 3600), 100.0)
        put.started(FakeGauge(10))
        put.update(100.0 + seconds)
        assert put.stalled(200.0).moved_at == expected

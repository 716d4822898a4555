"""HttpTransport under a rate limit."""

from __future__ import annotations

import asyncio

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.sources.file import FileSource
from bigupload.support.rate_limiter import RateLimiter
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import Bench, transport_to


@pytest.mark.exhaustive
async def test_a_rate_limit_takes_slices_and_says_that_it_waits(any_path: Bench) -> None:
    """On a virtual clock: how much is taken at once, and for how long in all."""
    now = 0.0
    slept: list[float] = []
    paused: list[bool] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        paused.append(any_path.gauges[-1].paused())
        now += seconds
        await asyncio.sleep(0)

    rate, size = 1_000_000, 3 * MIB
    limiter = RateLimiter(rate, clock=lambda: now, sleep=sleep)
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with transport_to(any_path, limiter) as transport:
            await any_path.put(transport, source, Part(1, 0, size))
    assert any_path.stored() == content(size)
    assert abs(now - size / rate) <= 0.2
    assert len(slept) >= size // limiter.slice - 2
    assert all(paused)
    assert not any_path.gauges[-1].paused()


@pytest.mark.exhaustive
async def test_a_cancelled_wait_for_the_rate_limit_leaves_nothing(any_path: Bench) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    limiter = RateLimiter(1, clock=lambda: 0.0, sleep=sleep)
    with FileSource(write(any_path.directory / "file", MIB)) as source:
        async with no_leaks(), transport_to(any_path, limiter) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, MIB)))
            await waiting.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

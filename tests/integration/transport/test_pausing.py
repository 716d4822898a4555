"""A body that is paused: nothing of it is sent but a trickle, and released, all of it arrives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault
from bigupload.http import part_body, socket_tuning
from bigupload.http.part_body import PartBody
from bigupload.ports import Gauge, Source
from bigupload.sources.file import FileSource
from bigupload.sources.objects import MemorySource
from bigupload.support.rate_limiter import RateLimiter
from bigupload.testing.faults import Stall, Status
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import Bench, stalls, transport_to
from tests.tools.waiting import until

SIZE = 24 * MIB
PART = Part(1, 0, SIZE)


@pytest.fixture(params=[FileSource, MemorySource], ids=["file", "memory"])
def source(request: pytest.FixtureRequest, any_path: Bench) -> Iterator[Source]:
    path = write(any_path.directory / "file", SIZE)
    made = FileSource(path) if request.param is FileSource else MemorySource("file", content(SIZE))
    with contextlib.closing(made):
        yield made


def put(bench: Bench, transport: Any, source: Source, *, paused: bool) -> asyncio.Task[Any]:
    """Begin to send the part, paused or not."""

    def started(gauge: Gauge) -> None:
        bench.gauges.append(gauge)
        gauge.set_paused(paused=paused)

    request = bench.sign(PART, content(SIZE))
    return asyncio.create_task(transport.put(request, source, PART, on_start=started))


def body_of(bench: Bench) -> PartBody:
    (body,) = bench.gauges
    assert isinstance(body, PartBody)
    return body


async def written(body: PartBody) -> int:
    """The bytes written once everybody who could write had a turn. What a thread has begun, it ends."""
    for _ in range(2):
        for _ in range(100):
            await asyncio.sleep(0)
        await until(lambda: body._threads._future is None)
    return body._written


@pytest.mark.exhaustive
async def test_a_body_that_is_held_from_the_start_is_sent_when_it_is_released(any_path: Bench, source: Source) -> None:
    any_path.s3.script("UploadPart", Stall(after_bytes=0))
    async with no_leaks(), transport_to(any_path) as transport:
        sending = put(any_path, transport, source, paused=True)
        await until(lambda: any_path.s3.stalled == 1)
        any_path.s3.release()
        body = body_of(any_path)
        assert await written(body) == body.sent() == 0
        assert body.paused()
        body.set_paused(paused=False)
        assert not body.paused()
        await sending
    assert any_path.stored() == content(SIZE)


@pytest.mark.exhaustive
async def test_a_body_that_is_held_midway_goes_on_where_it_was(
    any_path: Bench, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    monkeypatch.setattr(socket_tuning, "search_again", searched.append)
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    async with no_leaks(), transport_to(any_path) as transport:
        sending = put(any_path, transport, source, paused=False)
        await stalls(any_path)
        body = body_of(any_path)
        for _ in range(2):
            body.set_paused(paused=True)
            body.set_paused(paused=True)
            before = await written(body)
            assert 0 < before < SIZE
            any_path.s3.release()
            await until(lambda before=before: body.sent() == before)  # the store takes what was sent
            assert await written(body) == before
            assert searched.count(body._socket) == len(searched) < 2
            body.set_paused(paused=False)
            if len(searched) == 1:
                await until(lambda before=before: body._written > before)
        await sending
        assert body.sent() == SIZE
    assert any_path.stored() == content(SIZE)


@pytest.mark.exhaustive
async def test_a_held_body_trickles(any_path: Bench, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store would close a connection over which nothing comes."""
    monkeypatch.setattr(part_body, "_TRICKLE_EVERY", 0.0)
    allow, allowed = PartBody._allow, []

    async def allow_and_note(self: PartBody, wanted: int) -> int:
        allowed.append(await allow(self, wanted))
        return allowed[-1]

    monkeypatch.setattr(PartBody, "_allow", allow_and_note)
    async with no_leaks(), transport_to(any_path) as transport:
        sending = put(any_path, transport, source, paused=True)
        await until(lambda: body_of(any_path).sent() >= 4 * part_body._TRICKLE if any_path.gauges else False)
        assert set(allowed) == {part_body._TRICKLE}
        assert body_of(any_path)._written <= sum(allowed) + part_body._TRICKLE
        body_of(any_path).set_paused(paused=False)
        await sending
    assert any_path.stored() == content(SIZE)


@pytest.mark.exhaustive
async def test_a_response_that_comes_while_it_is_held_ends_it(any_path: Bench, source: Source) -> None:
    any_path.s3.script("UploadPart", Status(503, "SlowDown", read_body=False))
    async with no_leaks(), transport_to(any_path) as transport:
        with pytest.raises(Fault) as caught:
            await put(any_path, transport, source, paused=True)
    assert caught.value.status == 503
    assert body_of(any_path).sent() == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("after", [0, MIB])
async def test_a_held_body_that_is_cancelled_leaves_nothing(any_path: Bench, source: Source, after: int) -> None:
    any_path.s3.script("UploadPart", Stall(after_bytes=after))
    async with no_leaks(), transport_to(any_path) as transport:
        sending = put(any_path, transport, source, paused=not after)
        await until(lambda: any_path.s3.stalled == 1)
        body_of(any_path).set_paused(paused=True)
        await written(body_of(any_path))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not any(transport._client.pool._kept.values()), "half a body was sent: the connection is of no use"
        before = body_of(any_path)._written
        body_of(any_path).set_paused(paused=False)
        assert await written(body_of(any_path)) == before < SIZE
        any_path.s3.release()
    assert 1 not in any_path.s3.uploads[any_path.upload_id].parts


@pytest.mark.exhaustive
async def test_a_held_body_takes_nothing_of_the_rate_limit(any_path: Bench, source: Source) -> None:
    now, is_amid = 0.0, asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 1 and not is_amid.is_set():  # here, or a busy machine sends the rest before the test looks
            body_of(any_path).set_paused(paused=True)
            is_amid.set()
        await asyncio.sleep(0)

    rate = 10 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=0))
    limiter = RateLimiter(rate, clock=lambda: now, sleep=sleep)
    async with no_leaks(), transport_to(any_path, limiter) as transport:
        sending = put(any_path, transport, source, paused=True)
        await until(lambda: any_path.s3.stalled == 1)
        assert await written(body_of(any_path)) == now == 0
        any_path.s3.release()
        body_of(any_path).set_paused(paused=False)
        await is_amid.wait()
        await until(lambda: bool(body_of(any_path)._released._waiters))  # what was allowed before is written
        before = await written(body_of(any_path))
        assert 0 < before < SIZE
        assert body_of(any_path).paused()
        held_at = now
        assert (await written(body_of(any_path)), now) == (before, held_at)
        body_of(any_path).set_paused(paused=False)
        await sending
    assert now == pytest.approx(SIZE / rate, abs=0.2)
    assert any_path.stored() == content(SIZE)

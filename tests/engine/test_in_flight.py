"""A part that flies twice, PUT by PUT: who wins, who is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bigupload.core.integrity import PartProof
from bigupload.core.part_plan import Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.context import TICK, SharedSlots
from bigupload.engine.in_flight import PartsInFlight
from bigupload.engine.retrying import Effects
from bigupload.ports import PutResponse, SignedRequest
from tests.tools.gauges import FakeGauge

from .fakes import fake_context

PART = Part(1, 0, 1000)
REQUEST = SignedRequest("https://store/part", {}, 3600)
Fate = PutResponse | Fault


class Put(FakeGauge):
    """One PUT that ends as the test says; `sent` moves, or it would count as standing still."""

    def __init__(self, fresh: bool) -> None:
        super().__init__(sent=1)
        self.fresh = fresh
        self.cancelled = False
        self._fate: Fate | None = None
        self._ends = anyio.Event()

    def end(self, fate: Fate) -> None:
        self._fate = fate
        self._ends.set()

    async def run(self) -> PutResponse:
        try:
            await self._ends.wait()
        except BaseException:
            self.cancelled = True
            raise
        if isinstance(self._fate, Fault):
            raise self._fate
        assert self._fate is not None
        return self._fate


class Sky:
    """A transport under the test's hand, and the time."""

    def __init__(self) -> None:
        self.puts: list[Put] = []
        self.reasons: list[str] = []
        """Why no more parts are sent twice."""
        self.now = 0.0
        self.source: Any = object()
        shared = SharedSlots(4)
        effects = Effects(clock=lambda: self.now, sleep=self.sleep)
        self.context = fake_context(
            self, Plan(100_000, 1000), shared, effects, source=self.source, stop_hedging=self.stop_hedging
        )
        self.flights = PartsInFlight(self.context)
        self.flights.proved(PartProof.CHECKSUM)
        for _ in range(4):
            self.flights.pace.arrived(0.1)

    def stop_hedging(self, reason: str) -> None:
        self.reasons.append(reason)
        self.context.hedging.turn_off()

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.now += seconds

    async def put(self, request: Any, source: Any, part: Any, *, on_start: Callable[[Any], None], fresh: bool) -> Any:
        put = Put(fresh)
        self.puts.append(put)
        on_start(put)
        return await put.run()

    async def twice(self) -> tuple[Put, Put]:
        """Wait for a first and a second PUT of the part."""
        while len(self.puts) < 2:
            await anyio.lowlevel.checkpoint()
        first, second = self.puts
        assert (first.fresh, second.fresh) == (False, True)
        return first, second

    async def fly(self, test: Callable[[Put, Put], None]) -> PutResponse:
        """The response to a part that is sent twice, of whose PUTs `test` makes what it likes."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.flights.watch, lambda: None)

            async def play() -> None:
                test(*await self.twice())

            tasks.start_soon(play)
            try:
                return await self.flights.put(self.source, PART, REQUEST)
            finally:
                tasks.cancel_scope.cancel()


FIRST, SECOND = PutResponse('"first"', {}), PutResponse('"second"', {})


@pytest.fixture
def sky() -> Sky:
    return Sky()


async def test_the_first_response_wins_whichever_it_is(sky: Sky) -> None:
    assert await sky.fly(lambda first, second: first.end(FIRST)) == FIRST
    assert sky.puts[1].cancelled
    other = Sky()
    assert await other.fly(lambda first, second: second.end(SECOND)) == SECOND
    assert other.puts[0].cancelled


async def test_a_first_that_breaks_waits_for_the_second(sky: Sky) -> None:
    def script(first: Put, second: Put) -> None:
        first.end(Fault(FaultKind.BROKEN, "reset"))
        second.end(SECOND)

    assert await sky.fly(script) == SECOND
    assert not sky.puts[1].cancelled


async def test_where_both_break_the_first_s_fault_counts(sky: Sky) -> None:
    def script(first: Put, second: Put) -> None:
        second.end(Fault(FaultKind.BUSY, "of the second"))
        first.end(Fault(FaultKind.BROKEN, "of the first"))

    with pytest.raises(ExceptionGroup) as found:
        await sky.fly(script)
    assert found.group_contains(Fault, match="of the first")


async def test_a_second_that_fails_leaves_the_first_to_its_fate(sky: Sky) -> None:
    """The first PUT stalls in the end; the second's fault is not reported."""

    def script(first: Put, second: Put) -> None:
        second.end(Fault(FaultKind.BUSY, "of the second"))

    with pytest.raises(ExceptionGroup) as found:
        await sky.fly(script)
    assert found.group_contains(Fault, match="stalled")
    assert sky.now >= RetryPolicy().stall_after


REFUSALS = [FaultKind.GONE, FaultKind.INVALID_PART, FaultKind.CONFLICT, FaultKind.CORRUPTED, FaultKind.FINAL]


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_first_that_is_refused_beside_a_second_makes_the_part_go_alone(sky: Sky, kind: FaultKind) -> None:
    """The second's response is of a part that the store did not stand: it is not waited for."""
    with pytest.raises(ExceptionGroup) as found:
        await sky.fly(lambda first, second: first.end(Fault(kind, "404 NoSuchUpload", status=404)))
    assert found.group_contains(Fault, match=r"refused while it was sent twice.*: it is sent alone")
    assert sky.puts[1].cancelled
    assert not sky.context.hedging.on
    assert sky.context.hedging.parts == {1}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_second_that_is_refused_is_the_last(sky: Sky, kind: FaultKind) -> None:
    def script(first: Put, second: Put) -> None:
        second.end(Fault(kind, "of the second"))
        first.end(FIRST)

    assert await sky.fly(script) == FIRST
    assert not sky.context.hedging.on
    assert sky.reasons == ["the store does not take part 1 twice at a time (of the second)"]


@pytest.mark.parametrize("kind", [FaultKind.BUSY, FaultKind.BROKEN, FaultKind.SERVER, FaultKind.REFUSED])
async def test_a_passing_fault_does_not_turn_hedging_off(sky: Sky, kind: FaultKind) -> None:
    def script(first: Put, second: Put) -> None:
        first.end(Fault(kind, "of the first"))
        second.end(SECOND)

    assert await sky.fly(script) == SECOND
    assert sky.context.hedging.on


async def test_a_part_is_not_sent_again_and_again(sky: Sky) -> None:
    """What fails at once costs no bytes: only the number bounds it."""
    failing = Fault(FaultKind.BUSY, "slow down")

    async def refuse(request: Any, source: Any, part: Any, *, on_start: Callable[[Any], None], fresh: bool) -> Any:
        put = Put(fresh)
        put.bytes = 0
        sky.puts.append(put)
        on_start(put)
        if fresh:
            raise failing
        return await put.run()

    sky.put = refuse
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sky.flights.watch, lambda: None)
        with pytest.raises(Fault, match="stalled"):
            await sky.flights.put(sky.source, PART, REQUEST)
        tasks.cancel_scope.cancel()
    assert [put.fresh for put in sky.puts] == [False, *[True] * 4]


async def test_a_second_that_lags_as_well_makes_way_for_a_third(sky: Sky) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sky.flights.watch, lambda: None)

        async def play() -> None:
            while len(sky.puts) < 3:
                await anyio.lowlevel.checkpoint()
            assert [put.cancelled for put in sky.puts] == [False, True, False]
            sky.puts[2].end(SECOND)

        tasks.start_soon(play)
        assert await sky.flights.put(sky.source, PART, REQUEST) == SECOND
        tasks.cancel_scope.cancel()
    assert [put.cancelled for put in sky.puts] == [True, True, False]


async def _second_that_lags(sky: Sky, *, first: int, second: int, breaks: bool = False) -> list[Put]:
    """What became of the PUTs when a lagging second had so many bytes out, of 1000, as the first had so many."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sky.flights.watch, lambda: None)

        async def play() -> None:
            puts = await sky.twice()
            puts[0].bytes, puts[1].bytes = first, second
            if breaks:
                puts[0].end(Fault(FaultKind.BROKEN, "reset"))
            since = sky.now
            while sky.now < since + 10:
                await anyio.lowlevel.checkpoint()
            sky.puts[-1].end(SECOND)

        tasks.start_soon(play)
        await sky.flights.put(sky.source, PART, REQUEST)
        tasks.cancel_scope.cancel()
    return sky.puts


async def test_a_second_that_is_ahead_is_left_alone(sky: Sky) -> None:
    assert len(await _second_that_lags(sky, first=50, second=600)) == 2
    assert len(await _second_that_lags(Sky(), first=50, second=40)) > 2


async def test_a_second_that_is_all_there_is_is_left_alone(sky: Sky) -> None:
    assert len(await _second_that_lags(sky, first=50, second=40, breaks=True)) == 2


async def test_a_second_is_left_alone_where_the_budget_has_no_other(sky: Sky) -> None:
    """A budget of one part, of which the second has sent some."""
    sky.context.manifest.plan = Plan(10_000, 1000)
    sky.flights = PartsInFlight(sky.context)
    sky.flights.proved(PartProof.CHECKSUM)
    for _ in range(4):
        sky.flights.pace.arrived(0.1)
    assert len(await _second_that_lags(sky, first=50, second=40)) == 2


async def test_what_was_sent_counts_for_both(sky: Sky) -> None:
    def script(first: Put, second: Put) -> None:
        first.bytes, second.bytes = 30, 1000
        second.end(SECOND)

    await sky.fly(script)
    assert sky.context.counts.bytes_sent == 1030
    assert sky.context.shared.puts == set()
    assert sky.flights.sent() == 0


_TELLING = [PartProof.CHECKSUM, PartProof.ETAG]


@pytest.mark.parametrize("proofs", [[], *([proof] for proof in PartProof), _TELLING, [PartProof.ETAG, PartProof.MD5]])
async def test_only_where_a_response_tells_whose_body_it_is_of(sky: Sky, proofs: list[PartProof]) -> None:
    """While nothing is proved yet, nobody knows: the store's first responses may all have told nothing."""
    sky.flights._proofs = set()
    for proof in proofs:
        sky.flights.proved(proof)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sky.flights.watch, lambda: None)
        tasks.start_soon(sky.flights.put, sky.source, PART, REQUEST)
        while sky.now < 10 and len(sky.puts) < 2:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len(sky.puts) == (2 if proofs and all(proof in _TELLING for proof in proofs) else 1)


async def test_reports_come_a_few_times_a_second(sky: Sky) -> None:
    reports: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sky.flights.watch, lambda: reports.append(sky.now))
        while sky.now < 30:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert 2 <= len(reports) / 30 <= 1 / TICK

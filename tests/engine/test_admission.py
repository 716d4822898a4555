"""How many parts an upload has in flight when the limit changes and no part ends, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from bigupload.core.checksums import Hashed
from bigupload.core.flight import FAR, MOST, START, START_LEAST, Flight
from bigupload.core.part_plan import MIB, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.core.upload_state import UploadState
from bigupload.engine.context import SharedSlots
from bigupload.engine.part_uploader import PartUploader
from bigupload.engine.retrying import Effects
from bigupload.ports import SignedRequest, UnsignedPart
from tests.tools.gauges import FakeGauge

from .fakes import fake_context

GB = 10**9
PLAN = Plan(300 * GB, GB)
RATE = 1e6
"""Bytes a second of each PUT: a part takes a quarter of an hour."""


class Put(FakeGauge):
    """A PUT that sends at its rate and does not end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(sent=0)
        self._clock = clock
        self._began = clock()

    def sent(self) -> int:
        return int((self._clock() - self._began) * RATE)


class Upload:
    """The engine's admission of parts, with a store and a transport that are the test's."""

    def __init__(self, concurrency: int | None = None, *, plan: Plan = PLAN, shared: SharedSlots | None = None) -> None:
        self.now = 0.0
        self.in_flight = self.hashed = 0
        self.each_tick: list[Callable[[], None]] = []
        self.shared = shared or SharedSlots(concurrency)
        effects = Effects(clock=lambda: self.now, sleep=self._sleep, random=lambda: 0.5)
        self.context = fake_context(self, plan, self.shared, effects, hedge=False)
        hasher: Any = SimpleNamespace(hash=self._hash, hangs_for=lambda _: None)
        self.sender = PartUploader(self.context, UploadState(plan), hasher)

    async def _sleep(self, seconds: float) -> None:
        await anyio.wait_all_tasks_blocked()
        self.now += seconds
        for call in self.each_tick:
            call()

    async def _hash(self, part: Part, *, md5: bool = False) -> Hashed:
        self.hashed += 1
        return Hashed("")

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        return [SignedRequest("https://store/part", {}, 86_400) for _ in parts]

    async def put(self, request: Any, source: Any, part: Part, *, on_start: Callable[[Any], None], fresh: bool) -> Any:
        on_start(self.new_put())
        self.in_flight += 1
        await anyio.sleep_forever()

    def new_put(self) -> Put:
        return Put(lambda: self.now)

    async def run_until(self, seconds: float) -> None:
        async with anyio.create_task_group() as tasks:

            def stop() -> None:
                if self.now >= seconds:
                    tasks.cancel_scope.cancel()

            self.each_tick.append(stop)
            await self.sender.run()


async def test_a_raised_limit_lets_parts_in_though_none_ends() -> None:
    upload = Upload(concurrency=4)
    seen: dict[float, int] = {}

    def tick() -> None:
        seen[round(upload.now, 1)] = upload.in_flight
        if upload.now > 1:
            upload.shared.flight = Flight(30)

    upload.each_tick.append(tick)
    await upload.run_until(3)
    assert seen[1.0] == 4
    assert seen[1.3] == 30, "within a tick after the one that raised it"


async def test_the_controller_measures_and_grows_though_no_part_ends() -> None:
    """A window in which fewer parts are in flight than may be says nothing: there must be as many."""
    shared = SharedSlots(None)
    upload = Upload(shared=shared)
    shared.flight.expect_parts(0.0, 1)
    shared.flight.stored(0.0, GB, began=0.0, accepted=0.0)
    short: list[float] = []

    def tick() -> None:
        if upload.in_flight < upload.shared.limit:
            short.append(upload.now)

    upload.each_tick.append(tick)
    await upload.run_until(60)
    assert upload.in_flight == MOST > START
    assert [at for at in short if at > 0.2] == []  # the first tick is before the first response


@pytest.mark.parametrize(("count", "begun"), [(25, 25), (31, 24)])
async def test_far_away_a_few_parts_more_begin_if_they_are_the_last(
    count: int, begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Put, "round_trip_times", lambda _: (FAR, FAR))
    upload = Upload(plan=Plan(count * 5 * MIB, 5 * MIB))
    await upload.run_until(0.2)
    assert upload.in_flight == begun


@pytest.mark.parametrize(("rate", "parts"), [(10**6, 1), (GB / 2, 4), (None, START_LEAST)])
async def test_a_rate_limit_says_how_many_parts_to_begin_with(rate: float | None, parts: int) -> None:
    upload = Upload(shared=SharedSlots(None, rate=lambda: rate))
    await upload.run_until(0.2)
    assert upload.in_flight == parts


@pytest.mark.parametrize("uploads", [2, 3])
async def test_a_raised_limit_wakes_every_upload_that_shares_it(uploads: int) -> None:
    shared = SharedSlots(1)
    events = [anyio.Event() for _ in range(uploads)]
    shared.waiting_for_room |= set(events)
    shared.flight = Flight(2)
    shared.adapt(1.0)
    assert all(event.is_set() for event in events)
    lower = anyio.Event()
    shared.waiting_for_room = {lower}
    shared.flight = Flight(1)
    shared.adapt(2.0)
    assert not lower.is_set()


def test_more_machines_have_more_room() -> None:
    shared, room = SharedSlots(None), anyio.Event()
    shared.waiting_for_room, of_one = {room}, shared.limit
    shared.spread(1)
    assert not room.is_set()
    shared.spread(3)
    assert shared.limit == shared.slots.total_tokens == 3 * of_one
    assert room.is_set()


@pytest.mark.parametrize(
    ("concurrency", "size", "hashed"),
    [
        (4, 16 * MIB, 8),  # four more than there are slots
        (4, 512 * MIB, 5),  # one part is as much as may be prepared
        (4, 256 * MIB, 6),
        (4, 256 * MIB + 1, 6),  # the second begins below the bound
        (1, 5 * GB, 2),
    ],
)
async def test_no_more_bytes_are_hashed_ahead_than_memory_keeps(concurrency: int, size: int, hashed: int) -> None:
    upload = Upload(concurrency, plan=Plan(100 * size, size))
    await upload.run_until(3)
    assert upload.in_flight == concurrency
    assert upload.hashed == hashed


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_uploads_share_what_may_be_hashed_ahead(concurrency: int) -> None:
    """An upload that has no part ready may prepare one: a small file does not wait for the parts of large ones."""
    plan = Plan(100 * 256 * MIB, 256 * MIB)
    first = Upload(concurrency, plan=plan)
    others = [Upload(plan=plan, shared=first.shared) for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for upload in others:
            tasks.start_soon(upload.sender.run)
        await first.run_until(3)
        ahead = [upload.hashed - upload.in_flight for upload in (first, *others)]
        tasks.cancel_scope.cancel()
    assert min(ahead) == 1
    assert sum(ahead) <= 2 + len(ahead)


async def test_a_part_that_is_cancelled_makes_room() -> None:
    upload = Upload(4, plan=Plan(100 * GB, GB))
    await upload.run_until(1)
    assert upload.shared.prepared == 0


@pytest.mark.parametrize(("kind", "is_noted"), [(FaultKind.BUSY, True), (FaultKind.SERVER, False)])
async def test_a_part_that_is_refused_with_slow_down_counts_against_the_limit(kind: FaultKind, is_noted: bool) -> None:
    upload = Upload()
    noted: list[float] = []

    async def refuse(*_: Any, **__: Any) -> Any:
        raise Fault(kind, "refused")

    upload.put, upload.shared.refused = refuse, noted.append  # type: ignore[method-assign]  # of this object
    with pytest.raises(ExceptionGroup):  # the store is unavailable, after a few attempts
        await upload.run_until(600)
    assert bool(noted) is is_noted

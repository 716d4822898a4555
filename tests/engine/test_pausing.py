"""Which parts are paused, so that the others are stored sooner, and what becomes of those that make no progress."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bigupload.core.flight import START, Sample
from bigupload.core.flight_trials import Bottleneck
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.core.stored_rate import LATE
from bigupload.engine.context import TICK, PutInFlight, SharedSlots
from bigupload.engine.in_flight import PartsInFlight
from bigupload.ports import SignedRequest
from tests.tools.cases import each_case
from tests.tools.gauges import FakeGauge

from .test_in_flight import FIRST, PART, REQUEST, Put, Sky

POLICY = RetryPolicy()


class Gauge(FakeGauge):
    """The gauge of a PUT, which notes whether it is paused."""

    def __init__(self, sent: int = 0, *, times: tuple[float, float] = (0.0, 0.0), window_is_full: bool = False) -> None:
        super().__init__(sent)
        self.held: list[bool] = []
        self.searches = 0
        self._times, self._window_is_full = times, window_is_full

    def round_trip_times(self) -> tuple[float, float]:
        return self._times

    def window_is_full(self) -> bool:
        return self._window_is_full

    def paused(self) -> bool:
        return bool(self.held) and self.held[-1]

    def set_paused(self, *, paused: bool) -> bool:
        self.held.append(paused)
        return paused

    def search_again(self) -> None:
        self.searches += 1


class Flight:
    """In place of `core.flight.Flight`, which has tests of its own: it answers what the test says."""

    doubles = False
    starts = False
    responses_are_late = False

    def __init__(self, limit: int = 8, writers: int = 8) -> None:
        self.limit = limit
        self.most_writers = writers
        self.samples: list[Sample] = []
        self.waiting: list[int] = []
        self.searched: list[tuple[int, bool]] = []
        self.sent_again_at: list[float] = []
        self.stored_parts = SimpleNamespace(accepted=-1.0, overdue=lambda *_, **seen: self.is_overdue(seen))
        self.overdue = False
        self.seen: dict[str, float] = {}

    def sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def writers(self, waiting: int) -> int:
        self.waiting.append(waiting)
        return self.most_writers

    def searches(self, writing: int, *, ending: bool) -> bool:
        self.searched.append((writing, ending))
        return ending

    def sent_again(self, now: float) -> None:
        self.sent_again_at.append(now)
        self.limit = 1

    def is_overdue(self, seen: dict[str, float]) -> bool:
        self.seen = seen
        return self.overdue


def put(
    began: float = 0.0,
    gauge: FakeGauge | None = None,
    *,
    size: int = 1000,
    subject: str | None = None,
    priority: int = 0,
) -> PutInFlight:
    source: Any = None  # never read
    request = SignedRequest("https://store/part", {}, 3600, subject=subject)
    made = PutInFlight(source, Part(1, 0, size), request, began, priority=priority)
    if gauge is not None:
        made.started(gauge)
    return made


def shared_with(flight: Any, *parts: PutInFlight) -> SharedSlots:
    shared = SharedSlots(None)
    if flight is not None:
        shared.flight = flight
    shared.first_puts |= set(parts)
    shared.puts |= set(parts)
    return shared


@contextlib.asynccontextmanager
async def slots(shared: SharedSlots, count: int) -> Any:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(shared.slots.queue(lambda: 1))
        yield


@each_case(("priority", "enters"), [(1, True), (0, False)])
async def test_a_held_part_gives_its_slot_to_an_upload_of_higher_priority(priority: int, enters: bool) -> None:
    shared = shared_with(Flight(limit=1, writers=0), put(0.0, Gauge()))
    shared.adapt(1.0)
    entered = False

    async def enter() -> None:
        nonlocal entered
        async with shared.slots.queue(lambda: 1, priority):
            entered = True

    async with slots(shared, 1), anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        shared.adapt(2.0)
        await anyio.wait_all_tasks_blocked()
        assert entered is enters
        tasks.cancel_scope.cancel()


# -- which parts are paused


async def test_the_time_in_which_a_part_was_held_makes_it_no_straggler() -> None:
    sky = Sky()
    held = put(0.0, Gauge(10), size=PART.size)  # a little is sent, so that the connection stays
    held.set_paused(paused=True)
    for second in range(1, 60):
        held.update(float(second))
    held.set_paused(paused=False)
    assert held.took(59.0) == 0
    assert held.progress(59.1).seconds == pytest.approx(0.1)
    assert sky.flights.pace.lagging([held.progress(59.1)], at_the_end=True) == []
    assert sky.flights.pace.lagging([held.progress(69.0)], at_the_end=True) == [0]


async def test_a_crowd_of_uploads_looks_once_a_tick() -> None:
    flight = Flight(writers=4)
    shared = shared_with(flight, *(put(float(number)) for number in range(4)))
    for each in range(100):
        shared.adapt(10.0 + each * TICK / 100)
    assert len(flight.samples) == 2
    shared.adapt(5.0)  # another clock
    assert len(flight.samples) == 3


async def test_the_newest_parts_are_held_and_the_oldest_are_released_first() -> None:
    flight = Flight(writers=4)
    parts = [put(began, Gauge()) for began in (3.0, 1.0, 4.0, 2.0)]
    shared = shared_with(flight, *parts)
    held = []
    for second, flight.most_writers in enumerate((4, 2, 1, 0, 1, 3, 9)):
        shared.adapt(10.0 + second)
        held.append("".join("-" if part.is_paused else "w" for part in sorted(parts, key=lambda part: part.began)))
    assert held == ["wwww", "ww--", "w---", "----", "w---", "www-", "wwww"]
    gauge: Any = sorted(parts, key=lambda part: part.began)[1].gauge
    assert gauge.held == [False, True, False], "only what changes is said"


async def test_the_parts_that_write_search_for_what_others_have_left() -> None:
    """Not one that is held, nor one whose bytes have all been sent, nor while no slot is free."""
    flight = Flight(limit=5, writers=3)
    gauges = [Gauge(sent) for sent in (1, 1000, 1, 1)]
    shared = shared_with(flight, put(0.5), *(put(float(began), gauge) for began, gauge in enumerate(gauges, 1)))
    async with slots(shared, START):
        shared.adapt(10.0)
    assert [gauge.searches for gauge in gauges] == [0, 0, 0, 0]
    shared.adapt(11.0)
    assert [gauge.searches for gauge in gauges] == [1, 0, 1, 0]
    assert flight.searched == [(3, False), (3, True)]


async def test_while_a_connection_is_silent_another_part_writes() -> None:
    flight = Flight(writers=1)
    parts = [put(float(number), Gauge(1)) for number in range(4)]
    shared = shared_with(flight, *parts)
    held = {}
    for second in (0.0, 1.0, 1.5, 2.0, 4.0):
        if second == 2:
            gauge: Any = parts[0].gauge
            gauge.bytes = 2
        shared.adapt(10.0 + second)
        held[second] = "".join("-" if part.is_paused else "w" for part in parts)
    assert held == {0.0: "w---", 1.0: "w---", 1.5: "ww--", 2.0: "w---", 4.0: "ww--"}


@each_case("why", ["its window is full", "responses are late"])
async def test_a_silence_that_the_peer_wants_lets_no_other_part_write(why: str) -> None:
    flight = Flight(writers=1)
    flight.responses_are_late = why == "responses are late"
    parts = [put(1.0, Gauge(1, window_is_full=why == "its window is full")), put(2.0, Gauge())]
    shared = shared_with(flight, *parts)
    for second in range(9):
        shared.adapt(10.0 + second)
    assert [part.is_paused for part in parts] == [False, True]


async def test_those_of_an_upload_with_priority_write_before_all_others() -> None:
    parts = [put(1.0, Gauge()), put(2.0, Gauge(), priority=1), put(3.0, Gauge(), priority=-1)]
    shared_with(Flight(writers=1), *parts).adapt(10.0)
    assert [part.is_paused for part in parts] == [True, False, True]


async def test_a_whole_body_is_not_held_and_takes_no_writer() -> None:
    flight = Flight(writers=1)
    parts = [put(1.0, Gauge(1000)), put(2.0, Gauge(400)), put(3.0, Gauge(5))]
    shared_with(flight, *parts).adapt(10.0)
    assert [part.is_paused for part in parts] == [False, False, True]
    assert flight.waiting == [1]


async def test_a_part_that_is_held_before_it_has_a_connection_begins_held() -> None:
    part = put()
    shared = shared_with(Flight(writers=0), part)
    shared.adapt(1.0)
    assert part.is_paused
    assert not part.gauge.paused()
    gauge = Gauge()
    part.started(gauge)
    assert gauge.held == [True]
    assert part.gauge.paused()


# -- what `Flight` is shown


async def test_a_sample_shows_what_is_in_flight() -> None:
    flight = Flight(writers=2)
    flight.starts = True
    parts = [
        put(1.0, Gauge(1000)), put(2.0, Gauge(400, times=(0.02, 0.05))), put(3.0, Gauge(600, times=(0.03, 0.03))),
        put(4.0, size=3000),
    ]  # fmt: skip
    shared = shared_with(flight, *parts)
    parts[0].wrote_from = 9.0  # it was held until then
    beside = Gauge(7)  # a second PUT of a part
    shared.puts.add(beside)
    shared.bytes_sent = 100
    async with slots(shared, 4):
        shared.adapt(10.0)
        flight.starts = False
        shared.adapt(12.5)
    first, second = flight.samples
    assert first == Sample(
        now=10.0, acknowledged=2107, writing=4, part_size=1500, is_late=False, left=0, round_trip=0.02
    )
    assert second.writing == 4 - 1, "one is held"
    assert second.round_trip == 0, "nobody needs to know it: it costs system calls"
    assert second.is_late
    assert shared.backlog == 1000
    flight.stored_parts.accepted = 11.0
    shared.adapt(14.0)
    assert not flight.samples[-1].is_late, "a body that others overtook may have lost its response"


async def test_the_part_that_ends_first_is_left_to_write() -> None:
    flight = Flight()
    shared_with(flight, put(1.0, Gauge(100)), put(2.0, Gauge(990))).adapt(1.0)
    assert flight.samples[0].left == 10
    nothing = Flight()
    shared_with(nothing).adapt(1.0)
    assert nothing.samples[0] == Sample(now=1.0, acknowledged=0, writing=0)


@each_case(
    ("times", "window_is_full", "found"),
    [
        ((0.03, 0.03), False, Bottleneck.UNKNOWN),
        ((0.03, 0.03), True, Bottleneck.STORE),
        ((0.03, 0.09), False, Bottleneck.LINK),
    ],
)
@each_case("doubles", [False, True])
async def test_what_holds_the_connections_back_is_asked_for_while_it_matters(
    times: tuple[float, float], window_is_full: bool, found: Bottleneck, doubles: bool
) -> None:
    flight = Flight()
    flight.doubles = doubles
    shared_with(flight, put(0.0, Gauge(times=times, window_is_full=window_is_full))).adapt(1.0)
    assert flight.samples[0].bottleneck is (found if doubles else Bottleneck.UNKNOWN)


# -- slots


async def test_the_end_of_the_only_part_makes_room_for_one_part_alone() -> None:
    sky = Sky()
    shared = sky.context.shared = shared_with(Flight(limit=1))
    sky.context.slots = shared.slots.queue(lambda: 1)
    sky.context.shared.flight.began = sky.context.shared.flight.stored = lambda *_, **more: None
    shared.adapt(0.0)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(sky.flights.put, sky.source, PART, REQUEST)
        flying = []
        for number in range(3):
            while len(sky.puts) <= number:
                await anyio.lowlevel.checkpoint()
            sky.puts[number].bytes = PART.size
            sky.puts[number].end(FIRST)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            flying.append(shared.slots.borrowed_tokens)
    assert flying == [1, 1, 0]


# -- when a body was accepted


@pytest.mark.parametrize("looked", [False, True])
async def test_a_part_is_stored_so_long_after_it_was_accepted(looked: bool) -> None:
    sky = Sky()
    seen: list[tuple[float, int, float, float]] = []
    shared = SharedSlots(4)
    shared.flight.stored = (  # type: ignore[method-assign]  # of this object
        lambda now, size, *, began, accepted, wrote_for: seen.append((now, size, began, accepted))
    )
    sky.context.shared = shared
    sky.flights = PartsInFlight(sky.context)
    async with anyio.create_task_group() as tasks:

        async def play() -> None:
            while not sky.puts:
                await anyio.lowlevel.checkpoint()
            sky.puts[0].bytes = PART.size
            sky.now = 3.0
            if looked:
                shared.adapt(sky.now)
            sky.now = 8.0
            sky.puts[0].end(FIRST)

        tasks.start_soon(play)
        await sky.flights.put(sky.source, PART, REQUEST)
    assert seen == [(8.0, PART.size, 0.0, 3.0 if looked else 8.0)]


# -- what makes no progress


async def test_a_body_that_goes_on_or_is_held_does_not_stall() -> None:
    gauge = Gauge(0)
    part, shared = put(0.0, gauge), shared_with(Flight())
    for now in range(0, 200, 25):
        gauge.bytes += 1
        part.cancel_if_stalled(now, POLICY, shared)
    part.set_paused(paused=True)
    for now in range(200, 400, 25):
        part.cancel_if_stalled(now, POLICY, shared)
    part.set_paused(paused=False)
    part.cancel_if_stalled(400.0, POLICY, shared)
    assert not part.scope.cancel_called
    part.cancel_if_stalled(375 + POLICY.stall_after + 1, POLICY, shared)
    assert part.scope.cancel_called


@pytest.mark.parametrize("subject", [None, "directory/file"])
async def test_a_whole_body_is_sent_again_when_its_response_is_overdue(subject: str | None) -> None:
    flight = Flight()
    part = put(0.0, Gauge(1000), subject=subject)
    shared = shared_with(flight, part)
    part.cancel_if_stalled(1.0, POLICY, shared)
    part.cancel_if_stalled(1000.0, POLICY, shared)
    assert not part.scope.cancel_called
    assert flight.seen == {"timeout": POLICY.response_timeout, "backlog": 1000}
    shared.backlog = 5000
    flight.overdue = True
    part.cancel_if_stalled(1001.0, POLICY, shared)
    assert flight.seen["backlog"] == 5000
    assert part.scope.cancel_called
    assert flight.sent_again_at == [1001.0]
    assert shared.slots.total_tokens == 1, "the limit falls"
    fault = part.stalled(1001.0)
    assert fault.kind is FaultKind.STALLED
    assert str(fault) == f"no response to {subject or 'part 1'}, 16:40 min after all of it was sent"


@pytest.mark.parametrize("whole", [False, True])
async def test_a_part_that_stalled_fails_with_that(whole: bool) -> None:
    sky = Sky()
    sky.context.hedging.turn_off()
    async with anyio.create_task_group() as tasks:

        async def play() -> None:
            while not sky.puts:
                await anyio.lowlevel.checkpoint()
            sky.puts[0].bytes = PART.size if whole else 10

        tasks.start_soon(sky.flights.watch, lambda: None)
        tasks.start_soon(play)
        with pytest.raises(Fault, match="no response to part 1, 5:" if whole else "^part 1 stalled$"):
            await sky.flights.put(sky.source, PART, REQUEST)
        tasks.cancel_scope.cancel()
    assert sky.puts[0].cancelled
    assert sky.now > LATE


async def test_a_part_that_is_held_is_not_sent_twice_and_does_not_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    monkeypatch.setattr(Put, "set_paused", lambda self, *, paused: held_now(paused) or paused)
    monkeypatch.setattr(Put, "paused", lambda self: held[-1])
    held_now = held.append
    sky = Sky()
    sky.context.shared.flight.writers = lambda waiting: 0
    async with anyio.create_task_group() as tasks:

        async def play() -> None:
            while sky.now < 2 * POLICY.stall_after:
                await anyio.lowlevel.checkpoint()
            sky.puts[0].end(FIRST)

        tasks.start_soon(sky.flights.watch, lambda: None)
        tasks.start_soon(play)
        assert await sky.flights.put(sky.source, PART, REQUEST) == FIRST
        tasks.cancel_scope.cancel()
    assert held == [False, True]
    assert len(sky.puts) == 1

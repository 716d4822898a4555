"""A model of uploads over many kinds of paths in virtual time, to test `core.flight`.

Time moves in ticks of 0.1 s, as in the engine. The model computes rates, not packets. Its rules:

- A connection begins with ten packets a round trip and doubles each round trip (RFC 6928, RFC 5681).
- Reno halves its window if a packet is lost or the link's queue is full, and gains one packet a round trip. An old
  connection carries 1448 / rtt × √(1.5 / loss) bytes a second (Mathis, "The macroscopic behavior of the TCP congestion
  avoidance algorithm").
- BBR sends a quarter more than was delivered, ignores losses, and shares a link evenly.
- Linux allows one connection 4 MiB of unacknowledged data (`tcp_wmem`), 2.6 MB of them payload: see `benchmarks.path`.
- Each part costs a round trip and the store's own time, in which its connection is idle. A new connection costs another
  round trip before its first byte.
- A refusal (503) comes after a round trip. The part waits as `RetryPolicy` says, without a slot.
- If connections turn out to be slow before a part is stored, the upload begins anew in smaller parts, as in the engine:
  after three round trips, with new connections.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from functools import partial

from bigupload.core.flight import Flight, Sample
from bigupload.core.flight_trials import Bottleneck
from bigupload.core.part_plan import START_OVER_WITHIN, Plan, plan_parts, plan_small_parts
from bigupload.core.retry_policy import RetryPolicy
from bigupload.core.stored_rate import Filling, is_late

TICK = 0.1
"""Seconds between two samples."""
PACKET = 1448
"""Bytes of payload."""
UNACKNOWLEDGED = 2.6e6
"""Bytes that one connection may have in flight."""
STORE_TIME = 0.02
"""Seconds between the end of one part and the request for the next on the same connection."""
AHEAD = 16
"""How many parts are hashed and signed ahead of those with a slot, at most."""
CROWDING_TAKES = 2.0
"""Seconds until too many connections slow the path down."""
QUEUE_TAKES = 4.0
"""Round trips until the queue in front of a full link makes the round trip twice as long."""
ANEW_TAKES = 3
"""Round trips to abort an upload and to begin another one."""
FOREVER = 1800.0
"""The time limit of an upload, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A path, and the store at its end."""

    name: str
    rate: float
    """The link's rate in bytes a second, shared by all connections."""
    rtt: float
    """Seconds."""
    size: float
    """The upload's size in bytes."""
    loss: float = 0.0
    """The share of packets that are lost at random."""
    reno: bool = False
    """Whether the congestion control is Reno; otherwise BBR."""
    each: float = math.inf
    """The most that the store accepts from one connection, in bytes a second."""
    accepts: int = 10**6
    """The most PUTs in flight. The store refuses more."""
    relents: tuple[float, int] | None = None
    """(second, limit): from that second on, the store accepts that many PUTs."""
    hiccups: float = 0.0
    """The share of PUTs that are refused at random."""
    noise: float = 0.05
    """Standard deviation of goodput from tick to tick, as a share."""
    crowded: float = math.inf
    """With more connections than this, the link or the store becomes slower."""
    crowding: float = 0.5
    """How much slower: goodput × (crowded / connections) to this power."""
    bursts: tuple[float, ...] = ()
    """The store's disk accepts these shares of its rate, each for 0.4 s, drawn at random."""
    becomes: tuple[float, float, float] | None = None
    """(from, factor, until): between these seconds the link's rate is multiplied."""
    by_store: bool = False
    """Whether it is the store that is full, not the link: then no packets wait in front of the link."""
    passes_on: float = math.inf
    """What stands in front of the store takes bodies at the link's rate, and passes them on at this rate, in bytes a
    second, for all connections together."""
    responds: float = 0.0
    """Seconds that the store needs for each response, beyond a round trip."""
    takes: float = math.inf
    """How many bytes of each body it takes before it passes them on: the buffer of a peer that reads slowly."""
    one_by_one: bool = False
    """Whether it passes on one body at a time, the first one first; otherwise all of them together."""


@dataclass(slots=True)
class _Connection:
    """A connection, which sends one PUT after another."""

    pace: float
    """The rate that the congestion window allows, in bytes a second."""
    left: float = 0.0
    """The bytes of the part that are not sent yet."""
    waits: float = 0.0
    """The second before which nothing is sent and no response read."""
    refused: bool = False
    attempt: int = 1
    slow_start: bool = True
    held: bool = False
    """Whether it is paused."""
    behind: float = 0.0
    """Bytes that were accepted and not passed on yet."""
    started: float = 0.0
    wrote_from: float = 0.0
    filling: Filling = field(default_factory=lambda: Filling(0.0))
    is_full: bool = False
    """Whether the store's window was full."""
    accepted: float = math.inf
    """The second in which its last byte was accepted."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a simulated upload."""

    seconds: float
    parts_in_flight: float
    """On average."""
    refused: float
    """Share of the PUTs."""
    limits: list[int] = field(repr=False)
    """At each tick."""
    at_risk: list[float] = field(repr=False)
    """At each tick since the first response: bytes that were accepted and are not stored. Before it: 0."""
    begun: float
    """Bytes that were accepted when the first response came."""
    part_size: float
    began_anew: float | None = None
    """The share of the file that was sent before the upload began anew, in smaller parts; None: it did not."""


class Upload:
    """A simulated upload. `wakes=False`: a raised limit takes effect only when a part ends."""

    def __init__(self, way: Way, flight: Flight, *, seed: int, wakes: bool = True) -> None:
        self._way, self._flight, self._wakes = way, flight, wakes
        self._chance = random.Random(seed)
        self._begun_at = 0.0
        self._started_over: float | None = None
        self._begin_upload(0.0, plan_parts(int(way.size)))
        self._sent = 0.0
        self._filled = 0
        self._refused = self._puts = 0
        self._wander = 0.0
        self._burst = self._uncrowded = 1.0
        self._queue = 0.0
        """How long a packet waits in front of the link, in round trips."""
        self._window_is_full = False
        """Whether the store holds most connections back."""

    def _begin_upload(self, now: float, plan: Plan) -> None:
        self._begun_at = now
        self._part_size = float(plan.part_size)
        self._flight.expect_parts(now, plan.part_size, count=plan.count)
        self._to_do = self._unfinished = plan.count
        self._ready: list[int] = []
        """For each part that waits for a slot: its attempt."""
        self._later: list[tuple[float, int]] = []
        """For each refused part: when it may be retried, and its attempt."""
        self._flying: list[_Connection] = []
        """The oldest part first."""

    def _start_over(self, now: float) -> None:
        """As `PartUploader` does: begin with smaller parts, if the connections are slow."""
        way, flight = self._way, self._flight
        if self._started_over is not None or flight.stored_parts.parts or self._sent > START_OVER_WITHIN * way.size:
            return
        if flight.is_slow_for(int(self._part_size)):
            plan = plan_small_parts(int(way.size), flight.part_in_time)
            if plan is not None:
                self._started_over = self._sent / way.size
                self._begin_upload(now + ANEW_TAKES * way.rtt, plan)

    def run(self) -> Outcome:
        """Simulate until every part has arrived."""
        tick, flying, limits, at_risk = 0, 0, [], []
        begun, woken = 0.0, True
        while self._unfinished and tick * TICK < FOREVER:
            now = tick * TICK
            if now >= self._begun_at:
                self._admit(now, woken=woken or self._wakes)
            woken = self._move_all(now, self._available(tick))
            tick += 1
            self._sample(tick * TICK)
            self._start_over(tick * TICK)
            limits.append(self._flight.limit)
            sent = [self._part_size - each.left for each in self._flying if not each.refused]
            stored = self._flight.stored_parts.parts
            at_risk.append(sum(sent) if stored else 0.0)
            begun = begun if stored else sum(sent)
            flying += sum(not each.held for each in self._flying)
        return Outcome(
            seconds=tick * TICK,
            parts_in_flight=flying / tick,
            refused=self._refused / self._puts,
            limits=limits,
            at_risk=at_risk,
            begun=begun,
            part_size=self._part_size,
            began_anew=self._started_over,
        )

    def _sample(self, now: float) -> None:
        """As `SharedSlots.adapt` does: take a sample, and pause the newest parts that are too many."""
        way = self._way
        flying = [each for each in self._flying if not each.refused]
        waiting = [each for each in flying if each.accepted < now]
        for each in flying:
            each.wrote_from += TICK if each.held else 0.0  # the time in which it was held does not count
        path = (way.rtt, way.rtt * (1 + self._queue), self._window_is_full)
        if math.isfinite(way.takes):
            path = (way.rtt, way.rtt, 2 * sum(map(self._is_full, flying)) > len(flying))
        for each in flying:
            each.is_full = each.is_full or self._is_full(each)
            sent = int(self._part_size - each.left)
            self._filled += each.filling.update(now, sent, partial(self._is_full, each), paused=each.held)
        self._flight.sample(
            Sample(
                now=now,
                acknowledged=int(self._sent) - self._filled,
                writing=sum(not each.held for each in self._flying),
                part_size=self._part_size,
                is_late=any(is_late(now - each.accepted, each.accepted - each.wrote_from) for each in waiting),
                left=min((each.left for each in flying), default=math.inf),
                buffered=sum(each.filling.bytes for each in flying),
                round_trip=way.rtt if self._flying else 0.0,
                bottleneck=Bottleneck.of([path]),
            )
        )
        writing = sorted((each for each in flying if each.left), key=lambda each: each.started)
        writers = self._flight.writers(len(waiting))
        for place, each in enumerate(writing):
            each.slow_start = each.slow_start or (each.held and place < writers)
            each.held = place >= writers

    def _is_full(self, each: _Connection) -> bool:
        """Whether the store's window is full."""
        return each.behind >= 0.9 * self._way.takes if math.isfinite(self._way.takes) else self._window_is_full

    def _available(self, tick: int) -> float:
        """Return the rate that the link and the store accept in this tick, in bytes a second."""
        way, now = self._way, tick * TICK
        changed = way.becomes is not None and way.becomes[0] <= now < way.becomes[2]
        rate = way.rate * (way.becomes[1] if way.becomes is not None and changed else 1.0)
        self._wander = 0.5 * self._wander + self._chance.gauss(0, way.noise)
        if way.bursts and tick % 4 == 0:
            self._burst = self._chance.choice(way.bursts)
        uncrowded = min(1.0, way.crowded / max(1, len(self._flying))) ** way.crowding
        self._uncrowded += (uncrowded - self._uncrowded) * TICK / CROWDING_TAKES
        return rate * math.exp(self._wander) * self._burst * self._uncrowded

    # -- parts and slots

    def _admit(self, now: float, *, woken: bool) -> None:
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[1])
        self._fill_slots(now)
        if woken:
            self._prepare(len(self._flying))
            self._fill_slots(now)

    def _prepare(self, flying: int) -> None:
        room = (
            self._flight.limit + max(4, min(AHEAD, self._flight.limit)) - flying - len(self._ready) - len(self._later)
        )
        count = max(0, min(self._to_do, room))
        self._ready.extend([1] * count)
        self._to_do -= count

    def _fill_slots(self, now: float) -> None:
        while self._ready and len(self._flying) < self._flight.limit:
            connection = _Connection(10 * PACKET / self._way.rtt)
            self._begin(connection, now + self._way.rtt)
            self._flying.append(connection)

    def _begin(self, connection: _Connection, now: float) -> None:
        """Start the next part's PUT on this connection."""
        way = self._way
        accepts = way.relents[1] if way.relents is not None and now >= way.relents[0] else way.accepts
        others = sum(not each.refused for each in self._flying if each is not connection)
        connection.refused = others >= accepts or self._chance.random() < way.hiccups
        connection.attempt = self._ready.pop()
        connection.left = self._part_size
        connection.behind, connection.accepted = 0.0, math.inf
        connection.started = connection.wrote_from = now
        connection.waits = now + way.rtt if connection.refused else now
        connection.held = False
        connection.filling = Filling(now, was_full=connection.is_full)
        self._puts += 1
        self._flight.began()

    def _end(self, connection: _Connection, now: float) -> None:
        """Handle the store's response: give the slot to the next part, if there is one and the limit allows it."""
        if connection.refused:
            self._refused += 1
            again = now + RetryPolicy().delay(connection.attempt, self._chance.random)
            heapq.heappush(self._later, (again, connection.attempt + 1))
            self._flight.refused(now)
        else:
            self._unfinished -= 1
            size = int(self._part_size)
            accepted = connection.accepted
            wrote_for = accepted - connection.wrote_from
            self._flight.stored(now, size, began=connection.started, accepted=accepted, wrote_for=wrote_for)
        self._prepare(len(self._flying) - 1)
        if self._ready and len(self._flying) <= self._flight.limit:
            self._begin(connection, now + STORE_TIME)
        else:
            self._flying.remove(connection)
            connection.waits = math.inf

    # -- bytes

    def _move_all(self, now: float, available: float) -> bool:
        """Advance every connection by a tick. Returns whether a part has ended."""
        way, ended = self._way, False
        most = min(way.each, UNACKNOWLEDGED / way.rtt)
        wants = [self._wanted(c, most) for c in self._flying if self._sends(c) and c.waits < now + TICK]
        wanted = sum(wants)
        scarce = wanted > available
        level = _fair(wants, available) if scarce else math.inf
        share = available / wanted if scarce else 1.0
        self._window_is_full = way.by_store if scarce else 2 * wants.count(way.each) > len(wants)
        if not way.by_store:
            self._queue += (scarce - self._queue) * min(1.0, TICK / way.rtt / QUEUE_TAKES)
        for each in list(self._flying):
            want = self._wanted(each, most)
            rate = want * share if way.reno else min(want, level)
            before = each.left
            ended = self._move(each, now, rate) or ended
            if each.left != before and way.reno:
                self._reno(each, rate, most, queue_is_full=wanted > 2 * available)
            elif each.left != before:
                self._bbr(each, rate, most, bound=rate >= level)
        if math.isfinite(way.passes_on):
            self._pass_on(now)
        return ended

    def _sends(self, each: _Connection) -> bool:
        return bool(each.left) and not each.refused and not each.held

    def _wanted(self, each: _Connection, most: float) -> float:
        room = math.inf if math.isinf(self._way.takes) else max(1.0, self._way.takes - each.behind) / TICK
        return min(each.pace, most, room)

    def _pass_on(self, now: float) -> None:
        """Let what stands in front of the store pass on what it has, in shares, or one body after another."""
        way, rate = self._way, self._way.passes_on * TICK
        behind = [each for each in self._flying if each.behind > 0 and (not each.left or math.isfinite(way.takes))]
        if way.one_by_one:
            behind = sorted(behind, key=lambda each: each.accepted)
        while behind and rate > 1e-6:
            each = behind.pop(0)
            count = min(each.behind, rate if way.one_by_one else rate / (len(behind) + 1))
            each.behind -= count
            rate -= count
            if each.behind < 1 and not each.left:
                each.behind, each.waits = 0.0, now + TICK + way.rtt

    def _move(self, each: _Connection, now: float, rate: float) -> bool:
        """Send, wait for the response and start the next part until the tick ends. Returns whether a part has ended."""
        end, ended = now + TICK, False
        while True:
            now = max(now, each.waits)
            if now >= end or (each.held and each.left and not each.refused):
                return ended
            if each.refused or not each.left:
                ended = True
                self._end(each, now)
                continue
            count = min(each.left, rate * (end - now))
            each.left -= count
            self._sent += count
            if math.isfinite(self._way.passes_on):
                each.behind += count
            if each.left >= 1:
                return ended
            each.left = 0.0
            each.accepted = now + count / rate
            each.waits = math.inf if each.behind else each.accepted + self._way.rtt + self._way.responds

    def _doubled(self, each: _Connection, most: float) -> float:
        return min(each.pace * math.exp2(min(TICK / self._way.rtt, 30)), 4 * most, 4 * self._way.rate)

    def _bbr(self, each: _Connection, rate: float, most: float, *, bound: bool) -> None:
        """`bound`: the link limited the rate, not the connection."""
        if each.slow_start:
            each.pace = self._doubled(each, most)
        if bound:
            each.slow_start = False
            each.pace = max(1.25 * rate, 4 * PACKET / self._way.rtt)
        elif not each.slow_start:
            each.pace *= 1.25 ** (TICK / self._way.rtt / 8)
        each.pace = min(each.pace, most)

    def _reno(self, each: _Connection, rate: float, most: float, *, queue_is_full: bool) -> None:
        way = self._way
        trips = TICK / way.rtt
        if each.slow_start:
            each.pace = self._doubled(each, most)
        else:
            each.pace += PACKET / way.rtt * trips
        losses = rate * TICK / PACKET * way.loss
        if losses > 1 and not each.slow_start:  # too many to apply one by one: apply their average
            each.pace = min(each.pace, PACKET / way.rtt * math.sqrt(1.5 / way.loss))
            losses = 0.0
        if self._chance.random() < min(losses, trips) or (queue_is_full and self._chance.random() < 0.5):
            each.slow_start = False
            each.pace = max(each.pace / 2, 2 * PACKET / way.rtt)
        each.pace = min(each.pace, 2 * most)


def _fair(wants: list[float], available: float) -> float:
    """Return the fair rate: no connection exceeds it, and connections that need less get all that they need."""
    level = available / len(wants)
    for _ in range(4):
        modest = [want for want in wants if want < level]
        level = (available - sum(modest)) / max(1, len(wants) - len(modest))
    return level

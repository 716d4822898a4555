"""A model of uploads over paths of many kinds, in virtual time, for the concurrency control to be tried on.

Time moves in ticks of 0.1 s, as the engine's does. The model knows rates, not packets. What it has of real paths:

- A connection begins with ten packets a round trip and doubles each round trip (RFC 6928, RFC 5681).
- Reno halves where a packet is lost or the link's queue is full, and gains one packet a round trip. An old connection
  carries 1448 / rtt × √(1.5 / loss) bytes a second (Mathis, "The macroscopic behavior of the TCP congestion avoidance
  algorithm").
- BBR keeps a quarter more than what was delivered, does not heed losses, and shares a link evenly.
- Linux lets one connection have 4 MiB unacknowledged (`tcp_wmem`), 2.6 MB of them payload: see `benchmarks.path`.
- Each part costs a round trip and the store's own time in which its connection carries nothing. A new connection costs
  another one before its first byte.
- A refusal (503) comes after a round trip. The part waits as `RetryPolicy` says, and holds no slot meanwhile.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from bigupload.core.concurrency_control import ConcurrencyControl
from bigupload.core.part_plan import plan_parts
from bigupload.core.retry_policy import RetryPolicy

TICK = 0.1
"""Seconds between two samples."""
PACKET = 1448
"""Bytes of payload."""
UNACKNOWLEDGED = 2.6e6
"""Bytes that one connection may have in flight."""
STORE_TIME = 0.02
"""Seconds between the end of one part and the request for the next on the same connection."""
AHEAD = 4
"""Parts that are hashed and signed beyond those that have a slot."""
CROWDING_TAKES = 2.0
"""Seconds until a crowd has its effect."""
FOREVER = 1800.0
"""Seconds after which an upload has not succeeded."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A path, and the store at its end."""

    name: str
    rate: float
    """Bytes a second of the link, shared by all connections."""
    rtt: float
    """Seconds."""
    size: float
    """Bytes of the upload."""
    loss: float = 0.0
    """Share of packets lost at random."""
    reno: bool = False
    """Else BBR."""
    each: float = math.inf
    """Bytes a second that the store takes from one connection."""
    accepts: int = 10**6
    """PUTs in flight. Those beyond are refused."""
    relents: tuple[float, int] | None = None
    """From that second on, so many are accepted."""
    hiccups: float = 0.0
    """Share of PUTs that are refused however few there are."""
    noise: float = 0.05
    """Standard deviation of goodput from tick to tick, as a share."""
    crowded: float = math.inf
    """Connections beyond which link or store become slower."""
    crowding: float = 0.5
    """How much: goodput × (crowded / connections) to this power."""
    bursts: tuple[float, ...] = ()
    """Shares of its rate that the store's disk takes, each for 0.4 s, drawn at random."""
    becomes: tuple[float, float] | None = None
    """At that second the link's rate is multiplied."""


@dataclass(slots=True)
class _Connection:
    """One PUT after another."""

    pace: float
    """Bytes a second that the congestion window allows."""
    left: float = 0.0
    """Bytes of the part still to be sent."""
    waits: float = 0.0
    """Nothing is sent, and no response read, before that second."""
    refused: bool = False
    attempt: int = 1
    slow_start: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one simulated upload came to."""

    seconds: float
    parts_in_flight: float
    """On average."""
    refused: float
    """Share of the PUTs."""
    limits: list[int] = field(repr=False)
    """At each tick."""


class Upload:
    """One upload. `wakes=False`: a raised limit lets nobody in until a part has ended."""

    def __init__(self, way: Way, control: ConcurrencyControl, *, seed: int, wakes: bool = True) -> None:
        self._way, self._control, self._wakes = way, control, wakes
        self._chance = random.Random(seed)
        plan = plan_parts(int(way.size))
        self._part_size = float(plan.part_size)
        self._to_do = self._unfinished = plan.count
        self._ready: list[int] = []
        """The attempt of each part that waits for a slot."""
        self._later: list[tuple[float, int]] = []
        """When each refused part may be tried again, and its attempt."""
        self._flying: list[_Connection] = []
        self._sent = 0.0
        self._refused = self._puts = 0
        self._wander = 0.0
        self._burst = self._uncrowded = 1.0

    def run(self) -> Outcome:
        """Simulate until every part has arrived."""
        tick, flying, limits = 0, 0, []
        woken = True
        while self._unfinished and tick * TICK < FOREVER:
            now = tick * TICK
            self._admit(now, woken=woken or self._wakes)
            woken = self._move_all(now, self._available(tick))
            tick += 1
            self._control.sample(tick * TICK, int(self._sent), in_flight=len(self._flying))
            limits.append(self._control.limit)
            flying += len(self._flying)
        return Outcome(
            seconds=tick * TICK, parts_in_flight=flying / tick, refused=self._refused / self._puts, limits=limits
        )

    def _available(self, tick: int) -> float:
        """Bytes a second that link and store take in this tick."""
        way, now = self._way, tick * TICK
        rate = way.rate * (way.becomes[1] if way.becomes is not None and now >= way.becomes[0] else 1.0)
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
        room = self._control.limit + AHEAD - flying - len(self._ready) - len(self._later)
        count = max(0, min(self._to_do, room))
        self._ready.extend([1] * count)
        self._to_do -= count

    def _fill_slots(self, now: float) -> None:
        while self._ready and len(self._flying) < self._control.limit:
            connection = _Connection(10 * PACKET / self._way.rtt)
            self._begin(connection, now + self._way.rtt)
            self._flying.append(connection)

    def _begin(self, connection: _Connection, now: float) -> None:
        """The next part's PUT over this connection."""
        way = self._way
        accepts = way.relents[1] if way.relents is not None and now >= way.relents[0] else way.accepts
        others = sum(not each.refused for each in self._flying if each is not connection)
        connection.refused = others >= accepts or self._chance.random() < way.hiccups
        connection.attempt = self._ready.pop()
        connection.left = self._part_size
        connection.waits = now + way.rtt if connection.refused else now
        self._puts += 1
        self._control.started()

    def _end(self, connection: _Connection, now: float) -> None:
        """The store has answered: the slot is the next part's, if there may be one."""
        if connection.refused:
            self._refused += 1
            again = now + RetryPolicy().delay(connection.attempt, self._chance.random)
            heapq.heappush(self._later, (again, connection.attempt + 1))
            self._control.refused(now)
        else:
            self._unfinished -= 1
        self._prepare(len(self._flying) - 1)
        if self._ready and len(self._flying) <= self._control.limit:
            self._begin(connection, now + STORE_TIME)
        else:
            self._flying.remove(connection)
            connection.waits = math.inf

    # -- bytes

    def _move_all(self, now: float, available: float) -> bool:
        """Move every connection on by a tick. Whether a part has ended."""
        way, ended = self._way, False
        most = min(way.each, UNACKNOWLEDGED / way.rtt)
        wants = [min(c.pace, most) for c in self._flying if c.left and not c.refused and c.waits < now + TICK]
        wanted = sum(wants)
        scarce = wanted > available
        level = _fair(wants, available) if scarce else math.inf
        share = available / wanted if scarce else 1.0
        for each in list(self._flying):
            rate = min(each.pace, most) * share if way.reno else min(each.pace, most, level)
            before = each.left
            ended = self._move(each, now, rate) or ended
            if each.left != before and way.reno:
                self._reno(each, rate, most, queue_is_full=wanted > 2 * available)
            elif each.left != before:
                self._bbr(each, rate, most, bound=rate >= level)
        return ended

    def _move(self, each: _Connection, now: float, rate: float) -> bool:
        """Send, wait for the response, take the next part, until the tick is over. Whether a part has ended."""
        end, ended = now + TICK, False
        while True:
            now = max(now, each.waits)
            if now >= end:
                return ended
            if each.refused or not each.left:
                ended = True
                self._end(each, now)
                continue
            count = min(each.left, rate * (end - now))
            each.left -= count
            self._sent += count
            if each.left >= 1:
                return ended
            each.left = 0.0
            each.waits = now + count / rate + self._way.rtt

    def _doubled(self, each: _Connection, most: float) -> float:
        return min(each.pace * math.exp2(min(TICK / self._way.rtt, 30)), 4 * most, 4 * self._way.rate)

    def _bbr(self, each: _Connection, rate: float, most: float, *, bound: bool) -> None:
        """`bound`: the link, and not the connection, was what bounded it."""
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
        if losses > 1 and not each.slow_start:  # more than ticks can follow one by one: their average
            each.pace = min(each.pace, PACKET / way.rtt * math.sqrt(1.5 / way.loss))
            losses = 0.0
        if self._chance.random() < min(losses, trips) or (queue_is_full and self._chance.random() < 0.5):
            each.slow_start = False
            each.pace = max(each.pace / 2, 2 * PACKET / way.rtt)
        each.pace = min(each.pace, 2 * most)


def _fair(wants: list[float], available: float) -> float:
    """The rate that no connection exceeds, where those that want less than it get all that they want."""
    level = available / len(wants)
    for _ in range(4):
        modest = [want for want in wants if want < level]
        level = (available - sum(modest)) / max(1, len(wants) - len(modest))
    return level

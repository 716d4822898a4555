"""Groups of parts: hashed, presigned, sent and recorded together, where a part by itself costs more than it should.

A group holds one slot and sends its parts one after another. So as many parts are in flight as without groups, and for
everybody who looks at the parts in flight a group is the part that it sends at the moment. Each part is recorded when
its response is heard of. Groups know no retries and no hedges: what a group has not proved is sent part by part.

A group should be short in time: its parts wait for their turn, though another machine might be free. Towards the end,
groups become smaller, so that all machines end together: Polychronopoulos and Kuck, "Guided self-scheduling", 1987,
https://doi.org/10.1109/TC.1987.5009495.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from bigupload.core.checksums import Hashed
from bigupload.core.hedging import PutProgress
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault
from bigupload.engine.context import PutInFlight, UploadContext
from bigupload.engine.in_flight import PartsInFlight
from bigupload.ports import GroupTransport, PutResponse, SignedRequest, Transport
from bigupload.records import dataclass

GROUP_SECONDS = 6.0
"""Seconds that a group should take. Parts that take more than half of it are sent one by one."""
MOST_SECONDS = 2 * GROUP_SECONDS
"""Seconds after which a group begins no further part: it was slower than expected."""
MOST_BYTES = 2048 * MIB
"""Bytes of all groups of one machine. They are hashed before they are sent, and should still be in memory then."""
_MOST_PARTS = 32
"""Parts of a group. What a group costs by itself is less than a tenth of its parts' cost then."""
_LOG = logging.getLogger("bigupload.engine")
_GATHER = 0.1
"""Seconds for which records wait for others, with which they share an fsync: a tenth of the time between the reports
that they come with."""
Signed = tuple[SignedRequest, float]
"""A request, and until when it may be sent, by the engine's clock."""


def group_size(*, usual: float | None, part_size: int, waiting: int, slots: int, machines: int) -> int:
    """Return the number of parts to send one after another in one slot. Pure.

    Args:
        usual: Seconds that a part takes in a slot; None: that is not known yet.
        part_size: In bytes.
        waiting: The parts that nobody sends yet.
        slots: The parts that may be in flight.
        machines: How many machines send them.

    Returns:
        1 at least.
    """
    if usual is None:
        return 1
    by_time = int(GROUP_SECONDS / usual) if usual > 0 else _MOST_PARTS
    by_memory = MOST_BYTES * machines // (max(1, slots) * max(1, part_size))
    return max(1, min(by_time, by_memory, waiting // max(1, slots), _MOST_PARTS))


class PartRecorder:
    """Records parts as their responses come, those together that come together."""

    def __init__(
        self, record: Callable[[Sequence[PartRecord]], Awaitable[None]], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        """`record`: brings records to disk. `sleep`: waits the given seconds."""
        self._record = record
        self._sleep = sleep
        self._waiting: list[PartRecord] = []
        self._added = self._written = 0
        self._wake, self._changed = asyncio.Event(), asyncio.Event()

    def add(self, record: PartRecord) -> None:
        """Have a part recorded."""
        self._waiting.append(record)
        self._added += 1
        self._wake.set()

    async def run(self) -> None:
        """Record until cancelled. Raises what `record` raises."""
        while True:
            await self._wake.wait()
            await self._sleep(_GATHER)
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            await self._record(batch)
            self._written += len(batch)
            self._changed.set()
            self._changed = asyncio.Event()

    async def flush(self) -> None:
        """Wait until everything that was added is recorded."""
        added = self._added
        while self._written < added:
            await self._changed.wait()


class GroupInFlight(PutInFlight):
    """The part of a group that is sent at the moment."""

    is_group = True

    def __init__(
        self,
        context: UploadContext,
        groups: GroupTransport,
        parts: Sequence[Part],
        requests: Sequence[SignedRequest],
        on_response: Callable[[int, PutResponse, float], None],
    ) -> None:
        """`on_response`: gets the index of a part, its response, and the seconds that it took."""
        now, priority = context.effects.clock(), context.settings.priority
        super().__init__(context.source, parts[0], requests[0], now, priority=priority)
        self._context = context
        self._groups = groups
        self._parts = parts
        self._requests = requests
        self._on_response = on_response
        self._responses = 0
        self._elapsed = 0.0

    async def deliver(self, transport: Transport, *, fresh: bool) -> None:
        await self._groups.put_group(
            self._requests,
            self.source,
            self._parts,
            seconds=MOST_SECONDS,
            on_start=self.started,
            on_news=self._hear,
        )

    def sent(self) -> int:
        return super().sent() if self._responses < len(self._parts) else 0

    def log(self, now: float, outcome: str) -> None:
        if outcome != "acknowledged":  # each part was logged by itself
            super().log(now, outcome)

    def progress(self, now: float) -> PutProgress:
        return PutProgress(self.part.size, self.sent(), self._elapsed)  # as of the latest news

    def _hear(self, responses: Sequence[tuple[PutResponse, float]], elapsed: float) -> None:
        now = self._context.effects.clock()
        for response, seconds in responses:
            if _LOG.isEnabledFor(logging.DEBUG):
                number, address = self.part.number, self.gauge.address()
                _LOG.debug("part %d, attempt 1 to %s: acknowledged after %.0f ms", number, address, seconds * 1000)
            self._context.shared.bytes_sent += self.part.size
            self._context.counts.bytes_sent += self.part.size
            self._context.shared.flight.stored(now, self.part.size, began=now - seconds, accepted=now)
            self._on_response(self._responses, response, seconds)
            self._responses += 1
            if self._responses < len(self._parts):
                self.part, self.request = self._parts[self._responses], self._requests[self._responses]
                self._context.shared.flight.began()
                self._seen, self._moved_at, self.accepted = 0, now, None
        self._elapsed, self.began = elapsed, now - elapsed


@dataclass(frozen=True, slots=True)
class UnprovedPart:
    """A part to be sent by itself: no group has sent it, or its group has not proved it."""

    part: Part
    hashed: Hashed
    request: Signed | None = None
    """Signed by its group."""
    failed: Fault | None = None
    """The reason why its first attempt failed; None: it was not sent."""
    elsewhere: bool = False
    """Whether to send it over another connection, or from another machine."""


@dataclass(slots=True, eq=False)
class GroupUploader:
    """Uploads groups of parts of one upload id."""

    context: UploadContext
    groups: GroupTransport
    puts: PartsInFlight
    hash_group: Callable[[Sequence[Part]], Awaitable[list[Hashed]]]
    sign: Callable[[Sequence[Part], Sequence[Hashed]], Awaitable[list[Signed]]]
    prove: Callable[[Part, Hashed, SignedRequest, PutResponse], PartRecord | None]
    """The record of a part that its response proves; None: it does not. Raises Fault."""
    is_fresh: Callable[[Signed], bool]
    """Whether a request may be sent now."""
    recorder: PartRecorder

    def size(self, part: Part, waiting: int) -> int:
        """Return the number of parts that the next group may have: `part` is its first, and `waiting` others wait.

        It has one until a proof distinguished two bodies: by then, it is known how the store proves parts.
        """
        if (
            not self.puts.proofs_are_unambiguous
            or self.context.previous_version is not None
            or self.context.copies_unread
        ):
            return 1
        shared = self.context.shared
        return group_size(
            usual=self.puts.pace.usual,
            part_size=part.size,
            waiting=waiting + 1,
            slots=shared.limit,
            machines=shared.machines,
        )

    async def upload(self, parts: Sequence[Part], begun: Callable[[], None]) -> list[UnprovedPart]:
        """Upload the parts of a group.

        Args:
            parts: The parts.
            begun: Called when they have got a slot.

        Returns:
            Those that are to be sent again, or for the first time. The others are recorded.

        Raises:
            BigUploadError: The upload stops.
        """
        hashed = await self.hash_group(parts)
        signed = await self.sign(parts, hashed)
        failures: dict[int, Fault | None] = dict.fromkeys(range(len(parts)))

        def on_response(index: int, response: PutResponse, seconds: float) -> None:
            self.puts.pace.arrived(seconds)
            self.context.retrier.record_response()
            try:
                record = self.prove(parts[index], hashed[index], signed[index][0], response)
            except Fault as fault:
                failures[index] = fault
            else:
                if record is not None:
                    del failures[index]
                    self.recorder.add(record)

        async with self.context.slots:
            begun()
            if not all(map(self.is_fresh, signed)):
                signed = await self.sign(parts, hashed)
            requests = [request for request, _ in signed]
            group = GroupInFlight(self.context, self.groups, parts, requests, on_response)
            fault = await self.puts.send_group_in_slot(group)
        if fault is not None and (index := parts.index(group.part)) in failures:
            failures[index] = fault
        await self.recorder.flush()
        elsewhere = group.lags or (fault is not None and fault.status is None)  # none: the store did not respond
        return [
            UnprovedPart(parts[index], hashed[index], signed[index], failed, elsewhere)
            for index, failed in failures.items()
        ]

"""What the modules of the engine share during one upload: ports, settings and counts."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from bigupload import events
from bigupload.core.checksums import Algorithm
from bigupload.core.concurrency_control import ConcurrencyControl
from bigupload.core.flight_bound import FlightBound
from bigupload.core.integrity import Verified
from bigupload.core.manifest import ChecksumRecord, Header, Manifest, PlanRecord, SourceIdentity, SourceKind
from bigupload.core.part_plan import Plan
from bigupload.engine.hedge_switch import HedgeSwitch
from bigupload.engine.retrying import Effects, Retrier, RunCounts
from bigupload.ports import Gauge, Journal, MultipartStore, Source, Transport
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.fair_slots import FairSlots, SlotQueue

CANCEL_GRACE = 5.0
"""Seconds that a cancelled upload waits for the response to create or complete, which may change the store.

A create that is left behind may leave an orphaned upload, which `gc` finds. A complete that is left behind may make the
object: the manifest says `completing`, and the next run finds out.
"""
_OF_UNKNOWN_SIZE = 1 << 30
"""What `bytes_left` says of a stream of unknown size: it takes turns as a file of this size does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """What the caller chose for one upload."""

    algorithm: Algorithm = Algorithm.CRC64NVME
    part_size: int | None = None
    """The part size in bytes; None: automatic."""
    require_proof: Verified = Verified.SIZE
    verify_source: bool = False
    """Whether to hash the file once more before complete."""
    follow_changes: bool = False
    """Whether to upload a source that changed as it is now, instead of raising SourceChanged."""
    priority: int = 0
    """Uploads with a higher one get slots and threads first."""


class PartInFlight(Gauge, Protocol):
    """The PUT of a part, which can be postponed."""

    @property
    def size(self) -> int:
        """The part's size in bytes."""
        ...

    def postpone(self) -> None:
        """Cancel the PUT. Its part is sent later."""
        ...


class SharedResources:
    """What the uploads of one `Uploader` share: the slots for parts in flight, and the hashing threads."""

    def __init__(self, concurrency: int | None, *, most: int | None = None, hedge: bool = True) -> None:
        """Start with nothing in flight.

        Args:
            concurrency: Parts in flight; None: adapted to the path.
            most: The most parts in flight if it is adapted; None: what the controller allows.
            hedge: Whether parts may be sent a second time.
        """
        self.concurrency = ConcurrencyControl(concurrency, most=most)
        self.bound = FlightBound() if concurrency is None else None
        self.slots = FairSlots(self.concurrency.limit)
        self.hashing = FairSlots(min(4, os.cpu_count() or 1))
        self.checking = anyio.CapacityLimiter(8)
        """Threads that ask file systems whether a source has changed."""
        self.gauges: set[Gauge] = set()
        """The gauges of all PUTs in flight."""
        self.parts: set[PartInFlight] = set()
        """Those of them that can be postponed."""
        self.bytes_sent = 0
        """Bytes that ended PUTs have sent."""
        self.prepared = 0
        """Bytes of the parts that are hashed, or being hashed, and have had no slot yet."""
        self.waiting_for_room: set[anyio.Event] = set()
        """Set when the limit rises or a part gets a slot: uploads that wait until they may prepare another part. A part
        can take minutes, so that its end is too late a moment to look again."""
        self.hedge = hedge

    @property
    def limit(self) -> int:
        """Parts that may be in flight now."""
        bound = self.bound.limit if self.bound is not None else None
        if bound == 1 and any(part.sent() >= part.size for part in self.parts):
            bound = 2  # the next part begins while this one waits for its response
        return self.concurrency.limit if bound is None else min(self.concurrency.limit, bound)

    def adapt(self, now: float) -> None:
        """Report the bytes sent by all uploads to the controllers, and set the number of slots to their limit."""
        sent = self.bytes_sent + sum(gauge.sent() for gauge in self.gauges)
        in_flight = self._postpone(now, sent, self.slots.borrowed_tokens)
        self.concurrency.sample(now, sent, in_flight=in_flight)
        self._resize()

    def _postpone(self, now: float, sent: int, in_flight: int) -> int:
        """Postpone the parts that the bound leaves no room for, those that have the most left to send.

        Returns:
            The parts that stay in flight.
        """
        if self.bound is None or not self.parts:
            return in_flight
        size = sum(part.size for part in self.parts) / len(self.parts)
        left = self.bound.sample(now, sent, in_flight=in_flight, part_size=size)
        if left is None:
            return in_flight
        for part in sorted(self.parts, key=lambda part: part.sent() - part.size)[: max(0, in_flight - left)]:
            part.postpone()
        return left

    def refused(self, now: float) -> None:
        """The store asked to slow down: lower the limit."""
        self.concurrency.refused(now)
        self._resize()

    def ended(self, put: Gauge) -> None:
        """A PUT has ended, in whatever way."""
        self.gauges.discard(put)
        self.bytes_sent += put.sent()
        self._resize()

    def _resize(self) -> None:
        before, limit = self.slots.total_tokens, self.limit
        if limit != before:
            self.slots.total_tokens = limit
        if limit > before:
            self.wake()

    def wake(self) -> None:
        """Let the uploads that wait for room look again."""
        for event in self.waiting_for_room:
            event.set()


@dataclass(slots=True, kw_only=True)
class UploadContext:
    """The context of one upload."""

    retrier: Retrier
    source: Source
    store: MultipartStore
    transport: Transport
    journal: Journal
    settings: UploadSettings
    shared: SharedResources
    hedging: HedgeSwitch = field(init=False)
    slots: SlotQueue = field(init=False)
    """This upload's queue for the slots of parts in flight."""
    hashing: SlotQueue = field(init=False)
    """This upload's queue for the hashing threads."""

    def __post_init__(self) -> None:
        self.hedging = HedgeSwitch(self.shared.hedge)
        self.slots = self.shared.slots.queue(self.bytes_left, self.settings.priority)
        self.hashing = self.shared.hashing.queue(self.bytes_left, self.settings.priority)

    def bytes_left(self) -> int:
        """Bytes whose parts are not recorded yet, by the number of these parts: it is asked for with each slot."""
        if self.source.stream is not None and not self.source.stream.expected:
            return _OF_UNKNOWN_SIZE
        if not self.journal.exists:
            return self.source.fingerprint.size
        plan = self.manifest.plan
        size = self.source.fingerprint.size if plan.size is None else plan.size
        return min(size, (plan.count - len(self.manifest.parts)) * plan.part_size)

    @property
    def effects(self) -> Effects:
        """Time and randomness."""
        return self.retrier.effects

    @property
    def counts(self) -> RunCounts:
        """The counts of this run."""
        return self.retrier.counts

    async def check_source(self) -> None:
        """Raise SourceChanged if the file has changed since it was opened."""
        await check_source(self.source, self.shared.checking)

    def emit(self, event: events.Event) -> None:
        """Give an event to the caller."""
        self.retrier.emit(event)

    def warn(self, message: str) -> None:
        """Emit a warning. The upload continues."""
        self.emit(events.Warned(message=message))

    def stop_hedging(self, reason: str) -> None:
        """Send no part a second time any more in this upload, and tell the caller why, once."""
        if self.hedging.turn_off():
            self.warn(f"no more parts are sent twice in this upload (to never send one twice: `hedge=False`): {reason}")

    @property
    def source_identity(self) -> SourceIdentity:
        """What the manifest records of the source."""
        return SourceIdentity.of(self.source.path, self.source.fingerprint, self.source.kind)

    @property
    def has_fingerprint(self) -> bool:
        """Whether an equal fingerprint means equal bytes. Else they have to be hashed to be known."""
        return self.source.kind is SourceKind.FILE

    @property
    def manifest(self) -> Manifest:
        """The manifest so far."""
        return self.journal.manifest


async def check_source(source: Source, threads: anyio.CapacityLimiter) -> None:
    """Call the source's `check`: in a thread if the file is not on a local disk, because a network may hang.

    A cancel leaves the thread behind. On a local disk the check takes microseconds, and the hop would take longer.

    Args:
        source: The source.
        threads: Bounds the threads.

    Raises:
        SourceChanged: The file has changed since it was opened.
    """
    if source.on_local_disk:
        source.check()
    else:
        await run_in_daemon_thread(source.check, threads)


def new_header(
    context: UploadContext, manifest_id: str, plan: Plan, checksum: ChecksumRecord, upload_id: str, token: str | None
) -> Header:
    """Make the first record of an upload that exists in the store."""
    return Header(
        id=manifest_id,
        source=context.source_identity,
        target=context.store.target,
        plan=PlanRecord.of(plan),
        checksum=checksum,
        upload_id=upload_id,
        token=token,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        options=context.store.options(),
        version=2 if plan.steps else 1,
    )

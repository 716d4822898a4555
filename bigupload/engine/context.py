"""Shared by the modules of the engine during one upload: ports, settings, counts, and the PUTs that hold the slots."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import field

from bigupload import errors, events
from bigupload.core.checksums import Algorithm
from bigupload.core.flight import SILENT, SMALL, Flight, Sample
from bigupload.core.flight_trials import Bottleneck
from bigupload.core.hedging import HedgeSwitch, PutProgress
from bigupload.core.integrity import CopyOrigin, PreviousVersion, Verified
from bigupload.core.manifest import ChecksumRecord, Header, Manifest, PlanRecord, SourceIdentity, SourceKind
from bigupload.core.part_plan import Part, Plan, plan_parts, plan_stream
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.core.stored_rate import Filling, is_late
from bigupload.engine.part_hashing import WholeDigests
from bigupload.engine.retrying import Effects, Retrier, RunCounts
from bigupload.ports import (
    Gauge,
    GroupTransport,
    HashElsewhere,
    Journal,
    MultipartStore,
    PutResponse,
    SignedRequest,
    Source,
    Transport,
)
from bigupload.records import dataclass
from bigupload.support.cancellation import Stoppable
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.fair_slots import FairSlots, SlotQueue
from bigupload.units import format_seconds

_LOG = logging.getLogger("bigupload.engine")

CANCEL_GRACE = 5.0
"""Seconds that a cancelled upload waits for the response to create or complete, which may change the store.

A create that is left behind may leave an orphaned upload, which `gc` finds. A complete that is left behind may make the
object: the manifest says `completing`, and the next run finds out.
"""
TICK = 0.1
"""Seconds between two looks at the PUTs in flight."""
_TICK_OF_MANY = 0.2
"""The same where several machines send: they report no more often."""
_COPIES = 16
"""Requests in flight to copy parts. A copy of 16 MiB takes a store some tenths of a second: more would wait there."""
_OF_UNKNOWN_SIZE = 1 << 30
"""The `bytes_left` of a stream of unknown size: it takes turns like a file of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """The caller's settings for one upload."""

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
    recalls: bool = True
    """Whether a small file may go without a checksum because an earlier run found that the store refuses it."""


class _NotBegun(Gauge):
    """The gauge of a PUT that its transport has not begun."""

    def sent(self) -> int:
        return 0

    def set_paused(self, *, paused: bool) -> bool:
        return paused


_NOT_BEGUN = _NotBegun()
_FILLS_BUFFERS = 5.0
"""Seconds in which the buffers on the way to a peer that reads nothing take bytes. On a slower path it looks alive."""


class PutInFlight:
    """The PUT of a part, or of a small file."""

    is_hedge = False
    """Whether it is the second PUT of a part."""
    is_group = False
    """Whether parts of a group follow this one in the same slot."""
    lags = False
    """Whether it was cancelled because it is a straggler of a group: its parts are sent one by one."""

    def __init__(
        self, source: Source, part: Part, request: SignedRequest, now: float, attempt: int = 1, *, priority: int = 0
    ) -> None:
        self.source = source
        self.part = part
        self.request = request
        self.scope = Stoppable()
        self.gauge: Gauge = _NOT_BEGUN
        """The progress of its body."""
        self.began = now
        """The time at which it began, by the clock of its upload."""
        self.wrote_from = now
        """The same, later by the time for which it was paused."""
        self.priority = priority
        """The priority of its upload."""
        self.attempt = attempt
        """The number of this attempt at the part, from 1; for the log."""
        self.hedge: PutInFlight | None = None
        """The second PUT of the same part, if this one is a straggler."""
        self.hedges = 0
        """The number of times that this PUT was hedged."""
        self.response: PutResponse | None = None
        self.accepted: float | None = None
        """The time at which its last byte was accepted, as far as `update` has seen; None: not yet."""
        self.is_paused = False
        """Whether it is paused, because others are to be stored first."""
        self.ended = asyncio.Event()  # anyio's costs ten times as much to make
        self._seen = 0
        self._moved_at = self._updated_at = now
        self.filling = Filling(now)
        """Its bytes that fill the buffer of a store that reads slowly."""

    @property
    def size(self) -> int:
        """The part's size in bytes."""
        return self.part.size

    async def deliver(self, transport: Transport, *, fresh: bool) -> None:
        """Have it sent. Raises Fault."""
        self.response = await transport.put(self.request, self.source, self.part, on_start=self.started, fresh=fresh)

    def started(self, gauge: Gauge) -> None:
        self.gauge = gauge
        self.is_paused = gauge.set_paused(paused=self.is_paused)
        if self.part.size > SMALL:  # of small ones there may be thousands a second
            self.filling = Filling(self.began, was_full=gauge.window_is_full())

    def sent(self) -> int:
        """Return the bytes of what is in flight now: of a group, one part's."""
        return self.gauge.sent()

    def set_paused(self, *, paused: bool) -> bool:
        """Pause its body, or go on. Returns whether it is paused now: not every body can be."""
        if paused != self.is_paused:
            self.is_paused = self.gauge.set_paused(paused=paused)
        return self.is_paused

    def update(self, now: float) -> int:
        """Return the bytes sent. Note when they changed, and when all of them were accepted."""
        sent = self.sent()
        if sent != self._seen or self.gauge.paused():
            self._seen, self._moved_at = sent, now
        if self.is_paused:
            self.wrote_from += now - self._updated_at
        self._updated_at = now
        if sent < self.size:
            self.accepted = None
        elif self.accepted is None and self.gauge is not _NOT_BEGUN:
            self.accepted = now
        return sent

    def is_silent(self, now: float) -> bool:
        """Whether it has sent something, and the peer acknowledges nothing for a while, though its window is open."""
        return bool(self._seen) and now - self._moved_at > SILENT and not self.gauge.window_is_full()

    def log(self, now: float, outcome: str) -> None:
        """Log how it ended."""
        _LOG.debug(
            "part %d, attempt %d to %s: %s after %.0f ms, %d of %d bytes sent",
            self.part.number,
            self.attempt,
            self.gauge.address() or "no address",
            outcome,
            (now - self.began) * 1000,
            self.sent(),
            self.part.size,
        )

    def took(self, now: float) -> float:
        """Return the seconds since it began, without those in which it was paused."""
        return now - self.wrote_from

    def progress(self, now: float) -> PutProgress:
        return PutProgress(self.part.size, self.sent(), self.took(now))

    def cancel_if_stalled(self, now: float, policy: RetryPolicy, shared: SharedSlots) -> None:
        """Cancel a PUT without progress, or one whose response is overdue."""
        if self.ended.is_set() or self.scope.cancel_called:
            return
        self.update(now)
        if self.accepted is None:
            stalled = now - self._moved_at > policy.stall_after
        else:
            stalled = shared.is_overdue(self, now, policy.response_within)
            if stalled and not self.is_hedge:
                shared.sent_again(now)
        if stalled:
            self.scope.cancel()

    def stalled(self, now: float) -> Fault:
        """Return the fault of a PUT that was cancelled because it stalled."""
        what = self.request.subject or f"part {self.part.number}"
        if self.accepted is None:
            fault = Fault(FaultKind.STALLED, f"{what} stalled")
        else:
            waited = format_seconds(now - self.accepted)
            fault = Fault(FaultKind.STALLED, f"no response to {what}, {waited} after all of it was sent")
        fault.moved_at = self.moved_at
        return fault

    @property
    def moved_at(self) -> float | None:
        """When the peer last took bytes; None: not once the buffers on the way can have been full."""
        return self._moved_at if self._moved_at - self.began > _FILLS_BUFFERS else None


class SharedSlots:
    """Shared by the uploads of one `Uploader`: the slots for parts in flight, and the hashing threads."""

    def __init__(
        self,
        concurrency: int | None,
        *,
        most: int | None = None,
        hedge: bool = True,
        rate: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Start with nothing in flight.

        Args:
            concurrency: Parts in flight; None: adapted to the path.
            most: The most parts in flight if it is adapted; None: what `Flight` allows.
            hedge: Whether parts may be sent a second time.
            rate: The rate limit now, in bytes a second; None: no limit.
        """
        self.flight = Flight(concurrency, most=most)
        self.slots = FairSlots(self.flight.limit)
        self.hashing = FairSlots(min(4, os.cpu_count() or 1))
        self.copying = asyncio.Semaphore(_COPIES)
        """Copies that the stores are asked for at a time."""
        self.checking = asyncio.Semaphore(8)
        """Threads that ask file systems whether a source has changed."""
        self.puts: set[PutInFlight] = set()
        """All PUTs in flight."""
        self.first_puts: set[PutInFlight] = set()
        """The PUTs in flight that are not second PUTs of a part."""
        self.bytes_sent = 0
        """Bytes that ended PUTs have sent."""
        self.prepared = 0
        """Bytes of the parts that are hashed, or being hashed, and have had no slot yet."""
        self.waiting_for_room: set[asyncio.Event] = set()
        """Set when the limit rises or a part gets a slot: uploads that wait until they may prepare another part. A part
        can take minutes, so that its end is too late a moment to look again."""
        self.hedge = hedge
        self._rate = rate
        self.machines = 1
        """The machines that hash and send parts."""
        self._filled = 0
        """Bytes that only filled the buffers of a store that reads slowly."""
        self._adapted_at = -math.inf
        self.backlog = 0
        """Bytes of whole bodies that wait for their responses."""
        self._any_paused = False
        """Whether any part was paused when `adapt` last looked: nothing else pauses one."""

    def spread(self, machines: int) -> None:
        """Let `machines` machines hash and send parts: each has as much room as one alone."""
        if machines != self.machines:
            self.machines = machines
            self.flight.spread(machines)
            self._resize()
            self.wake()

    @property
    def limit(self) -> int:
        """Parts that may be in flight now."""
        return self.flight.limit

    @property
    def tick(self) -> float:
        """Seconds until `adapt` is to be called again: fewer at the start, when the path shows within moments."""
        return TICK / 4 if self.first_puts and self.flight.starts else TICK if self.machines == 1 else _TICK_OF_MANY

    def adapt(self, now: float) -> None:
        """Show `Flight` what is in flight. Set the number of slots to its limit, and pause the newest parts above it.

        Every upload calls it at each tick: the first of them does it for all.
        """
        if 0 <= now - self._adapted_at < self.tick / 2:
            return
        self._adapted_at = now
        sent = self.bytes_sent + sum(put.sent() for put in self.puts - self.first_puts)
        parts = sorted(self.first_puts, key=lambda part: (-part.priority, part.began))
        of_parts = [part.update(now) for part in parts]
        sent += sum(of_parts)
        for part, of_part in zip(parts, of_parts, strict=True):
            self._filled += part.filling.update(now, of_part, part.gauge.window_is_full, paused=part.is_paused)
        waiting = [part for part in parts if part.accepted is not None]
        self.backlog = sum(part.size for part in waiting)
        writing = [(part, of_part) for part, of_part in zip(parts, of_parts, strict=True) if part.accepted is None]
        bottleneck, times = Bottleneck.UNKNOWN, []
        if self.flight.doubles or self.flight.starts:  # a system call for each part
            times = [part.gauge.round_trip_times() for part in parts]
        if self.flight.doubles:
            paths = zip(parts, times, strict=True)
            bottleneck = Bottleneck.of([(*of_part, part.gauge.window_is_full()) for part, of_part in paths])
        self.flight.sample(
            Sample(
                now=now,
                acknowledged=sent - self._filled,
                writing=self.slots.borrowed_tokens - sum(part.is_paused for part in parts),
                part_size=sum(part.size for part in parts) / len(parts) if parts else 0.0,
                is_late=self._is_late(waiting, now),
                left=0 if waiting else min((part.size - of_part for part, of_part in writing), default=math.inf),
                buffered=sum(part.filling.bytes for part in parts),
                round_trip=min((least for least, _ in times if least), default=0.0),
                bottleneck=bottleneck,
            )
        )
        writers = self.flight.writers(len(waiting))
        self._pause_newest([part for part, _ in writing], writers, now)
        self._any_paused = any(part.is_paused for part in parts)
        writes = [part for part, _ in writing if not part.is_paused]
        if self.flight.searches(len(writes), ending=self.slots.borrowed_tokens < self.slots.total_tokens):
            for part in writes:
                part.gauge.search_again()
        self._resize()

    def _pause_newest(self, writing: Sequence[PutInFlight], writers: int, now: float) -> None:
        """Let the first parts write, and pause the others.

        A part whose connection has gone silent, for packets were lost, keeps no other part from writing: it may wait
        for many seconds until TCP tries again, and the link would be idle.
        """
        most, is_late = 2 * writers, self.flight.responses_are_late
        for part in writing:
            part.set_paused(paused=min(most, writers) <= 0)
            most -= 1
            writers -= is_late or not part.is_silent(now)

    def _is_late(self, waiting: Sequence[PutInFlight], now: float) -> bool:
        """Whether the response to a whole body is late, and not just lost: no later body was stored already."""
        latest = self.flight.stored_parts.accepted
        return any(
            is_late(now - at, at - part.wrote_from)
            for part in waiting
            if (at := part.accepted) is not None and at > latest
        )

    def stored(self, put: PutInFlight, now: float) -> None:
        """The response to a PUT has come, and its part is stored."""
        accepted = now if put.accepted is None else put.accepted
        wrote_for = accepted - put.wrote_from
        self.flight.stored(now, put.size, began=put.began, accepted=accepted, wrote_for=wrote_for)

    def is_overdue(self, put: PutInFlight, now: float, timeout: float) -> bool:
        """Return whether the response to a whole body is overdue. See `core.stored_rate.Stored.overdue`."""
        backlog = max(self.backlog, put.size)
        return put.accepted is not None and self.flight.stored_parts.overdue(
            put.accepted, now, timeout=timeout, backlog=backlog
        )

    def refused(self, now: float) -> None:
        """The store asked to slow down: lower the limit."""
        self.flight.refused(now)
        self._resize()

    def sent_again(self, now: float) -> None:
        """A whole body is sent again, because no response came: lower the limit."""
        self.flight.sent_again(now)
        self._resize()

    def ended(self, put: PutInFlight) -> int:
        """A PUT has ended, in whatever way. Returns the bytes that it has sent."""
        sent = put.sent()
        self.puts.discard(put)
        self.bytes_sent += sent
        self._resize()
        return sent

    def _resize(self) -> None:
        # A paused part gives its slot to uploads of higher priority. This is called for each small file.
        wanted = self.slots.highest_waiting if self._any_paused else None
        paused = 0 if wanted is None else sum(part.is_paused and part.priority < wanted for part in self.first_puts)
        before, limit = self.slots.total_tokens, self.limit + paused
        if limit != before:
            self.slots.total_tokens = limit
        if limit > before:
            self.wake()

    def expect_files(self) -> None:
        """Prepare for small files, if nothing is in flight yet."""
        if not self.slots.borrowed_tokens:
            self.flight.expect_files()
            self._resize()

    def expect_parts(self, part_size: int, now: float, *, count: int = 0) -> None:
        """Prepare for `count` parts of `part_size` bytes: with a rate limit, begin with as few as it needs."""
        self.flight.expect_parts(now, part_size, self._rate(), count=count)
        self._resize()

    def wake(self) -> None:
        """Let the uploads that wait for room look again."""
        for event in self.waiting_for_room:
            event.set()


@dataclass(slots=True, kw_only=True)
class UploadContext:
    """The context of one upload."""

    policy: RetryPolicy
    emit: Callable[[events.Event], None]
    """Gives an event to the caller."""
    source: Source
    store: MultipartStore
    transport: Transport
    journal: Journal
    settings: UploadSettings
    shared: SharedSlots
    effects: Effects = Effects()
    """Time and randomness."""
    counts: RunCounts = field(default_factory=RunCounts)
    answered_before: Callable[[], Awaitable[bool]] | None = None
    """See `Retrier.answered_before`."""
    previous_version: PreviousVersion | None = None
    """The object that was there before, from which the store copies parts that are the same; None: all are sent."""
    origin: CopyOrigin | None = None
    """The object that is the source, if the store can read it by itself; None: its bytes are read here."""
    copying: bool = True
    """Whether parts are copied: until the store turns out not to do it."""
    source_refuted: bool = False
    """Whether the parts of a copied source did not add up to it, so that all of it is read here."""
    hash_elsewhere: HashElsewhere | None = None
    """Hashes parts on another machine; None: threads here do."""
    whole: WholeDigests | None = None
    """Gets the bytes that are read to hash parts, for digests of the whole file; None: nobody wants any."""
    groups: GroupTransport | None = None
    """Hashes and sends groups of parts; None: each part is sent by itself."""
    may_start_over: bool = False
    """Whether the upload may start over, in smaller parts or without checksums: it is of this run."""
    small_part_size: int | None = None
    """The part size in bytes if it started over."""
    declares: bool = True
    """Whether a new upload declares its checksum: until the store refuses that of a part."""
    retrier: Retrier = field(init=False)
    """Retries the requests to the store."""
    hedging: HedgeSwitch = field(init=False)
    slots: SlotQueue = field(init=False)
    """This upload's queue for the slots of parts in flight."""
    hashing: SlotQueue = field(init=False)
    """This upload's queue for the hashing threads."""
    _source_retrier: Retrier = field(init=False)
    """Retries the source's requests. What it knows of outages is not about the store."""

    def __post_init__(self) -> None:
        self._source_retrier = Retrier(
            policy=self.policy, emit=self.emit, effects=self.effects, counts=self.counts, peer="the source"
        )
        self.retrier = Retrier(
            policy=self.policy,
            emit=self.emit,
            effects=self.effects,
            counts=self.counts,
            answered_before=self.answered_before,
        )
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

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Make a part of the source readable, with retries. `release` must follow. See `ports.Source.hold`.

        Raises:
            BigUploadError: The source can't be read.
        """
        return await self._source_retrier.request(lambda: self.source.hold(part, wait=wait))

    def release(self, part: Part) -> None:
        """Let the source hold a part no longer."""
        self.source.release(part)

    @contextlib.asynccontextmanager
    async def held(self, part: Part) -> AsyncIterator[None]:
        """Hold a part that is only to be read, and release it."""
        try:
            await self.hold(part)
            yield
        finally:
            self.release(part)

    async def check_source(self) -> None:
        """Raise SourceChanged if the file has changed since it was opened."""
        await check_source(self.source, self.shared.checking)

    def warn(self, message: str) -> None:
        """Emit a warning. The upload continues."""
        self.emit(events.Warned(message=message))

    def stop_hedging(self, reason: str) -> None:
        """Send no part a second time any more in this upload, and warn the caller with the reason, once."""
        if self.hedging.turn_off():
            self.warn(f"no more parts are sent twice in this upload (to never send one twice: `hedge=False`): {reason}")

    @property
    def source_identity(self) -> SourceIdentity:
        """Return the source's record in the manifest."""
        return SourceIdentity.of(self.source.path, self.source.fingerprint, self.source.kind)

    @property
    def has_fingerprint(self) -> bool:
        """Whether an equal fingerprint means equal bytes. Else they have to be hashed to be known."""
        return self.source.kind in (SourceKind.FILE, SourceKind.REMOTE)

    @property
    def copies_unread(self) -> bool:
        """Whether the store copies the source, whose bytes are not read here."""
        return self.origin is not None and self.copying

    @property
    def manifest(self) -> Manifest:
        """The manifest so far."""
        return self.journal.manifest


async def check_source(source: Source, threads: asyncio.Semaphore) -> None:
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


def plan_of(context: UploadContext) -> Plan:
    """The plan of a new upload. Raises UsageError if the part size does not fit."""
    part_size, limits = context.settings.part_size, context.store.limits
    if context.small_part_size is not None:
        with contextlib.suppress(errors.UsageError):  # a file that has grown meanwhile may need larger parts
            return plan_parts(context.source.fingerprint.size, context.small_part_size, limits=limits)
    if context.source.stream is not None and not context.source.stream.expected:
        return plan_stream(part_size, limits=limits)
    if context.previous_version is not None:
        with contextlib.suppress(errors.UsageError):  # a source that has grown meanwhile has to be sent whole
            return plan_parts(context.source.fingerprint.size, context.previous_version.part_size, limits=limits)
    return plan_parts(context.source.fingerprint.size, part_size, limits=limits)


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
        copies=context.previous_version,
        source_checksum=None if context.origin is None else context.origin.checksum,
        end_marker=None if context.source.stream is None else context.source.stream.end_marker,
    )

"""One upload's world: its ports, its settings, and what is counted on the way. The engine's parts share it."""

from __future__ import annotations

import datetime
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from bigupload import errors, events
from bigupload.checksums import Algorithm
from bigupload.concurrency import Concurrency
from bigupload.manifest import ChecksumRecord, Header, Manifest, PlanRecord, SourceIdentity
from bigupload.planning import Plan
from bigupload.ports import Gauge, Journal, MultipartStore, Source, Transport
from bigupload.proof import Verified
from bigupload.retry import Again, Attempts, Fault, FaultKind, RetryPolicy

R = TypeVar("R")
T = TypeVar("T")

_INSTANT = 1e-6
"""Seconds: silence that has only begun is silence, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the caller chose for one upload."""

    algorithm: Algorithm = Algorithm.CRC64NVME
    part_size: int | None = None
    """Bytes; None: automatic."""
    require_proof: Verified = Verified.SIZE
    verify_source: bool = False
    """Hash the file once more before complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Time and chance, so that tests can play them."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random


class Shared:
    """What the uploads of one `Uploader` have in common: the concurrency budget and the hashing threads."""

    def __init__(self, concurrency: int | None) -> None:
        self.concurrency = Concurrency(concurrency)
        self.slots = anyio.CapacityLimiter(self.concurrency.limit)
        self.hashing = anyio.CapacityLimiter(min(4, os.cpu_count() or 1))
        self.gauges: set[Gauge] = set()
        """Of the PUTs in flight, of all uploads."""
        self.bytes_sent = 0
        """By all PUTs that ended."""

    def adapt(self, now: float) -> None:
        """Tell the controller what all uploads together have sent, and give the slots the size that it comes to."""
        sent = self.bytes_sent + sum(gauge.sent() for gauge in self.gauges)
        self.concurrency.sample(now, sent, in_flight=self.slots.borrowed_tokens)
        self._resize()

    def refused(self, now: float) -> None:
        """The store asked for less."""
        self.concurrency.refused(now)
        self._resize()

    def _resize(self) -> None:
        if self.slots.total_tokens != self.concurrency.limit:
            self.slots.total_tokens = self.concurrency.limit


@dataclass(slots=True)
class Tally:
    """What happened in this run."""

    resumed_parts: int = 0
    bytes_sent: int = 0
    """Bytes of bodies that left this machine, those of failed attempts included."""
    retries: int = 0
    restarts: int = 0


@dataclass(slots=True, kw_only=True)
class Patience:
    """Asks again, as the policy says, and tells what it does."""

    policy: RetryPolicy
    emit: Callable[[events.Event], None]
    effects: Effects = field(default_factory=Effects)
    tally: Tally = field(default_factory=Tally)
    _last_contact: float | None = None
    _silent_since: float | None = None

    def warn(self, message: str) -> None:
        """Tell a person something; go on."""
        self.emit(events.Warned(message=message))

    def attempts(self) -> Attempts:
        """A new request's tries."""
        return Attempts(self.policy, self.effects.random)

    def contact(self) -> None:
        """The store gave a sign of life."""
        self._last_contact = self.effects.clock()

    def _silence(self, since: float) -> float | None:
        """What `Attempts.after` wants to know of an attempt that began at `since`."""
        if self._last_contact is None:
            return None
        if self._last_contact >= since:
            return 0.0
        # From the first attempt that met silence, not from the last answer: a part may take hours between the two.
        if self._silent_since is None or self._silent_since < self._last_contact:
            self._silent_since = since
        return max(self.effects.clock() - self._silent_since, _INSTANT)

    async def pause(self, attempts: Attempts, fault: Fault, since: float, part: int | None = None) -> Again:
        """After a failed attempt: wait as long as the policy says. Says what is to be made anew before the next.

        Raises the public error where there is nothing more to try.
        """
        if fault.status is not None:
            self.contact()
        attempt = attempts.made
        again = attempts.after(fault, silence=self._silence(since))
        self.tally.retries += 1
        self.emit(events.Retrying(part=part, attempt=attempt, delay=again.delay, reason=str(fault)))
        await self.effects.sleep(again.delay)
        return again

    async def request(
        self,
        call: Callable[[], Awaitable[R]],
        *,
        letting: frozenset[FaultKind] = frozenset(),
        always_asks: bool = True,
    ) -> R:
        """Ask the store until it answers; faults of the kinds in `letting` are the caller's.

        `always_asks=False` is for calls that may succeed without a word from the store, as signing does: those are no
        sign of life, and must not turn a mistyped endpoint into an outage to be waited out.
        """
        attempts = self.attempts()
        while True:
            since = self.effects.clock()
            try:
                result = await call()
            except Fault as fault:
                if fault.kind in letting:
                    self.contact()
                    raise
                await self.pause(attempts, fault, since)
            else:
                if always_asks:
                    self.contact()
                return result


@dataclass(slots=True, kw_only=True)
class Job(Patience):
    """Everything that one upload's engine works with."""

    source: Source
    store: MultipartStore
    transport: Transport
    journal: Journal
    settings: Settings
    shared: Shared

    @property
    def manifest(self) -> Manifest:
        """What is recorded so far."""
        return self.journal.manifest


def new_header(
    job: Job, manifest_id: str, plan: Plan, checksum: ChecksumRecord, upload_id: str, token: str | None
) -> Header:
    """The first record of an upload that exists in the store."""
    return Header(
        id=manifest_id,
        source=SourceIdentity.of(job.source.path, job.source.fingerprint),
        target=job.store.target,
        plan=PlanRecord(plan.part_size, plan.count),
        checksum=checksum,
        upload_id=upload_id,
        token=token,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        options=job.store.options(),
    )


def the_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what several tasks raised, what the caller should see: the worst that no retry mends comes first."""
    found: list[BaseException] = []

    def collect(e: BaseException) -> None:
        if isinstance(e, BaseExceptionGroup):
            for inner in e.exceptions:
                collect(inner)
        else:
            found.append(e)

    collect(group)
    public = [e for e in found if isinstance(e, errors.BigUploadError)]
    return min(public, key=lambda e: e.resumable) if public else found[0]


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """`work` on every item, so many at a time. The first that fails ends the others, and `the_one` is raised."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(worker)
    except BaseExceptionGroup as group:
        raise the_one(group) from None

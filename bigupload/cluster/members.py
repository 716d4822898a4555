"""The workers that a coordinator knows: what each of them does now, and which one gets the next part."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from bigupload.cluster.messages import FileId
from bigupload.core.checksums import Digests, Hashed
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import Gauge, OnNews, PutResponse
from bigupload.records import dataclass
from bigupload.support.rate_limiter import RateLimiter

_SILENT_AFTER = 5.0
"""Seconds without news from a worker that has PUTs: it reports every second."""


def to_nobody(_: str) -> None:
    """Report nothing."""


class FileHasher(Protocol):
    """Hashes the parts of one file on workers: `transport.RemoteHasher`."""

    tasks: set[asyncio.Task[dict[int, Hashed]]]
    """The tasks that are under way."""

    async def hash(self, part: Part, wanted: Digests) -> Hashed:
        """Hash a part. See `ports.HashElsewhere`."""
        ...

    async def hash_group(self, parts: Sequence[Part], wanted: Digests) -> list[Hashed]:
        """Hash parts. See `ports.GroupTransport`."""
        ...


class RemoteGauge(Gauge):
    """The gauge of a PUT that a worker sends. It has the worker's latest report.

    It can't be held: the worker knows nothing of the other parts.
    """

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.waits = True
        """Whether the PUT waits for a worker, or its worker for the rate limit."""
        self.worker: str | None = None

    def sent(self) -> int:
        return self.bytes_sent

    def address(self) -> str | None:
        return None if self.worker is None else f"a store by worker {self.worker}"

    def paused(self) -> bool:
        return self.waits


@dataclass(slots=True)
class RemotePut:
    """A PUT that a worker was asked for, or several, one after another."""

    done: asyncio.Future[None]
    gauge: RemoteGauge
    on_news: OnNews
    parts: int = 1
    responses: int = 0
    """The responses that were heard of."""

    @property
    def left(self) -> int:
        """The parts without a response."""
        return self.parts - self.responses

    def hear(self, sent: int, paused: bool, elapsed: float, so_far: int, responses: Sequence[Sequence[Any]]) -> None:
        """Take a worker's report.

        Args:
            sent: The bytes that it has sent of the part that it sends now.
            paused: Whether that waits for the rate limit.
            elapsed: The seconds that it has taken.
            so_far: How many responses there are by now.
            responses: Those that are new in this report: seconds, ETag and checksums.
        """
        if self.done.done():
            return
        self.responses += len(responses)
        if self.responses != so_far:  # an event got lost while Dask connected to its scheduler again
            settle(self, Fault(FaultKind.BROKEN, "a response was lost between the worker and here"))
            return
        self.gauge.bytes_sent, self.gauge.waits = sent, paused
        self.on_news([(PutResponse(etag, checksums), seconds) for seconds, etag, checksums in responses], elapsed)


def settle(put: RemotePut, error: Exception) -> None:
    """End a PUT with an error, if it has not ended."""
    if not put.done.done():
        put.done.set_exception(error)


@dataclass(slots=True)
class Outbox:
    """The contents of the next message to a worker."""

    puts: list[dict[str, object]] = field(default_factory=list)
    cancels: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    due: bool = False
    """Whether to send a message even if it is otherwise empty."""

    def take(self) -> Outbox | None:
        """Empty it. None if there is nothing to send."""
        if not (self.due or self.puts or self.cancels or self.stops):
            return None
        taken = Outbox(self.puts, self.cancels, self.stops)
        self.puts, self.cancels, self.stops, self.due = [], [], [], False
        return taken


@dataclass(slots=True, eq=False)
class Member:
    """One worker."""

    address: str
    heard: float
    """The time of its latest report, by the coordinator's clock."""
    puts: dict[int, RemotePut] = field(default_factory=dict)
    hashing: int = 0
    """Parts that it was asked to hash and has not hashed yet."""
    ready: weakref.WeakKeyDictionary[SharedFile, set[int]] = field(default_factory=weakref.WeakKeyDictionary)
    """The parts that it has hashed and that nobody sends yet, by file."""
    given: int = 0
    """Parts that it ever got to hash."""
    outbox: Outbox = field(default_factory=Outbox)
    flushing: asyncio.Task[None] | None = None
    told_share: float | None = None
    gone: bool = False
    away_until: float = float("-inf")
    """Until when it gets parts only if nobody else can take them: it does not reach the store."""

    def is_silent(self, now: float) -> bool:
        """Whether it has PUTs and reports nothing: it hangs, or the network does."""
        return bool(self.puts) and now - self.heard > _SILENT_AFTER

    def load(self) -> tuple[int, int]:
        """Return the parts that it has to do, and those that it got so far, to sort by: the least load is first."""
        sending = sum(put.left for put in self.puts.values())
        return sending + self.hashing + sum(map(len, self.ready.values())), self.given


@dataclass(slots=True, eq=False, weakref_slot=True)
class SharedFile:
    """A file that the workers read, by one opened source of it."""

    id: FileId
    bytes_sampled: str
    """`messages.sample` of it here."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """The file's difference on each asked worker; "" where it is the same."""
    hashed_on: dict[int, str] = field(default_factory=dict)
    """The worker that hashed a part and has it in memory, by part number."""
    sent_by: dict[int, str] = field(default_factory=dict)
    """The worker that sent a part last."""
    failed_on: dict[int, set[str]] = field(default_factory=dict)
    """The workers that could not send a part."""
    ca_bundle: str | bool | None = None
    """The certificates to trust. A worker must have the same file."""
    hasher: FileHasher | None = None
    say: Callable[[str], None] = to_nobody
    """Warns the caller of the upload."""
    is_waiting_told: bool = False
    """Whether the caller knows that parts wait for a worker."""


def note_hashed(members: Mapping[str, Member], file: SharedFile, numbers: Collection[int], worker: str) -> None:
    """Remember that a worker has parts in memory, and will be the one to send them."""
    file.hashed_on.update(dict.fromkeys(numbers, worker))
    if worker in members:
        members[worker].ready.setdefault(file, set()).update(numbers)


def note_sent(members: Mapping[str, Member], file: SharedFile, numbers: Collection[int]) -> str | None:
    """Remember that parts are sent now. Returns the worker that has the first in memory; None if that is not known."""
    workers = [file.hashed_on.get(number) for number in numbers]
    for number, worker in zip(numbers, workers, strict=True):
        if worker is not None and worker in members:
            members[worker].ready.get(file, set()).discard(number)
    return workers[0]


def choose(
    members: Iterable[Member], file: SharedFile, now: float, *, near: str | None = None, not_: Collection[str] = ()
) -> Member | None:
    """Choose the worker for a part: the one that has it in memory, else the one with the least to do.

    Args:
        members: All workers.
        file: The file: only workers that see the same one are chosen.
        now: The coordinator's clock.
        near: The worker that has the part in memory.
        not_: Workers to avoid, if there are others.

    Returns:
        None if no worker can be used now.
    """
    usable = [m for m in members if file.verdicts.get(m.address) == "" and not m.gone and not m.is_silent(now)]
    usable = [m for m in usable if m.address not in not_] or usable
    usable = [m for m in usable if m.away_until <= now] or usable
    for member in usable:
        if member.address == near and member.address not in not_:
            return member
    return min(usable, key=Member.load, default=None)


class RateShares:
    """Divides the bandwidth limit among the places that send: the workers, and this machine."""

    def __init__(self, rate: Callable[[], float | None], here: RateLimiter) -> None:
        """Let this machine have all of it.

        Args:
            rate: Bytes a second that all may send together now; None: no limit now.
            here: The limiter of this machine.
        """
        self._rate = rate
        self._limiter = here
        self._places = 1

    def share(self) -> float | None:
        """Return the rate of one place, in bytes a second; None: no limit now."""
        rate = self._rate()
        return None if rate is None else rate / self._places

    def divide(self, workers: int) -> bool:
        """Divide the limit among `workers` workers that send, and this machine if it sends.

        Returns:
            Whether each place has less now.
        """
        before, self._places = self._places, max(1, workers + self._limiter.in_use)
        self._limiter.change(self.share())
        return self._places > before

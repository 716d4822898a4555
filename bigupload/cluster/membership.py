"""The workers of a Dask cluster that take part, and the messages to them: one object for each `Uploader`.

Workers may come and go. A worker takes part if it has the same bigupload, and of a file if it sees the same one. One
that dies costs the parts that it had in flight; one that hangs gets no more.

Workers get messages about PUTs, and send events about these and about hash tasks. News for a worker that comes while a
message to it is under way goes with the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import secrets
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any

from bigupload import __version__, errors
from bigupload.cluster import _compat
from bigupload.cluster._compat import WorkerUnreachable
from bigupload.cluster.local_cluster import LocalWorkers
from bigupload.cluster.messages import (
    LEAVE,
    LOOK,
    SPOKEN,
    WORK,
    FileId,
    PutTask,
    Sealed,
    pack_failure,
    pack_put,
    sample,
    unpack_failure,
)
from bigupload.core.checksums import Hashed
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import Gauge, OnNews, PutResponse, Source
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.rate_limiter import RateLimiter

_LOG = logging.getLogger("bigupload.cluster")
_TICK = 1.0
"""Seconds between two looks at which workers there are."""
_SCHEDULER_GONE_AFTER = 15.0
"""Seconds without an answer of a scheduler that keeps its connection: one that hangs."""
_RECONNECTS_WITHIN = 5.0
"""Seconds for a scheduler whose connection is lost to be there again: it may restart."""
_WORKERS_GONE_AFTER = 60.0
"""Seconds for which a part waits for a worker: an adaptive cluster starts them on demand."""
_WARN_AFTER = 10.0
"""Seconds of that until a warning: not while a scheduler that is lost may come back."""
_KEEP_ALIVE = 10.0
"""Seconds between two messages to a worker that has PUTs: what hears nothing for a minute cancels them."""
_AVOID_FOR = 30.0
"""Seconds for which a worker that does not reach the store gets nothing."""
_LEAVE = 2.0
"""Seconds to notify the workers that this coordinator is done."""


ANSWER = 10.0
"""Seconds for a worker to answer."""
_ADAPTING, _FIXED = 0.2, 1.0
"""Seconds between a worker's reports: whether the number of parts in flight adapts to what they say, or is fixed. With
more than twenty workers, each reports more rarely. A report costs this machine as much as half a part."""


_SILENT_AFTER = 5.0
"""Seconds without news from a worker that has PUTs: it reports every second."""


def warn_nobody(_: str) -> None:
    """Report nothing."""


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
    sent_share: float | None = None
    gone: bool = False
    avoided_until: float = float("-inf")
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
    hashing: set[asyncio.Task[dict[int, Hashed]]] = field(default_factory=set)
    """The hash tasks that are under way."""
    warn: Callable[[str], None] = warn_nobody
    """Warns the caller of the upload."""
    has_warned_of_wait: bool = False
    """Whether the caller knows that parts wait for a worker."""


def record_hashed(members: Mapping[str, Member], file: SharedFile, numbers: Collection[int], worker: str) -> None:
    """Remember that a worker has parts in memory, and will be the one to send them."""
    file.hashed_on.update(dict.fromkeys(numbers, worker))
    if worker in members:
        members[worker].ready.setdefault(file, set()).update(numbers)


def record_sent(members: Mapping[str, Member], file: SharedFile, numbers: Collection[int]) -> str | None:
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
    usable = [m for m in usable if m.avoided_until <= now] or usable
    for member in usable:
        if member.address == near and member.address not in not_:
            return member
    return min(usable, key=Member.load, default=None)


class RateShares:
    """Divides the bandwidth limit among the senders: the workers, and this machine."""

    def __init__(self, rate: Callable[[], float | None], here: RateLimiter) -> None:
        """Let this machine have all of it.

        Args:
            rate: Bytes a second that all may send together now; None: no limit now.
            here: The limiter of this machine.
        """
        self._rate = rate
        self._limiter = here
        self._senders = 1

    def share(self) -> float | None:
        """Return the rate of one sender, in bytes a second; None: no limit now."""
        rate = self._rate()
        return None if rate is None else rate / self._senders

    def divide(self, workers: int) -> bool:
        """Divide the limit among `workers` workers that send, and this machine if it sends.

        Returns:
            Whether each sender has less now.
        """
        before, self._senders = self._senders, max(1, workers + self._limiter.in_use)
        self._limiter.change(self.share())
        return self._senders > before


class Messenger:
    """The messages to the workers of one cluster."""

    def __init__(
        self,
        members: Mapping[str, Member],
        client: Callable[[], Any],
        topic: str,
        *,
        shares: RateShares | None,
        congestion: str,
        adapts: bool,
        clock: Callable[[], float],
    ) -> None:
        """Send nothing yet.

        Args:
            members: The workers, by address.
            client: The client. It raises ClusterUnreachable if its connection is lost.
            topic: The name of this coordinator.
            shares: Divides the bandwidth limit; None: no limit.
            congestion: What `HttpTransport` takes.
            adapts: Whether the number of parts in flight adapts to the workers' reports.
            clock: A monotonic clock in seconds.
        """
        self._members = members
        self._client = client
        self._topic = topic
        self.shares = shares
        self._congestion = congestion
        self._interval = _ADAPTING if adapts else _FIXED
        self._clock = clock
        self._numbers = itertools.count(1)
        self._hashes: dict[int, asyncio.Future[tuple[str, Any]]] = {}
        """The results of hash tasks that somebody waits for, by number."""

    def next_number(self) -> int:
        """A number for a PUT or a hash task."""
        return next(self._numbers)

    async def put(self, member: Member, task: PutTask, gauge: RemoteGauge, on_news: OnNews) -> None:
        """Have a worker PUT parts. A cancelled call cancels the PUTs."""
        number = self.next_number()
        put = RemotePut(asyncio.get_running_loop().create_future(), gauge, on_news, len(task.parts))
        if not member.puts:
            member.heard = self._clock()
        member.puts[number] = put
        self.divide_rate()
        member.outbox.puts.append(pack_put(number, task))
        self.send(member)
        try:
            await put.done
        except asyncio.CancelledError:
            self.cancel(member, put=number)
            raise
        finally:
            member.puts.pop(number, None)

    def hash_result(self, number: int) -> asyncio.Future[tuple[str, Any]]:
        """The result of a hash task, when its event comes: the worker's address, and what it found."""
        result = self._hashes[number] = asyncio.get_running_loop().create_future()
        result.add_done_callback(lambda _: self._hashes.pop(number, None))
        return result

    def lose_hashes(self, error: Exception) -> None:
        """End all waiting for hash tasks with an error."""
        for result in [each for each in self._hashes.values() if not each.done()]:
            result.set_exception(error)

    def start_over(self, reason: str) -> None:
        """Give up all requests to the workers, whose reports may be lost. They are sent again."""
        broken = Fault(FaultKind.BROKEN, reason)
        for member in self._members.values():
            for put in list(member.puts.values()):
                settle(put, broken)
        for result in [each for each in self._hashes.values() if not each.done()]:
            result.set_result(("", pack_failure(broken)))

    def cancel(self, member: Member, *, put: int | None = None, hash_task: int | None = None) -> None:
        """Ask a worker to cancel a PUT, or to stop a hash task."""
        member.outbox.cancels += [] if put is None else [put]
        member.outbox.stops += [] if hash_task is None else [hash_task]
        self.send(member)

    def send(self, member: Member) -> None:
        """Send what is in a worker's outbox. What comes meanwhile goes with the next message."""
        if not member.gone and (member.flushing is None or member.flushing.done()):
            member.flushing = asyncio.create_task(self._flush(member))

    async def _flush(self, member: Member) -> None:
        while (message := member.outbox.take()) is not None:
            share = self.shares.share() if self.shares is not None else None
            try:
                async with asyncio.timeout(ANSWER):
                    await _compat.call(self._client(), member.address, WORK, payload=self._packed(message, share))
                member.sent_share = share
            except (WorkerUnreachable, OSError, TimeoutError, errors.ClusterUnreachable):
                for put in [member.puts.get(int(str(each["id"]))) for each in message.puts]:
                    if put is not None:
                        settle(put, Fault(FaultKind.BROKEN, f"the worker {member.address} does not respond"))

    def _packed(self, message: Outbox, share: float | None) -> Any:
        """As one piece: Dask looks into every value of a message, which takes longer than sending it."""
        content = json.dumps(
            {
                "topic": self._topic,
                "limited": self.shares is not None,
                "congestion": self._congestion,
                "interval": self._interval * max(1.0, len(self._members) / 20),
                "puts": message.puts,
                "cancels": message.cancels,
                "stops": message.stops,
                "share": share,
            }
        )
        return _compat.opaque(Sealed(content.encode()))

    async def responds(self, member: Member) -> bool:
        """Whether a worker answers now."""
        try:
            async with asyncio.timeout(ANSWER):
                await _compat.call(self._client(), member.address, LEAVE, topic="nobody")
        except (WorkerUnreachable, OSError, TimeoutError):
            return False
        return True

    def divide_rate(self) -> None:
        """Divide the bandwidth limit again. What would be too much is taken back at once."""
        if self.shares is not None and self.shares.divide(sum(bool(m.puts) for m in self._members.values())):
            self.remind(keep_alive=False)

    def remind(self, *, keep_alive: bool) -> None:
        """Send the workers that are sending what has changed for them."""
        share = None
        if self.shares is not None:
            self.shares.divide(sum(bool(m.puts) for m in self._members.values()))
            share = self.shares.share()
        for member in self._members.values():
            if member.is_silent(self._clock()):
                for put in member.puts.values():
                    put.gauge.waits = False  # or its last report would keep a PUT from stalling
            if member.puts and (keep_alive or member.sent_share != share):
                member.outbox.due = True
                self.send(member)

    def on_event(self, event: tuple[float, Any]) -> None:
        """Take a worker's report on its PUTs and hash tasks."""
        address, number, *rest = event[1]
        if (result := self._hashes.get(number)) is not None:
            if not result.done():
                result.set_result((address, rest[0]))
            return
        member = self._members.get(address)
        if member is None:
            return
        member.heard = self._clock()
        if number == 0:
            for each, *state in rest[0]:
                if (put := member.puts.get(each)) is not None:
                    _hear(put, state)
                else:  # it was given up, and the worker may not know: it would go on, beside the one that has it now
                    self.cancel(member, put=each)
        elif (put := member.puts.get(number)) is not None:
            _hear(put, rest[0])
            if rest[1] is not None:
                settle(put, unpack_failure(rest[1], address))
            elif not put.done.done():
                put.done.set_result(None)


def _hear(put: RemotePut, state: Sequence[Any]) -> None:
    try:
        put.hear(*state)
    except Exception as e:  # Dask would only log it, and nothing would end the PUT
        settle(put, e)


class Membership:
    """The connection to a cluster, made on first need."""

    def __init__(
        self,
        where: Any,
        *,
        spread: Callable[[int], None],
        shares: RateShares | None = None,
        congestion: str = "auto",
        adapts: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect nowhere yet.

        Args:
            where: A scheduler's address, a `distributed.Client`, or "local:N" for N worker processes here.
            spread: Called with the number of workers that take part.
            shares: Divides the bandwidth limit; None: no limit.
            congestion: What `HttpTransport` takes.
            adapts: Whether the number of parts in flight adapts to what workers report.
            clock: A monotonic clock in seconds.
        """
        self._where = where
        self._spread = spread
        self._clock = clock
        self.topic = f"bigupload-{secrets.token_hex(4)}"
        self._client: Any = None
        self._local: LocalWorkers | None = None
        self._connecting = asyncio.Lock()
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._introducing: asyncio.Task[None] | None = None
        self._is_introduced = False
        """Whether all workers that were there at the beginning were asked to take part."""
        self._failure = ""
        self._silent_for = 0.0
        """Seconds for which the scheduler, connected, was asked and did not answer."""
        self._connection: object = None
        """The one that the subscription is of."""
        self._lost: float | None = None
        """The time at which the connection was lost; None: it is there."""
        self.members: dict[str, Member] = {}
        self.messages = Messenger(
            self.members, lambda: self.client, self.topic, shares=shares, congestion=congestion, adapts=adapts,
            clock=clock,
        )  # fmt: skip
        self._refused: dict[str, str] = {}
        """The reasons why workers take no part, by address."""
        self.has_warned_of_streams = False
        self._news: list[str] = []
        self._files: weakref.WeakKeyDictionary[Source, SharedFile] = weakref.WeakKeyDictionary()

    # -- the connection

    async def connect(self, warn: Callable[[str], None]) -> Any:
        """The client, connected, with at least one worker. `warn` is called if it waits long for one.

        Raises:
            ClusterUnreachable: No scheduler responds, or no worker is there.
            ClusterError: No worker can be used.
        """
        async with self._connecting:
            if self._failure:
                await self._disconnect()
            if self._client is None:
                address, security = _compat.address_of(self._where)
                if address.startswith("local:"):
                    if self._local is None:
                        self._local = await LocalWorkers.start(int(address.removeprefix("local:")))
                    address, security = self._local.address, self._local.security
                self._client = await _compat.connect(address, security)
                self._subscribe()
                self._silent_for = 0.0
                self._watching = asyncio.create_task(self._watch())
            await self._wait_for(lambda: self._is_introduced and bool(self.members or self._refused), warn)
            if not self.members:
                others = f" ({len(self._refused)} workers can't be used)" if len(self._refused) > 1 else ""
                raise errors.ClusterError(min(self._refused.values()) + others)
        return self._client

    @property
    def client(self) -> Any:
        """The client of a connection that was made. Raises ClusterUnreachable if it is lost."""
        if self._failure:
            raise errors.ClusterUnreachable(self._failure)
        return self._client

    async def until_connected(self) -> None:
        """Wait while Dask's client connects to its scheduler again. Raises ClusterUnreachable if it does not."""
        await self._wait_for(lambda: self.client.status == "running", warn_nobody)

    def _subscribe(self) -> None:
        self._connection = _compat.connection(self._client)
        self._client.subscribe_topic(self.topic, self.messages.on_event)

    def _start_over(self) -> None:
        """After Dask's client has connected again. The scheduler may be another one, and knows of no subscription.

        Reports of workers in between are lost, so that they are asked again for all that they had.
        """
        _LOG.warning("connected to the Dask scheduler %s again", _compat.scheduler_address(self._client))
        self._subscribe()
        self.messages.start_over("the connection to the Dask scheduler was lost")
        for member in self.members.values():
            member.gone = True
            if member.flushing is not None:
                member.flushing.cancel()
        self.members.clear()
        self._refused.clear()

    async def _watch(self) -> None:
        kept_alive = self._clock()
        while not self._is_scheduler_gone():
            if (connection := _compat.connection(self._client)) is not None:
                if connection is not self._connection:
                    self._start_over()
                await self._update_members()
            keep_alive = self._clock() - kept_alive > _KEEP_ALIVE
            kept_alive = self._clock() if keep_alive else kept_alive
            self.messages.remind(keep_alive=keep_alive)
            await asyncio.sleep(_TICK)
        self._lose_scheduler()

    def _is_scheduler_gone(self) -> bool:
        if _compat.connection(self._client) is not None:
            self._lost = None
            return self._silent_for > _SCHEDULER_GONE_AFTER
        self._silent_for = 0.0
        if self._lost is None:
            self._lost = self._clock()
        return not _compat.reconnects(self._client) or self._clock() - self._lost > _RECONNECTS_WITHIN

    async def _update_members(self) -> None:
        """Ask which workers there are, for as long as the scheduler is connected."""
        asked = self._clock()
        asking = asyncio.ensure_future(_compat.workers_of(self._client))
        try:
            async with asyncio.timeout(ANSWER):
                while not asking.done() and _compat.connection(self._client) is not None:
                    await asyncio.wait({asking}, timeout=_TICK)
        except TimeoutError:
            pass
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        if not asking.cancelled() and asking.exception() is None:
            self._silent_for = 0.0
            self._compare(asking.result())
        else:  # a process that was stopped meanwhile has not asked for longer than that
            self._silent_for += min(self._clock() - asked, ANSWER) + _TICK

    def _compare(self, there: set[str]) -> None:
        for address in self.members.keys() - there:
            self._lose(self.members.pop(address))
        for address in self._refused.keys() - there:
            del self._refused[address]
        if self._introducing is None or self._introducing.done():  # beside the watching: a worker that hangs takes long
            self._introducing = asyncio.create_task(self._introduce(there))
        self._spread(max(1, len(self.members)))
        self._wake()

    async def _introduce(self, there: set[str]) -> None:
        """Let new workers take part, and ask those about files that were not asked yet."""
        new = there - self.members.keys() - self._refused.keys()
        await asyncio.gather(*(self._admit(address) for address in new))
        self._is_introduced = self._is_introduced or bool(there)
        self._wake()
        await asyncio.gather(
            *(
                self._verify_file(member, file)
                for file in list(self._files.values())
                for member in list(self.members.values())
                if member.address not in file.verdicts and not member.is_silent(self._clock())
            )
        )
        self._spread(max(1, len(self.members)))
        self._wake()

    async def _admit(self, address: str) -> None:
        """Let a worker take part. One that does not respond is asked again at the next update."""
        from bigupload.cluster.worker_side import install

        try:
            async with asyncio.timeout(ANSWER):
                found = (await self._client.run(install, workers=[address], on_error="return")).get(address)
        except (OSError, TimeoutError):
            return
        if found == SPOKEN:
            self.members[address] = Member(address, self._clock())
        elif isinstance(found, str):
            theirs = found.partition(" ")[0]
            if theirs == __version__:  # with other messages, as between two commits
                why = f"runs another build of bigupload {theirs}: install there what is installed here"
            else:
                why = f"has bigupload {theirs}, and this is {__version__}: install the same version there"
            self._refuse(address, f"{why}, and restart the worker")
        elif not isinstance(found, OSError | None):  # Dask does not name the module that could not be imported
            install_it = "install that version there, with the extra dask"
            self._refuse(address, f"has no bigupload {__version__}, or can't run it: {install_it}")

    def _refuse(self, address: str, reason: str) -> None:
        self._refused[address] = f"the Dask worker {address} {reason}"
        self._news.append(self._refused[address])
        _LOG.warning("%s", self._refused[address])

    def news(self) -> list[str]:
        """Return the warnings since the last call."""
        news, self._news = self._news, []
        return news

    def _lose(self, member: Member) -> None:
        member.gone = True
        _LOG.warning("the Dask worker %s is gone, with %d parts in flight", member.address, len(member.puts))
        for put in list(member.puts.values()):
            settle(put, Fault(FaultKind.BROKEN, f"the worker {member.address} is gone"))

    def _lose_scheduler(self) -> None:
        self._failure = f"the Dask scheduler {_compat.scheduler_address(self._client)} is gone: try again later"
        for member in self.members.values():
            for put in list(member.puts.values()):
                settle(put, errors.ClusterUnreachable(self._failure))
        self.messages.lose_hashes(errors.ClusterUnreachable(self._failure))
        self._wake()

    async def _wait_for(self, reached: Callable[[], bool], warn: Callable[[str], None]) -> None:
        """Wait until a condition holds, and after some seconds warn what it waits for.

        Raises:
            ClusterUnreachable: It does not hold after a minute, or the scheduler is gone.
        """
        if not self._failure and reached():
            return  # without a timer for each part
        waiting = f"no worker of the Dask cluster can be used: waits {_WORKERS_GONE_AFTER:.0f} s for one"
        timer = asyncio.get_running_loop().call_later(_WARN_AFTER, warn, waiting)
        try:
            async with asyncio.timeout(_WORKERS_GONE_AFTER):
                while not (reached() or self._failure):
                    await self._changed.wait()
        except TimeoutError:
            raise errors.ClusterUnreachable(
                f"no worker of the Dask cluster can be used since {_WORKERS_GONE_AFTER:.0f} s: start workers, "
                "and try again"
            ) from None
        finally:
            timer.cancel()
        if self._failure:
            raise errors.ClusterUnreachable(self._failure)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def aclose(self) -> None:
        """Notify the workers that nothing more comes, and end what was started here."""
        if not self._failure:
            with contextlib.suppress(OSError, TimeoutError, errors.ClusterUnreachable):
                async with asyncio.timeout(_LEAVE):
                    await asyncio.gather(*(self._leave(member) for member in self.members.values()))
        await self._disconnect()

    async def _leave(self, member: Member) -> None:
        if member.flushing is not None:
            await member.flushing
        with contextlib.suppress(WorkerUnreachable):
            await _compat.call(self.client, member.address, LEAVE, topic=self.topic)

    async def _disconnect(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        tasks: list[asyncio.Task[Any]] = [m.flushing for m in self.members.values() if m.flushing is not None]
        tasks += [] if self._introducing is None else [self._introducing]
        tasks += [task for file in self._files.values() for task in file.hashing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _compat.close(self._client)
        if self._local is not None:
            await self._local.aclose()
        self._watching = self._introducing = self._client = self._local = None
        self._is_introduced = False
        self._failure = ""
        self.members.clear()
        self._refused.clear()

    # -- files

    async def share(
        self, source: Source, ca_bundle: str | bool | None, warn: Callable[[str], None] = warn_nobody
    ) -> SharedFile:
        """A file that workers read. The first call asks them whether they see the same one.

        Args:
            source: The file.
            ca_bundle: The certificates to trust, which workers must have too.
            warn: Called with each message about the file's upload.

        Raises:
            FileNotShared: A worker sees another file, or none.
            ClusterError: The cluster can't be used.
        """
        known = self._files.get(source)
        if known is not None and self._client is not None and not self._failure:
            return known  # each part asks
        await self.connect(warn)
        if source not in self._files:
            sampled = await run_in_daemon_thread(partial(sample, source))
            file = SharedFile(FileId.of(source), sampled, ca_bundle=ca_bundle, warn=warn)
            await asyncio.gather(*(self._verify_file(member, file) for member in list(self.members.values())))
            for address, verdict in file.verdicts.items():
                if verdict:
                    raise _not_shared(address, verdict)
            self._files.setdefault(source, file)
        return self._files[source]

    async def _verify_file(self, member: Member, file: SharedFile) -> None:
        with contextlib.suppress(WorkerUnreachable, OSError, TimeoutError):  # then it gets no part of this file
            async with asyncio.timeout(ANSWER):
                file.verdicts[member.address] = verdict = await _compat.call(
                    self.client,
                    member.address,
                    LOOK,
                    file=file.id.pack(),
                    expected=file.bytes_sampled,
                    ca=file.ca_bundle,
                )  # fmt: skip
            if verdict:
                _LOG.warning("the Dask worker %s gets no part: %s", member.address, verdict)

    async def member_for(self, file: SharedFile, *, near: str | None = None, not_: Collection[str] = ()) -> Member:
        """The worker for a part, as `choose` chooses. Waits until there is one."""
        found: list[Member] = []

        def look() -> bool:
            member = None
            if _compat.connection(self._client) is not None:
                member = choose(self.members.values(), file, self._clock(), near=near, not_=not_)
            if member is not None:
                found.append(member)
            elif self.members and all(file.verdicts.get(address) for address in self.members):
                raise _not_shared(*next(iter(file.verdicts.items())))
            return bool(found)

        def warn(what: str) -> None:
            if not file.has_warned_of_wait:  # of many parts that wait, one reports it
                file.has_warned_of_wait = True
                file.warn(what)

        await self._wait_for(look, warn)
        file.has_warned_of_wait = False
        return found[0]

    def avoid(self, member: Member) -> None:
        """Give a worker that does not reach the store nothing for a while, if others do."""
        member.avoided_until = self._clock() + _AVOID_FOR


def _not_shared(worker: str, verdict: str) -> errors.FileNotShared:
    return errors.FileNotShared(
        f"the Dask worker {worker} does not see the same file: {verdict}. Workers need the file system that the file "
        "is on, under the same path"
    )

"""Between a coordinator and its workers: messages to a worker about PUTs, and its events about these and about hash
tasks.

News that comes while a message is under way goes with the next one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bigupload import errors
from bigupload.cluster import _compat
from bigupload.cluster._compat import WorkerUnreachable
from bigupload.cluster.members import Member, Outbox, RateShares, RemoteGauge, RemotePut, settle
from bigupload.cluster.messages import LEAVE, WORK, PutTask, Sealed, pack_failure, pack_put, unpack_failure
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import OnNews

ANSWER = 10.0
"""Seconds for a worker to answer."""
_ADAPTING, _FIXED = 0.2, 1.0
"""Seconds between a worker's reports: whether the number of parts in flight adapts to what they say, or is fixed. With
more than twenty workers, each reports more rarely. A report costs this machine as much as half a part."""


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
            self.tell(member, cancel=number)
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

    def begin_anew(self, reason: str) -> None:
        """Give up all requests to the workers, whose reports may be lost. They are sent again."""
        broken = Fault(FaultKind.BROKEN, reason)
        for member in self._members.values():
            for put in list(member.puts.values()):
                settle(put, broken)
        for result in [each for each in self._hashes.values() if not each.done()]:
            result.set_result(("", pack_failure(broken)))

    def tell(self, member: Member, *, cancel: int | None = None, stop: int | None = None) -> None:
        """Ask a worker to cancel a PUT, or to stop a hash task."""
        member.outbox.cancels += [] if cancel is None else [cancel]
        member.outbox.stops += [] if stop is None else [stop]
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
                member.told_share = share
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
        """Divide the bandwidth limit anew. What would be too much is taken back at once."""
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
            if member.puts and (keep_alive or member.told_share != share):
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
                    self.tell(member, cancel=each)
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

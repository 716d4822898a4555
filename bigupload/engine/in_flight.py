"""The PUTs in flight: each holds one of the shared slots. One that is too much is paused, and goes on later. One that
stalls is cancelled.

A straggler, which is far slower than the others, is hedged: the part is sent a second time. The first response wins.
The other PUT is cancelled and awaited.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bigupload.core.hedging import Budget, Pace
from bigupload.core.integrity import PartProof
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.context import PutInFlight, SharedSlots, UploadContext
from bigupload.engine.retrying import RunCounts
from bigupload.ports import PutResponse, SignedRequest, Source, Transport
from bigupload.support.cancellation import shield

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

_LOG = logging.getLogger("bigupload.engine")
_REPORT_EVERY = 3
"""Ticks between two progress reports."""
_MOST_HEDGES = 4
"""Hedges of one PUT. A hedge that fails at once costs no bytes, so that the budget would not stop the next one: a store
that asks to slow down would get one at every tick."""
_UNAMBIGUOUS = {PartProof.CHECKSUM, PartProof.ETAG}


async def send(
    put: PutInFlight,
    *,
    transport: Transport,
    shared: SharedSlots,
    counts: RunCounts,
    clock: Callable[[], float],
    fresh: bool,
) -> None:
    """Send one PUT, until there is a response, it fails, or its scope is cancelled. `fresh` is `Transport.put`'s."""
    shared.puts.add(put)
    shared.flight.began()
    outcome = "cancelled"
    try:
        with put.scope:
            await put.deliver(transport, fresh=fresh)
            outcome = "acknowledged"
        if put.response is not None:
            shared.stored(put, clock())
    except Fault as fault:
        fault.moved_at = put.moved_at
        outcome = f"{fault.kind.name}: {fault}"
        raise
    finally:
        if _LOG.isEnabledFor(logging.DEBUG):
            put.log(clock(), outcome)
        shared.first_puts.discard(put)
        counts.bytes_sent += shared.ended(put)
        put.ended.set()


class PartsInFlight:
    """The PUTs of one `PartUploader`."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._puts: set[PutInFlight] = set()
        self._send = partial(
            send,
            transport=context.transport,
            shared=context.shared,
            counts=context.counts,
            clock=context.effects.clock,
        )
        self.pace = Pace()
        plan = context.manifest.plan
        self._budget = Budget(plan.size or 0, plan.part_size)
        self._proofs = {part.proof for part in context.manifest.parts.values()}
        self.all_begun = False
        """Whether every missing part has had a first PUT."""

    def sent(self) -> int:
        """Bytes sent of the parts in flight. Of a part that is sent twice, the PUT that has sent more counts."""
        return sum(max(f.sent(), f.hedge.sent() if f.hedge else 0) for f in self._puts)

    @property
    def all_accepted(self) -> bool:
        """Whether something is in flight, and nothing of it is left to send now."""
        return bool(self._puts) and all(put.accepted is not None or put.is_paused for put in self._puts)

    def proved(self, proof: PartProof) -> None:
        """Note how a part was proved. Hedging needs a proof that distinguishes two bodies."""
        self._proofs.add(proof)

    @property
    def proofs_are_unambiguous(self) -> bool:
        """Whether parts were proved, and each in a way that distinguishes two bodies."""
        return bool(self._proofs) and self._proofs <= _UNAMBIGUOUS

    async def put(self, source: Source, part: Part, request: SignedRequest) -> PutResponse:
        """Like `Transport.put`, with hedging. Raises Fault(STALLED) if the PUT makes no progress."""
        async with self._context.slots:
            return await self.put_in_slot(source, part, request)

    async def put_in_slot(
        self, source: Source, part: Part, request: SignedRequest, *, fresh: bool = False, attempt: int = 1
    ) -> PutResponse:
        """Like `put`, for a caller that holds one of the slots. `fresh` is `Transport.put`'s."""
        context = self._context
        now, priority = context.effects.clock(), context.settings.priority
        put = PutInFlight(source, part, request, now, attempt, priority=priority)
        self._puts.add(put)
        if source is context.source:
            context.shared.first_puts.add(put)
        try:
            response = await self._first_response(put, fresh=fresh)
        finally:
            self._puts.discard(put)
        self.pace.arrived(put.took(context.effects.clock()))
        return response

    async def send_group_in_slot(self, group: PutInFlight) -> Fault | None:
        """Send the parts of a group, for a caller that holds one of the slots.

        Returns:
            Why the part failed that was in flight; None if none failed. There may be parts that were not sent.
        """
        self._puts.add(group)
        self._context.shared.first_puts.add(group)
        try:
            await self._send(group, fresh=False)
        except Fault as fault:
            return fault
        finally:
            self._puts.discard(group)
        stalled = group.scope.cancelled_caught and not group.lags
        return group.stalled(self._context.effects.clock()) if stalled else None

    async def _first_response(self, put: PutInFlight, *, fresh: bool) -> PutResponse:
        fault: Fault | None = None
        try:
            try:
                await self._send(put, fresh=fresh)
            except Fault as e:
                fault = e
            if put.hedges and fault is not None and fault.kind.refuses_hedges:
                self._context.stop_hedging(_refused(put.part, fault))
                # Nobody knows which of the two PUTs the store has kept, if any, so that the other response proves
                # nothing. Sent alone, the part shows whether the upload still exists.
                message = f"part {put.part.number} was refused while it was sent twice ({fault}): it is sent alone"
                raise Fault(FaultKind.BROKEN, message, status=fault.status) from fault
            if put.response is None and put.hedge is not None:
                await put.hedge.ended.wait()  # it may still arrive
        finally:
            if put.hedge is not None and not put.hedge.ended.is_set():
                put.hedge.scope.cancel()
                with shield():
                    await put.hedge.ended.wait()
        for each in (put, put.hedge):
            if each is not None and each.response is not None:
                return each.response
        raise fault or put.stalled(self._context.effects.clock())

    async def watch(self, report: Callable[[], None]) -> None:
        """Watch the PUTs until cancelled. Call `report` a few times a second."""
        import anyio  # a small file does without

        async with anyio.create_task_group() as hedges:
            ticks = 0
            while True:
                await self._context.effects.sleep(self._context.shared.tick)
                now = self._context.effects.clock()
                for put in self._puts:
                    for each in (put, put.hedge):
                        if each is not None:
                            each.cancel_if_stalled(now, self._context.policy, self._context.shared)
                self._hedge_stragglers(hedges, now)
                self._context.shared.adapt(now)
                ticks += 1
                if ticks % _REPORT_EVERY == 0:
                    report()

    def _hedge_stragglers(self, tasks: TaskGroup, now: float) -> None:
        if not self._context.hedging.on or not self.proofs_are_unambiguous:
            return
        late = self._context.shared.flight.stored_parts.late  # then the second PUT waits behind the first
        primary = [
            f
            for f in self._puts
            if not f.ended.is_set() and f.hedges < _MOST_HEDGES and f.source is self._context.source
            if not f.gauge.paused() and not (late and f.accepted is not None)
        ]
        newest = [f.hedge or f for f in primary]
        for index in self.pace.lagging([f.progress(now) for f in newest], at_the_end=self.all_begun):
            put = primary[index]
            if put.is_group:
                if not put.lags and self._budget.take(put.sent()):
                    put.lags = True
                    put.scope.cancel()  # its parts are sent one by one then, and are hedged
            elif put.hedge is not None:
                spent = put.hedge.sent()
                if spent <= put.sent() and self._budget.has(spent):
                    put.hedge.scope.cancel()  # the hedge is no faster: the next tick starts another one
            elif self._budget.take(put.part.size):
                put.hedges += 1
                self._context.hedging.began(put.part.number)
                put.hedge = PutInFlight(put.source, put.part, put.request, now, put.attempt)
                put.hedge.is_hedge = True
                tasks.start_soon(self._hedge, put, put.hedge)

    async def _hedge(self, first: PutInFlight, second: PutInFlight) -> None:
        try:
            try:
                await self._send(second, fresh=True)
            except Fault as fault:
                if fault.kind.refuses_hedges:
                    self._context.stop_hedging(_refused(second.part, fault))
            if second.response is None and not first.ended.is_set():
                first.hedge = None
        finally:
            loser = second if second.response is None else first
            self._budget.give_back(max(0, second.part.size - loser.sent()))
        if second.response is not None:
            first.scope.cancel()


def _refused(part: Part, fault: Fault) -> str:
    return f"the store does not take part {part.number} twice at a time ({fault})"

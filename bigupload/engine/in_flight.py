"""The PUTs under way: each in one of the shared slots, watched, cancelled when it stands still, and sent a second time
when it lags far behind the others. The first answer wins, the other PUT is cancelled and awaited.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from bigupload.core.hedging import Budget, Pace, PutProgress
from bigupload.core.integrity import PartProof
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.context import UploadContext
from bigupload.engine.hedge_switch import REFUSALS
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source

_LOG = logging.getLogger("bigupload.engine")
TICK = 0.1
"""Seconds between two looks at what is in flight."""
_REPORT_EVERY = 3
"""Ticks."""
_MOST_AGAIN = 4
"""Times that one PUT's part is sent again beside it. One that fails at once costs no bytes, and would be followed by
the next at the next look: to a store that asks to slow down, of all stores."""
_UNAMBIGUOUS = {PartProof.CHECKSUM, PartProof.ETAG}


class PutInFlight:
    """One PUT under way."""

    def __init__(self, source: Source, part: Part, request: SignedRequest, now: float, attempt: int = 1) -> None:
        self.source = source
        self.part = part
        self.request = request
        self.scope = anyio.CancelScope()
        self.gauge: Gauge | None = None
        self.began = now
        self.attempt = attempt
        """Which attempt at the part this is, from 1; for the log."""
        self.second: PutInFlight | None = None
        """The same part, sent again because this one lags."""
        self.again = 0
        """How often it was."""
        self.answer: PutResponse | None = None
        self.ended = anyio.Event()
        self._seen = 0
        self._moved_at = now

    def started(self, gauge: Gauge) -> None:
        self.gauge = gauge

    def sent(self) -> int:
        return self.gauge.sent() if self.gauge is not None else 0

    def address(self) -> str | None:
        return self.gauge.address() if self.gauge is not None else None

    def paused(self) -> bool:
        return self.gauge is not None and self.gauge.paused()

    def progress(self, now: float) -> PutProgress:
        return PutProgress(self.part.size, self.sent(), now - self.began)

    def moves(self, now: float, policy: RetryPolicy) -> bool:
        """Look again: False once it stands still for too long. `part.size` bytes out, it is the store's turn."""
        sent = self.sent()
        if sent != self._seen or self.paused():
            self._seen, self._moved_at = sent, now
        limit = policy.response_timeout if sent >= self.part.size else policy.stall_after
        return now - self._moved_at <= limit


class PartsInFlight:
    """Of one run over the missing parts of one upload."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._flying: set[PutInFlight] = set()
        self._pace = Pace()
        plan = context.manifest.plan
        self._budget = Budget(plan.size, plan.part_size)
        self._proofs = {part.proof for part in context.manifest.parts.values()}
        self.all_begun = False
        """Whether no part waits for its first PUT any more."""

    def sent(self) -> int:
        """Bytes of parts that are in flight now; of one that is sent twice, those of the PUT that is further."""
        return sum(max(f.sent(), f.second.sent() if f.second else 0) for f in self._flying)

    def proved(self, proof: PartProof) -> None:
        """How a part was proved: no part is sent twice until one was, nor where that does not tell two bodies apart."""
        self._proofs.add(proof)

    async def put(self, source: Source, part: Part, request: SignedRequest) -> PutResponse:
        """As `Transport.put`, also by a second PUT of the same. Raises Fault(STALLED) where it stands still."""
        async with self._context.shared.slots:
            return await self.put_in_slot(source, part, request)

    async def put_in_slot(
        self, source: Source, part: Part, request: SignedRequest, *, fresh: bool = False, attempt: int = 1
    ) -> PutResponse:
        """As `put`, of a caller that has one of the slots. `fresh` as `Transport.put`'s."""
        context = self._context
        flight = PutInFlight(source, part, request, context.effects.clock(), attempt)
        self._flying.add(flight)
        try:
            answer = await self._first_answer(flight, fresh=fresh)
        finally:
            self._flying.discard(flight)
        self._pace.arrived(context.effects.clock() - flight.began)
        return answer

    async def _first_answer(self, flight: PutInFlight, *, fresh: bool) -> PutResponse:
        fault = Fault(FaultKind.STALLED, f"part {flight.part.number} stood still")
        try:
            try:
                await self._fly(flight, fresh=fresh)
            except Fault as e:
                fault = e
            if flight.again and fault.kind in REFUSALS:
                self._context.stop_hedging(_refused(flight.part, fault))
                # Nobody knows which of the two the store has kept, or whether it has any: the other's answer, too,
                # would be of a part that it did not stand. Alone, the part shows whether the upload is still there.
                message = f"part {flight.part.number} was refused while it was sent twice ({fault}): it is sent alone"
                raise Fault(FaultKind.BROKEN, message, status=fault.status) from fault
            if flight.answer is None and flight.second is not None:
                await flight.second.ended.wait()  # it may still arrive
        finally:
            if flight.second is not None and not flight.second.ended.is_set():
                flight.second.scope.cancel()
                with anyio.CancelScope(shield=True):
                    await flight.second.ended.wait()
        for each in (flight, flight.second):
            if each is not None and each.answer is not None:
                return each.answer
        raise fault

    async def _fly(self, flight: PutInFlight, *, fresh: bool) -> None:
        """One PUT, until it is answered, fails, or its scope is cancelled."""
        context = self._context
        context.shared.gauges.add(flight)
        context.shared.concurrency.started()
        outcome = "cancelled"
        try:
            with flight.scope:
                flight.answer = await context.transport.put(
                    flight.request, flight.source, flight.part, on_start=flight.started, fresh=fresh
                )
                outcome = "acknowledged"
        except Fault as fault:
            outcome = f"{fault.kind.name}: {fault}"
            raise
        finally:
            if _LOG.isEnabledFor(logging.DEBUG):
                _log_attempt(flight, context.effects.clock(), outcome)
            context.shared.gauges.discard(flight)
            context.counts.bytes_sent += flight.sent()
            context.shared.bytes_sent += flight.sent()
            flight.ended.set()

    async def watch(self, report: Callable[[], None]) -> None:
        """Until it is cancelled; calls `report` a few times a second."""
        async with anyio.create_task_group() as seconds:
            ticks = 0
            while True:
                await self._context.effects.sleep(TICK)
                now = self._context.effects.clock()
                for flight in self._flying:
                    for each in (flight, flight.second):
                        if each is not None and not each.moves(now, self._context.retrier.policy):
                            each.scope.cancel()
                self._send_laggards_again(seconds, now)
                self._context.shared.adapt(now)
                ticks += 1
                if ticks % _REPORT_EVERY == 0:
                    report()

    def _send_laggards_again(self, tasks: TaskGroup, now: float) -> None:
        if not self._context.hedging.on or not self._proofs or not self._proofs <= _UNAMBIGUOUS:
            return
        flying = [
            f
            for f in self._flying
            if not f.ended.is_set() and f.again < _MOST_AGAIN and f.source is self._context.source and not f.paused()
        ]
        newest = [f.second or f for f in flying]
        for index in self._pace.lagging([f.progress(now) for f in newest], at_the_end=self.all_begun):
            flight = flying[index]
            if flight.second is not None:
                spent = flight.second.sent()
                if spent <= flight.sent() and self._budget.has(spent):
                    flight.second.scope.cancel()  # it is no better off: the next look sends another
            elif self._budget.take(flight.part.size):
                flight.again += 1
                self._context.hedging.began(flight.part.number)
                flight.second = PutInFlight(flight.source, flight.part, flight.request, now, flight.attempt)
                tasks.start_soon(self._fly_again, flight, flight.second)

    async def _fly_again(self, first: PutInFlight, second: PutInFlight) -> None:
        try:
            try:
                await self._fly(second, fresh=True)
            except Fault as fault:
                if fault.kind in REFUSALS:
                    self._context.stop_hedging(_refused(second.part, fault))
            if second.answer is None and not first.ended.is_set():
                first.second = None
        finally:
            loser = second if second.answer is None else first
            self._budget.give_back(max(0, second.part.size - loser.sent()))
        if second.answer is not None:
            first.scope.cancel()


def _log_attempt(flight: PutInFlight, now: float, outcome: str) -> None:
    _LOG.debug(
        "part %d, attempt %d to %s: %s after %.0f ms, %d of %d bytes sent",
        flight.part.number,
        flight.attempt,
        flight.address() or "no address",
        outcome,
        (now - flight.began) * 1000,
        flight.sent(),
        flight.part.size,
    )


def _refused(part: Part, fault: Fault) -> str:
    return f"the store does not take part {part.number} twice at a time ({fault})"

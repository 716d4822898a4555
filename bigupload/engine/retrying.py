"""Send a request until the store responds, by the retry policy, and report retries and outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import field
from typing import TypeVar

from bigupload import events
from bigupload.core.retry_policy import Attempts, Fault, FaultKind, Retry, RetryPolicy
from bigupload.records import dataclass
from bigupload.units import format_seconds

R = TypeVar("R")

_INSTANT = 1e-6
"""Seconds. A silence that has just begun is not zero, which would mean "the store responded meanwhile"."""
_REPORT_OUTAGE_EVERY = 60.0
"""Seconds between two events about the same outage."""


def _random() -> float:
    import random  # a first attempt needs none

    return random.random()  # noqa: S311 - how long to wait is not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Time and randomness, which tests replace. The clock counts seconds from any start."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = _random


@dataclass(slots=True)
class RunCounts:
    """The counts of this run."""

    resumed_parts: int = 0
    bytes_sent: int = 0
    """Bytes of request bodies that left this machine, including those of failed attempts."""
    bytes_copied: int = 0
    """Bytes of the parts that the store copied, instead of their being sent."""
    retries: int = 0
    restarts: int = 0


@dataclass(slots=True)
class _Outage:
    """A time without any connection, from the first request that met it."""

    since: float
    reported: float
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Contact:
    """The time of the store's latest response: while it responds to one request, the others do not meet an outage."""

    responded_at: float | None = None
    silent_since: float | None = None
    heard_at: float | None = None
    """The time of the latest response of this run, whatever is known of earlier ones."""
    unanswered_since: float | None = None
    """The beginning of the first attempt that got no response, with none to any request since."""
    outage: _Outage | None = None


@dataclass(slots=True, kw_only=True)
class Retrier:
    """Retries the requests of one upload, and emits events about that."""

    policy: RetryPolicy
    emit: Callable[[events.Event], None]
    effects: Effects = Effects()
    counts: RunCounts = field(default_factory=RunCounts)
    contact: Contact = field(default_factory=Contact)
    """All requests share it; those of several uploads, too, if they are one job."""
    peer: str = "the store"
    """The receiver of the requests, for events."""
    answered_before: Callable[[], Awaitable[bool]] | None = None
    """Returns whether an earlier run had a response from this endpoint: then silence is an outage from the start, and
    no mistyped address. None: nobody knows."""

    def attempts(self) -> Attempts:
        """Begin to count the attempts of a new request."""
        return Attempts(self.policy, self.effects.random)

    def record_response(self) -> None:
        """Remember that the store responded just now. This ends an outage."""
        self.contact.responded_at = self.contact.heard_at = self.effects.clock()
        self.contact.unanswered_since = None
        if self.contact.outage is not None:
            self.emit(events.OutageEnded(lasted=self.contact.responded_at - self.contact.outage.since, peer=self.peer))
            self.contact.outage.is_over.set()
            self.contact.outage = None

    def record_contact(self, at: float) -> None:
        """Remember that the store was there at some moment, although it has not responded yet."""
        if self.contact.responded_at is None:
            self.contact.responded_at = at

    def _silence(self, since: float) -> float | None:
        """The `silence` that `Attempts.after` asks for, for an attempt that began at `since`."""
        if self.contact.responded_at is None:
            return None
        if self.contact.responded_at >= since:
            return 0.0
        # Counted from the first attempt that got no response, not from the last response: a part may take hours.
        if self.contact.silent_since is None or self.contact.silent_since < self.contact.responded_at:
            self.contact.silent_since = since
        return max(self.effects.clock() - self.contact.silent_since, _INSTANT)

    def _unanswered(self, fault: Fault, since: float) -> float:
        """The seconds without a response to any request, after an attempt that began at `since`."""
        if not fault.kind.no_response:
            return 0.0
        contact = self.contact
        begin = since if contact.unanswered_since is None else contact.unanswered_since
        signs = [at for at in (contact.heard_at, fault.moved_at) if at is not None]
        contact.unanswered_since = max([begin, *signs])
        return self.effects.clock() - contact.unanswered_since

    async def pause(self, attempts: Attempts, fault: Fault, since: float, part: int | None = None) -> Retry:
        """Wait after a failed attempt, by the policy.

        Args:
            attempts: The attempts of this request so far.
            fault: Why the last attempt failed.
            since: When that attempt began, by `effects.clock`.
            part: The part number, for a part's request.

        Returns:
            What to do before the next attempt: sign or hash again.

        Raises:
            BigUploadError: That was the last attempt.
        """
        if fault.status is not None and (fault.status != 404 or fault.code):  # a mistyped URL gets a bare 404
            self.record_response()
        attempt = attempts.made
        if fault.kind is FaultKind.UNREACHABLE and self.contact.responded_at is None:
            await self._remember_contact(since)
        silence = self._silence(since)
        retry = attempts.after(fault, silence=silence, unanswered=self._unanswered(fault, since))
        self.counts.retries += 1
        if fault.kind is FaultKind.UNREACHABLE and silence:
            outage = self._report_outage(fault, silence)
            if attempts.made <= self.policy.attempts // 2:
                await self._wait_out(outage, retry.delay)
            else:  # the store may come and go: the last attempts are not for its first response
                await self.effects.sleep(retry.delay)
        elif fault.has_other_time and (fault.is_explained or fault.kind is FaultKind.SKEWED):
            if fault.warning:  # it says all, once: requests that were signed before it are refused, too
                self.emit(events.Warned(message=fault.warning))
            await self.effects.sleep(retry.delay)
        else:
            self.emit(events.Retrying(part=part, attempt=attempt, delay=retry.delay, reason=self._reason(fault)))
            await self.effects.sleep(retry.delay)
        return retry

    async def _remember_contact(self, since: float) -> None:
        """Count an earlier run's response as one from before `since`. It is asked for once."""
        answered_before, self.answered_before = self.answered_before, None
        if answered_before is not None and await answered_before():
            self.record_contact(since - _INSTANT)

    async def _wait_out(self, outage: _Outage, delay: float) -> None:
        """Wait for `delay` seconds, or until a moment after the outage: not all parts are to come back at once."""

        import anyio

        async def follow_the_first() -> None:
            await outage.is_over.wait()
            await self.effects.sleep(self.effects.random() * self.policy.base_delay)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow_the_first)
            await self.effects.sleep(delay)
            tasks.cancel_scope.cancel()

    def _report_outage(self, fault: Fault, silence: float) -> _Outage:
        """One event when an outage begins and one now and then: every part in flight would have one otherwise."""
        now, left = self.effects.clock(), max(0.0, self.policy.give_up_after - silence)
        if self.contact.outage is None:
            self.contact.outage = _Outage(now - silence, now)
            self.emit(events.OutageStarted(reason=str(fault), gives_up_in=left, peer=self.peer))
        elif now - self.contact.outage.reported >= _REPORT_OUTAGE_EVERY:
            self.contact.outage.reported = now
            event = events.OutageContinues(reason=str(fault), lasted=silence, gives_up_in=left, peer=self.peer)
            self.emit(event)
        return self.contact.outage

    def _reason(self, fault: Fault) -> str:
        """The fault's text, and a long wait that is asked for: its delay would look like a hang otherwise."""
        text = f"{fault}: {fault.hint}" if fault.is_explained else str(fault)
        if (fault.retry_after or 0.0) < _REPORT_OUTAGE_EVERY:
            return text
        return f"{text}; {self.peer} asks to wait {format_seconds(fault.retry_after or 0.0)}"

    async def request(
        self,
        call: Callable[[], Awaitable[R]],
        *,
        expected: Collection[FaultKind] = (),
        contacts_store: bool = True,
    ) -> R:
        """Call `call` until it succeeds.

        Args:
            call: Sends the request once.
            expected: Kinds of faults that are raised to the caller at once.
            contacts_store: False for calls that may succeed without a request, as signing does. Their success is no
                response: otherwise a mistyped endpoint would look like an outage to wait out.

        Raises:
            Fault: The request failed with a kind in `expected`.
            BigUploadError: The attempts are used up, or no retry can help.
        """
        attempts = self.attempts()
        while True:
            since = self.effects.clock()
            try:
                result = await call()
            except Fault as fault:
                if fault.kind in expected:
                    self.record_response()
                    raise
                if fault.progressed:  # however slowly
                    attempts = self.attempts()
                await self.pause(attempts, fault, since)
            else:
                if contacts_store:
                    self.record_response()
                return result

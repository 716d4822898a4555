"""Send a request until the store responds, as the retry policy says, and report each retry."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from bigupload import events
from bigupload.core.retry_policy import Attempts, Fault, FaultKind, Retry, RetryPolicy

R = TypeVar("R")

_INSTANT = 1e-6
"""Seconds: silence that has only begun is silence, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Time and chance, so that tests can play them."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random


@dataclass(slots=True)
class RunCounts:
    """What happened in this run."""

    resumed_parts: int = 0
    bytes_sent: int = 0
    """Bytes of bodies that left this machine, those of failed attempts included."""
    retries: int = 0
    restarts: int = 0


@dataclass(slots=True, kw_only=True)
class Retrier:
    """Asks again, as the policy says, and tells what it does."""

    policy: RetryPolicy
    emit: Callable[[events.Event], None]
    effects: Effects = field(default_factory=Effects)
    counts: RunCounts = field(default_factory=RunCounts)
    _last_contact: float | None = None
    _silent_since: float | None = None

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

    async def pause(self, attempts: Attempts, fault: Fault, since: float, part: int | None = None) -> Retry:
        """After a failed attempt: wait as long as the policy says. Says what is to be made anew before the next.

        Raises the public error where there is nothing more to try.
        """
        if fault.status is not None and (fault.status != 404 or fault.code):  # a bare 404 is what a mistyped URL gets
            self.contact()
        attempt = attempts.made
        again = attempts.after(fault, silence=self._silence(since))
        self.counts.retries += 1
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

"""Translate the store's errors into the service's, and find out whether the store responds.

`/readyz` asks for that, and so do requests that have waited long for the store.

A store that has stalled accepts connections and says nothing. Most of the service's calls have a short time limit. A
complete or a copy may rightly take minutes, so such a call waits for as long as the store responds to something else.
The client is told what to do; the store's message is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.problems import Problem, Refused
from bigupload.stores.s3.renewal import CREDENTIALS_EXPIRING
from bigupload.support.cancellation import retrieve

_RETRY_SOON = 5.0
"""The value of Retry-After, in seconds."""

_PROBLEMS = {
    FaultKind.GONE: Problem.UPLOAD_GONE,
    FaultKind.CORRUPTED: Problem.CHECKSUM_MISMATCH,
    FaultKind.INVALID_PART: Problem.PART_NOT_STORED,
}


@contextlib.contextmanager
def store_faults_as_refusals() -> Iterator[None]:
    """Raise Refused in place of a Fault or a public error of the store, which becomes its cause."""
    try:
        yield
    except (Fault, errors.BigUploadError) as e:
        raise refusal_of(e) from e


def refusal_of(error: Fault | errors.BigUploadError) -> Refused:
    """Return the error for the client that a store's error becomes."""
    if isinstance(error, errors.StoreUnavailable | errors.StoreUnreachable):
        return Refused(Problem.STORE_UNAVAILABLE, retry_after=_RETRY_SOON)
    if not isinstance(error, Fault):
        return Refused(Problem.STORE_REFUSED)
    if error.code == CREDENTIALS_EXPIRING:
        return Refused(Problem.CREDENTIALS_EXPIRING, retry_after=_RETRY_SOON)
    if error.kind.is_retried:
        return Refused(Problem.STORE_UNAVAILABLE, retry_after=max(error.retry_after or 0.0, _RETRY_SOON))
    return Refused(_PROBLEMS.get(error.kind, Problem.STORE_REFUSED))


async def quietly(call: Callable[..., Awaitable[object]], *arguments: object, **named: object) -> None:
    """Send a request to the store, and ignore its failure, which must neither end the caller nor hide another one."""
    with contextlib.suppress(Fault, errors.BigUploadError):
        await call(*arguments, **named)


T = TypeVar("T")

STORE_TIMEOUT = 10.0
"""The default of `--store-timeout`, in seconds. A healthy store responds to all calls but complete and copy in less
than one. A client's own limit is usually 30 or 60 s, and it should get the 503 with its Retry-After before that."""
_ASKED_WITHIN = 3.0
"""The time limit of the question, in seconds. Kubernetes' probes, for example, are given as little as their
`timeoutSeconds`, of which 5 is usual."""
_ASKED_EVERY = 5.0
"""For how many seconds an answer counts. Probes of several balancers cost the store one request in that time."""


class StoreHealth:
    """Asks the store whether it responds, once for all who want to know."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        *,
        patience: float = STORE_TIMEOUT,
        within: float = _ASKED_WITHIN,
        every: float = _ASKED_EVERY,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Make it. It asks nothing until somebody wants to know.

        Args:
            ask: Sends a small request to the store. Raises Fault or BigUploadError.
            patience: After how many seconds of waiting for the store `while_responding` asks.
            within: The time limit of the question, in seconds.
            every: For how many seconds an answer counts.
            clock: Returns seconds.
            on_change: Called with the reason when the store stops responding, and with None when it responds again.
        """
        self._ask = ask
        self._patience = patience
        self._within = within
        self._every = every
        self._clock = clock
        self._on_change = on_change
        self._asking: asyncio.Task[Fault | errors.BigUploadError | None] | None = None
        self._problem: Fault | errors.BigUploadError | None = None
        self._known_at: float | None = None

    async def problem(self) -> Fault | errors.BigUploadError | None:
        """Return why the store can't be used; None if it responds. The answer is at most `every` seconds old."""
        if self._known_at is not None and self._clock() - self._known_at < self._every:
            return self._problem
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer())
        return await asyncio.shield(self._asking)  # others may wait for it, too

    async def _answer(self) -> Fault | errors.BigUploadError | None:
        found: Fault | errors.BigUploadError | None = None
        try:
            async with asyncio.timeout(self._within):
                await self._ask()
        except TimeoutError:
            found = Fault(FaultKind.STALLED, f"the store did not respond within {self._within:g} s")
        except (Fault, errors.BigUploadError) as e:
            # A store that asks to slow down is there, and another replica would meet the same.
            found = None if isinstance(e, Fault) and e.kind.asks_to_slow_down else e
        if (found is None) != (self._problem is None):
            self._on_change(None if found is None else str(found))
        self._problem, self._known_at = found, self._clock()
        return found

    async def while_responding(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which waits for the store. It is left behind when the store stops responding.

        Raises:
            Refused: STORE_UNAVAILABLE or STORE_REFUSED, within `patience` and the time limit of a question.
            Exception: What `work` raises.
        """
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._patience))[0]:
                asking = asyncio.create_task(self.problem())
                # `work` may end meanwhile, with its result or at its own time limit.
                await asyncio.wait({task, asking}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done() and (problem := await asking) is not None:
                    raise refusal_of(problem) from problem
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(retrieve)

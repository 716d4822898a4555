"""Count an account's objects beside the requests that need the count. Knows nothing of limits.

The list of a million objects takes minutes, and no request waits that long. One count of an account runs at a time, in
a task of its own (`Counts`). The last count of an account that takes long is kept in the bucket (`KeptCounts`): a
process that starts has no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.records import dataclass
from bigupload.service.media.object_keys import COUNTS_PREFIX
from bigupload.service.media_objects import MediaBucket

PATIENCE = 2.0
"""Seconds for which a request waits for a count: then it goes on by what is known."""
_MOST_FAILED = 10_000


@dataclass(frozen=True, slots=True)
class KeptCount:
    """A finished count."""

    stored: int
    took: float
    """Seconds."""


class KeptCounts:
    """The counts of accounts with many objects, as notes in the bucket, for processes that start later."""

    def __init__(self, objects: MediaBucket) -> None:
        """`objects`: the bucket."""
        self._objects = objects

    async def read(self, account: str, unit: str) -> KeptCount | None:
        """Return the last count of `unit`; None: there is none, or the store can't be asked."""
        try:
            note = await self._objects.note(_note_of(account, unit))
            return None if note is None else KeptCount(int(note["stored"]), float(note["took"]))
        except (Fault, errors.BigUploadError, KeyError, ValueError):
            return None

    async def keep(self, account: str, unit: str, count: KeptCount) -> None:
        """Keep a count. If the store refuses, the next process counts without it."""
        with contextlib.suppress(Fault, errors.BigUploadError):
            note = {"stored": str(count.stored), "took": f"{count.took:.3f}"}
            await self._objects.put_note(_note_of(account, unit), note)


def _note_of(account: str, unit: str) -> str:
    return f"{COUNTS_PREFIX}{hashlib.sha256(f'{unit}/{account}'.encode()).hexdigest()[:40]}"


class RunningCount:
    """A count that is under way, for all who wait for it."""

    def __init__(self, patience: float) -> None:
        """Nobody waits for longer than `patience` seconds."""
        loop = asyncio.get_running_loop()
        self.may_go_on = loop.create_future()
        """Done when nobody waits any more."""
        self.is_done = False
        self.has_earlier = False
        """Whether an earlier count holds until this one is done."""
        self.error: Exception | None = None
        self._patience = patience
        self._timer = loop.call_later(patience, self.go_on)

    def earlier_holds(self, took: float) -> None:
        """Let those who wait go on by an earlier count, if they would wait for too long. It took `took` seconds."""
        self.has_earlier = True
        if took > self._patience:
            self.go_on()

    def go_on(self) -> None:
        """Let those who wait go on. Idempotent."""
        self._timer.cancel()
        if not self.may_go_on.done():
            self.may_go_on.set_result(None)


class Counts:
    """The counts that are under way: one of an account at a time."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Nobody waits for a count for longer than `patience` seconds."""
        self._patience = patience
        self._running: dict[str, RunningCount] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: dict[str, Exception] = {}
        """The error of an account's last count, if no earlier one holds."""

    def is_running(self, account: str) -> bool:
        """Return whether an account is being counted."""
        return account in self._running

    def is_kept(self, took: float) -> bool:
        """Return whether a count that took so many seconds is worth a note."""
        return 2 * took > self._patience

    async def join(self, account: str, count: Callable[[RunningCount], Coroutine[Any, Any, None]]) -> bool:
        """Wait for the account's count, for a while. If none is under way, begin one.

        Args:
            account: Whose objects are counted.
            count: Counts them. It is given what runs, to say whether an earlier count holds.

        Returns:
            Whether a count is done that somebody else began: it may be older than the caller needs.

        Raises:
            Fault: The count failed; or it still runs, the one before it failed, and no earlier one holds.
            BigUploadError: The same.
            EngineAwayError: The same, of an engine that has the counts.
        """
        running = self._running.get(account)
        is_ours = running is None
        if running is None:
            running = self._running[account] = RunningCount(self._patience)
            task = asyncio.create_task(self._run(account, running, count))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.wait({running.may_go_on})
        if running.error is not None:
            raise running.error
        if not running.is_done and not running.has_earlier and (failed := self._failed.get(account)) is not None:
            raise failed
        return running.is_done and not is_ours

    async def _run(
        self, account: str, running: RunningCount, count: Callable[[RunningCount], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            await count(running)
            running.is_done = True
            self._failed.pop(account, None)
        except Exception as e:  # raised by `join`, to each caller that waits
            running.error = e
            if not running.has_earlier:
                if len(self._failed) >= _MOST_FAILED:
                    self._failed.clear()
                self._failed[account] = e
        finally:
            del self._running[account]
            running.go_on()

    async def aclose(self) -> None:
        """End the counts that are under way. Idempotent."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

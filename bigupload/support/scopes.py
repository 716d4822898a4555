"""Cancellation of a part of a task, by asyncio alone. The scopes of anyio are asked for only where somebody has them.

To import anyio takes 25 ms, a sixth of the time of a short command, and one PUT of a small file needs none of it. A
program that cancels an upload by a scope of anyio has imported it: where it is not imported, there is no scope.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from contextlib import AbstractContextManager


async def checkpoint_if_cancelled() -> None:
    """Raise CancelledError if a scope of anyio around this call was cancelled."""
    if "anyio" in sys.modules:
        import anyio.lowlevel

        await anyio.lowlevel.checkpoint_if_cancelled()


def shield() -> AbstractContextManager[object]:
    """Return a block in which scopes of anyio cancel nothing. `task.cancel()` still does."""
    if "anyio" not in sys.modules:
        return contextlib.nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)


class Stoppable:
    """A block that `cancel` ends at its next await, as `asyncio.timeout` does when the time is over.

    It cancels once: what the block awaits while it ends is not cancelled again. Whatever else cancels the task goes
    through the block.
    """

    __slots__ = ("_before", "_cancelling", "_soon", "_task", "cancel_called", "cancelled_caught")

    def __init__(self) -> None:
        self.cancel_called = False
        """Whether `cancel` was called."""
        self.cancelled_caught = False
        """Whether the block ended by that."""
        self._task: asyncio.Task[object] | None = None
        """The task in the block."""
        self._before = 0
        """The cancellations of the task that were under way when it entered the block."""
        self._soon: asyncio.Handle | None = None
        self._cancelling = False

    def cancel(self) -> None:
        """End the block. It may be called before the block is entered, and again. Not from another thread."""
        if not self.cancel_called:
            self.cancel_called = True
            if self._task is not None:
                self._cancel_soon(self._task)

    def _cancel_soon(self, task: asyncio.Task[object]) -> None:
        # Not at once: a task that runs would be cancelled at its next await, which may be behind the block.
        self._soon = task.get_loop().call_soon(self._cancel_now, task)

    def _cancel_now(self, task: asyncio.Task[object]) -> None:
        self._cancelling = True
        task.cancel()

    def __enter__(self) -> Stoppable:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a block can be stopped in a task only")
        self._task, self._before = task, task.cancelling()
        if self.cancel_called:
            self._cancel_soon(task)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        task, self._task = self._task, None
        assert task is not None
        if self._soon is not None:
            self._soon.cancel()
        if self._cancelling and task.uncancel() <= self._before and kind is not None:
            self.cancelled_caught = issubclass(kind, asyncio.CancelledError)
        return self.cancelled_caught

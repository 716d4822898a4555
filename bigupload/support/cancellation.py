"""Cancellation: work that runs to its end although its caller is cancelled, and a block that is cancelled from outside.

To import anyio takes 25 ms, a sixth of the time of a short command, and one PUT of a small file needs none of it. A
program that cancels an upload by a scope of anyio has imported it: where it is not imported, there is no scope.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from bigupload import errors

R = TypeVar("R")


def retrieve(future: asyncio.Future[Any]) -> None:
    """Mark the exception of what has ended as retrieved. Else asyncio logs it, if nobody asks for the result."""
    if future.done() and not future.cancelled():
        future.exception()


async def finish(future: asyncio.Future[R]) -> R:
    """Await a thread's work to its end, even if the awaiting task is cancelled.

    `run_shielded` keeps a caller's cancel from its task. But at the end of `asyncio.run`, each task is cancelled, and
    what the thread uses would be closed under it.

    Raises:
        asyncio.CancelledError: The task was cancelled. It is raised after the work has ended.
        Exception: What the work raised, if the task was not cancelled.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})  # does not cancel it
        except asyncio.CancelledError as e:
            cancelled = e
    if cancelled is None:
        return future.result()
    retrieve(future)
    raise cancelled


async def run_shielded(work: Coroutine[Any, Any, R], *, grace: float | None = None) -> R:
    """Await `work` to its end, also when the caller is cancelled meanwhile.

    anyio's shield alone does not stop `task.cancel()` (from `asyncio.timeout` or Ctrl-C). asyncio's shield alone lets
    anyio deliver its cancellation again at every turn of the loop. So both are used.

    Args:
        work: What to run.
        grace: Seconds that `work` may continue after the caller was cancelled. Then it is cancelled. None: no limit.

    Returns:
        What `work` returned.

    Raises:
        asyncio.CancelledError: The caller was cancelled. It is raised after `work` has ended.
        Exception: What `work` raised, if the caller was not cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    timer: asyncio.TimerHandle | None = None
    try:
        # Not under anyio's shield, which would hide that an anyio scope was cancelled.
        return await asyncio.shield(task)
    except asyncio.CancelledError as e:
        if task.cancelled():
            raise
        cancelled = e
    if grace is not None:
        timer = asyncio.get_running_loop().call_later(grace, task.cancel)
    with shield():
        while not task.done():
            try:
                await asyncio.wait({task})  # raises nothing of the task's, and does not cancel it
            except asyncio.CancelledError as e:
                cancelled = e
    if timer is not None:
        timer.cancel()
    retrieve(task)
    raise cancelled


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait until it has ended, also when the caller is cancelled. Nobody gets what it raises."""
    task.cancel()
    try:
        await run_shielded(asyncio.wait({task}))
    finally:
        retrieve(task)


T = TypeVar("T")


def most_serious(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose the one exception to raise for everything that the tasks of a group raised.

    KeyboardInterrupt and SystemExit come first: they must end the program. A public error that cannot be resumed comes
    before one that can. Anything else is a bug, which shows if no public error explains the end. Raise it from its own
    cause: `from None` would delete that.
    """
    found: list[BaseException] = []

    def collect(e: BaseException) -> None:
        if isinstance(e, BaseExceptionGroup):
            for inner in e.exceptions:
                collect(inner)
        else:
            found.append(e)

    collect(group)
    for e in found:
        if not isinstance(e, Exception):
            return e
    public = [e for e in found if isinstance(e, errors.BigUploadError)]
    return min(public, key=lambda e: e.resumable) if public else found[0]


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Call `work` on every item, `at_once` of them at a time.

    Raises:
        BaseException: The first failure ends the other calls. Of several, `most_serious` is raised.
    """
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    import anyio  # an upload of a small file does without

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(worker)
    except BaseExceptionGroup as group:
        error = most_serious(group)
        raise error from error.__cause__


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

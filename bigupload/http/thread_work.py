"""One request body's work in threads: waited for when the request is cancelled, but not for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from bigupload.support.page_buffer import page_buffer
from bigupload.support.shielding import run_shielded

R = TypeVar("R")
_thread_local = threading.local()

ABANDON_AFTER = 2.0
"""Seconds that a cancelled request waits for its thread. A thread that takes longer hangs in a file system."""


class ThreadWork:
    """Runs one piece of work at a time."""

    def __init__(self, on_hang: Callable[[], None]) -> None:
        """Nothing runs yet.

        Args:
            on_hang: Called when the work has not ended `ABANDON_AFTER` seconds after a cancel.
        """
        self._on_hang = on_hang
        self._future: asyncio.Future[Any] | None = None
        self.abandoned = False
        """Whether a thread hangs, and nobody waits for it any more."""

    async def run(
        self,
        start: Callable[[Callable[[], R]], asyncio.Future[R]],
        work: Callable[[], R],
        on_cancel: Callable[[], None],
    ) -> R:
        """Run `work` in the thread that `start` chooses, and wait for its result.

        Args:
            start: Starts a function in a thread.
            work: The function.
            on_cancel: Called when the caller is cancelled. It asks the work to end soon. It is not kept: a body that
                owns this object would else be in a cycle, and stay in memory until the garbage collector comes.

        Raises:
            asyncio.CancelledError: The caller was cancelled. The work has ended, or is abandoned.
            Exception: What `work` raised.
        """
        future = self._future = start(work)
        future.add_done_callback(retrieve)
        try:
            await asyncio.wait([future])  # a cancelled wait leaves the thread running
        except asyncio.CancelledError:
            on_cancel()
            await self._end(future)
            raise
        finally:
            if future.done():
                self._future = None
        return future.result()

    def call_when_ended(self, callback: Callable[[], None]) -> None:
        """Call `callback` when no work runs any more: at once, except after a hang."""
        if self._future is None:
            callback()
        else:
            self._future.add_done_callback(lambda _: callback())

    async def _end(self, future: asyncio.Future[Any]) -> None:
        await run_shielded(_wait_for(future, ABANDON_AFTER))
        if not future.done():
            self.abandoned = True
            self._on_hang()


def thread_buffer(size: int) -> memoryview:
    """Return this thread's own buffer of `size` bytes, for all connections: it stays in the core's cache."""
    if not hasattr(_thread_local, "buffer"):
        _thread_local.buffer = memoryview(page_buffer(size))
    buffer: memoryview = _thread_local.buffer
    return buffer


def until_blocked(send: Callable[[], bool]) -> None:
    """In a thread: call `send` until it is done or the socket takes no more."""
    with contextlib.suppress(BlockingIOError):
        while not send():
            pass


def retrieve(future: asyncio.Future[Any]) -> None:
    """Mark an exception as retrieved. A cancelled request does not ask for it, and asyncio would log that."""
    if future.done() and not future.cancelled():
        future.exception()


async def _wait_for(future: asyncio.Future[Any], seconds: float) -> None:
    await asyncio.wait([future], timeout=seconds)

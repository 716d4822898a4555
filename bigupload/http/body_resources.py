"""What request bodies need beside a connection: a transport's rate limit, buffers and threads, and work in those."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from bigupload.http import socket_tuning
from bigupload.support.daemon_threads import DaemonThreadPool
from bigupload.support.pages import page_buffer
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.shielding import retrieve, run_shielded

R = TypeVar("R")

_ENCRYPTING_THREADS = 4
"""Each thread encrypts about 2 GB/s, so that more would only compete for cores with the rest of the process."""
_READING_THREADS = 32
"""Threads that wait for disks. A hung file system occupies one for each part in flight, and they cost only memory."""
ABANDON_AFTER = 2.0
"""Seconds that a cancelled request waits for its thread. A thread that takes longer hangs in a file system."""
_thread_local = threading.local()


class BodyResources:
    """Shared by all request bodies of one transport. Used in the event loop's thread only."""

    def __init__(self, limiter: RateLimiter | None, congestion_control: str) -> None:
        """Start without buffers and threads: both are made when they are first needed.

        Args:
            limiter: The bandwidth limit, or None.
            congestion_control: What `socket_tuning.tune_for_path` does to each connection.
        """
        self.limiter = limiter
        self._congestion_control = congestion_control
        self._buffers: list[memoryview] = []
        self._tuned: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._pools: dict[str, DaemonThreadPool] = {}
        self._abandoned = False

    def take_buffer(self, size: int) -> memoryview:
        """A buffer of at least `size` bytes, for one body at a time."""
        if self._buffers and len(self._buffers[-1]) >= size:
            return self._buffers.pop()
        return memoryview(page_buffer(size))

    def give_back(self, buffer: memoryview) -> None:
        """Let another body use `buffer`. No thread and no socket may still need it."""
        self._buffers.append(buffer)

    def tune(self, transport: asyncio.WriteTransport) -> None:
        """Choose a connection's congestion control, once: by the round trip of the handshake."""
        if transport not in self._tuned:
            with contextlib.suppress(TypeError):  # uvloop's transports allow no weak references
                self._tuned.add(transport)
            socket_tuning.tune_for_path(transport.get_extra_info("socket"), self._congestion_control)

    def compute(self, work: Callable[[], R]) -> asyncio.Future[R]:
        """Run `work`, which needs a core, in one of at most as many threads as there are cores."""
        return self._run("bigupload-encrypt", min(_ENCRYPTING_THREADS, os.cpu_count() or 1), work)

    def wait_for_disk(self, work: Callable[[], R]) -> asyncio.Future[R]:
        """Run `work`, which may wait long for a file system, in a thread that no computation waits for."""
        return self._run("bigupload-read", _READING_THREADS, work)

    def _run(self, name: str, threads: int, work: Callable[[], R]) -> asyncio.Future[R]:
        if name not in self._pools:
            self._pools[name] = DaemonThreadPool(threads, name)
        return asyncio.get_running_loop().run_in_executor(self._pools[name], work)

    def abandon(self) -> None:
        """Note that a thread hangs in a file system and that nobody waits for it any more."""
        self._abandoned = True

    def close(self) -> None:
        """End the threads. They have nothing to do, except for those that hang."""
        while self._pools:
            self._pools.popitem()[1].shutdown(wait=not self._abandoned)


class ThreadWork:
    """One body's work in threads, a piece at a time. A request that is cancelled waits for it, but not for ever."""

    def __init__(self, on_hang: Callable[[], None]) -> None:
        """Run nothing yet. `on_hang` is called when work has not ended `ABANDON_AFTER` seconds after a cancel."""
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
            await run_shielded(asyncio.wait([future], timeout=ABANDON_AFTER))
            if not future.done():
                self.abandoned = True
                self._on_hang()
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


def thread_buffer(size: int) -> memoryview:
    """Return this thread's own buffer of `size` bytes, for all connections: it stays in the core's cache."""
    if not hasattr(_thread_local, "buffer"):
        _thread_local.buffer = memoryview(page_buffer(size))
    buffer: memoryview = _thread_local.buffer
    return buffer

"""What the request bodies of one transport share: the rate limit, reused buffers and worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable
from typing import TypeVar

from bigupload.http import socket_tuning
from bigupload.support.daemon_threads import DaemonThreadPool
from bigupload.support.page_buffer import page_buffer
from bigupload.support.rate_limiter import RateLimiter

R = TypeVar("R")

_ENCRYPTING_THREADS = 4
"""Each thread encrypts about 2 GB/s, so that more would only compete for cores with the rest of the process."""
_READING_THREADS = 32
"""Threads that wait for disks. A hung file system occupies one for each part in flight, and they cost only memory."""


class SendResources:
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

    def set_up(self, transport: asyncio.WriteTransport) -> None:
        """Set up a connection for a body that begins.

        The congestion control is chosen once, by the round trip of the handshake. Of a body that is broken off, nothing
        more is sent: what the kernel still has would delay other parts.
        """
        socket_tuning.set_discard(transport.get_extra_info("socket"), discard=True)
        self.tune(transport)

    def tune(self, transport: asyncio.WriteTransport) -> None:
        """Choose a connection's congestion control, once."""
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
        """Say that a thread hangs in a file system and that nobody waits for it any more."""
        self._abandoned = True

    def close(self) -> None:
        """End the threads. They have nothing to do, except for those that hang."""
        while self._pools:
            self._pools.popitem()[1].shutdown(wait=not self._abandoned)

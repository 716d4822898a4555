"""What a piece of work leaves behind in this process: tasks, threads, descriptors."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .waiting import until


def open_descriptors() -> int:
    if sys.platform == "win32":  # it shows none, and below /proc, Wine has its own
        return 0
    return len(os.listdir("/proc/self/fd"))


def own_tasks() -> set[asyncio.Task[object]]:
    """All but those in which the event loop of Windows accepts connections."""
    return {task for task in asyncio.all_tasks() if ".accept_coro" not in repr(task.get_coro())}


def own_threads() -> set[threading.Thread]:
    """Those that bigupload started itself."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("bigupload")}


@asynccontextmanager
async def no_leaks() -> AsyncIterator[None]:
    """The body leaves neither a task nor a thread of bigupload's nor a descriptor.

    The server lives in this process too: its tasks and ends of closed connections need turns of its loop to go.
    """
    gc.collect()
    tasks, threads, descriptors = own_tasks(), own_threads(), open_descriptors()
    yield
    await until(lambda: own_tasks() <= tasks)
    await until(lambda: own_threads() <= threads)
    await until(lambda: open_descriptors() <= descriptors)

"""What a piece of work leaves behind in this process: tasks, descriptors."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .waiting import until


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def no_leaks() -> AsyncIterator[None]:
    """The body leaves neither a task nor a descriptor. The server lives in this process too: its ends of closed
    connections need a turn of its loop to go."""
    gc.collect()
    tasks, descriptors = asyncio.all_tasks(), open_descriptors()
    yield
    assert asyncio.all_tasks() <= tasks
    await until(lambda: open_descriptors() <= descriptors)

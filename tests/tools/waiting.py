"""Waiting for what another thread or the kernel does, without a guess of how long that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(holds: Callable[[], bool], *, within: float = 60.0) -> None:
    """Turn this loop, and let other threads run, until it holds. Raises AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0)
        time.sleep(0)  # the interpreter's lock, for the other threads

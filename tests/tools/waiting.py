"""Waiting for what another thread or the kernel does, without a guess of how long that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_TURNS = 50
"""Turns of the loop before it rests between turns: a longer wait would take a processor from what it waits for."""
_REST = 0.001


async def until(holds: Callable[[], bool], *, within: float = 60.0) -> None:
    """Turn this loop, and let other threads run, until it holds. Raises AssertionError after `within` seconds."""
    deadline, turns = time.monotonic() + within, 0
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0 if turns < _TURNS else _REST)
        time.sleep(0)  # the interpreter's lock, for the other threads
        turns += 1

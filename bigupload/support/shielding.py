"""Await work to its end although the caller is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

R = TypeVar("R")


async def see_through(work: Coroutine[Any, Any, R]) -> R:
    """Await `work` to its end even when the caller is cancelled meanwhile; the cancellation is raised after.

    anyio's shield alone does not hold off `task.cancel()` (asyncio.timeout, Ctrl-C), asyncio's alone lets anyio knock
    at every turn of the loop.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as e:
                if task.cancelled():
                    raise
                cancelled = e
            except Exception:  # noqa: S110 - it is raised below, by task.result()
                pass
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller gets
        raise cancelled
    return task.result()

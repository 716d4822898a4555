"""Blocking calls that a cancelled caller can leave behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

import anyio

R = TypeVar("R")


async def run_in_daemon_thread(function: Callable[[], R], limiter: anyio.CapacityLimiter) -> R:
    """Call a blocking function in a thread of its own. A cancelled caller returns at once; the call continues.

    A thread of asyncio's or anyio's pools would delay the end of the process until the call has returned. A daemon
    thread does not.

    Args:
        function: What to call.
        limiter: Bounds the threads. A call that was left behind keeps its slot until it ends.

    Returns:
        What `function` returned.

    Raises:
        BaseException: What `function` raised.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()
    slot = object()

    def end(result: R | None, error: BaseException | None) -> None:
        limiter.release_on_behalf_of(slot)
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only if R is

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function)
        except BaseException as e:
            error = e
        try:
            loop.call_soon_threadsafe(end, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    await limiter.acquire_on_behalf_of(slot)
    context = contextvars.copy_context()
    threading.Thread(target=work, name="bigupload call", daemon=True).start()
    return await future

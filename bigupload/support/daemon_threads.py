"""Blocking calls that a cancelled caller can leave behind.

The threads of `concurrent.futures` would delay the end of the process until each call has returned: Python joins them
when it exits, daemon or not. A call that hangs in a file system would hold the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio

P = ParamSpec("P")
R = TypeVar("R")


class DaemonThreadPool(Executor):
    """A pool of at most `threads` daemon threads, which are started as they are needed."""

    def __init__(self, threads: int, name: str) -> None:
        """Start without threads.

        Args:
            threads: How many calls run at a time; the others wait.
            name: The beginning of the threads' names.
        """
        self._most = threads
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call `fn` in a thread. Raises RuntimeError after `shutdown`, and if the system has no thread left at all."""
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads were ended")
            self._calls.put(partial(_call, future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
                self._start_thread()
        return future

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more: the call waits for those that there are
            if not self._threads:
                self._calls.get_nowait()  # a later thread would make it, into a buffer that is another's by then
                raise
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                self._idle.release()
                call = self._calls.get()
            if call is None:
                return
            call()
            del call  # or an idle thread would keep the call's buffers

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once all calls are done.

        Args:
            wait: Whether to wait for that.
            cancel_futures: Not supported; pass False.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


def _call(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as e:
        future.set_exception(_storable(e))
    else:
        future.set_result(result)


def _storable(e: BaseException) -> BaseException:
    """Convert a StopIteration, which asyncio's futures refuse, so that who awaits one would wait for ever."""
    if not isinstance(e, StopIteration):
        return e
    converted = RuntimeError("a function that was called in a thread raised StopIteration")
    converted.__cause__ = e
    return converted


async def run_in_daemon_thread(function: Callable[[], R], limiter: anyio.CapacityLimiter) -> R:
    """Call a blocking function in a thread of its own. A cancelled caller returns at once; the call continues.

    Args:
        function: What to call.
        limiter: Bounds the threads. A call that was left behind keeps its slot until it ends.

    Returns:
        What `function` returned.

    Raises:
        BaseException: What `function` raised; RuntimeError for StopIteration, and if the system has no thread left.
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
            error = _storable(e)
        try:
            loop.call_soon_threadsafe(end, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    await limiter.acquire_on_behalf_of(slot)
    context = contextvars.copy_context()
    try:
        threading.Thread(target=work, name="bigupload call", daemon=True).start()
    except BaseException:  # nothing else would ever free the slot
        limiter.release_on_behalf_of(slot)
        raise
    return await future

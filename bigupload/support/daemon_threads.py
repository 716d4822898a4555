"""Threads for blocking calls, most of which a cancelled caller can leave behind. Where the system has no thread left,
each raises `OutOfThreads`.

The threads of `concurrent.futures` would delay the end of the process until each call has returned: Python joins them
when it exits, daemon or not. A call that hangs in a file system would hold the process.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from bigupload import errors
from bigupload.support.cancellation import checkpoint_if_cancelled

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def starting_threads() -> Iterator[None]:
    """Raise OutOfThreads for what Python raises where a thread can't be started."""
    try:
        yield
    except RuntimeError as e:  # Python has no class or number for it
        if "can't start new thread" not in str(e):
            raise
        raise errors.OutOfThreads(
            "the system lets this process start no further thread: allow more (ulimit -u, or the container's limit of "
            "pids), or more memory (ulimit -v), or upload less at once"
        ) from e


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
        """Call `fn` in a thread.

        Raises:
            RuntimeError: After `shutdown`.
            OutOfThreads: The pool has no thread, and the system has none left.
        """
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
            with starting_threads():
                thread.start()
        except errors.OutOfThreads:  # the call waits for the threads that there are
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


_KEPT = 0.1
"""Seconds that a thread waits for another call. With a new thread for each, 10,000 small files took 8.0 s of CPU time
instead of 5.7 s, and in free-threaded Python 15.3 s instead of 6.0 s (docs/performance.md, "As it grows")."""
_free: dict[queue.SimpleQueue[Any], bool] = {}
"""The queues of the threads that wait for a call."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free.clear)  # the child has none of them


def _begin(call: Callable[[], Callable[[], object]]) -> None:
    """Run `call`, and then the function that it returns, in a waiting thread, or in a new one."""
    try:
        calls, _ = _free.popitem()
    except KeyError:
        calls = queue.SimpleQueue()
        with starting_threads():
            threading.Thread(target=_work_on, args=(calls,), name="bigupload call", daemon=True).start()
    calls.put(call)


def _work_on(calls: queue.SimpleQueue[Any]) -> None:
    while True:
        try:
            call = calls.get(timeout=_KEPT)
        except queue.Empty:
            if _free.pop(calls, False):
                return
            continue  # its next call is on its way
        report = call()
        _free[calls] = True  # before the caller continues, which may make its next call at once
        report()
        del call, report  # or a waiting thread would keep what they refer to


async def run_in_daemon_thread(function: Callable[[], R], limiter: asyncio.Semaphore | None = None) -> R:
    """Call a blocking function in a thread without other work. A cancelled caller returns at once; the call continues.

    Args:
        function: What to call.
        limiter: Bounds the threads; None: nothing does. A call that was left behind keeps its slot until it ends.

    Returns:
        What `function` returned.

    Raises:
        BaseException: What `function` raised; RuntimeError for StopIteration.
        OutOfThreads: The system has no thread left.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def end(result: R | None, error: BaseException | None) -> None:
        release()
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only if R is

    def work() -> Callable[[], object]:
        result, error = None, None
        try:
            result = context.run(function)
        except BaseException as e:
            error = _storable(e)
        return partial(report, result, error)

    def report(result: R | None, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end, result, error)

    await checkpoint_if_cancelled()
    if limiter is not None:
        await limiter.acquire()
    release = bool if limiter is None else limiter.release
    context = contextvars.copy_context()
    try:
        await asyncio.sleep(0)  # a caller that was cancelled meanwhile makes no call
        _begin(work)
    except BaseException:  # nothing else would ever free the slot
        release()
        raise
    return await future


AnyPath = TypeVar("AnyPath", str, os.PathLike[str])

PATIENCE = 2.0
"""Seconds that looks may take. A disk that has to start may be taken for one that hangs."""
_MOST_LOOKS = 256
"""Threads that look at paths: what hangs keeps its thread."""
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def hanging(paths: Iterable[AnyPath]) -> set[AnyPath]:
    """Return the paths that can't be looked at, and opened if they are files, within PATIENCE. Blocking.

    If more paths hang than there are threads, what none of them could look at is returned as well. The threads that
    look are left behind: nothing can end them.
    """
    pool = DaemonThreadPool(_MOST_LOOKS, "bigupload-look")
    looks = {pool.submit(_look, path): path for path in _spread(set(paths))}
    _, left = concurrent.futures.wait(looks, timeout=PATIENCE)
    pool.shutdown(wait=False)
    for each in left:
        each.cancel()
    return {looks[each] for each in left}


def _spread(paths: Iterable[AnyPath]) -> list[AnyPath]:
    """The first path of each directory, then the second of each: one that hangs takes not all threads at once."""
    seen: collections.Counter[str] = collections.Counter()
    ranked: list[tuple[int, AnyPath]] = []
    for path in paths:
        directory = os.path.dirname(os.fspath(path))  # noqa: PTH120 - of any path, without a Path for each
        ranked.append((seen[directory], path))
        seen[directory] += 1
    return [path for _, path in sorted(ranked, key=lambda each: each[0])]


def _look(path: str | os.PathLike[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            os.close(os.open(path, _FLAGS))  # a network's file system may know the status, and hang here

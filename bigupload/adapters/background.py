"""Uploads for callers that have no event loop, in any thread: they run in one loop, in a thread of their own.

Connections stay open between calls, because a program may upload thousands of small files, each by a call. A process
that was forked starts over: it has neither the thread nor the right to use the connections.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from bigupload.api.arguments import UploaderOptions
from bigupload.api.uploader import Uploader
from bigupload.support.daemon_threads import starting_threads

R = TypeVar("R")
News = TypeVar("News")

_MOST_IDLE = 4
"""Uploaders with the same options that wait for their next call. Each may have connections."""
_CLOSE_WITHIN = 5.0
"""Seconds that `close`, and the end of a process, wait for connections to be closed."""
_END = object()


class BackgroundUploaders:
    """Uploaders in the background. All methods may be called in any thread."""

    def __init__(self, **options: Any) -> None:
        """Start without any.

        Args:
            **options: The `UploaderOptions` of all of them.

        Raises:
            UsageError: An option is out of range.
        """
        Uploader(**options)  # checks the options
        self._options = options
        self._target_locks = _TargetLocks()
        self._begin()
        _all.add(self)

    def run(
        self,
        work: Callable[[Uploader, Callable[[News], None]], Awaitable[R]],
        hear: Callable[[News], object],
        **own: Any,
    ) -> R:
        """Do work with an uploader, and wait for its end.

        If the waiting is interrupted, as by Ctrl-C, or `hear` raises, the work is cancelled, and awaited.

        Args:
            work: Gets an uploader, and a function that takes news.
            hear: Called with each of the news, in the thread of the caller.
            **own: `UploaderOptions` of this call, which has an uploader to itself then.

        Returns:
            What `work` returned.

        Raises:
            BaseException: What `work` or `hear` raised.
            OutOfThreads: The system has no thread left for the event loop.
        """
        call: _WaitingCall[News, R] = _WaitingCall(hear)
        state, options = self._state, {**self._options, **own}

        async def with_uploader() -> R:
            async with contextlib.AsyncExitStack() as stack:
                uploader = await state.take(options, shared=not own)
                stack.push_async_callback(state.give_back, options, uploader)
                return await work(uploader, call.tell)

        return call.run(_loop(), with_uploader)

    def lock_target(self, target: object) -> contextlib.AbstractContextManager[None]:
        """Lock a target: two uploads of one source to it would share a manifest. The last one wins."""
        return self._target_locks.of(target)

    def close(self) -> None:
        """Close the connections that no call uses, and those of the others when they end. Later calls open new ones."""
        state = self._state
        self._finalizer.detach()
        self._begin()
        if (closing := _begin_to_close(state)) is not None:
            with contextlib.suppress(concurrent.futures.TimeoutError):
                closing.result(_CLOSE_WITHIN)

    def _begin(self) -> None:
        self._state = _Idle()
        self._finalizer = weakref.finalize(self, _begin_to_close, self._state)  # waits for nothing: it may be garbage
        self._finalizer.atexit = False

    def _forget(self) -> None:
        """In a forked process: leave everything to the one before."""
        self._finalizer.detach()
        self._target_locks = _TargetLocks()
        self._begin()


class _TargetLocks:
    """One call for a target at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[object, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def of(self, target: object) -> Iterator[None]:
        """Lock a target."""
        with self._lock:
            lock, waiting = self._of.get(target, (threading.Lock(), 0))
            self._of[target] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                waiting = self._of[target][1] - 1
                if waiting:
                    self._of[target] = lock, waiting
                else:
                    del self._of[target]


class _Idle:
    """The uploaders that were opened, in the event loop."""

    def __init__(self) -> None:
        self._shared: dict[str, tuple[Uploader, int]] = {}
        """The uploaders that several calls use at a time, each with the number of calls."""
        self._idle: dict[str, list[Uploader]] = {}
        self.closed = False

    async def take(self, options: dict[str, Any], *, shared: bool) -> Uploader:
        key = _key(options)
        if shared and key in self._shared:
            uploader, users = self._shared[key]
            self._shared[key] = uploader, users + 1
            return uploader
        if not shared and self._idle.get(key):
            return self._idle[key].pop()
        uploader = Uploader(**options)
        if shared:  # before anything is awaited
            self._shared[key] = uploader, 1
        await uploader.__aenter__()  # which opens it at once: it waits for nothing
        return uploader

    async def give_back(self, options: dict[str, Any], uploader: Uploader) -> None:
        key = _key(options)
        shared, users = self._shared.get(key, (None, 0))
        if shared is uploader:
            self._shared[key] = uploader, users - 1
            if self.closed and users == 1:
                del self._shared[key]
                await uploader.__aexit__()
            return
        idle = self._idle.setdefault(key, [])
        if self.closed or len(idle) >= _MOST_IDLE:
            await uploader.__aexit__()
        else:
            idle.append(uploader)

    async def close(self) -> None:
        self.closed = True
        unused = [uploader for uploaders in self._idle.values() for uploader in uploaders]
        unused += [uploader for uploader, users in self._shared.values() if not users]
        self._idle.clear()
        self._shared = {key: (uploader, users) for key, (uploader, users) in self._shared.items() if users}
        for uploader in unused:
            await uploader.__aexit__()


def _key(options: UploaderOptions | dict[str, Any]) -> str:
    return repr(sorted(options.items()))


class _WaitingCall(Generic[News, R]):
    """One call, from the thread that waits for it."""

    def __init__(self, hear: Callable[[News], object]) -> None:
        self._hear = hear
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._result: concurrent.futures.Future[R] = concurrent.futures.Future()
        self._task: asyncio.Task[R] | None = None

    def tell(self, news: News) -> None:
        self._news.put(news)

    def run(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        loop.call_soon_threadsafe(self._begin, work)
        try:
            while (news := self._news.get()) is not _END:
                self._hear(news)
        except BaseException:
            loop.call_soon_threadsafe(self._cancel)
            while self._news.get() is not _END:
                pass
            raise
        return self._result.result()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, R]]) -> None:
        self._task = asyncio.get_running_loop().create_task(work())
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()

    def _end(self, task: asyncio.Task[R]) -> None:
        if task.cancelled():
            self._result.set_exception(concurrent.futures.CancelledError())
        elif (error := task.exception()) is not None:
            self._result.set_exception(error)
        else:
            self._result.set_result(task.result())
        self._news.put(_END)


# -- the event loop of this process

_all: weakref.WeakSet[BackgroundUploaders] = weakref.WeakSet()
_starting = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None
_left_behind: list[object] = []
"""The event loops of the processes before a fork: as garbage, their tasks would complain that they were not awaited."""


def _loop() -> asyncio.AbstractEventLoop:
    global _running
    with _starting:
        if _running is None:
            made: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
            # A daemon, because an upload that hangs must not hold the process after all else has ended.
            thread = threading.Thread(target=_run_loop, args=(made,), name="bigupload", daemon=True)
            with starting_threads():
                thread.start()
            _running = made.result()
        return _running


def _run_loop(made: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
    try:
        loop = asyncio.new_event_loop()
    except BaseException as e:  # no descriptor is left for a loop
        made.set_exception(e)
        return
    asyncio.set_event_loop(loop)
    made.set_result(loop)
    while True:
        # A caller's file object may raise them. asyncio hands them to the call, and lets them end the loop, too, which
        # other calls need.
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            loop.run_forever()


def _begin_to_close(state: _Idle) -> concurrent.futures.Future[None] | None:
    return None if _running is None else asyncio.run_coroutine_threadsafe(state.close(), _running)


@atexit.register
def _close_all() -> None:
    for uploaders in list(_all):
        uploaders.close()


def _after_fork() -> None:
    global _running, _starting
    _left_behind.append(_running)
    _running, _starting = None, threading.Lock()
    for uploaders in list(_all):
        uploaders._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

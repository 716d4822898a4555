"""Start and stop the service's child processes. Knows nothing of their work. docs/service-operations.md says what
gunicorn would do otherwise.

A child ignores stop signals: a Ctrl-C reaches the whole process group, and the parent decides. A pipe notifies the
child when its parent stops it or has ended, so that even a killed parent leaves no children behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from bigupload.support.daemon_threads import starting_threads
from bigupload.support.systems import STOP_SIGNALS, watches_descriptors, way_of_ending


def heeded_signals() -> list[signal.Signals]:
    """Return the stop signals that this process does not ignore already (because of nohup or a background job)."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block the stop signals meanwhile, also for a process that is started, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the process, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ChildProcess:
    """A process that runs `target(*arguments, pipe)`, which must begin with `begin_child`."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        """Start it. Raises OSError."""
        context = multiprocessing.get_context("spawn")  # a fork would copy an event loop and its threads' locks
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(*arguments, theirs))
        try:
            with _signals_blocked():  # none must reach it before it ignores them
                self._process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process ends."""
        return self._process.sentinel

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    @property
    def end(self) -> str:
        """The cause of its end: "SIGKILL", or "status 1"."""
        return way_of_ending(self.status)

    async def ended(self) -> None:
        """Wait for its end."""
        ended = asyncio.Event()
        stop_watching = _call_when_readable(self.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            stop_watching()
        self._process.join()

    def ask_to_stop(self) -> None:
        """Ask it to stop, without waiting."""
        self.pipe.close()

    def stop(self, within: float) -> None:
        """Ask it to stop, wait for up to `within` seconds, then kill it. Idempotent."""
        self.pipe.close()
        self._process.join(max(0.0, within))
        self.kill()

    def kill(self) -> None:
        """Kill it and wait for its end, because it would continue to write files."""
        self.pipe.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def begin_child() -> None:
    """In a child: ignore stop signals from now on."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def when_parent_ends(pipe: Connection, action: Callable[..., object], *arguments: Any) -> None:
    """In a child: call `action` when the parent stops it or has ended."""
    _call_when_readable(pipe, partial(action, *arguments))


def _call_when_readable(pipe: Connection | int, action: Callable[[], object]) -> Callable[[], object]:
    """Call `action` once, in the event loop, when a pipe can be read or the process of a sentinel has ended.

    Where the event loop watches no descriptors, a thread waits.

    Returns:
        A function that stops watching. It may be called again.
    """
    loop = asyncio.get_running_loop()
    if watches_descriptors(loop):
        fd = pipe if isinstance(pipe, int) else pipe.fileno()
        loop.add_reader(fd, lambda: (loop.remove_reader(fd), action()))
        return partial(loop.remove_reader, fd)
    stopped = threading.Event()

    def act() -> None:
        if not stopped.is_set():
            action()

    def watch() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the pipe, or the event loop, was closed meanwhile
            wait([pipe])
            loop.call_soon_threadsafe(act)

    with starting_threads():
        threading.Thread(target=watch, daemon=True).start()
    return stopped.set

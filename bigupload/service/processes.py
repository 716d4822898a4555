"""Processes of the service's own, and the signals that stop them. Knows nothing of what they do.

A child is deaf to signals: a Ctrl-C reaches the whole process group, and it is the parent who decides. A pipe tells the
child when its parent stops it, or is gone, so that not even a killed parent leaves children behind.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def heeded_signals() -> list[signal.Signals]:
    """The stop signals, without those that the caller wants ignored: nohup, or a shell's background job."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


class ChildProcess:
    """A process that runs `target(*arguments, pipe)`, which must begin with `begin_child`."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        """Start it. Raises OSError."""
        context = multiprocessing.get_context("spawn")  # a fork would copy an event loop and its threads' locks
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(*arguments, theirs))
        resource_tracker.ensure_running()  # started by `start`, it would unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # none must reach it before it is deaf
        try:
            self._process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    @property
    def sentinel(self) -> int:
        """A descriptor that is readable once the process has ended."""
        return self._process.sentinel

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    async def ended(self) -> None:
        """Wait for its end."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self.sentinel)
        self._process.join()

    def ask_to_stop(self) -> None:
        """Tell it to stop, and do not wait."""
        self.pipe.close()

    def stop(self, within: float) -> None:
        """Tell it to stop, wait for up to `within` seconds, then kill it. Idempotent."""
        self.pipe.close()
        self._process.join(max(0.0, within))
        self.kill()

    def kill(self) -> None:
        """End it at once, and wait for that: it would go on writing files."""
        self.pipe.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


def begin_child() -> None:
    """Be deaf to signals from here on, in a child."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def when_parent_ends(pipe: Connection, action: Callable[..., object], *arguments: Any) -> None:
    """In a child: call `action` once the parent stops it or is gone."""
    loop = asyncio.get_running_loop()

    def act() -> None:
        loop.remove_reader(pipe.fileno())
        action(*arguments)

    loop.add_reader(pipe.fileno(), act)

"""Run an async command that signals can stop: the first stops it in order, the second ends the process at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bigupload import errors
from bigupload.cli import print_line
from bigupload.records import dataclass
from bigupload.support.systems import STOP_SIGNALS, on_signal
from bigupload.units import counted, format_size

if TYPE_CHECKING:
    from bigupload import events

_REASSURE_AFTER = 1.0
"""Seconds after which a person wonders whether Ctrl-C was heard."""
_START = 2.0
"""Seconds after which most modules are imported."""
_STUCK = 5.0
"""Seconds in which the event loop hears of a signal, unless it is blocked: by a pipe that nobody reads."""
_IMPATIENT = 0.5
"""Seconds after which a second signal is a person's. A wrapper may pass on what the terminal has sent already."""


def run(command: Callable[[], Awaitable[int]], *, stopped: str = "the same command resumes", kept: object = "") -> int:
    """Run the command.

    Args:
        command: The command.
        stopped: The message after a signal.
        kept: Its text, at the end of the command, comes before that message.

    Returns:
        The exit status; 130 after Ctrl-C, 75 after another signal, both resumable.
    """
    return asyncio.run(_supervise(command, stopped, kept))


def collect_garbage() -> None:
    """Begin to look for garbage, if this process put it off. What exists by now stays, and is not searched."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


async def _supervise(command: Callable[[], Awaitable[int]], stopped: str, kept: object) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(command())
    loop.call_later(_START, collect_garbage)
    received: list[int] = []
    came: list[float] = []

    def stop(number: int) -> None:
        if received:
            _leave(_status(number))
        received.append(number)
        task.cancel()
        loop.call_later(_REASSURE_AFTER, print_line, "bigupload: stopping; press Ctrl-C again to quit at once")

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:  # nohup or a background job: the caller wants that
            continue
        if on_signal(loop, number, stop):
            # In place of asyncio's handler, which does nothing: a descriptor wakes the loop.
            signal.signal(number, _Stuck(received, stopped, came))
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        print_line(f"bigupload: stopped: {kept}{stopped}")
        return _status(received[0])


class _Stuck:
    """A signal's handler. It ends the process where the event loop hears of no signal, because a write blocks it.

    Python calls it in the midst of a write, too, since `signal.signal` lets signals interrupt system calls.
    """

    def __init__(self, received: list[int], stopped: str, came: list[float]) -> None:
        """Watch one kind of signal.

        Args:
            received: The signals that the loop has heard of.
            stopped: The message.
            came: When signals came, of all kinds.
        """
        self._received = received
        self._stopped = stopped
        self._came = came

    def __call__(self, number: int, _: object) -> None:
        now = time.monotonic()
        if self._came and now - self._came[0] >= _IMPATIENT:
            self._leave_if_stuck(number)
        self._came.append(now)
        watching = threading.Timer(_STUCK, self._leave_if_stuck, [number])
        watching.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread left
            watching.start()

    def _leave_if_stuck(self, number: int) -> None:
        if self._received:
            return
        with contextlib.suppress(OSError, ValueError):
            if select.select([], [2], [], 0)[1]:  # it may be the one that blocks
                text = f"stopped at once (does anything read what it prints?): {self._stopped}"
                os.write(2, f"bigupload: {text}\n".encode())
        os._exit(_status(number))


def _leave(status: int) -> None:
    """End the process at once. On a terminal, leave the line of the progress display."""
    with contextlib.suppress(OSError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\n")
    os._exit(status)


def _status(number: int) -> int:
    return errors.EXIT_INTERRUPTED if number == signal.SIGINT else errors.EXIT_RESUMABLE


@dataclass(slots=True)
class _Unfinished:
    parts: int | None
    """None: of a stream, nobody knows."""
    kept: int


class KeptParts:
    """The files of a command that are in the store, and the number of parts of those that are not complete.

    The store may have more parts: those whose responses were not read when the signal came.
    """

    def __init__(self) -> None:
        self._unfinished: dict[str, _Unfinished] = {}
        self._files = 0
        self._size = 0

    def on_event(self, event: events.Event) -> None:
        """Count the parts of an event."""
        from bigupload import events  # few commands have any

        match event:
            case events.UploadStarted():
                self._unfinished[event.upload.id] = _Unfinished(event.parts, event.resumed_parts)
            case events.PartUploaded() if event.upload.id in self._unfinished:
                self._unfinished[event.upload.id].kept += 1
            case events.UploadCompleted():
                self._unfinished.pop(event.upload.id, None)
            case _:
                pass

    def on_outcome(self, outcome: object) -> None:
        """Count a file that is in the store, also one that was there already; nothing else counts."""
        from bigupload.engine.upload_run import UploadResult

        if isinstance(outcome, UploadResult):
            self._files += 1
            self._size += outcome.size

    def on_same(self, files: int, size: int) -> None:
        """Count files that were in the store already, and their bytes together."""
        self._files += files
        self._size += size

    def __str__(self) -> str:
        """As "at least 2 of 39 parts are in the store; ", "7 files (1.2 GB) and at least 1 of …", or empty."""
        files = f"{counted(self._files, 'file')} ({format_size(self._size)})" if self._files else ""
        parts, is_one_part = self._parts()
        if not files and not parts:
            return ""
        is_one = is_one_part if parts else self._files == 1
        kept = " and ".join(filter(None, (files, parts)))
        known = "" if files or any(each.kept for each in self._unfinished.values()) else "known to be "
        return f"{kept} {'is' if is_one and not (files and parts) else 'are'} {known}in the store; "

    def _parts(self) -> tuple[str, bool]:
        """The parts of what is not complete, and whether that is one part; of a single file also if it has none."""
        is_alone = len(self._unfinished) == 1 and not self._files
        begun = [each for each in self._unfinished.values() if each.kept or is_alone]
        if not begun:
            return "", False
        kept = sum(each.kept for each in begun)
        if len(begun) > 1:
            of_files = f"{len(begun):,} {'others' if self._files else 'files'}"
            return f"at least {counted(kept, 'part')} of {of_files}", kept == 1
        count = kept if (of := begun[0].parts) is None else of
        total = f"{kept:,}" if of is None else f"{kept:,} of {of:,}"
        if kept not in (0, of):
            total = f"at least {total}"
        other = " of another" if self._files else " of one file" if len(self._unfinished) > 1 else ""
        return f"{total} {'part' if count == 1 else 'parts'}{other}", count == 1

"""Run several processes that share one port: start them, replace those that end, stop them without broken requests.

docs/service.md says why this is not gunicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from bigupload import errors
from bigupload.service.access_log import AccessLog
from bigupload.service.metrics import MULTIPROCESS_DIR, count_ended_worker
from bigupload.service.processes import ChildProcess, begin_child, heeded_signals, when_parent_ends
from bigupload.service.server import DRAIN_WITHIN, LAST_RESPONSES_WITHIN, exit_in_time, listen, running, url_of
from bigupload.service.settings import ServeSettings

_RESTART_AFTER = 1.0
"""The first pause, in seconds, before a worker that ended is started again: failing starts must not busy a core."""
_LONGEST_PAUSE = 30.0
"""The longest pause between two starts of a worker, in seconds. Each pause is twice the one before."""


class Supervisor:
    """The parent of the workers. It binds the port without listening, so that no other process can take it."""

    def __init__(self, settings: ServeSettings) -> None:
        self._bound = listen(settings.host, settings.port)
        self._settings = dataclasses.replace(settings, port=self._bound.getsockname()[1])
        self._workers: dict[int, ChildProcess] = {}
        self._log = AccessLog()
        self._is_stopping = False

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until a stop signal; `on_ready` gets the URL. Raises the error if the workers cannot start."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        previous = signal.set_wakeup_fd(write)
        handlers = {number: signal.signal(number, self._on_signal) for number in heeded_signals()}
        metrics = tempfile.TemporaryDirectory(prefix="bigupload-metrics-")
        os.environ[MULTIPROCESS_DIR] = metrics.name
        try:
            for number in range(self._settings.workers):
                self._start(number, read)
            if not self._is_stopping:
                on_ready(url_of(self._settings.host, self._settings.port))
                self._watch(read)
        finally:
            self._stop()
            del os.environ[MULTIPROCESS_DIR]
            metrics.cleanup()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)
            os.close(read)
            os.close(write)
            self._bound.close()

    def _on_signal(self, number: int, _: object) -> None:
        """Handle stop signals: the first wakes `wait` through the pipe, the second ends everything at once."""
        if self._is_stopping:
            for worker in self._workers.values():
                worker.kill()
            shutil.rmtree(os.environ.get(MULTIPROCESS_DIR, ""), ignore_errors=True)
            os._exit(128 + number)
        self._is_stopping = True

    def _start(self, number: int, signals: int) -> None:
        """Return when the worker is ready or a signal came. Raises the error if it cannot start."""
        worker = ChildProcess(_work, self._settings, number == 0)
        self._workers[number] = worker
        if signals in wait([worker.pipe, signals]):
            return
        try:
            refusal = worker.pipe.recv()
        except (EOFError, OSError):
            refusal = "a worker ended before it was ready"
        if refusal is not None:
            self._workers.pop(number).stop(LAST_RESPONSES_WITHIN)
            raise errors.ServiceError(refusal)

    def _watch(self, signals: int) -> None:
        """Replace workers that end, until a signal comes."""
        due: dict[int, float] = {}
        pauses: dict[int, float] = {}
        while True:
            sentinels = {worker.sentinel: number for number, worker in self._workers.items()}
            timeout = max(0.0, min(due.values()) - time.monotonic()) if due else None
            ready = wait([signals, *sentinels], timeout)
            if self._is_stopping or signals in ready:
                return
            for sentinel in ready:
                number = sentinels[sentinel]  # type: ignore[index]  # `wait` says "any object"
                worker = self._workers.pop(number)
                worker.stop(LAST_RESPONSES_WITHIN)
                count_ended_worker(worker.end, worker.pid)
                self._log.write_event("worker", error=f"a worker died: {worker.end}", again_in=_RESTART_AFTER)
                due[number] = time.monotonic() + _RESTART_AFTER
            for number in [number for number, when in due.items() if when <= time.monotonic()]:
                del due[number]
                try:
                    self._start(number, signals)
                except (errors.BigUploadError, OSError) as e:  # may be temporary, like a broken key file
                    pauses[number] = min(_LONGEST_PAUSE, 2 * pauses.get(number, _RESTART_AFTER / 2))
                    due[number] = time.monotonic() + pauses[number]
                    self._log.write_event("worker", error=str(e), again_in=pauses[number])
                else:
                    pauses.pop(number, None)

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.ask_to_stop()
        deadline = time.monotonic() + self._settings.stop_delay + DRAIN_WITHIN + 4 * LAST_RESPONSES_WITHIN
        for worker in self._workers.values():
            worker.stop(deadline - time.monotonic())


def _work(settings: ServeSettings, sweeps: bool, parent: Connection) -> None:
    """Run a worker."""
    begin_child()
    with contextlib.suppress(BrokenPipeError):  # the parent ended before this worker was ready
        asyncio.run(_work_until_stopped(settings, parent, sweeps=sweeps))


async def _work_until_stopped(settings: ServeSettings, parent: Connection, *, sweeps: bool) -> None:
    stop = asyncio.Event()
    try:
        async with running(settings, sweeps=sweeps):
            parent.send(None)
            when_parent_ends(parent, stop.set)
            await stop.wait()
            exit_in_time(settings)
    except errors.BigUploadError as e:
        parent.send(str(e))
        return
    above = multiprocessing.parent_process()
    if above is None or not above.is_alive():  # the parent was killed; otherwise it removes them after the workers' end
        shutil.rmtree(os.environ[MULTIPROCESS_DIR], ignore_errors=True)

"""Run one child process at a time, and measure its time and the resources of it and its children."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): KiB on Linux, bytes on macOS


@dataclass(frozen=True, kw_only=True)
class Ended:
    """`seconds`: from before the start to the end. `cpu`: user and system time. `peak`: bytes."""

    status: int
    seconds: float
    cpu: float
    peak: int
    late: bool
    """Whether it was killed at the time limit."""
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """The last line of its output."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    patience: float,
    where: Path | None = None,
    producer: Sequence[str] = (),
) -> Ended:
    """Run it to its end, or for at most `patience` seconds. It ends with the caller, and so do its own children.

    Linux includes the caller's memory at the fork in the child's peak: see `own_peak`. `producer` is a command whose
    output it reads through a pipe. It starts at the same time, and its CPU time is not counted.
    """
    late = threading.Event()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, contextlib.ExitStack() as stack:
        began = time.monotonic()
        stdin: Any = stack.enter_context(_pipe_of(producer)) if producer else subprocess.DEVNULL
        child = subprocess.Popen(
            argv,
            env=dict(environment),
            cwd=where,
            stdin=stdin,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        if producer:
            stdin.close()  # only the child reads it, so that the producer ends with it

        def give_up() -> None:
            late.set()
            _kill(child.pid)

        timer = threading.Timer(patience, give_up)
        timer.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
            seconds = time.monotonic() - began
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            timer.cancel()
            if child.returncode is None:
                _kill(child.pid)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Ended(
        status=child.returncode,
        seconds=seconds,
        cpu=used.ru_utime + used.ru_stime,
        peak=used.ru_maxrss * RSS_UNIT,
        late=late.is_set(),
        output=texts[0],
        errors=texts[1],
    )


@contextlib.contextmanager
def _pipe_of(producer: Sequence[str]) -> Iterator[IO[bytes]]:
    """The output of a command, which ends with the block."""
    with subprocess.Popen(producer, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def own_peak() -> int:
    """Return the least peak that `run` can report so far. Callers stay small until everything is measured."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

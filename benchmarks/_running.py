"""What the benchmarks share: a file, the real command as a child, and what the kernel says that it used."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): KiB on Linux, bytes on macOS


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One run of the command. `peak` is its largest resident set, in bytes."""

    result: dict[str, Any]
    peak: int
    cpu_seconds: float
    seconds: float

    @property
    def rate(self) -> float:
        """MB/s."""
        return float(self.result["size"] / self.seconds / 1e6)


def make_file(path: Path, size: int) -> str:
    """Random bytes; gives their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            block = os.urandom(min(MIB, size - offset))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def run_command(arguments: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """`bigupload upload … --json`. Ends the child, whatever ends the caller. Raises SystemExit where it fails.

    A child's peak is at least what its parent had when it forked: callers stay small until all commands have run.
    """
    command = [sys.executable, "-m", "bigupload", "upload", *arguments, "--json", "--progress", "none"]
    began = time.monotonic()
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            output = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if child.returncode is None:
                child.kill()
    if child.returncode != 0:
        raise SystemExit(f"the upload ended with {child.returncode}: {' '.join(command)}")
    return Finished(
        result=json.loads(output),
        peak=usage.ru_maxrss * RSS_UNIT,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        seconds=time.monotonic() - began,
    )

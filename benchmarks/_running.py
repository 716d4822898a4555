"""Shared by the benchmarks of bigupload alone: a file, the real command as a child, and what holds."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .children import run

MIB = 1 << 20
PATIENCE = 7200.0


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
    """Write random bytes. Returns their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            block = os.urandom(min(MIB, size - offset))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def run_command(arguments: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run `bigupload upload … --json`. Raises SystemExit if it fails. For its peak memory see `children.run`."""
    command = [sys.executable, "-m", "bigupload", "upload", *arguments, "--json", "--progress", "none"]
    ended = run(command, {**os.environ, **environment}, patience=PATIENCE)
    if ended.status != 0:
        raise SystemExit(f"the upload ended with {ended.status}: {' '.join(command)}: {ended.complaint}")
    return Finished(result=json.loads(ended.output), peak=ended.peak, cpu_seconds=ended.cpu, seconds=ended.seconds)


def all_hold(found: Mapping[str, bool]) -> bool:
    """Print what holds and what does not. Returns whether all of it holds."""
    for what, holds in found.items():
        print(f"{'yes' if holds else 'NO':<4}{what}")
    return all(found.values())

"""Running the real command as a process of its own, and looking at what it left behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigupload.core.manifest import Manifest
from bigupload.manifests.journal import read_manifest
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.warm_starts import STARTS, Cold, Started, WarmStarts

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "bigupload"]
PART = 64 * 1024
"""Bytes: the smallest part of the strict store."""
LONG = 120.0
"""The time limit for a process, in seconds; nothing depends on it."""


Process = Cold | Started


@dataclass(frozen=True)
class Ended:
    """A process that is over. `code` is negative where a signal ended it."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """What `--json` printed for the one file."""
        (line,) = self.out.splitlines()
        result: dict[str, Any] = json.loads(line)
        return result

    @property
    def complaint(self) -> str:
        """The one line that standard error has to have."""
        (line,) = self.err.splitlines()
        return line


@dataclass(frozen=True)
class Place:
    """A directory with a home and a state of its own, and credentials for one store."""

    directory: Path
    access_key: str = StrictS3.access_key
    secret_key: str = StrictS3.secret_key
    starts: WarmStarts = STARTS

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the caller's AWS, nothing of the caller's home."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "BIGUPLOAD_", "XDG_"))}
        own = {
            "HOME": str(self.directory),
            "USERPROFILE": str(self.directory),  # the home of Windows
            "WIN_PD_OVERRIDE_LOCAL_APPDATA": str(self.directory / ".config"),  # what platformdirs takes there
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "BIGUPLOAD_STATE_DIR": str(self.state),
            "BIGUPLOAD_LOCAL_STORE_DIR": str(self.directory / "local-store"),
        }
        return kept | own | more

    def start(
        self,
        *arguments: str | Path,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
        output: int = subprocess.PIPE,
        cold: bool = False,
    ) -> Process:
        """Start a command. If Python is to run a module, an interpreter is forked that has imported most of it.

        Args:
            output: The descriptor that it writes to.
            cold: Whether it needs an interpreter of its own, for what that does at its start.
        """
        line = [*command, *map(str, arguments)]
        environment = self.environment() if environment is None else dict(environment)
        if line[:2] == [sys.executable, "-m"] and not cold:
            return self.starts.start(
                line[3:], environment, module=line[2], output=None if output == subprocess.PIPE else output
            )
        return Cold(
            line,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, **how: Any) -> Ended:
        """Run a command to its end. `how` is as for `start`."""
        with self.start(*arguments, **how) as process:
            return end_of(process)

    def manifest(self) -> Manifest:
        """What the one manifest says, right now."""
        return read_manifest(self.manifest_path()).manifest

    def manifest_path(self) -> Path:
        (path,) = self.state.glob("*.manifest.jsonl")
        return path


def end_of(process: Process) -> Ended:
    try:
        out, err = process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the command did not end: {out!r} {err!r}") from None
    assert "was never retrieved" not in err, err
    assert process.returncode is not None
    return Ended(process.returncode, out or "", err)


def random_file(path: Path, size: int, seed: int) -> str:
    """Seeded bytes; gives their SHA-256."""
    digest, source = hashlib.sha256(), random.Random(seed)
    with path.open("wb") as file:
        for offset in range(0, size, 1 << 20):
            block = source.randbytes(min(1 << 20, size - offset))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def driver(arguments: Sequence[str | Path]) -> list[str]:
    """The command line of the command under driver.py; what follows are the command's own arguments."""
    return [sys.executable, "-m", "tests.crash.driver", *map(str, arguments), "--"]


def until(holds: Callable[[], bool], process: Process) -> None:
    """Wait until it holds, looking every few milliseconds. Raises where the process ends first."""
    while not holds():
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"ended with {process.wait(0.002)} before it held")

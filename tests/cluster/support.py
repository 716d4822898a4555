"""A Dask cluster of processes that a test can stop and kill, each with a log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.tools.warm_starts import Cold, Started

from .nodes import WITH_DASK

REPOSITORY = Path(__file__).parents[2]
NODE = "tests.cluster.nodes"
MIB = 1024 * 1024
COLD = (sys.executable, "-m", NODE)
"""The command line of a node with an interpreter of its own."""
_DEBUG = {
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug",
    "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "100000",
}


class Node:
    """One process of the cluster. It ends when its standard input ends."""

    def __init__(self, process: Cold | Started, input_: int, log: Path) -> None:
        self.process = process
        self._input = open(input_, "wb")  # noqa: SIM115 - it ends with the process
        self.log = log
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()
        assert self.address, log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.communicate()
        self._input.close()


class Processes:
    """A scheduler, and workers as they are started."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.workers: list[Node] = []
        self.scheduler = self._start("scheduler", ["scheduler", "0"])

    @property
    def address(self) -> str:
        return self.scheduler.address

    def start_worker(self, *before: str) -> Node:
        """Start a worker; `before`: what its command line begins with, if it needs an interpreter of its own."""
        name = f"worker-{len(self.workers)}"
        self.workers.append(self._start(name, ["worker", self.address, str(self._directory / name)], before))
        return self.workers[-1]

    def _start(self, name: str, arguments: Sequence[str], before: Sequence[str] = ()) -> Node:
        log = self._directory / f"{name}.log"
        secretless = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | _DEBUG
        read, written = os.pipe()
        with log.open("w") as errors, open(read):
            if before:
                process: Cold | Started = Cold(
                    [*before, *arguments], cwd=REPOSITORY, env=secretless, stdin=read, stdout=subprocess.PIPE,
                    stderr=errors, text=True,
                )  # fmt: skip
            else:
                process = WITH_DASK.start(arguments, secretless, module=NODE, stdin=read, error=errors.fileno())
        node = Node(process, written, log)
        self._stack.callback(node.end)
        return node

    def logs(self) -> str:
        return "".join(node.log.read_text() for node in [self.scheduler, *self.workers])


def descendants(pid: int) -> set[int]:
    """The processes below a process."""
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found |= {child} | descendants(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that its parent has not awaited yet does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False

"""A Dask cluster of processes that a test can stop and kill, each with a log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MIB = 1024 * 1024
_SCHEDULER = """
import asyncio, os, signal, sys
from distributed import Scheduler
async def main():
    port = int(sys.argv[1])
    async with Scheduler(host="127.0.0.1", port=port, dashboard_address="127.0.0.1:0") as scheduler:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.create_task(scheduler.close()))
        print(scheduler.address, flush=True)
        reading = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait({reading, asyncio.ensure_future(scheduler.finished())}, return_when="FIRST_COMPLETED")
        os._exit(0)
asyncio.run(main())
"""
WORKER = """
import asyncio, sys
from distributed import Worker
async def main():
    place = {"host": "127.0.0.1", "local_directory": sys.argv[2]}
    async with Worker(sys.argv[1], nthreads=1, dashboard=False, **place) as worker:
        print(worker.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""
_DEBUG = {
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug",
    "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "100000",
}


class Node:
    """One process of the cluster. It ends when its standard input ends."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()
        assert self.address, log.read_text()

    def terminate(self) -> None:
        self.process.terminate()
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.communicate()


class Processes:
    """A scheduler, and workers as they are started."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self.workers: list[Node] = []
        self.scheduler = self._start_scheduler(0)

    @property
    def address(self) -> str:
        return self.scheduler.address

    def _start_scheduler(self, port: int) -> Node:
        return self._start(f"scheduler-{port}", [sys.executable, "-c", _SCHEDULER, str(port)])

    def restart_scheduler(self) -> None:
        """Kill the scheduler and start another one at its address. Its workers end by themselves."""
        self.scheduler.kill()
        self.scheduler = self._start_scheduler(int(self.address.rpartition(":")[2]))

    def start_worker(self, *before: str, code: str = WORKER) -> Node:
        """Start a worker; `before`: what its command line begins with."""
        name = f"worker-{len(self.workers)}"
        scratch = str(self._directory / name)
        self.workers.append(self._start(name, [*before, sys.executable, "-c", code, self.address, scratch]))
        return self.workers[-1]

    def _start(self, name: str, command: list[str]) -> Node:
        log = self._directory / f"{name}.log"
        secretless = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with log.open("w") as errors:
            process = subprocess.Popen(
                command,
                env=secretless | _DEBUG,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        node = Node(process, log)
        self._stack.callback(node.end)
        return node

    def logs(self) -> str:
        return "".join(node.log.read_text() for node in [self.scheduler, *self.workers])


def until_recorded(manifest: Path, parts: int) -> None:
    """Wait until a manifest has records of so many parts."""
    deadline = time.monotonic() + 60
    while not manifest.exists() or manifest.read_text().count('"type":"part"') < parts:
        assert time.monotonic() < deadline, "it never came so far"
        os.sched_yield()


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

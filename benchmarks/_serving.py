"""Run the media service as a child and measure CPU times. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .versions import Version

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Return the CPU seconds (user and system) of a process and of the processes that its first thread started:
    proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(cpu_of(int(child)) for child in below)


def memory_of(pid: int) -> int:
    """The resident bytes of a process and of those that it started; what they share counts once: proc(5)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    proportional = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return proportional * 1024 + sum(memory_of(int(child)) for child in below)


def cpu_of_machine() -> float:
    """Return the busy seconds of all cores, with the time stolen by the hypervisor."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


@dataclass(frozen=True, kw_only=True)
class Spent:
    """CPU times between two moments, in seconds."""

    seconds: float
    service: float
    client: float
    others: float

    @property
    def others_cores(self) -> float:
        """How many cores other processes kept busy."""
        return max(0.0, self.others) / self.seconds


class Meter:
    """Measures from its creation."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = self._read()

    def read(self) -> Spent:
        """Return the CPU times since its creation."""
        seconds, service, client, machine = (now - then for now, then in zip(self._read(), self._began, strict=True))
        return Spent(seconds=seconds, service=service, client=client, others=machine - service - client)

    def _read(self) -> tuple[float, float, float, float]:
        return time.perf_counter(), cpu_of(self._pid), time.process_time(), cpu_of_machine()


# -- the service


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service."""

    url: str
    key: str = field(repr=False)
    pid: int


@contextlib.contextmanager
def serving(store: Path, home: Path, workers: int, *more: str, version: Version | None = None) -> Iterator[Service]:
    """Run the real command with the store in the directory `store`, and with `more` options. Its own files are under
    `home`, where an earlier call may have left some. `version`: another one than this checkout's."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
    environment = kept | {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(store),
        "BIGUPLOAD_KEYS": str(home / "keys.json"),
        "BIGUPLOAD_SECRET_FILE": str(home / "secret"),
        "BIGUPLOAD_STATE_DIR": str(home / "state"),
    }
    if version is not None:
        environment["PYTHONPATH"] = str(version.tree)
    limits = ["--requests", "100000", "--open-uploads", "1000", "--sweep-every", "0", *more]
    python = sys.executable if version is None else version.python
    command = [python, "-m", "bigupload", "serve", "--local", "--port", "0", "--workers", str(workers), *limits]
    log_path = home / "log"
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition("serving")[2].strip().rstrip("/")
            if not url:
                raise SystemExit(f"the service did not start: {log_path.read_text()}")
            key = process.stdout.readline().split()[2]  # "API key  KEY   (shown this once…"
            yield Service(url=url, key=key, pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()

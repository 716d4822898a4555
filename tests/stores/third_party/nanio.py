"""nanio: buckets are folders, objects are files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .environments import pip_environment
from .launching import Running, Store, free_port, process

_VERSION = "0.1.7"


def _install(root: Path) -> Path:
    return pip_environment(root, "nanio", [f"nanio=={_VERSION}"])


@contextlib.contextmanager
def _start(environment: Path, directory: Path) -> Iterator[Running]:
    running = Running(port=free_port())
    command = [
        str(environment / "bin" / "nanio"), "serve", "--host", "127.0.0.1", "--port", str(running.port),
        "--data-dir", str(directory / "data"), "--no-access-log",
    ]  # fmt: skip
    keys = {"NANIO_ACCESS_KEY": running.access_key, "NANIO_SECRET_KEY": running.secret_key}
    with process(command, directory, running.port, environment=keys):
        yield running


NANIO = Store(
    name="nanio",
    title="nanio",
    version=_VERSION,
    how="PyPI `nanio`, `nanio serve`",
    install=_install,
    start=_start,
    proof="composite-etag",
)

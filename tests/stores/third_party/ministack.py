"""ministack, an emulator of AWS. It makes a composite of CRC64NVME, which S3 has of whole objects only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .environments import pip_environment
from .launching import Running, Store, free_port, process

_VERSION = "1.5.33"


def _install(root: Path) -> Path:
    return pip_environment(root, "ministack", [f"ministack=={_VERSION}"])


@contextlib.contextmanager
def _start(environment: Path, directory: Path) -> Iterator[Running]:
    running = Running(port=free_port())
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(running.port),
        "AWS_ACCESS_KEY_ID": running.access_key,  # presigned URLs of other keys are refused
        "AWS_SECRET_ACCESS_KEY": running.secret_key,
        "S3_DATA_DIR": str(directory / "data"),
    }
    with process([str(environment / "bin" / "ministack")], directory, running.port, environment=settings):
        yield running


MINISTACK = Store(
    name="ministack",
    title="ministack",
    version=_VERSION,
    how="PyPI `ministack`",
    install=_install,
    start=_start,
    arguments=("--checksum", "sha256"),
    proof="composite-checksum",
    fails={"default checksum": "--checksum sha256"},
)

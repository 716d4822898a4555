"""s3rver: a fake S3 server for Node.js. It has neither ListParts nor AbortMultipartUpload nor ListMultipartUploads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .environments import npm_environment
from .launching import Running, Store, free_port, process

_VERSION = "3.7.1"


def _install(root: Path) -> Path:
    return npm_environment(root, "s3rver", [f"s3rver@{_VERSION}"])


@contextlib.contextmanager
def _start(environment: Path, directory: Path) -> Iterator[Running]:
    running = Running(port=free_port(), access_key="S3RVER", secret_key="S3RVER")  # it knows no others
    command = [
        str(environment / "node_modules" / ".bin" / "s3rver"), "-d", str(directory / "data"), "-a", "127.0.0.1",
        "-p", str(running.port), "--no-vhost-buckets", "--silent",
    ]  # fmt: skip
    with process(command, directory, running.port):
        yield running


S3RVER = Store(
    name="s3rver",
    title="s3rver",
    version=_VERSION,
    how="npm `s3rver`",
    install=_install,
    start=_start,
    proof="size",  # its ETag is the MD5 of the whole object, which no parts' digests make; `verify` proves it
    fails={
        "resume": "cannot list the parts",
        "gc": "refused to list the open uploads",
        "abort": "cannot abort",
    },
)

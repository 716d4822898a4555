"""LocalStack 4.9, without Docker: its runtime with S3 alone, served by hypercorn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .environments import pip_environment
from .launching import Running, Store, free_port, process

_VERSION = "4.9.2"
_PACKAGES = [
    f"localstack-core[base-runtime]=={_VERSION}",
    # It was written for these: newer ones no longer have what it calls.
    "cbor2<6",
    "psutil<7.1",
    "pyopenssl<25",
]


def _install(root: Path) -> Path:
    return pip_environment(root, "localstack", _PACKAGES)


@contextlib.contextmanager
def _start(environment: Path, directory: Path) -> Iterator[Running]:
    running = Running(port=free_port())
    settings = {
        "SERVICES": "s3",
        "EAGER_SERVICE_LOADING": "1",
        "GATEWAY_SERVER": "hypercorn",
        "GATEWAY_LISTEN": f"127.0.0.1:{running.port}",
        "DNS_ADDRESS": "0",  # no DNS server
        "DISABLE_EVENTS": "1",  # no analytics
        "SKIP_SSL_CERT_DOWNLOAD": "1",
    }
    command = [str(environment / "bin" / "python"), "-m", "localstack.runtime.main"]
    with process(command, directory, running.port, environment=settings):
        yield running


LOCALSTACK = Store(
    name="localstack",
    title="LocalStack",
    version=_VERSION,
    how="PyPI `localstack-core[base-runtime]`, S3 alone, without Docker",
    install=_install,
    start=_start,
    proof="full-object",
)

"""A Dask cluster whose workers only pretend to hash and to send: it shows what parts cost the coordinator and the
scheduler, where no network, disk or core of a worker is in the way.

`python -m benchmarks._crowd WORKERS SECONDS ADDRESS` is one process with all workers; without arguments it is the
scheduler. Both take a line with the certificate from their standard input, and end when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from distributed import Client, Scheduler, Security, Worker

from bigupload.cluster import worker_side
from bigupload.core.checksums import Digests, Hashed
from bigupload.core.part_plan import Part
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import Gauge, PutResponse, SignedRequest, Source

HASHING = 3e9
"""Bytes a second that a worker pretends to hash."""
SPREAD = 0.4
"""How much longer or shorter than the mean a PUT may take: PUTs of a network do not end together."""
_END = 20.0
"""Seconds for a process to end by itself."""
SOME_CHECKSUM = "AAAAAAAAAAA="
_FRUGAL = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "60s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "5s",
}
"""What each worker does beside its tasks, a hundred times in one process: as little as Dask can be told."""
_KEYS = ("tls_ca_file", "tls_client_cert", "tls_client_key", "tls_scheduler_cert", "tls_scheduler_key",
         "tls_worker_cert", "tls_worker_key")  # fmt: skip


class PretendedGauge(Gauge):
    """Bytes sent at a constant rate."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._began = time.monotonic()

    def sent(self) -> int:
        return int(self._size * min(1.0, (time.monotonic() - self._began) / self._seconds))


def response_to(request: SignedRequest) -> PutResponse:
    """What a store that keeps the checksum answers."""
    return PutResponse('"-"', {name.lower(): value for name, value in request.headers.items()})


def pretend(seconds: float) -> None:
    """Let the workers of this process pretend. `seconds`: how long a PUT takes, on average."""

    def hashed(_: Source, part: Part, __: Digests, *, check: Callable[[], object]) -> Hashed:
        time.sleep(part.size / HASHING)
        return Hashed(SOME_CHECKSUM)

    async def put(
        _: object, request: SignedRequest, __: Source, part: Part, *, on_start: Callable[[Gauge], None], **___: Any
    ) -> PutResponse:
        took = seconds * random.uniform(1 - SPREAD, 1 + SPREAD)
        on_start(PretendedGauge(part.size, took))
        await asyncio.sleep(took)
        return response_to(request)

    mock.patch.object(worker_side, "hash_part", hashed).start()
    mock.patch.object(HttpTransport, "put", put).start()


@dataclass(frozen=True)
class Crowd:
    """A running cluster."""

    client: Client
    scheduler: int
    """The scheduler's process."""


@contextlib.asynccontextmanager
async def crowd(workers: int, seconds: float) -> AsyncIterator[Crowd]:
    """So many workers that pretend, and a client. `seconds`: how long a PUT takes, on average."""
    security = await asyncio.to_thread(Security.temporary)
    certificate = json.dumps({key: getattr(security, key) for key in _KEYS})
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> tuple[int, str]:
            command = [sys.executable, "-m", __spec__.name, *arguments]
            process = stack.enter_context(
                subprocess.Popen(
                    command,
                    env=os.environ | _FRUGAL,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            stack.callback(_end, process)
            assert process.stdin is not None
            assert process.stdout is not None
            print(certificate, file=process.stdin, flush=True)
            return process.pid, process.stdout.readline().strip()

        scheduler, address = await asyncio.to_thread(start)
        await asyncio.to_thread(start, str(workers), str(seconds), address)
        # mypy: Dask does not annotate its client
        async with Client(address, security=security, asynchronous=True) as client:  # type: ignore[no-untyped-call]  # Dask's
            yield Crowd(client, scheduler)


def _end(process: subprocess.Popen[str]) -> None:
    """Let a process end by itself, so that it removes its files; kill one that does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=_END)
    except subprocess.TimeoutExpired:
        process.kill()


def cpu_of(process: int) -> float:
    """The CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _run(security: Any) -> None:
    if len(sys.argv) == 1:
        async with Scheduler(
            protocol="tls", host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", security=security
        ) as scheduler:
            print(scheduler.address, flush=True)
            await asyncio.to_thread(sys.stdin.read)
        return
    workers, seconds, address = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    pretend(seconds)
    async with contextlib.AsyncExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bigupload-bench-"))
        for number in range(workers):
            place: dict[str, Any] = {"host": "127.0.0.1", "local_directory": scratch, "security": security}
            await stack.enter_async_context(
                Worker(address, nthreads=1, dashboard=False, name=f"worker-{number}", **place)
            )
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    given = json.loads(sys.stdin.readline())
    # mypy: nor this
    asyncio.run(_run(Security(require_encryption=True, **given)))  # type: ignore[no-untyped-call]  # Dask's

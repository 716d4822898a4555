"""Does the media service hold under load?  `python -m benchmarks service_load [--seconds 60] [--shared URL]
[--clients 200] [--users 10000] [--old REF]`

Runs the real command with two workers over a real local store, and measures from outside, over HTTP:

- 500 requests a second for a minute: of ten, six presign a PUT, three sign a part, and one asks for an upload's state,
  which asks the store. The requests are due at random times that are fixed beforehand, and the latency counts from the
  due time. Errors, percentiles, and the memory of all of the service's processes, which must not grow after the first
  third.
- A sweep of 20,000 photos of 100 bytes, which looks at each of them: seconds, CPU seconds, memory. The service's own
  sweeps remember what they found, and look at each once.

With `--clients`, so many clients take the place of both: see `_clients_load`.

The exit status is 1 if a request failed, if the 99th percentile is 100 ms or more, if the memory grew by more than a
twentieth, or if the sweep took longer than the period of ten minutes. Store, service and client share the machine.
Linux only (/proc). Leaves no files.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore

from . import _clients_load as clients_load
from ._running import MIB, all_hold
from ._serving import (
    CREATE,
    PRESIGN,
    Caller,
    Service,
    WrongAnswerError,
    cpu_of,
    memory_of,
    percentile,
    serving,
    sign_request,
)
from .peering import default_directory

RATE = 500.0
"""The request rate, a second."""
WORKERS = 2
MOST_LATENCY = 0.100
"""The target for the 99th percentile, in seconds."""
MOST_GROWTH = 1.05
OBJECTS = 20_000
LONGEST_SWEEP = 600.0
"""Seconds: the period of the service's sweeps."""
SEED = 3
WARM_UP = 3.0
"""Seconds, which are not measured."""
Ask = Callable[[], Awaitable[object]]
_PHOTO = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a minute of requests showed."""

    requests: int
    errors: dict[str, int]
    p50: float
    p99: float
    worst: float
    latest_sent: float
    """The client's largest delay, in seconds: at most this much of `worst` is its own."""
    memory: list[int]
    """Bytes of all of the service's processes, once a second."""
    cpu: float
    """Seconds of all of the service's processes."""

    @property
    def growth(self) -> float:
        """The largest memory of the last third, as a multiple of that of the first."""
        third = max(1, len(self.memory) // 3)
        return max(self.memory[-third:]) / max(self.memory[:third])


@dataclass(frozen=True, kw_only=True)
class Swept:
    """One sweep."""

    seconds: float
    cpu: float
    memory: int
    """The most bytes that were resident."""


# -- requests


async def send(kinds: Sequence[Ask], seconds: float) -> tuple[list[float], Counter[str], float]:
    """Send requests of kinds chosen by chance at their due times. Returns latencies, errors, the largest delay."""
    random_ = random.Random(SEED)
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    latest = 0.0

    async def one(ask: Ask, due: float) -> None:
        try:
            await ask()
        except (WrongAnswerError, aiohttp.ClientError, TimeoutError) as e:
            errors[f"{type(e).__name__}: {e}"[:200]] += 1
        latencies.append(time.perf_counter() - due)

    began = due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while (due := due + random_.expovariate(RATE)) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            latest = max(latest, time.perf_counter() - due)
            group.create_task(one(random_.choice(kinds), due))
    return sorted(latencies), errors, latest


async def measure(service: Service, seconds: float) -> Load:
    """Load the service. Raises WrongAnswerError before the measurement alone."""
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as http:
        ask = Caller(service=service, http=http).ask
        upload = (await ask("POST", "/v1/media/multipart", CREATE))["upload"]
        kinds: list[Ask] = [partial(ask, "POST", "/v1/media/presign", PRESIGN)] * 6
        kinds += [partial(ask, "POST", "/v1/media/multipart/parts", sign_request(upload))] * 3
        kinds.append(partial(ask, "GET", "/v1/media/multipart", upload=upload))
        await send(kinds, WARM_UP)
        memory: list[int] = []

        async def watch() -> None:
            while True:
                memory.append(memory_of(service.pid))
                await asyncio.sleep(1)

        before = cpu_of(service.pid)
        watching = asyncio.create_task(watch())
        latencies, errors, latest = await send(kinds, seconds)
        watching.cancel()
        spent = cpu_of(service.pid) - before
        await ask("DELETE", "/v1/media/multipart", upload=upload)
    return Load(
        requests=len(latencies), errors=dict(errors), p50=percentile(latencies, 0.5), p99=percentile(latencies, 0.99),
        worst=latencies[-1], latest_sent=latest, memory=memory, cpu=spent,
    )  # fmt: skip


# -- the sweep


def fill(store: LocalStore, directory: Path, objects: int) -> str:
    """Make a bucket with so many photos, as uploads would have made them. Returns its name."""
    bucket, source = "swept", directory / "photos"
    source.mkdir()
    random_ = random.Random(SEED)
    for _ in range(objects):
        (source / f"{random_.randbytes(16).hex()}.jpg").write_bytes(_PHOTO + bytes(76))
    environment = _environment(store, directory)
    command = [sys.executable, "-m", "bigupload"]
    for call in (["bucket", "setup", f"s3://{bucket}"], ["upload", f"{source}/", f"s3://{bucket}/media/load/", "-q"]):
        subprocess.run([*command, *call], env=environment, check=True, stdout=subprocess.DEVNULL)
    return bucket


def sweep(store: LocalStore, directory: Path, bucket: str) -> Swept:
    """Sweep the bucket by the command."""
    began = time.perf_counter()
    call = [sys.executable, "-m", "bigupload", "bucket", "sweep", f"s3://{bucket}"]
    process = subprocess.Popen(call, env=_environment(store, directory), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit("the sweep failed")
    return Swept(seconds=time.perf_counter() - began, cpu=used.ru_utime + used.ru_stime, memory=used.ru_maxrss * 1024)


def _environment(store: LocalStore, directory: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
    return kept | {
        "BIGUPLOAD_STATE_DIR": str(directory / "state"),
        "AWS_ENDPOINT_URL": store.endpoint_url,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_REGION": store.region,
    }


# -- what is shown


def show(console: Console, load: Load, objects: int, swept: Swept) -> None:
    """Print two tables."""
    table = Table(title=f"{RATE:.0f} requests a second, {WORKERS} workers", title_justify="left")
    for column in ("requests", "errors", "p50 ms", "p99 ms", "max ms", "sent late ms", "MB", "growth", "CPU s"):
        table.add_column(column, justify="right")
    times = (load.p50, load.p99, load.worst, load.latest_sent)
    table.add_row(
        f"{load.requests:,}", str(sum(load.errors.values())), *(f"{1e3 * each:.1f}" for each in times),
        f"{load.memory[-1] / MIB:.0f}", f"{load.growth:.3f}", f"{load.cpu:.1f}",
    )  # fmt: skip
    console.print(table)
    for error, count in load.errors.items():
        console.print(f"{count} × {error}")
    table = Table(title=f"a sweep of {objects:,} objects", title_justify="left")
    for column in ("seconds", "CPU s", "MB"):
        table.add_column(column, justify="right")
    table.add_row(f"{swept.seconds:.1f}", f"{swept.cpu:.1f}", f"{swept.memory / MIB:.0f}")
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="Duration of the load.")
    parser.add_argument("--objects", type=int, default=OBJECTS, help="Number of objects to sweep.")
    parser.add_argument("--shared", metavar="URL", help="A Valkey or Redis through which the workers share limits.")
    parser.add_argument("--clients", type=int, default=0, help="Clients with upload tokens instead.")
    parser.add_argument("--users", type=int, default=10_000, help="End users whose tokens the clients have.")
    parser.add_argument("--pause", type=float, default=0.2, help="A client's mean pause between requests, in seconds.")
    parser.add_argument("--old", metavar="REF", help="With --clients: a version in git to compare with.")
    parser.add_argument("--peers", type=Path, default=default_directory(), help="Where that version is installed.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Also write the figures to FILE.")
    arguments = parser.parse_args()
    if arguments.clients:
        return clients_load.run(arguments)
    shared = ["--shared", arguments.shared] if arguments.shared else []
    with tempfile.TemporaryDirectory(prefix="bigupload-load-") as name:
        directory = Path(name)
        try:
            store = local_store.start(directory / "store")
            with serving(store.data_dir, directory / "service", WORKERS, *shared) as service:
                load = asyncio.run(measure(service, arguments.seconds))
            bucket = fill(store, directory, arguments.objects)
            swept = sweep(store, directory, bucket)
        finally:
            local_store.stop(directory / "store")
    show(Console(width=120), load, arguments.objects, swept)
    print(f"load of the last minute at the end: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores")
    checks = {
        "no request failed": not load.errors,
        f"p99 under {MOST_LATENCY * 1e3:.0f} ms": load.p99 < MOST_LATENCY,
        "the memory does not grow": load.growth < MOST_GROWTH,
        f"the sweep takes less than {LONGEST_SWEEP:.0f} s": swept.seconds < LONGEST_SWEEP,
    }
    good = all_hold(checks)
    if arguments.json is not None:
        figures = {
            "load": dataclasses.asdict(load) | {"growth": load.growth},
            "sweep": dataclasses.asdict(swept),
            "checks": checks,
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if good else 1

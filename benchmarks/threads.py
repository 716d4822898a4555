"""Which thread is the limit on a machine with many cores?  `python -m benchmarks threads [--size 1GB] [--rounds N]`

One process has one event loop. Other threads hash and encrypt, without Python's lock. So with enough cores, one process
sends as fast as its busiest thread lets it. This uploads within this process to the null store, over http and https, in
parts of 5 and of 64 MiB, and reads the CPU clock of each thread: two part sizes give the seconds of a part and those of
a GB. The limit is for parts of 16 MiB, which files from 4 to 156 GiB have. The least of the rounds counts, because
other work on the machine only adds to it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import bigupload
from bigupload.core.part_plan import DEFAULT_PART_SIZE, MIB
from bigupload.http.part_body import _ENCRYPTING_THREADS

from . import report
from .command import files, parser
from .stores import BUCKET, REGION, Store, null_store

PART_SIZES = (5 * MIB, 64 * MIB)
GB = 1e9
LOOP, HASH, ENCRYPT = "event loop", "hash", "encrypt"
THREADS = {LOOP: 1, HASH: 4, ENCRYPT: _ENCRYPTING_THREADS}
"""How many threads of each kind a process has, with as many cores."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """CPU seconds of the threads of one kind."""

    part: float
    """Of each part."""
    byte: float

    def limit(self, threads: int, part_size: int = DEFAULT_PART_SIZE) -> float:
        """Return the bytes a second that this many threads can do."""
        seconds = self.byte + self.part / part_size
        return threads / seconds if seconds > 0 else float("inf")


def cost(size: int, seconds: Mapping[int, float]) -> Cost:
    """Return the cost by the CPU seconds of a file of `size` bytes with two sizes of parts."""
    (small, more), (large, less) = sorted(seconds.items())
    counts = -(-size // small), -(-size // large)
    part = max(0.0, (more - less) / (counts[0] - counts[1]))
    return Cost(part=part, byte=max(0.0, less - part * counts[1]) / size)


def kind(thread: threading.Thread) -> str:
    """Return what a thread does. Those that hash have names of their pools', which are the library's own."""
    if thread is threading.main_thread():
        return LOOP
    return ENCRYPT if "encrypt" in thread.name else HASH


def clocks() -> dict[str, float]:
    """Return the CPU seconds of each kind of threads so far. Threads that have ended are not counted."""
    found = dict.fromkeys(THREADS, 0.0)
    for thread in threading.enumerate():
        if thread.ident is not None:
            found[kind(thread)] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return found


async def measure(store: Store, file: Path, rounds: int) -> dict[str, Cost]:
    """Upload a file by turns in parts of each size. Returns the costs by the kind of threads."""
    reach = bigupload.S3Options(
        endpoint_url=store.url,
        region=REGION,
        access_key=store.access_key,
        secret_key=store.secret_key,
        ca_bundle=store.ca,
    )
    least: dict[str, dict[int, float]] = {name: dict.fromkeys(PART_SIZES, float("inf")) for name in THREADS}
    async with bigupload.Uploader() as uploader:
        for number in range(rounds + 1):
            for part_size in PART_SIZES:
                before = clocks()
                to = f"s3://{BUCKET}/{number}-{part_size}"
                await uploader.upload(file, to=to, s3=reach, part_size=part_size)
                after = clocks()
                for name in THREADS if number else ():  # the first round starts threads and imports modules
                    least[name][part_size] = min(least[name][part_size], after[name] - before[name])
    return {name: cost(file.stat().st_size, each) for name, each in least.items()}


def table(found: Mapping[str, Mapping[str, Cost]]) -> Iterator[str]:
    """Return the lines of a Markdown table, by scheme and kind of threads."""
    yield "| | threads | CPU a part | CPU a GB | their limit, parts of 16 MiB |"
    yield "|---|---|---|---|---|"
    for scheme, costs in found.items():
        for name, each in costs.items():
            if each.byte + each.part > 0:
                limit = each.limit(THREADS[name]) / GB
                figures = f"{each.part * 1e3:.2f} ms | {each.byte * GB:.3f} s | {limit:.1f} GB/s"
                yield f"| {scheme}, {name} | {THREADS[name]} | {figures} |"


def main() -> int:
    made = parser(__doc__, size="1GB", rounds=5)
    arguments = made.parse_args()
    found: dict[str, dict[str, Cost]] = {}
    with files(arguments) as (file, _), tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        os.environ["BIGUPLOAD_STATE_DIR"] = str(Path(name) / "state")
        for scheme in ("http", "https"):
            directory = Path(name) / scheme
            directory.mkdir()
            with null_store(tls=scheme == "https")(directory, 1) as store:
                found[scheme] = asyncio.run(measure(store, file, arguments.rounds))
    print("\n".join(table(found)))
    print(report.when_and_where({"load": f"{os.getloadavg()[0]:.0f}"}))
    if arguments.json is not None:
        report.write(arguments.json, "threads", {"arguments": vars(arguments), "costs": found}, [])
    return 0

"""How long does a small file wait behind big ones?  `python -m benchmarks fairness`

One `Uploader` uploads big files (50 of 100 MB) to a null store that takes 100 MB/s in all. When they have been sending
for a second, a small file (100 KB) joins them. The table shows the seconds until it is proved, alone and behind the
others, and the seconds that all of them take.

The exit status is 1 if a target is missed: the small file within a twentieth of the time of all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import bigupload
from bigupload.units import parse_rate, parse_size

from .stores import Store, null_store

_PIECE = 1_000_000


def _write(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(os.urandom(min(_PIECE, size - start)))
    return path


async def _measure(store: Store, big: Path, small: Path, count: int) -> dict[str, float]:
    s3 = bigupload.S3Options(
        endpoint_url=store.url, region=store.region, access_key=store.access_key, secret_key=store.secret_key
    )
    took: dict[str, float] = {}

    async def timed(what: str, path: Path, key: str) -> None:
        began = time.perf_counter()
        await uploader.upload(path, to=f"s3://{store.bucket}/{key}", s3=s3)
        took[what] = max(took.get(what, 0.0), time.perf_counter() - began)

    async with bigupload.Uploader() as uploader:
        await timed("warm-up", small, "warm-up")
        await timed("alone", small, "alone")
        big_ones = [asyncio.create_task(timed("all", big, f"big-{number}")) for number in range(count)]
        while store.counts().get("bytes_received", 0) < small.stat().st_size * 2 + 1:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        await timed("late", small, "late")
        took["big ones done before it"] = sum(task.done() for task in big_ones)
        await asyncio.gather(*big_ones)
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=50, help="big files (default: 50)")
    parser.add_argument("--size", type=parse_size, default=parse_size("100MB"), help="of each (default: 100MB)")
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("100MB/s"), help="of all (default: 100MB/s)")
    arguments = parser.parse_args()
    print(f"{arguments.count} files of {arguments.size / 1e6:g} MB, 100 KB after them, {arguments.rate / 1e6:g} MB/s")
    print(f"{'round':>5} {'alone':>8} {'late':>8} {'all':>8}  seconds; big ones done before the late one")
    missed = False
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        directory = Path(name)
        os.environ["BIGUPLOAD_STATE_DIR"] = str(directory / "state")
        big, small = _write(directory / "big", arguments.size), _write(directory / "small", 100_000)
        for number in range(1, arguments.rounds + 1):
            with null_store(["--total-rate", f"{arguments.rate:.0f}B/s"])(
                directory / f"store-{number}", number
            ) as store:
                took = asyncio.run(_measure(store, big, small, arguments.count))
            before = int(took["big ones done before it"])
            print(f"{number:>5} {took['alone']:>8.2f} {took['late']:>8.2f} {took['all']:>8.2f}  {before}", flush=True)
            missed |= took["late"] > took["all"] / 20
    print(f"{'NO ' if missed else 'yes'}  the late one within a twentieth of the time of all")
    return 1 if missed else 0

"""How long is the event loop blocked while a file is sent?  `python -m benchmarks loop_lag [--size 1GB]`

Sends one file in parts to a null store over http, https, and http with a rate limit, once from the page cache and once
from the disk (the file is evicted before each part). A timer fires every millisecond. The lag is how late it fires.
Nothing else runs in the loop. Hashing is left out, because it would read the file into the cache again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bigupload.core.part_plan import MIB, Part
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import SignedRequest
from bigupload.sources.file import FileSource
from bigupload.support.rate_limiter import RateLimiter
from bigupload.units import parse_size

from .stores import Store, null_store

_PART = 64 * MIB
_AT_ONCE = 4
_TICK = 0.001


async def _measure_lag(lags: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_TICK)
        lags.append(time.perf_counter() - before - _TICK)


async def _send(store: Store, source: FileSource, size: int, *, cold: bool, limiter: RateLimiter | None) -> list[float]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def put(number: int, offset: int) -> None:
        part = Part(number, offset, min(_PART, size - offset))
        url = f"{store.url}/{store.bucket}/key?partNumber={number}&uploadId={upload_id}"
        async with slots:
            if cold:
                os.posix_fadvise(source.fileno(), part.offset, part.size, os.POSIX_FADV_DONTNEED)
            await transport.put(SignedRequest(url, {}, 3600), source, part, on_start=lambda _: None)

    upload_id = await asyncio.to_thread(_create, store)
    lags: list[float] = []
    async with HttpTransport(ca_bundle=store.ca, limiter=limiter) as transport:
        measuring = asyncio.create_task(_measure_lag(lags))
        await asyncio.gather(*(put(n, offset) for n, offset in enumerate(range(0, size, _PART), 1)))
        measuring.cancel()
    return lags


def _create(store: Store) -> str:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=store.url, region_name=store.region, verify=str(store.ca) if store.ca else None,
        aws_access_key_id=store.access_key, aws_secret_access_key=store.secret_key,
    )  # fmt: skip
    return client.create_multipart_upload(Bucket=store.bucket, Key="key")["UploadId"]


def _row(name: str, lags: list[float], seconds: float, size: int) -> str:
    ordered = sorted(lags)
    blocked = sum(lag for lag in lags if lag > 0.005)
    return (
        f"{name:24} {size / seconds / 1e6:8.0f} MB/s {ordered[len(ordered) // 2] * 1e3:8.2f} "
        f"{ordered[int(len(ordered) * 0.99)] * 1e3:8.2f} {ordered[-1] * 1e3:8.1f} {blocked:8.2f} of {seconds:.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=parse_size("1GB"), help="of the file (default: 1GB)")
    parser.add_argument("--directory", type=Path, default=None, help="where the file is made: a disk, not tmpfs")
    arguments = parser.parse_args()
    size: int = arguments.size
    print(f"{'':24} {'':>13} {'median':>8} {'p99':>8} {'worst':>8} ms   {'blocked (lags over 5 ms)'}")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        path = Path(directory) / "file"
        with path.open("wb") as file:
            for _ in range(0, size, MIB):
                file.write(os.urandom(MIB))
            file.truncate(size)
            os.fsync(file.fileno())
        limits: dict[str, Callable[[], RateLimiter | None]] = {
            "http": lambda: None,
            "https": lambda: None,
            "http, limited": lambda: RateLimiter(10e9),
        }
        for name, limiter in limits.items():
            for cold in (False, True):
                opened = null_store(tls=name == "https")(Path(directory) / f"{name} {cold}", 0)
                with opened as store, FileSource(path) as source:
                    path.read_bytes()
                    before = time.perf_counter()
                    lags = asyncio.run(_send(store, source, size, cold=cold, limiter=limiter()))
                    seconds = time.perf_counter() - before
                print(_row(f"{name}, {'disk' if cold else 'page cache'}", lags, seconds, size))
    return 0

"""Is anything lost under many faults and over a long time?

`python -m benchmarks soak [--schedules 1000] [--minutes 30]`: two runs; 0 leaves one out. A thousand seeded schedules
of faults over a 64 MiB upload, a fifth of them against SeaweedFS with S3's own limits, the rest in parts of 256 KiB
against the tests' strict fake. Each must end proved within five resumes, or refused if the store lies. Then 20 uploads
at once in one process with 5 % faults: resident memory and descriptors must stay flat. The exit status is 1 if a check
fails. `--seed N --schedules 1` repeats one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bigupload
from bigupload import RetryPolicy, S3Options, errors
from bigupload.core.part_plan import Limits
from bigupload.stores import local_store
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.schedule_runs import Behind, Outcome, ScheduledUpload
from tests.tools.schedules import make_schedule
from tests.tools.weed import weed_client

from ._running import MIB, all_hold, make_file

SIZE = 64 * MIB
SMALL_PART = MIB // 4
REAL_PART = 5 * MIB
BUCKET = "soak"
_REAL_EVERY = 5
_STORE_FOR = 250
"""The number of schedules for each store: SeaweedFS keeps deleted data for a while."""

# The long run.
FILE = 11 * MIB
SHARE = 0.05
SETTLING = 0.2
"""The share of the time for the warm-up, in which pools, threads and caches fill."""
MOST_SLOPE = 1e6 / 600
"""The most growth, in bytes a second: 1 MB in 10 minutes."""


# -- schedules


@contextlib.contextmanager
def weed_in(directory: Path) -> Iterator[local_store.LocalStore]:
    """A SeaweedFS with the bucket."""
    store = local_store.start(directory)
    try:
        client = weed_client(store)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield store
    finally:
        local_store.stop(directory)


@contextlib.contextmanager
def stores() -> Iterator[tuple[Behind, Behind]]:
    """The fake, and the real one."""
    with (
        tempfile.TemporaryDirectory(prefix="bigupload-soak-") as name,
        StrictS3(min_part_size=1024) as s3,
        weed_in(Path(name)) as weed,
    ):
        s3.create_bucket(BUCKET)
        port = urlsplit(weed.endpoint_url).port or 0
        yield (
            Behind(s3.port, s3.access_key, s3.secret_key, s3.region, BUCKET, s3.client),
            Behind(port, weed.access_key, weed.secret_key, weed.region, BUCKET, lambda: weed_client(weed)),
        )


def run_schedules(first: int, count: int, directory: Path) -> bool:
    """Return whether all schedules ended as they must. Prints each that did not."""
    path = directory / "file.bin"
    sha256 = make_file(path, SIZE)
    real_limits, small_limits = S3Store.limits, Limits(min_part_size=1024, enough_parts=1)
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for start in range(first, first + count, _STORE_FOR):
        with stores() as (fake, real):
            for seed in range(start, min(start + _STORE_FOR, first + count)):
                is_real = seed % _REAL_EVERY == 0
                S3Store.limits = real_limits if is_real else small_limits
                part_size = REAL_PART if is_real else SMALL_PART
                schedule = make_schedule(seed, size=SIZE, part_size=part_size, silent_md5=is_real)
                upload = ScheduledUpload(schedule, real if is_real else fake, path, sha256, directory)
                outcomes.append(asyncio.run(upload.run()))
                if outcomes[-1].wrong:
                    print(f"WRONG: {outcomes[-1].wrong}\n  {schedule}", flush=True)
                if len(outcomes) % 50 == 0:
                    print(f"{len(outcomes)} schedules, {time.monotonic() - began:.0f} s", flush=True)
                upload.manifest.unlink(missing_ok=True)
    S3Store.limits = real_limits
    return report_schedules(outcomes, time.monotonic() - began)


def report_schedules(outcomes: list[Outcome], seconds: float) -> bool:
    endings = Counter(outcome.ending for outcome in outcomes)
    resumes = Counter(outcome.resumes for outcome in outcomes)
    wrong = sum(outcome.wrong is not None for outcome in outcomes)
    extra, broken = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("extra", "broken"))
    print(f"\n{len(outcomes)} schedules of {SIZE // MIB} MiB in {seconds:.0f} s")
    print("endings: " + ", ".join(f"{count} {ending}" for ending, count in endings.most_common()))
    print("resumes: " + ", ".join(f"{count} x {number}" for number, count in sorted(resumes.items())))
    print(f"sent again: {extra / MIB:,.0f} MiB, of requests that were broken: {broken / MIB:,.0f} MiB")
    print(f"{'NO ' if wrong else 'yes'} every schedule ended as it must ({wrong} did not)")
    return wrong == 0


# -- the long run


@contextlib.contextmanager
def unreliable(port: int, share: float) -> Iterator[str]:
    """Run the fault proxy in its own process, so that its memory does not count as the uploader's."""
    command = [sys.executable, "-m", "tests.tools.unreliable", "--port", str(port), "--share", str(share)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.stdin.close()
            print(f"the proxy: {process.stdout.readline().strip()}")


def resident() -> int:
    """Bytes. proc(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Long:
    """Several workers, each of which uploads one file after another until the time is over."""

    def __init__(self, store: local_store.LocalStore, url: str, directory: Path, *, rate: float) -> None:
        self.store, self.directory, self.rate = store, directory, rate
        self.options = S3Options(
            endpoint_url=url, region=store.region, access_key=store.access_key, secret_key=store.secret_key
        )
        self.proved = self.resumed = self.compared = 0
        self.wrong: list[str] = []
        self.samples: list[tuple[float, int, int]] = []
        """Seconds, bytes resident, descriptors."""
        self._client = weed_client(store)

    async def run(self, seconds: float, workers: int) -> None:
        self._until = time.monotonic() + seconds
        policy = RetryPolicy(base_delay=0.01, max_delay=0.2, stall_after=5, response_timeout=20)
        async with bigupload.Uploader(retry=policy, limit_rate=self.rate, state_dir=self.directory) as uploader:
            await asyncio.gather(self._sample(), *(self._work(uploader, number) for number in range(workers)))
        self._client.close()

    async def _work(self, uploader: bigupload.Uploader, number: int) -> None:
        path = self.directory / f"file-{number}.bin"
        sha256 = make_file(path, FILE + number)
        turn = 0
        where: dict[str, Any] = {"s3": self.options, "part_size": REAL_PART}
        while time.monotonic() < self._until:
            turn += 1
            key = f"{number}/{turn}"
            for _ in range(6):
                try:
                    result = await uploader.upload(path, to=f"s3://{BUCKET}/{key}", **where)
                    self.proved += 1
                    break
                except errors.BigUploadError as e:
                    if not e.resumable:
                        self.wrong.append(f"{key}: {type(e).__name__}: {e}")
                        break
                    self.resumed += 1
                except Exception as e:
                    self.wrong.append(f"{key}: a foreign {type(e).__name__}: {e}")
                    break
            else:
                self.wrong.append(f"{key}: resumable for ever")
                continue
            if turn % 5 == 1:
                await asyncio.to_thread(self._compare, key, sha256)
            await asyncio.to_thread(self._client.delete_object, Bucket=BUCKET, Key=key)
            if result.manifest is not None:
                for left in self.directory.glob(f"{result.manifest.name}*"):
                    left.unlink()

    def _compare(self, key: str, sha256: str) -> None:
        digest = hashlib.sha256()
        for block in self._client.get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(MIB):
            digest.update(block)
        self.compared += 1
        if digest.hexdigest() != sha256:
            self.wrong.append(f"{key}: other bytes")

    async def _sample(self) -> None:
        began = time.monotonic()
        while (now := time.monotonic()) < self._until:
            self.samples.append((now - began, resident(), len(os.listdir("/proc/self/fd"))))
            await asyncio.sleep(1)

    def report(self, seconds: float) -> bool:
        settled = [sample for sample in self.samples if sample[0] >= seconds * SETTLING]
        slope = slope_of([(at, size) for at, size, _ in settled])
        half = len(settled) // 2
        descriptors = [max(count for _, _, count in part) for part in (settled[:half], settled[half:])]
        print(f"\n{self.proved} uploads proved, {self.resumed} resumes, {self.compared} read back and compared")
        print(f"resident {settled[0][1] / 1e6:.1f} MB to {settled[-1][1] / 1e6:.1f} MB")
        found = {
            f"slope {slope * 600 / 1e6:+.2f} MB in 10 minutes": slope < MOST_SLOPE,
            f"descriptors at most {descriptors[0]}, then {descriptors[1]}": descriptors[1] <= descriptors[0] * 1.25,
            f"no wrong ending {self.wrong[:3] or ''}": not self.wrong,
        }
        return all_hold(found)


def slope_of(points: list[tuple[float, int]]) -> float:
    """Least squares."""
    mean_x, mean_y = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def run_long(minutes: float, workers: int, rate: float, directory: Path) -> bool:
    seconds = minutes * 60
    print(f"\n{workers} uploads at once for {minutes:g} minutes, {SHARE:.0%} of all exchanges broken", flush=True)
    with weed_in(directory / "store") as store, unreliable(urlsplit(store.endpoint_url).port or 0, SHARE) as url:
        run = Long(store, url, directory, rate=rate)
        asyncio.run(run.run(seconds, workers))
    return run.report(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="The first.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--uploads", type=int, default=20, help="At once.")
    parser.add_argument("--rate", type=float, default=15e6, help="Bytes a second, so that the disk does not fill.")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the fake logs every client that disconnects
    runs: list[Callable[[Path], bool]] = []
    if arguments.schedules:
        runs.append(lambda directory: run_schedules(arguments.seed, arguments.schedules, directory))
    if arguments.minutes:
        runs.append(lambda directory: run_long(arguments.minutes, arguments.uploads, arguments.rate, directory))
    well = True
    for run in runs:
        with tempfile.TemporaryDirectory(prefix="bigupload-soak-") as name:
            well = run(Path(name)) and well
    return 0 if well else 1

"""Uploads of one file over Dask workers: what they took, and what they cost the coordinator."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from distributed import Client

from bigupload import S3Options, Uploader, UploadFailed, UploadResult, events
from bigupload.cluster.local_cluster import LocalWorkers
from bigupload.core.part_plan import Part
from bigupload.http.put_transport import HttpTransport

from .children import run
from .resume import kill_half_way
from .stores import BUCKET, REGION, Store

CONNECTIONS = 8
"""Of each worker."""


@dataclass(frozen=True, kw_only=True)
class OverWorkers:
    """One upload. Times in seconds, sizes in bytes."""

    workers: int
    seconds: float
    cpu: float
    """Of the coordinator."""
    parts: int
    part_size: int
    received: int
    retries: int
    verified: str
    peak: int
    """The most resident memory of the coordinator's process in this upload, with the benchmark's own."""
    load: float
    """The machine's load average at the end: what else was going on."""


class Watched:
    """What the events of an upload say, and what to do half-way."""

    def __init__(self, half_way: Callable[[], object] | None = None) -> None:
        self._half_way = half_way
        self._uploaded = 0
        self.parts = self.part_size = 0
        self.began = self.ended = (0.0, 0.0)

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.UploadStarted):
            self.parts, self.part_size = event.parts or 0, event.part_size
            forget_peak()
            self.began = time.monotonic(), time.process_time()
        elif isinstance(event, events.Completing):
            self.ended = time.monotonic(), time.process_time()
        elif isinstance(event, events.PartUploaded):
            self._uploaded += 1
            if self._uploaded == self.parts // 2 and self._half_way is not None:
                self._half_way()

    def found(self, workers: int, *, received: int, result: UploadResult | None) -> OverWorkers:
        return OverWorkers(
            workers=workers,
            seconds=self.ended[0] - self.began[0],
            cpu=self.ended[1] - self.began[1],
            parts=self.parts,
            part_size=self.part_size,
            received=received,
            retries=result.retries if result is not None else 0,
            verified=str(result.verified) if result is not None else "",
            peak=peak(),
            load=os.getloadavg()[0],
        )


def peak() -> int:
    """The most resident memory of this process since `forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> None:
    """Begin to measure the peak again: see proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextlib.asynccontextmanager
async def cluster(workers: int) -> AsyncIterator[Client]:
    """A client of a cluster of processes."""
    local = await LocalWorkers.start(workers)
    try:
        # mypy: Dask does not annotate its client
        async with Client(local.address, security=local.security, asynchronous=True) as client:  # type: ignore[no-untyped-call]  # Dask's
            yield client
    finally:
        await local.aclose()


async def spread(store: Store, file: Path, workers: int, state: Path, *, kill: bool = False) -> OverWorkers:
    """Upload over so many workers, and perhaps kill one of them half-way."""
    async with cluster(workers) as client:
        pids: list[int] = list((await client.run(os.getpid)).values())
        watched = Watched((lambda: os.kill(pids[0], signal.SIGKILL)) if kill else None)
        async with Uploader(dask=client, concurrency=CONNECTIONS * workers, state_dir=state) as uploader:
            s3 = S3Options(endpoint_url=store.url, region=REGION)
            result = await uploader.upload(file, to=f"s3://{BUCKET}/{workers}-{kill}", s3=s3, on_event=watched)
    return watched.found(workers, received=store.counts()["bytes_received"], result=result)


@dataclass(frozen=True, kw_only=True)
class TreeOverWorkers:
    """One upload of a tree. Times in seconds."""

    workers: int
    seconds: float
    cpu: float
    """Of the coordinator, which sends the small files, too."""
    files: int
    sent_by: list[int]
    """The bytes that each worker sent."""
    received: int
    peak: int
    load: float


TREE = ((1900, 100_000), (80, 20_000_000), (20, 200_000_000))
"""Files and their size in bytes."""


def make_tree(directory: Path) -> list[Path]:
    """The files of `TREE`, sparse, large ones between small ones."""
    directory.mkdir()
    sizes = [size for count, size in TREE for _ in range(count)]
    Random(1).shuffle(sizes)
    files = [directory / f"{number:04}.bin" for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        with file.open("wb") as sparse:
            sparse.truncate(size)
    return files


_SENT = [0]
"""Bytes that this worker sent."""


def _count_sent() -> None:
    """Count them, from now on. Runs in a worker."""
    put = HttpTransport.put

    async def counted(self: HttpTransport, request: Any, source: Any, part: Part, **more: Any) -> Any:
        response = await put(self, request, source, part, **more)
        _SENT[0] += part.size
        return response

    mock.patch.object(HttpTransport, "put", counted).start()


def _sent() -> int:
    return _SENT[0]


async def spread_tree(store: Store, files: list[Path], workers: int, state: Path) -> TreeOverWorkers:
    """Upload a tree over so many workers."""
    async with cluster(workers) as client:
        await client.run(_count_sent)
        async with Uploader(dask=client, concurrency=CONNECTIONS * workers, state_dir=state) as uploader:
            s3 = S3Options(endpoint_url=store.url, region=REGION)
            forget_peak()
            began = time.monotonic(), time.process_time()
            outcomes = [each async for each in uploader.upload_many(files, to=f"s3://{BUCKET}/{workers}/", s3=s3)]
            ended = time.monotonic(), time.process_time()
        if failed := [each for each in outcomes if isinstance(each, UploadFailed)]:
            raise SystemExit(f"{len(failed)} files failed: {failed[0]}")
        sent_by: list[int] = list((await client.run(_sent)).values())
    return TreeOverWorkers(
        workers=workers,
        seconds=ended[0] - began[0],
        cpu=ended[1] - began[1],
        files=len(outcomes),
        sent_by=sent_by,
        received=store.counts()["bytes_received"],
        peak=peak(),
        load=os.getloadavg()[0],
    )


def killed_and_resumed(store: Store, file: Path, state: Path) -> dict[str, Any]:
    """Kill the real command half-way, and run it again."""
    argv = [sys.executable, "-m", "bigupload", "upload", str(file), f"s3://{BUCKET}/killed", "--dask", "local:4"]
    argv += ["--endpoint-url", store.url, "--region", REGION, "--concurrency", str(4 * CONNECTIONS)]
    argv += ["--json", "--progress", "none"]
    environment = {**os.environ, "BIGUPLOAD_STATE_DIR": str(state)}
    kill_half_way(argv, environment, store, file.stat().st_size // 2)
    before = store.counts()["bytes_accepted"]
    store.reset()
    ended = run(argv, environment, patience=1800)
    if ended.status != 0:
        raise SystemExit(f"resuming ended with {ended.status}: {ended.complaint}")
    return {"before": before, "after": store.counts()["bytes_received"], "size": file.stat().st_size}

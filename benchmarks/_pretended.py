"""Uploads over workers that pretend to hash and to send: what a part costs the coordinator and the scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from bigupload import S3Options, Uploader, events
from bigupload.cluster.members import RemoteGauge
from bigupload.cluster.transport import ClusterTransport
from bigupload.core.checksums import Hashed
from bigupload.core.part_plan import MIB, Part
from bigupload.ports import Gauge, OnNews, PutResponse, SignedRequest, Source
from bigupload.units import parse_size

from ._crowd import SOME_CHECKSUM, SPREAD, cpu_of, crowd, response_to
from ._over_workers import Watched
from .stores import BUCKET, REGION, null_store

_PART = 8 * MIB
_SECONDS = 0.25
"""Of a PUT, where parts are many."""
_REPORT_EVERY = 1.0
"""Seconds between the reports of a worker, with a fixed concurrency."""
_WORKERS, _CONNECTIONS = 4, 8
_FAR_WORKERS, _FAR_SECONDS = 100, 16.0
"""A PUT of 1 GB takes so long where a worker sends 16 at once and 1 GB/s in all."""
FAR_SIZE = parse_size("10TB")


@dataclass(frozen=True, kw_only=True)
class Pretended:
    """One upload. Times in seconds, sizes in bytes."""

    workers: int
    parts: int
    part_size: int
    seconds: float
    coordinator: float
    """CPU seconds."""
    scheduler: float
    """CPU seconds."""
    peak: int
    """The most resident memory of the coordinator."""
    manifest: int
    """The manifest's size."""


async def _upload(
    directory: Path, size: int, *, part: int | None, workers: int, concurrency: int | None, seconds: float
) -> Pretended:
    file, manifest = directory / "sparse.bin", directory / "the.manifest"
    with file.open("wb") as sparse:
        sparse.truncate(size)
    manifest.unlink(missing_ok=True)
    used: list[float] = []
    with null_store()(directory, workers) as store:
        async with crowd(workers, seconds) as made:
            watched = Watched()

            def on_event(event: events.Event) -> None:
                watched(event)
                if isinstance(event, events.UploadStarted | events.Completing):
                    used.append(cpu_of(made.scheduler))
                if isinstance(event, events.Completing):
                    uploading.cancel()  # the store has no part: it would want all of them again

            async with Uploader(dask=made.client, concurrency=concurrency) as uploader:
                uploading = asyncio.ensure_future(
                    uploader.upload(
                        file,
                        to=f"s3://{BUCKET}/key",
                        s3=S3Options(endpoint_url=store.url, region=REGION),
                        part_size=part,
                        manifest=manifest,
                        on_event=on_event,
                    )
                )
                await asyncio.wait({uploading})
                if not uploading.cancelled():
                    uploading.result()
    found = watched.found(workers, received=0, result=None)
    return Pretended(
        workers=workers,
        parts=found.parts,
        part_size=found.part_size,
        seconds=found.seconds,
        coordinator=found.cpu,
        scheduler=used[1] - used[0],
        peak=found.peak,
        manifest=manifest.stat().st_size,
    )


def engine_alone(average: float) -> Any:
    """Without messages to workers: what the engine needs. A context. `average`: the seconds of a PUT."""

    async def hash_here(*_: Any) -> Hashed:
        return Hashed(SOME_CHECKSUM)

    async def put(
        _: object, request: SignedRequest, __: Source, part: Part, *, on_start: Callable[[Gauge], None], **___: Any
    ) -> PutResponse:
        on_start(gauge := RemoteGauge())
        await asyncio.sleep(average * random.uniform(1 - SPREAD, 1 + SPREAD))
        gauge.bytes_sent = part.size
        return response_to(request)

    async def hash_group(_: object, __: Source, parts: Sequence[Part], *___: Any) -> list[Hashed]:
        return [Hashed(SOME_CHECKSUM)] * len(parts)

    async def put_group(
        _: object,
        requests: Sequence[SignedRequest],
        __: Source,
        parts: Sequence[Part],
        *,
        seconds: float,
        on_start: Callable[[Gauge], None],
        on_news: OnNews,
    ) -> None:
        on_start(RemoteGauge())
        news: list[tuple[PutResponse, float]] = []
        unslept = 0.0
        for request in requests:
            took = average * random.uniform(1 - SPREAD, 1 + SPREAD)
            news.append((response_to(request), took))
            unslept += took
            if unslept >= _REPORT_EVERY or len(requests) == 1:
                await asyncio.sleep(unslept)
                on_news(news, 0.0)
                news, unslept = [], 0.0
        await asyncio.sleep(unslept)
        on_news(news, 0.0)

    return mock.patch.multiple(ClusterTransport, hash=hash_here, put=put, hash_group=hash_group, put_group=put_group)


def many(directory: Path, parts: int, *, alone: bool = False, seconds: float = _SECONDS) -> Pretended:
    """So many parts over four workers. `alone`: what the engine needs of it."""
    with engine_alone(seconds) if alone else contextlib.nullcontext():
        return asyncio.run(
            _upload(
                directory,
                parts * _PART,
                part=_PART,
                workers=_WORKERS,
                concurrency=_WORKERS * _CONNECTIONS,
                seconds=seconds,
            )
        )


def far(directory: Path) -> Pretended:
    """10 TB over a hundred workers, each of which sends 1 GB/s."""
    return asyncio.run(
        _upload(
            directory,
            FAR_SIZE,
            part=None,
            workers=_FAR_WORKERS,
            concurrency=None,
            seconds=_FAR_SECONDS,
        )
    )

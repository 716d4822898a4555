"""What do many objects of one owner cost the media service?
`python -m benchmarks owner_growth [--objects 10000,100000,1000000] [--users 10000] [--old REF]`

One bucket of a real local store (SeaweedFS) grows to each number of photos of 100 bytes, in the folders of the end
users of one owner. At each size, over HTTP and against the real command with one worker:

- a page of 1,000 of the owner's list, at its beginning and at its end, and the list of one end user;
- the list of all objects, as the quota counts it;
- the first create after a start with `--quota`: of a service that has never counted, and after a restart; with
  `--old REF`, of that version, too;
- a presign for each of a thousand end users with `--user-files`, and the service's memory before and after;
- a sweep that knows all objects from the one before, in a process of its own: seconds, CPU seconds, its largest memory,
  the file of what it knows. At the first size also the first sweep, which looks at each object.

The exit status is 1 if the first create after a restart takes half a second longer than a request waits for a list,
which is 2 s, or if the service's memory grows by more than a tenth from the first size to the last. Store, service and
client share the machine. Linux only (/proc). Leaves no files. A million objects take about an hour, and 2 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from bigupload.cli.serve import LOCAL_BUCKET
from bigupload.options import S3Options
from bigupload.service.media.object_keys import account_of
from bigupload.service.uploads.quota import PATIENCE
from bigupload.service.uploads.sweep import Sweep, SweepMemory, mark_of
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.operations import ObjectPages

from ._running import MIB, all_hold
from ._serving import CREATE, Caller, Service, memory_of, serving
from .peering import default_directory
from .versions import Version, installed

OWNER = "local"
"""The owner of the key that `serve --local` makes."""
SEED = 3
PUTS = 32
PAGE = 1000
TIMES = 5
PRESIGNS = 1000
MOST_SECONDS = PATIENCE + 0.5
MOST_GROWTH = 1.1
_PHOTO = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043") + bytes(76)
_PRESIGN = {"filename": "photo.jpg", "contentType": "image/jpeg", "size": 1_000_000}
_QUOTA = ("--quota", "100TB", "--user-files", "1000000")


@dataclass(frozen=True, kw_only=True)
class Swept:
    """One sweep in a process of its own."""

    seconds: float
    cpu: float
    memory: int
    """The most bytes that were resident."""
    file: int
    """Bytes of what it knows."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What so many objects cost. Times in seconds, memory in bytes."""

    objects: int
    first_page: float
    last_page: float
    user_page: float
    whole_list: float
    first_create: float
    create_after_restart: float
    old_create: float | None
    presign: float
    """Of an end user who was not counted before, many at once."""
    memory: int
    """Of the service, before the presigns."""
    memory_after: int
    first_sweep: Swept | None
    later_sweep: Swept


# -- the objects


def bucket_of(store: LocalStore) -> S3Bucket:
    """Return the bucket of `serve --local`."""
    reach = S3Options(
        endpoint_url=store.endpoint_url,
        region=store.region,
        access_key=store.access_key,
        secret_key=store.secret_key,
    )
    return S3Bucket(LOCAL_BUCKET, reach)


async def fill(store: LocalStore, have: int, objects: int, users: int) -> None:
    """Add photos until there are `objects`, to one end user after another."""
    names = random.Random(SEED + have)
    keys = (
        f"media/{account_of(OWNER, f'u-{number % users}')}/{names.randbytes(16).hex()}.jpg"
        for number in range(have, objects)
    )

    async def put(bucket: S3Bucket) -> None:
        for key in keys:
            await bucket.call("to make it", "PutObject", Key=key, Body=_PHOTO, headers={"content-type": "image/jpeg"})

    async with contextlib.aclosing(bucket_of(store)) as bucket:
        await asyncio.gather(*(put(bucket) for _ in range(PUTS)))


async def rows_of(bucket: S3Bucket) -> AsyncIterator[Sequence[dict[str, Any]]]:
    """Yield the pages of the owner's objects."""
    pages = ObjectPages()
    while not pages.ended:
        page = await bucket.call("to list", "ListObjectsV2", Prefix=f"media/{OWNER}/", MaxKeys=PAGE, **pages.start)
        yield page.get("Contents", ())
        pages.advance(page)


# -- the service


@contextlib.asynccontextmanager
async def calling(service: Service) -> AsyncIterator[Caller]:
    """Call a service."""
    timeout = aiohttp.ClientTimeout(total=3600)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        yield Caller(service=service, http=http)


async def timed(ask: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    await ask()
    return time.perf_counter() - began


async def median_of(ask: Callable[[], Awaitable[object]]) -> float:
    """Return the median of the seconds of some calls."""
    return statistics.median([await timed(ask) for _ in range(TIMES)])


async def first_create(service: Service) -> float:
    """Return the seconds of a service's first create."""
    async with calling(service) as caller:
        return await timed(partial(caller.ask, "POST", "/v1/media/multipart", CREATE))


async def measure_lists(service: Service, last: str) -> dict[str, Any]:
    """List. `last`: the key behind which the last page begins."""
    async with calling(service) as caller:
        page = partial(caller.ask, "GET", "/v1/media", limit=str(PAGE))
        return {
            "first_page": await median_of(page),
            "last_page": await median_of(partial(page, **({"cursor": last} if last else {}))),
            "user_page": await median_of(partial(page, user="u-7")),
        }


async def measure_users(service: Service, users: int) -> dict[str, Any]:
    """Presign for many end users, some at a time."""
    before, waiting = memory_of(service.pid), iter(range(min(users, PRESIGNS)))

    async def presign(caller: Caller) -> None:
        for number in waiting:
            await caller.ask("POST", "/v1/media/presign", json.dumps({**_PRESIGN, "user": f"u-{number}"}))

    async with calling(service) as caller:
        seconds = await timed(lambda: asyncio.gather(*(presign(caller) for _ in range(16))))
    return {"presign": seconds / min(users, PRESIGNS), "memory": before, "memory_after": memory_of(service.pid)}


# -- the sweep


def swept(store: LocalStore, file: Path) -> Swept:
    """Sweep in a process of its own, with what the file has of the sweeps before."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_sweep, args=(store, file, its))
    process.start()
    its.close()
    try:
        seconds, cpu, peak = ours.recv()
    except EOFError:
        raise SystemExit("the sweep failed") from None
    finally:
        process.join()
    return Swept(seconds=seconds, cpu=cpu, memory=peak * 1024, file=file.stat().st_size)


def _sweep(store: LocalStore, file: Path, answer: Connection) -> None:
    async def run() -> None:
        with contextlib.closing(SweepMemory(file)) as memory:
            async with contextlib.aclosing(bucket_of(store)) as bucket:
                report = await Sweep(bucket, now=lambda: datetime.now(UTC), memory=memory).run()
        assert not report.deleted + report.failed, report

    began = time.perf_counter()
    asyncio.run(run())
    spent = resource.getrusage(resource.RUSAGE_SELF)
    answer.send((time.perf_counter() - began, spent.ru_utime + spent.ru_stime, spent.ru_maxrss))


async def know(store: LocalStore, file: Path) -> tuple[float, str]:
    """List all objects, and note them as a sweep does that has looked at each.

    Returns:
        The seconds of the list, and the key behind which its last page begins.
    """
    seconds, last, before = 0.0, "", ""
    with contextlib.closing(SweepMemory(file)) as memory:
        async with contextlib.aclosing(bucket_of(store)) as bucket:
            began = time.perf_counter()
            async for rows in rows_of(bucket):
                seconds += time.perf_counter() - began
                marks = [mark_of(r["Key"], r.get("ETag", ""), r["LastModified"].isoformat()) for r in rows]
                memory.page_done(rows[-1]["Key"], marks)
                last, before = before, rows[-1]["Key"]
                began = time.perf_counter()
        memory.all_done()
    return seconds, last


# -- one size


def measure(store: LocalStore, directory: Path, objects: int, users: int, old: Version | None, first: bool) -> Costs:
    """Measure everything at one size."""
    known = directory / "known.sqlite3"
    first_sweep = swept(store, known) if first else None
    whole_list, last = asyncio.run(know(store, known))
    later = swept(store, known)
    old_create = None
    if old is not None:
        with serving(store.data_dir, directory / f"old-{objects}", 1, "--quota", "100TB", version=old) as service:
            old_create = asyncio.run(first_create(service))
    asyncio.run(forget_counts(store))
    home = directory / f"service-{objects}"
    with serving(store.data_dir, home, 1, *_QUOTA) as service:
        created = asyncio.run(first_create(service))
        asyncio.run(until_counted(store, whole_list))
    with serving(store.data_dir, directory / f"again-{objects}", 1, *_QUOTA) as service:
        again = asyncio.run(first_create(service))
        lists = asyncio.run(measure_lists(service, last))
        of_users = asyncio.run(measure_users(service, users))
    return Costs(
        objects=objects, whole_list=whole_list, first_create=created, create_after_restart=again,
        old_create=old_create, first_sweep=first_sweep, later_sweep=later, **lists, **of_users,
    )  # fmt: skip


async def forget_counts(store: LocalStore) -> None:
    """Delete the counts that were kept at a smaller size."""
    async with contextlib.aclosing(bucket_of(store)) as bucket:
        page = await bucket.call("to list", "ListObjectsV2", Prefix="refused/counts/")
        for row in page.get("Contents", ()):
            await bucket.delete(row["Key"], etag="")


async def until_counted(store: LocalStore, takes: float) -> None:
    """Wait until the service has kept its count, if it takes so long that it keeps it."""
    until = time.perf_counter() + 10 * takes + 10
    async with contextlib.aclosing(bucket_of(store)) as bucket:
        while time.perf_counter() < until:
            page = await bucket.call("to list", "ListObjectsV2", Prefix="refused/counts/")
            if page.get("Contents"):
                return
            await asyncio.sleep(0.2)


# -- what is shown


def show(console: Console, found: Sequence[Costs], old: str | None) -> None:
    """Print a table with a column for each size."""
    table = Table(
        title=f"{', '.join(f'{each.objects:,}' for each in found)} objects of one owner", title_justify="left"
    )
    table.add_column("")
    for each in found:
        table.add_column(f"{each.objects:,}", justify="right")

    def row(what: str, cell: Callable[[Costs], str]) -> None:
        table.add_row(what, *map(cell, found))

    def sweep(each: Swept | None) -> str:
        if each is None:
            return "–"
        return f"{each.seconds:.1f} s, CPU {each.cpu:.1f} s, {each.memory / MIB:.0f} MB, file {each.file / MIB:.1f} MB"

    row("list, first page of 1,000", lambda c: f"{1e3 * c.first_page:.0f} ms")
    row("list, last page of 1,000", lambda c: f"{1e3 * c.last_page:.0f} ms")
    row("list of one end user", lambda c: f"{1e3 * c.user_page:.0f} ms")
    row("all objects, as the quota counts them", lambda c: f"{c.whole_list:.1f} s")
    row("first create of a service that never counted", lambda c: f"{1e3 * c.first_create:.0f} ms")
    row("first create after a restart", lambda c: f"{1e3 * c.create_after_restart:.0f} ms")
    if old is not None:
        row(f"first create of {old}", lambda c: f"{1e3 * (c.old_create or 0.0):.0f} ms")
    row("presign of a new end user, 16 at once", lambda c: f"{1e3 * c.presign:.1f} ms")
    row(
        f"the service's memory, after {PRESIGNS:,} users",
        lambda c: f"{c.memory / MIB:.0f} MB, {c.memory_after / MIB:.0f} MB",
    )
    row("first sweep", lambda c: sweep(c.first_sweep))
    row("later sweep", lambda c: sweep(c.later_sweep))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", default="10000,100000", metavar="N,…", help="Sizes of the bucket. [10000,100000]")
    parser.add_argument("--users", type=int, default=10_000, help="End users, who have the objects. [10000]")
    parser.add_argument("--old", metavar="REF", help="A version in git whose first create is measured, too.")
    parser.add_argument("--peers", type=Path, default=default_directory(), help="Where that version is installed.")
    parser.add_argument("--dir", type=Path, help="Where the store's files are made. [the temporary directory]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Also write the figures to FILE.")
    arguments = parser.parse_args()
    sizes = sorted(int(each.replace("_", "")) for each in arguments.objects.split(","))
    old = installed(arguments.old, arguments.peers, "local,service") if arguments.old else None
    found: list[Costs] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-growth-", dir=arguments.dir) as name:
        directory = Path(name)
        try:
            store = local_store.start(directory / "store")
            with serving(store.data_dir, directory / "first", 1):  # makes the bucket
                pass
            for have, objects in zip([0, *sizes], sizes, strict=False):
                began = time.perf_counter()
                asyncio.run(fill(store, have, objects, arguments.users))
                made = time.perf_counter() - began
                print(f"  {objects:,} objects: {objects - have:,} were made in {made:.0f} s", flush=True)
                found.append(measure(store, directory, objects, arguments.users, old, first=not have))
                print(f"  {found[-1]}", flush=True)
        finally:
            local_store.stop(directory / "store")
    show(Console(width=160), found, arguments.old)
    print(f"load of the last minute at the end: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores")
    checks = {
        f"the first create after a restart takes at most {MOST_SECONDS:g} s": all(
            each.create_after_restart <= MOST_SECONDS for each in found
        ),
        f"the service's memory at most {MOST_GROWTH} times as large": (
            found[-1].memory <= MOST_GROWTH * found[0].memory
        ),
    }
    good = all_hold(checks)
    if arguments.json is not None:
        figures = {"costs": [dataclasses.asdict(each) for each in found], "checks": checks}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if good else 1

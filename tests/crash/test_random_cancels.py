"""Uploads that are cancelled at a random turn of the event loop, in one of five ways, are resumed.

In a process of its own, under `-X dev -W error`: what is left behind (a task, a socket, an exception that nobody
retrieved, a coroutine that nobody awaited) fails the program.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest

import bigupload
from bigupload.stores.s3.multipart import S3Store
from tests.integration.support import BUCKET, FAST, KIB, LIMITS, PART, content, sha256
from tests.tools.strict_s3 import StrictS3

CANCELS = 150  # over http, and as many over https
SIZE = 6 * PART


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait({task})


async def by_task(uploader: bigupload.Uploader, upload: Any, after: int) -> None:
    task = asyncio.create_task(uploader.upload(**upload))
    await turns(after)
    task.cancel()
    await task


async def by_timeout(uploader: bigupload.Uploader, upload: Any, after: int) -> None:
    async with asyncio.timeout(None) as timeout:
        counting = asyncio.create_task(turns(after))
        counting.add_done_callback(lambda _: timeout.reschedule(0))
        try:
            await uploader.upload(**upload)
        finally:
            await ended(counting)


async def by_fail_after(uploader: bigupload.Uploader, upload: Any, after: int) -> None:
    with anyio.fail_after(3600) as scope:

        async def expire() -> None:
            await turns(after)
            scope.deadline = anyio.current_time()

        expiring = asyncio.create_task(expire())
        try:
            await uploader.upload(**upload)
        finally:
            await ended(expiring)


async def by_handle(uploader: bigupload.Uploader, upload: Any, after: int) -> None:
    handle = uploader.start(**upload)
    await turns(after)
    handle.cancel()
    await handle


async def by_closing(uploader: bigupload.Uploader, upload: Any, after: int) -> None:
    async with bigupload.Uploader(retry=FAST) as another:
        handle = another.start(**upload)
        await turns(after)
    await handle


WAYS = [by_task, by_timeout, by_fail_after, by_handle, by_closing]
CANCELLED = (asyncio.CancelledError, TimeoutError, bigupload.UploadCancelled)


async def told(event: bigupload.Event) -> None:
    await asyncio.sleep(0)


async def main(seed: int, *, tls: bool) -> None:
    draw = random.Random(seed)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    counts = dict.fromkeys([*(way.__name__ for way in WAYS), "completed anyway"], 0)
    with tempfile.TemporaryDirectory() as name, StrictS3(min_part_size=KIB, tls=tls) as s3:
        s3.create_bucket(BUCKET)
        os.environ |= {"BIGUPLOAD_STATE_DIR": f"{name}/state", "AWS_EC2_METADATA_DISABLED": "true"}
        options = bigupload.S3Options(
            endpoint_url=s3.url,
            region=s3.region,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            ca_bundle=s3.ca_bundle,
        )
        path = Path(name, "file")
        async with bigupload.Uploader(retry=FAST, concurrency=3) as uploader:
            tasks = asyncio.all_tasks()
            number = cancelled = 0
            while cancelled < CANCELS:
                number += 1
                path.write_bytes(content(SIZE, number))
                upload: Any = {"source": path, "to": f"s3://{BUCKET}/{number}", "s3": options}
                upload["on_event"] = draw.choice([None, told])
                cancel = draw.choice(WAYS)
                try:
                    await cancel(uploader, upload, draw.choice([draw.randrange(40), draw.randrange(4000)]))
                except CANCELLED:
                    counts[cancel.__name__] += 1
                    cancelled += 1
                else:
                    counts["completed anyway"] += 1
                assert asyncio.all_tasks() <= tasks, asyncio.all_tasks() - tasks
                await uploader.upload(**upload)
                assert s3.objects[BUCKET][str(number)].sha256() == sha256(path)
        open_uploads = len(s3.uploads)
    gc.collect()
    assert complaints == []
    print(counts, "open uploads:", open_uploads)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_random_cancels(scheme: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.crash.test_random_cancels", scheme],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # asyncio's debug mode tells of slow steps, which this machine's load decides.
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert complaints == []


if __name__ == "__main__":
    logging.getLogger("aiohttp.server").disabled = True  # the store's own connections are reset
    S3Store.limits = LIMITS
    asyncio.run(main(7, tls=sys.argv[1] == "https"))

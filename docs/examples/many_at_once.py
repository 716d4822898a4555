"""600 uploads at once, in a process that may have 1,024 files open.

An `Uploader` opens as many uploads as the process has descriptors for, and the others wait for their turn
(`max_uploads`). So a program may start all of its uploads, and need not count.
"""

from __future__ import annotations

import asyncio
import collections
import resource
import tempfile
import time
from pathlib import Path

import bigupload

UPLOADS, DESCRIPTORS = 600, 1024
LOCAL = bigupload.S3Options(local=True)


async def upload_all(directory: Path) -> None:
    began = time.perf_counter()
    async with bigupload.Uploader(state_dir=directory / "state") as uploader:
        ended = await asyncio.gather(
            *(uploader.upload(directory / f"{n}", to="s3://bigupload/many/", s3=LOCAL) for n in range(UPLOADS)),
            return_exceptions=True,
        )
    failed = collections.Counter(f"{type(e).__name__}: {e}" for e in ended if isinstance(e, BaseException))
    for reason, count in failed.most_common(3):
        print(f"{count} failed: {reason}")
    print(f"{UPLOADS - failed.total()} of {UPLOADS} uploaded in {time.perf_counter() - began:.0f} s")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    with tempfile.TemporaryDirectory() as directory:
        for n in range(UPLOADS):
            Path(directory, f"{n}").write_bytes(b"%d" % n * 1000)
        asyncio.run(upload_all(Path(directory)))


if __name__ == "__main__":
    main()

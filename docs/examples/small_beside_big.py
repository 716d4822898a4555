"""A small file that arrives behind 50 big ones, all through one `Uploader`.

The uploads take turns, and small files go first: the small one does not wait until the big ones are done.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import bigupload

LOCAL = bigupload.S3Options(local=True)
BIG_ONES = 50
BIG, SMALL = 10_000_000, 100_000


async def measure(big: Path, small: Path) -> None:
    async with bigupload.Uploader(limit_rate="100MB/s", state_dir=big.parent) as uploader:
        began = time.perf_counter()
        big_ones = [uploader.start(big, to=f"s3://bigupload/big-{n}", s3=LOCAL) for n in range(BIG_ONES)]
        while sum(handle.progress.bytes_in_flight for handle in big_ones) < BIG:
            await asyncio.sleep(0.1)
        arrived = time.perf_counter()
        await uploader.upload(small, to="s3://bigupload/small", s3=LOCAL)
        took = time.perf_counter() - arrived
        before = sum(handle.done() for handle in big_ones)
        for handle in big_ones:
            await handle
        print(f"{BIG_ONES} files of {BIG // 1_000_000} MB: {time.perf_counter() - began:.1f} s")
        print(f"{SMALL // 1000} KB that arrive behind them: {took:.1f} s, {before} of the {BIG_ONES} were done before")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        big, small = Path(directory, "big"), Path(directory, "small")
        big.write_bytes(bytes(BIG))
        small.write_bytes(bytes(SMALL))
        asyncio.run(measure(big, small))


if __name__ == "__main__":
    main()

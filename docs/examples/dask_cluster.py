"""A file that the workers of a Dask cluster send. Here, they are two in this process, which speak TCP all the same.

On a real cluster, all see the file on a shared file system: `Uploader(dask="tcp://scheduler:8786")`. Workers get no
credentials: each part's request is signed here.
"""

# mypy: disable-error-code="no-untyped-call"
# distributed has few types.

from __future__ import annotations

import asyncio
import tempfile
from logging import CRITICAL
from pathlib import Path

from distributed import Client, LocalCluster

import bigupload

LOCAL = bigupload.S3Options(local=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as shared:
        film = Path(shared, "film.mov")
        film.write_bytes(bytes(60_000_000))
        async with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1",
                dashboard_address="127.0.0.1:0", local_directory=shared, silence_logs=CRITICAL, asynchronous=True,
            ) as cluster,
            Client(cluster, asynchronous=True) as client,
            bigupload.Uploader(dask=client) as uploader,
        ):  # fmt: skip
            result = await uploader.upload(film, to="s3://bigupload/films/", s3=LOCAL)
        print(f"{result.parts} parts by 2 workers: {result.verified}")


if __name__ == "__main__":
    asyncio.run(main())

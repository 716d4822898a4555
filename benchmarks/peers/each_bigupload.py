"""bigupload's `Uploader.upload`, once for each file: what versions without `upload_many` have."""

import asyncio
from pathlib import Path

from _peer import Job, Send, main

import bigupload

AT_ONCE = 16


def connect(job: Job) -> Send:
    s3 = bigupload.S3Options(
        endpoint_url=job.url, region=job.region, access_key=job.access_key, secret_key=job.secret_key
    )

    async def send(directory: str, prefix: str) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(file: Path, uploader: bigupload.Uploader) -> None:
            async with slots:
                await uploader.upload(file, to=f"s3://{job.bucket}/{prefix}{file.name}", s3=s3)

        async with bigupload.Uploader() as uploader:
            await asyncio.gather(*(one(file, uploader) for file in Path(directory).iterdir()))

    return lambda directory, prefix: asyncio.run(send(directory, prefix))


main(connect)

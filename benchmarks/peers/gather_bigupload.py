"""bigupload's upload of each file, all at once."""

import asyncio
from pathlib import Path

from _peer import Job, Send, main

import bigupload


def connect(job: Job) -> Send:
    s3 = bigupload.S3Options(
        endpoint_url=job.url, region=job.region, access_key=job.access_key, secret_key=job.secret_key
    )

    async def send(directory: str, prefix: str) -> None:
        to = f"s3://{job.bucket}/{prefix}"
        async with bigupload.Uploader() as uploader:
            await asyncio.gather(*(uploader.upload(path, to=to, s3=s3) for path in Path(directory).iterdir()))

    return lambda directory, prefix: asyncio.run(send(directory, prefix))


main(connect)

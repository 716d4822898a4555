"""bigupload's upload_many, without a record of the job."""

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
        async for done in bigupload.upload_many(Path(directory).iterdir(), to=to, s3=s3):
            if isinstance(done, bigupload.UploadFailed):
                raise done.error

    return lambda directory, prefix: asyncio.run(send(directory, prefix))


main(connect)

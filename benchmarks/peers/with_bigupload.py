"""bigupload itself within a running process. The whole process is measured by its command instead."""

import asyncio
from pathlib import Path

from _peer import Job, Send, main

import bigupload


def connect(job: Job) -> Send:
    runner = asyncio.Runner()
    reach = bigupload.S3Options(endpoint_url=job.url, region=job.region, ca_bundle=Path(job.ca) if job.ca else None)
    uploader = runner.run(bigupload.Uploader(**job.options).__aenter__())

    def send(file: str, key: str) -> None:
        runner.run(uploader.upload(file, to=f"s3://{job.bucket}/{key}", s3=reach))

    return send


main(connect)

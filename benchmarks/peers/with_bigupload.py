"""bigupload itself within a running process. The whole process is measured by its command instead."""

import asyncio
from pathlib import Path

from _peer import main

import bigupload


def connect(job):
    runner = asyncio.Runner()
    reach = bigupload.S3Options(endpoint_url=job.url, region=job.region, ca_bundle=Path(job.ca) if job.ca else None)
    uploader = runner.run(bigupload.Uploader(**job.options).__aenter__())

    def send(file, key):
        runner.run(uploader.upload(file, to=f"s3://{job.bucket}/{key}", s3=reach))

    return send


main(connect)

"""aioboto3's upload_file, on a loop that stays."""

import asyncio

import aioboto3
from _peer import Job, Send, main
from boto3.s3.transfer import TransferConfig


def connect(job: Job) -> Send:
    runner = asyncio.Runner()
    client = runner.run(aioboto3.Session().client("s3", endpoint_url=job.url).__aenter__())
    config = TransferConfig(**job.options)

    def send(file: str, key: str) -> None:
        runner.run(client.upload_file(file, job.bucket, key, Config=config))

    return send


main(connect)

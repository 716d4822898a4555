"""aioboto3's upload_file, on a loop that stays."""

import asyncio

import aioboto3
from _peer import main
from boto3.s3.transfer import TransferConfig


def connect(job):
    runner = asyncio.Runner()
    client = runner.run(aioboto3.Session().client("s3", endpoint_url=job.url).__aenter__())
    config = TransferConfig(**job.options)

    def send(file, key):
        runner.run(client.upload_file(file, job.bucket, key, Config=config))

    return send


main(connect)

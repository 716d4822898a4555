"""boto3's upload_file. CA, credentials and region come from the environment, as for every AWS tool."""

import boto3
from _peer import Job, Send, main
from boto3.s3.transfer import TransferConfig


def connect(job: Job) -> Send:
    client = boto3.client("s3", endpoint_url=job.url)
    config = TransferConfig(**job.options)
    return lambda file, key: client.upload_file(file, job.bucket, key, Config=config)


main(connect)

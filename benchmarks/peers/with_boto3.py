"""boto3's upload_file or, of standard input, upload_fileobj. CA, credentials and region come from the environment, as
for every AWS tool."""

import sys

import boto3
from _peer import Job, Send, main
from boto3.s3.transfer import TransferConfig


def connect(job: Job) -> Send:
    options = dict(job.options)
    checksum = options.pop("checksum", None)
    extra = {"ChecksumAlgorithm": checksum} if checksum else {}
    client = boto3.client("s3", endpoint_url=job.url)
    config = TransferConfig(**options)
    if job.piped:
        return lambda _, key: client.upload_fileobj(sys.stdin.buffer, job.bucket, key, ExtraArgs=extra, Config=config)
    return lambda file, key: client.upload_file(file, job.bucket, key, ExtraArgs=extra, Config=config)


main(connect)

"""boto3's put_object of each file in threads, as many as `options` say: one client, which is thread-safe."""

import os
from concurrent.futures import ThreadPoolExecutor

import boto3
from _peer import Job, Send, main
from botocore.config import Config


def connect(job: Job) -> Send:
    threads = job.options["at_once"]
    client = boto3.client("s3", endpoint_url=job.url, config=Config(max_pool_connections=threads))

    def send(directory: str, prefix: str) -> None:
        with ThreadPoolExecutor(threads) as pool, os.scandir(directory) as entries:
            list(pool.map(lambda each: client.upload_file(each.path, job.bucket, prefix + each.name), entries))

    return send


main(connect)

"""smart_open's writer, over boto3."""

import boto3
import smart_open
from _peer import Job, Send, main, written


def connect(job: Job) -> Send:
    client = boto3.client(
        "s3",
        endpoint_url=job.url,
        region_name=job.region,
        aws_access_key_id=job.access_key,
        aws_secret_access_key=job.secret_key,
        verify=job.ca,
    )
    given = {"client": client, **job.options}
    return written(job, lambda key: smart_open.open(f"s3://{job.bucket}/{key}", "wb", transport_params=given))


main(connect)

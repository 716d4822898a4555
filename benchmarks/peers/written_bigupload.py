"""bigupload's writer."""

from _peer import Job, Send, main, written

import bigupload


def connect(job: Job) -> Send:
    s3 = bigupload.S3Options(
        endpoint_url=job.url, region=job.region, access_key=job.access_key, secret_key=job.secret_key, ca_bundle=job.ca
    )
    return written(job, lambda key: bigupload.open_writer(f"s3://{job.bucket}/{key}", s3=s3))


main(connect)

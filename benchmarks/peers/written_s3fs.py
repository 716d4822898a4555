"""s3fs's writer."""

import s3fs
from _peer import Job, Send, main, written


def connect(job: Job) -> Send:
    files = s3fs.S3FileSystem(
        key=job.access_key,
        secret=job.secret_key,
        endpoint_url=job.url,
        client_kwargs={"region_name": job.region, "verify": job.ca},
    )
    return written(job, lambda key: files.open(f"{job.bucket}/{key}", "wb", **job.options))


main(connect)

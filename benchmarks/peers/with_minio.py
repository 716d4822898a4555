"""minio's fput_object or, of standard input, put_object. It trusts what SSL_CERT_FILE names."""

import sys

from _peer import Job, Send, main
from minio import Minio


def connect(job: Job) -> Send:
    client = Minio(job.host, access_key=job.access_key, secret_key=job.secret_key, secure=job.secure, region=job.region)
    if job.piped:
        return lambda _, key: client.put_object(job.bucket, key, sys.stdin.buffer, length=-1, **job.options)
    return lambda file, key: client.fput_object(job.bucket, key, file, **job.options)


main(connect)

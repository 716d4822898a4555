"""minio's fput_object. It trusts what SSL_CERT_FILE names."""

from _peer import Job, Send, main
from minio import Minio


def connect(job: Job) -> Send:
    client = Minio(job.host, access_key=job.access_key, secret_key=job.secret_key, secure=job.secure, region=job.region)
    return lambda file, key: client.fput_object(job.bucket, key, file, **job.options)


main(connect)

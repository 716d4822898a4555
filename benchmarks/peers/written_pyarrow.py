"""pyarrow's output stream."""

from _peer import Job, Send, main, written
from pyarrow import fs


def connect(job: Job) -> Send:
    if job.ca:
        fs.initialize_s3(fs.S3LogLevel.Fatal)
    files = fs.S3FileSystem(
        access_key=job.access_key,
        secret_key=job.secret_key,
        endpoint_override=job.host,
        scheme="https" if job.secure else "http",
        region=job.region,
        **({"tls_ca_file_path": job.ca} if job.ca else {}),
    )
    return written(job, lambda key: files.open_output_stream(f"{job.bucket}/{key}", **job.options))


main(connect)

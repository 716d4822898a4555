"""A store that receives and drops: enough S3 for every contestant, at the least cost, in a process of its own.

    python -m benchmarks.null_store [--tls DIR] [--rtt 0.03] [--rate 40MB/s] …

prints one JSON line when it listens (`{"url": …}`) and one more when it is told to stop (standard input closes): what
it counted, so that a contestant which sends less than the file is caught. The same counts are at `GET /__counts` at any
time; `GET /__counts?reset` hands them out and begins again from nothing, with uploads and objects kept, so that one
process can serve contestants in turn, and an upload that was killed can be resumed. Neither answer is ever delayed.

What arrives is dropped inside the kernel where it can be, a thread a connection. A checksum or a Content-MD5 is echoed
as it was sent: a null store proves nothing about bytes, it only counts them.

| module | what it is |
|---|---|
| `knobs` | what can be set, and what becomes of a part: by the seed, its number and its attempt, nothing else |
| `counts` | what is counted |
| `wire` | a connection: heads, lines, bytes to drop |
| `tls` | TLS that decrypts heads only |
| `bodies` | what a body is framed in: length, chunks, aws-chunked |
| `s3` | uploads and objects, and the answers about them |
| `server` | connections, paces and faults |

Seen to upload 100 MB in parts and 1 KiB in one PUT, over http and https, each counted to the byte: boto3 (its checksums
by default and `when_required`), s3transfer's CRT manager, awscrt's S3Client, obstore, minio-py, aioboto3, s5cmd, mc,
rclone (its ETag check on), the AWS CLI, bigupload. boto3's own switch to `crt` reaches no store but AWS.
"""

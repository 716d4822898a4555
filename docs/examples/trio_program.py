"""Upload from a trio program, in a thread: bigupload itself runs on asyncio, and says so."""

from __future__ import annotations

import functools

import trio

import bigupload

LOCAL = bigupload.S3Options(local=True)


async def main() -> None:
    try:
        await bigupload.upload(b"hello", to="s3://bigupload/hello", s3=LOCAL)
    except bigupload.UsageError as e:
        print(f"in trio's loop: {e}")
    upload = functools.partial(bigupload.upload_sync, b"hello", to="s3://bigupload/hello", s3=LOCAL)
    result = await trio.to_thread.run_sync(upload)
    print(f"in a thread: {result.verified}")


if __name__ == "__main__":
    trio.run(main)

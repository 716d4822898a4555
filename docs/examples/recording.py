"""A recording, uploaded while it is written: when the recorder ends, most of it is in the store.

`python recording.py` records 40 MB in about two seconds, rewrites the file's header as MP4 recorders do, and uploads it
to the local store meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import bigupload

LOCAL = bigupload.S3Options(local=True)
BLOCK = bytes(2_000_000)


async def record(file: Path) -> None:
    """Write as a recorder does."""
    with file.open("r+b", buffering=0) as recording:
        for _ in range(20):
            recording.write(BLOCK)
            await asyncio.sleep(0.1)
        recording.seek(0)
        recording.write(b"the header, with the recording's length")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "live.mp4")
        file.touch()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(record(file))
            # 2 s without a change are its end: choose more than the longest pause of your recorder.
            upload = tasks.create_task(
                bigupload.upload(file, to="s3://bigupload/raw/", s3=LOCAL, follow=True, idle=2, part_size="5MiB")
            )
        print(f"{upload.result().size // len(BLOCK)} blocks: {upload.result().verified}")


if __name__ == "__main__":
    asyncio.run(main())

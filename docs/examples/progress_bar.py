"""Uploads with a progress bar each, by rich.

`python progress_bar.py [FILE...]` uploads the files to the local store. Without files it uploads three of its own.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

import bigupload

LOCAL = bigupload.S3Options(local=True)


def show(progress: Progress, row: TaskID, event: bigupload.Event) -> None:
    """Show one event of one upload in its row."""
    match event:
        case bigupload.UploadStarted():
            progress.update(row, total=event.size, status="uploading")
        case bigupload.Progress():
            progress.update(row, completed=event.bytes_uploaded + event.bytes_in_flight)
        case bigupload.Retrying() | bigupload.OutageStarted():
            progress.update(row, status=event.reason)
        case bigupload.Completing():
            progress.update(row, status="completing")
        case bigupload.UploadCompleted():
            progress.update(row, status=str(event.verified))


async def upload_all(files: list[Path]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TextColumn("{task.fields[status]}")) as progress:
        async with bigupload.Uploader(limit_rate="30MB/s") as uploader, asyncio.TaskGroup() as group:
            for file in files:
                row = progress.add_task(file.name, total=None, status="starting")
                group.create_task(uploader.upload(file, s3=LOCAL, on_event=functools.partial(show, progress, row)))


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(upload_all([Path(argument) for argument in sys.argv[1:]]))
        return
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, f"take-{n}.mov") for n in range(1, 4)]
        for n, file in enumerate(files, 1):
            file.write_bytes(bytes(n * 10_000_000))
        asyncio.run(upload_all(files))


if __name__ == "__main__":
    main()

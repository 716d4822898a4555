"""A program that writes the same object in each run: `writing.py ENDPOINT URL SIZE HOW`, where HOW says how it ends."""

from __future__ import annotations

import os
import random
import sys
import threading
import zipfile

import bigupload

BLOCK = 1 << 20


def written(writer: bigupload.UploadWriter, size: int) -> None:
    """Write a zip file with a member of so many bytes."""
    source = random.Random(3)
    with (
        zipfile.ZipFile(writer, "w") as archive,
        archive.open(zipfile.ZipInfo("member"), "w", force_zip64=True) as file,
    ):
        for at in range(0, size, BLOCK):
            file.write(source.randbytes(min(BLOCK, size - at)))


def main() -> None:
    endpoint, url, size, how = sys.argv[1:]
    options = bigupload.S3Options(endpoint_url=endpoint, region="us-east-1")
    writer = bigupload.open_writer(url, s3=options, part_size="5MiB", uploader=bigupload.Uploader(concurrency=2))
    if how == "forgotten":
        written(writer, int(size))
    elif how == "in a thread":
        thread = threading.Thread(target=written, args=(writer, int(size)))
        thread.start()
        thread.join()
    else:
        with writer:
            written(writer, int(size))
            if how == "raise":
                raise LookupError("the rows are gone")
            if how == "exit":
                sys.exit(0)
            if how == "os._exit":
                os._exit(0)
            if how == "interrupt":
                raise KeyboardInterrupt
        print(writer.result.verified, writer.result.resumed_parts)


if __name__ == "__main__":
    main()

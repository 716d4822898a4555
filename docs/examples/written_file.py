"""What a library writes into a file (`zipfile`, `pandas`), uploaded while it writes. If it fails, there is no object.

A bare pipe would not do: its end looks the same whether the writer is done or has raised, and half a file would become
an object. `python written_file.py` uploads a zip file to the local store, and then one whose writer raises.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import bigupload

LOCAL = bigupload.S3Options(local=True)


def written(write: Callable[[IO[bytes]], object]) -> Generator[bytes, None, None]:
    """Yield what `write` writes into the file that it is given. What it raises is raised here, at the end."""
    reader, writer = os.pipe()

    def run() -> None:
        with os.fdopen(writer, "wb") as file:
            write(file)

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(run)
        with os.fdopen(reader, "rb", 0) as pipe:
            while block := pipe.read(1 << 20):
                yield block
        writing.result()  # without this line, half a file would be taken for a whole one


def upload(write: Callable[[IO[bytes]], object], to: str) -> bigupload.UploadResult:
    with contextlib.closing(written(write)) as blocks:
        return bigupload.upload_sync(blocks, to=to, s3=LOCAL)


def zip_here(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(Path(__file__).parent.glob("*.py")):
            archive.write(path, path.name)


def fail_half_way(file: IO[bytes]) -> None:
    file.write(bytes(1_000_000))
    raise ValueError("the rows have ended too early")


def main() -> None:
    print(f"zip: {upload(zip_here, 's3://bigupload/examples.zip').verified}")
    # With pandas: upload(lambda file: frame.to_csv(file, index=False), "s3://bigupload/rows.csv")
    try:
        upload(fail_half_way, "s3://bigupload/half")
    except bigupload.SourceUnreadable as error:
        print(f"{error.__cause__}: {type(error).__name__}")


if __name__ == "__main__":
    main()

"""Uploads in processes: by `concurrent.futures.ProcessPoolExecutor` and by `multiprocessing.Pool`.

Each process uploads one file at a time by `upload_sync`. Results and errors reach the parent as they are. Of the four
files here one is uploaded, one grows meanwhile, one goes to a store that does not answer, and one does not exist.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import bigupload

LOCAL = bigupload.S3Options(local=True)
NOBODY = bigupload.S3Options(endpoint_url="http://127.0.0.1:9", access_key="key", secret_key="secret")


def upload(path: Path) -> bigupload.UploadResult:
    """Upload a file: this runs in a process of the pool."""

    def grow(event: bigupload.Event) -> None:
        if path.name == "growing" and isinstance(event, bigupload.PartUploaded):
            with path.open("ab") as file:
                file.write(b"more")

    uploader = bigupload.Uploader(retry=bigupload.RetryPolicy(give_up_after=1), state_dir=path.parent)
    s3 = NOBODY if path.name == "unreachable" else LOCAL
    return bigupload.upload_sync(path, to=f"s3://bigupload/{path.name}", s3=s3, on_event=grow, uploader=uploader)


def with_executor(files: list[Path]) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        for file, future in [(file, executor.submit(upload, file)) for file in files]:
            report(file, future.result)


def with_pool(files: list[Path]) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for file, pending in [(file, pool.apply_async(upload, [file])) for file in files]:
            report(file, pending.get)


def report(file: Path, result: Callable[[], bigupload.UploadResult]) -> None:
    try:
        print(f"  {file.name}: {result().verified}")
    except bigupload.BigUploadError as e:
        print(f"  {file.name}: {type(e).__name__}: {e}")


def main() -> None:
    for name, run in {"ProcessPoolExecutor": with_executor, "multiprocessing.Pool": with_pool}.items():
        print(name)
        with tempfile.TemporaryDirectory() as directory:
            files = [Path(directory, name) for name in ("sound", "growing", "unreachable", "missing")]
            for file in files[:-1]:
                file.write_bytes(bytes(10_000_000))  # two parts: a smaller file is one PUT
            run(files)


if __name__ == "__main__":
    main()

"""An upload that runs beside its program, which watches it, cancels it, and resumes it by its manifest.

`start` returns an `UploadHandle` at once. The handle has the manifest's path as soon as there is one, and keeps it
after the cancel: that is all that another program, or the next day, needs.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import bigupload

SIZE = 60_000_000


async def upload_half(path: Path, state: Path) -> Path:
    """Cancel an upload once half of the file is recorded; return its manifest."""
    local = bigupload.S3Options(local=True)
    async with bigupload.Uploader(limit_rate="30MB/s", concurrency=2, state_dir=state) as uploader:
        handle = uploader.start(path, s3=local, part_size="5MiB")
        async for _ in handle:
            if handle.progress.bytes_uploaded > SIZE / 2:
                handle.cancel()
        try:
            await handle
        except bigupload.UploadCancelled:
            print(f"cancelled: {handle.progress.parts_uploaded} of {handle.progress.parts} parts are recorded")
    assert handle.manifest is not None
    return handle.manifest


async def resume(manifest: Path, state: Path) -> None:
    """Resume the upload, as another program would."""
    result = await bigupload.resume(manifest, uploader=bigupload.Uploader(state_dir=state))
    print(f"resumed: {result.resumed_parts} parts were there, {result.parts - result.resumed_parts} were sent")
    print(f"proved: {result.verified}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "movie.mov")
        path.write_bytes(bytes(SIZE))
        manifest = asyncio.run(upload_half(path, Path(directory)))
        asyncio.run(resume(manifest, Path(directory)))


if __name__ == "__main__":
    main()

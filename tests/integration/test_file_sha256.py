"""`sha256=True`: the SHA-256 of a file is told only if its object is that file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import pytest

import bigupload
from bigupload import UploadFailed, UploadResult, errors
from bigupload.verification import file_digests

from .support import BUCKET, FAST, PART, World

TO = f"s3://{BUCKET}/p/"


async def many(world: World, path: Path, **more: Any) -> UploadResult | UploadFailed:
    async with bigupload.Uploader(retry=FAST) as uploader:
        outcomes = uploader.upload_many([path], to=TO, s3=world.options(), sha256=True, part_size=PART, **more)
        (outcome,) = [each async for each in outcomes]
    return outcome


@pytest.mark.parametrize(("size", "checksum"), [(100, "md5"), (3 * PART, "sha256"), (3 * PART, "md5")])
async def test_a_file_that_changed_since_is_found_without_a_checksum_of_the_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, checksum: Literal["md5", "sha256"]
) -> None:
    world.s3.knobs.echo_checksums = checksum != "md5"
    path = world.file(size, "file.bin")
    data, status, read = path.read_bytes(), path.stat(), file_digests._read

    def change_and_read(*arguments: Any) -> file_digests.ReadFile:
        path.write_bytes(bytes(size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return read(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(file_digests, "_read", change_and_read)
        with pytest.raises(errors.SourceChanged, match="changed after it was uploaded"):
            await bigupload.upload(
                path, to=TO, s3=world.options(), retry=FAST, part_size=PART, sha256=True, checksum=checksum
            )
        path.write_bytes(data)
        failed = await many(world, path, checksum=checksum)
        assert isinstance(failed, UploadFailed)
        assert isinstance(failed.error, errors.SourceChanged)
    path.write_bytes(data)
    told = await many(world, path, checksum=checksum)
    assert isinstance(told, UploadResult)
    assert told.sha256 == hashlib.sha256(data).hexdigest()


async def test_a_comparison_of_sizes_does_not_tell_it(world: World) -> None:
    with pytest.raises(errors.UsageError, match="`size_only` does not look"):
        await bigupload.sync(world.directory, to=TO, s3=world.options(), size_only=True, sha256=True)

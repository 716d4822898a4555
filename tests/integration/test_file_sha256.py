"""`Digest("sha256")`: the SHA-256 of a file is told only if its object is that file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import pytest
import xxhash

import bigupload
from bigupload import UploadFailed, UploadResult, errors
from bigupload.engine.part_hashing import WholeDigests
from bigupload.verification import file_digests

from .support import BUCKET, FAST, PART, World

TO = f"s3://{BUCKET}/p/"


async def many(world: World, path: Path, **more: Any) -> UploadResult | UploadFailed:
    async with bigupload.Uploader(retry=FAST) as uploader:
        outcomes = uploader.upload_many(
            [path], to=TO, s3=world.options(), then=bigupload.Digest("sha256"), part_size=PART, **more
        )
        (outcome,) = [each async for each in outcomes]
    return outcome


@pytest.mark.exhaustive
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
                path,
                to=TO,
                s3=world.options(),
                part_size=PART,
                then=bigupload.Digest("sha256"),
                checksum=checksum,
                uploader=bigupload.Uploader(retry=FAST),
            )
        path.write_bytes(data)
        failed = await many(world, path, checksum=checksum)
        assert isinstance(failed, UploadFailed)
        assert isinstance(failed.error, errors.SourceChanged)
    path.write_bytes(data)
    told = await many(world, path, checksum=checksum)
    assert isinstance(told, UploadResult)
    assert told.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("resumed", [False, True])
async def test_the_read_that_hashes_the_parts_computes_it(
    world: World, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    """So a disk gives each byte once. What an earlier run hashed is read at the end."""
    path = world.file(6 * PART + 5)
    read_file, starts = file_digests.read_file, []

    async def read(*arguments: Any, start: int = 0) -> file_digests.ReadFile:
        starts.append(start)
        return await read_file(*arguments, start=start)

    monkeypatch.setattr(file_digests, "read_file", read)
    if resumed:
        await world.interrupted(path, after=2, part_size=PART)
    told = await world.upload(path, part_size=PART, sha256=True, xxh128=True)
    assert starts == ([0] if resumed else [6 * PART + 5])
    assert told.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told.xxh128 == xxhash.xxh3_128_hexdigest(path.read_bytes())


async def test_what_was_computed_meanwhile_counts_only_if_it_is_of_the_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = WholeDigests._take

    def wrong(self: WholeDigests, chunk: memoryview) -> None:
        take(self, memoryview(bytes(chunk)[::-1]))

    monkeypatch.setattr(WholeDigests, "_take", wrong)
    path = world.file(3 * PART)
    told = await world.upload(path, part_size=PART, sha256=True)
    assert told.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_comparison_of_sizes_does_not_tell_it(world: World) -> None:
    with pytest.raises(errors.UsageError, match="`size_only` proves nothing"):
        await bigupload.sync(
            world.directory, to=TO, s3=world.options(), size_only=True, then=bigupload.Digest("sha256")
        )

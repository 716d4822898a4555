"""What an upload refuses before anything is sent: files that are none, and arguments that make no sense."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors
from bigupload.core.part_plan import MIB
from tests.tools.cases import each_case

from .support import BUCKET, FAST, KIB, LIMITS, PART, World


async def test_files_that_are_none(world: World) -> None:
    directory = world.directory / "directory"
    directory.mkdir()
    fifo = world.directory / "fifo"
    os.mkfifo(fifo)
    for path, error in [
        (world.directory / "missing", errors.SourceNotFound),
        (directory, errors.SourceUnsupported),
        (fifo, errors.SourceUnsupported),
        (Path("/dev/null"), errors.SourceUnsupported),
        (world.directory / "missing" / "deeper", errors.SourceNotFound),
    ]:
        with pytest.raises(error) as caught:
            await world.upload(path)
        assert caught.value.exit_code == 1
    assert not world.s3.requests
    assert not world.manifest_path.exists()


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything, and Windows has no modes")
async def test_a_file_that_may_not_be_read(world: World) -> None:
    path = world.file(1)
    path.chmod(0)
    with pytest.raises(errors.SourceUnreadable, match="Permission denied"):
        await world.upload(path)


async def test_a_url_where_a_path_is_wanted(world: World) -> None:
    """Taken for a path, it would be told with its query, which may be a secret."""
    url = "https://127.0.0.1/film.mov?secret"
    async with bigupload.Uploader() as uploader:
        with pytest.raises(errors.UsageError, match="path must be a path of this machine, and it is a URL"):
            await uploader.verify(url, "s3://bucket/key")
        with pytest.raises(errors.UsageError, match="directory must be a path"):
            await anext(uploader.watch(url, to="s3://bucket/"))
        with pytest.raises(errors.UsageError, match="manifest must be a path"):
            await uploader.resume(url)


@each_case(
    ("arguments", "message"),
    [
        ({"to": "http://bucket/key"}, "not a target"),
        ({"to": "s3://"}, "not a target"),
        ({"to": "bucket/key"}, "not a target"),
        ({"to": f"s3://{BUCKET}/{'k' * 1025}"}, "1,024"),
        ({"to": f"s3://{BUCKET}/key\n"}, "ends in a line break or a tab: leave that out"),
        ({"to": f"s3://{BUCKET}/key\r"}, "ends in a line break or a tab: leave that out"),
        ({"checksum": "crc16"}, "unknown checksum"),
        ({"part_size": "1B"}, "below"),
        ({"part_size": 2 * MIB}, "above"),
        ({"part_size": "many"}, "size"),
        ({"concurrency": 0}, "from 1 to 256"),
        ({"limit_rate": 0}, "positive number"),
        ({"limit_rate": "fast"}, "rate"),
    ],
)
async def test_arguments_that_make_no_sense(world: World, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UsageError, match=message) as caught:
        await world.upload(world.file(2 * KIB), **arguments)
    assert caught.value.exit_code == errors.EXIT_USAGE
    assert not world.s3.requests


async def test_too_many_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.stores.s3.multipart.S3Store.limits", replace(LIMITS, max_parts=3))
    with pytest.raises(errors.UsageError, match="3 parts"):
        await world.upload(world.file(4 * PART), part_size=PART)
    assert not world.s3.requests


async def test_a_target_is_needed(world: World) -> None:
    with pytest.raises(errors.UsageError, match="target"):
        await bigupload.upload(world.file(1))


def test_upload_sync(world: World) -> None:
    path = world.file(2 * PART)
    result = bigupload.upload_sync(
        path,
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_upload_sync_inside_a_loop(world: World) -> None:
    with pytest.raises(errors.UsageError, match=r"await bigupload\.upload"):
        bigupload.upload_sync(world.file(1), to=f"s3://{BUCKET}/key", s3=world.options())
    assert not world.s3.requests

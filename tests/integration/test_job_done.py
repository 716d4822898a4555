"""`on_done` of `upload_many`: called once, with the sums, when the job has ended."""

from __future__ import annotations

from typing import Any

import pytest

import bigupload
from bigupload import JobDone, UploadFailed, errors
from bigupload.testing.faults import Status

from .support import BUCKET, FAST, PART, World

TO = f"s3://{BUCKET}/p/"


async def ran(world: World, on_done: Any, to: str = TO) -> list[object]:
    sources = [world.directory / name for name in ("a", "b", "c")]
    for path, size in zip(sources, (10, 3 * PART, 20), strict=True):
        if not path.exists():
            world.file(size, path.name)
    outcomes = bigupload.upload_many(
        sources, to=to, s3=world.options(), retry=FAST, part_size=PART, job="j", on_done=on_done
    )
    return [each async for each in outcomes]


async def test_it_gets_the_sums(world: World) -> None:
    done: list[JobDone] = []
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/a", repeat=True)
    first = await ran(world, done.append)
    assert len([each for each in first if isinstance(each, UploadFailed)]) == 1
    (found,) = done
    assert (found.files, found.skipped, found.failed, found.size) == (2, 0, 1, 20 + 3 * PART)
    assert found.bytes_sent == found.size
    world.s3.clear()

    async def on_done(sums: JobDone) -> None:
        done.append(sums)

    await ran(world, on_done)
    assert (done[1].files, done[1].skipped, done[1].failed, done[1].bytes_sent) == (3, 2, 0, 10)


async def test_it_is_not_called_if_the_job_ends_early(world: World) -> None:
    done: list[JobDone] = []
    with pytest.raises(errors.BucketNotFound):
        await ran(world, done.append, "s3://nowhere/p/")
    assert not done


async def test_what_it_raises_the_job_raises(world: World) -> None:
    def on_done(_: JobDone) -> None:
        raise RuntimeError("the program's own")

    with pytest.raises(RuntimeError, match="the program's own"):
        await ran(world, on_done)

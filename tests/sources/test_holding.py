"""The contract of `ports.Source.hold` and `release`, for every kind of source."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.core.part_plan import Part, Plan
from bigupload.ports import Source
from bigupload.sources.file import FileSource, GrowingFile
from bigupload.sources.objects import FileObjectSource, MemorySource
from tests.sources.streams import DATA, read, stream_of

PLAN = Plan(len(DATA), 1000)
KINDS = ["file", "growing file", "memory", "file object", "stream"]


@pytest.fixture(params=KINDS)
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Source]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    made: Source
    match request.param:
        case "file":
            made = FileSource(path)
        case "growing file":
            made = GrowingFile(path, idle=0)
        case "memory":
            made = MemorySource("name", memoryview(DATA))
        case "file object":
            made = FileObjectSource("name", io.BytesIO(DATA))
        case _:
            made = stream_of([DATA])
    yield made
    made.close()


async def parts_of(source: Source) -> list[Part]:
    if source.stream is None:
        return list(PLAN)
    return [part async for part in arriving(source)]


async def arriving(source: Source) -> AsyncIterator[Part]:
    assert source.stream is not None
    while (part := await source.stream.next_part(PLAN)) is not None:
        yield part


@pytest.mark.parametrize("wait", [True, False])
async def test_a_held_part_can_be_read_until_it_is_released(source: Source, wait: bool) -> None:
    parts = await parts_of(source)
    assert len(parts) == 4
    for part in parts:
        for _ in range(2):  # held once more, it stays held
            assert await source.hold(part, wait=wait)
            assert read(source, part) == DATA[part.offset : part.offset + part.size]
    source.release(parts[0])
    source.release(parts[0])
    for part in parts[1:]:
        assert read(source, part) == DATA[part.offset : part.offset + part.size]


async def test_what_is_not_held_may_be_released(source: Source) -> None:
    parts = await parts_of(source)
    source.release(Part(9, 9000, 1000))
    await source.hold(parts[1])
    source.release(parts[0])
    assert read(source, parts[1]) == DATA[1000:2000], "that of another part takes nothing away"
    source.close()
    source.release(parts[0])


async def test_what_was_released_is_held_again_unless_its_bytes_have_gone_by(source: Source) -> None:
    parts = await parts_of(source)
    await source.hold(parts[1])
    source.release(parts[1])
    if source.stream is None or source.stream.is_growing:
        assert await source.hold(parts[1])
        assert read(source, parts[1]) == DATA[1000:2000]
    else:
        with pytest.raises(errors.SourceUnreadable, match="that part has gone by"):
            read(source, parts[1])

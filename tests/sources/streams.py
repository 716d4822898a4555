"""Streams of bytes in every form, under small limits, and what is cut from them."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from bigupload.core.part_plan import Limits, Part, Plan, plan_stream
from bigupload.ports import Source
from bigupload.sources.opening import producer_of
from bigupload.sources.part_pool import Memory, PartPool
from bigupload.sources.stream import StreamSource
from tests.integration.support import content

LIMITS = Limits(min_part_size=100, max_part_size=1600, max_parts=50, default_part_size=100, granule=1, enough_parts=1)
PLAN = plan_stream(limits=LIMITS)
"""Five parts of 100 bytes, five of 200, and so on."""
DATA = content(4000)


def pool(memory: int = 100_000, directory: Path | None = None) -> PartPool:
    return PartPool(directory, memory=Memory(memory))


def chunked(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


async def async_chunks(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


class Raw(io.RawIOBase):
    """A file object that gives one chunk at each read, as a pipe does."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = [chunk for chunk in chunks if chunk]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._chunks:
            return 0
        count = min(len(buffer), len(self._chunks[0]))
        buffer[:count] = self._chunks[0][:count]
        self._chunks[0] = self._chunks[0][count:]
        if not self._chunks[0]:
            del self._chunks[0]
        return count


class OnlyReads:
    """A file object of another library."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._raw = Raw(chunks)

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size) or b""


class Reader:
    """As asyncio's StreamReader, which gives what there is."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._raw = Raw(chunks)

    async def read(self, size: int = -1) -> bytes:
        return self._raw.read(size) or b""


WAYS: dict[str, Callable[[list[bytes]], Any]] = {
    "async iterable": async_chunks,
    "iterable": iter,
    "raw file": Raw,
    "buffered file": lambda chunks: io.BufferedReader(Raw(chunks)),
    "foreign file": OnlyReads,
    "async reader": Reader,
}


def stream_of(source: Any, *, parts: PartPool | None = None, **more: Any) -> StreamSource:
    producer = producer_of(source, "name")
    assert producer is not None
    return StreamSource("name", producer, parts or pool(), **more)


def read(source: Source, part: Part) -> bytes:
    buffer = bytearray(part.size)
    assert source.read_into(memoryview(buffer), part.offset) == part.size
    view = source.view(part.offset, part.size)
    assert view is None or view == buffer
    return bytes(buffer)


async def cut(stream: StreamSource, plan: Plan = PLAN) -> list[tuple[Part, bytes]]:
    await stream.begin()
    found = []
    while (part := await stream.next_part(plan)) is not None:
        found.append((part, read(stream, part)))
        stream.release(part)
    assert await stream.next_part(plan) is None
    return found

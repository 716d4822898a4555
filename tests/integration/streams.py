"""A stream of known bytes, whole and in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator

from bigupload.testing.strict_s3.model import StoredObject

from .stopped import SIZE
from .support import content

WHOLE = content(SIZE)
"""Five parts, and a short one."""


async def stream(data: bytes, chunk: int = 50_001) -> AsyncIterator[bytes]:
    for at in range(0, len(data), chunk):
        yield data[at : at + chunk]


def generator(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 700_001):
        yield data[at : at + 700_001]


async def reader(data: bytes) -> asyncio.StreamReader:
    made = asyncio.StreamReader()
    made.feed_data(data)
    made.feed_eof()
    return made


@contextlib.contextmanager
def pipe(data: bytes) -> Iterator[io.FileIO]:
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with os.fdopen(reading, "rb", buffering=0) as file:
            yield file
    finally:
        thread.join()


def whole(found: StoredObject | None) -> str | None:
    return None if found is None else found.sha256()


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

"""What finds facts, and the object that it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bigupload.service import fact_finder
from bigupload.service.access_log import AccessLog
from bigupload.service.fact_finder import FactFinder, opened_finder
from bigupload.service.media import HEAD_BYTES

PROGRAM = fact_finder._PROGRAM
PATIENT = "p._SECONDS = 600"


def program(*lines: str) -> str:
    """The program of the process, which runs these lines first. `p` is its module."""
    before = "\n".join(("import bigupload.service.fact_process as p", *lines))
    return PROGRAM.replace("from bigupload", f"exec({before!r}, globals()); from bigupload")


class ReadObject:
    """An object, and what was read of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[tuple[int, int]] = []

    async def read(self, at: int, length: int) -> bytes:
        """As the store reads a range."""
        self.reads.append((at, length))
        return self.data[at : at + length]


@asynccontextmanager
async def finding(log: list[str] | None = None) -> AsyncIterator[FactFinder]:
    """A process that runs."""
    write = ([] if log is None else log).append
    async with opened_finder(True, AccessLog(write=write)) as finder:
        assert finder is not None
        yield finder


async def found(finder: FactFinder, data: bytes) -> dict[str, Any] | None:
    """The facts of a file, without those that it does not have."""
    told = await finder.find(data[:HEAD_BYTES], len(data), ReadObject(data).read)
    return None if told is None else {name: value for name, value in told.items() if value is not None}

"""An object that is read by presigned GETs: what a refusal of one of them means for the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import SignedRequest
from bigupload.stores.s3 import object_file
from bigupload.stores.s3.object_file import ObjectFile, ObjectVersion

VERSION = ObjectVersion(etag='"e"', size=10, version_id=None, content_type=None, content_encoding=None, checksums={})


class Bucket:
    """Signs URLs with a number, and remembers which of them the store refused."""

    name, client, headers = "bucket", None, {}

    def __init__(self) -> None:
        self.signed = 0
        self.refused: list[str] = []

    async def presign(self, _method: str, _parameters: object) -> list[str]:
        self.signed += 1
        url = f"url-{self.signed}"
        await anyio.sleep(0)
        return [url]

    def urls_last(self) -> float:
        return 3600.0

    def refused_url(self, url: str, _fault: Fault) -> None:
        self.refused.append(url)


class Reader:
    """Refuses the first URL: to the read of byte 0 at once, to the others as soon as it is told to."""

    def __init__(self) -> None:
        self.asked, self.late = anyio.Event(), anyio.Event()

    async def read(self, _client: object, request: SignedRequest, start: int, _end: int, **_: object) -> None:
        if request.url == "url-1":
            if start > 0:
                self.asked.set()
                await self.late.wait()
            raise Fault(FaultKind.REFUSED, "the store refused to read the object", status=403)


Read = Callable[[int], Awaitable[None]]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> tuple[Bucket, Reader, Read]:
    """The two, and a read of the object that begins at a byte, and is refused or not."""
    bucket, reader = Bucket(), Reader()
    stands_for: Any = bucket
    monkeypatch.setattr(object_file, "read_range", reader.read)
    file = ObjectFile("s3://bucket/key", stands_for, "key", stands_for, stall_after=1)
    file._version = VERSION

    async def read(start: int) -> None:
        await file.read(start, 10, stands_for)

    return bucket, reader, read


async def refused(read: Read, start: int) -> None:
    with pytest.raises(Fault):
        await read(start)


async def test_reads_that_begin_at_once_share_one_url(setting: tuple[Bucket, Reader, Read]) -> None:
    """Otherwise each would be refused by itself when the credentials end, and a second refusal is final."""
    bucket, reader, read = setting
    async with anyio.create_task_group() as reads:
        for _ in range(4):
            reads.start_soon(refused, read, 5)
        await reader.asked.wait()
        await anyio.sleep(0)
        reader.late.set()
    await read(0)
    assert (bucket.refused, bucket.signed) == (["url-1"] * 4, 2)


async def test_a_late_refusal_of_an_old_url_refuses_no_new_one(setting: tuple[Bucket, Reader, Read]) -> None:
    """Otherwise credentials that are good would be asked for again."""
    bucket, reader, read = setting
    async with anyio.create_task_group() as reads:
        reads.start_soon(refused, read, 5)
        await reader.asked.wait()
        await refused(read, 0)
        await read(0)
        reader.late.set()
    await read(5)
    assert (bucket.refused, bucket.signed) == (["url-1", "url-1"], 2)

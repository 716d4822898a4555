"""Many uploads in one `Uploader`: a small file that comes last does not wait for the big ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

import bigupload
from bigupload.core.checksums import Digests, Hashed
from bigupload.core.part_plan import Part
from bigupload.engine.part_hashing import PartHasher
from bigupload.support.fair_slots import FairSlots
from tests.tools.waiting import until

from .support import BUCKET, FAST, PART, World

MANY, PARTS = 12, 6
SMALL = 100
IN_FLIGHT = 4
PUTS = ("UploadPart", "PutObject")


class Uploads:
    """Uploads of one `Uploader`, all to keys of their own."""

    def __init__(self, world: World, uploader: bigupload.Uploader) -> None:
        self._world = world
        self._uploader = uploader
        self.shared = uploader._resources.shared
        self._big = world.file(PARTS * PART)
        self._small = world.file(SMALL, name="small.bin", seed=1)
        self.tasks: list[asyncio.Task[bigupload.UploadResult]] = []

    def start(self, key: str, *, big: bool = True, priority: int = 0, in_parts: bool = True) -> None:
        upload = self._uploader.upload(
            self._big if big else self._small,
            to=f"s3://{BUCKET}/{key}",
            s3=self._world.options(),
            priority=priority,
            manifest=None if big or not in_parts else self._world.manifest_path,
        )
        self.tasks.append(asyncio.create_task(upload))

    async def until_it_waits(self, slots: FairSlots, *, size: int, parts: int = 1) -> None:
        """Return when so many parts of an upload of this size wait for slots."""
        await until(
            lambda: any(queue._left() == size and len(queue._waiters) >= parts for queue in slots._waiting), within=60
        )

    async def all_proved(self) -> None:
        for result in await asyncio.gather(*self.tasks):
            assert result.verified is bigupload.Verified.FULL_OBJECT
        assert self._world.holds(self._small, "small")
        assert self._world.holds(self._big, "big 0")


@pytest.fixture
async def uploads(world: World) -> AsyncIterator[Uploads]:
    async with bigupload.Uploader(concurrency=IN_FLIGHT, retry=FAST) as uploader:
        made = Uploads(world, uploader)
        try:
            yield made
        finally:
            for task in made.tasks:
                task.cancel()
            await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("in_parts", [False, True])
async def test_a_late_small_file_is_sent_next(world: World, uploads: Uploads, in_parts: bool) -> None:
    """Of 72 parts those that are in flight come before it, and those that get a slot at the same moment may."""
    world.s3.hold("UploadPart")
    for number in range(MANY):
        uploads.start(f"big {number}")
    await world.s3.wait_for_async("CreateMultipartUpload", MANY, responded=True, timeout=60)
    await world.s3.wait_for_async("UploadPart", IN_FLIGHT)
    uploads.start("small", big=False, in_parts=in_parts)
    await uploads.until_it_waits(uploads.shared.slots, size=SMALL if in_parts else 0)
    world.s3.release("UploadPart")
    await uploads.all_proved()
    order = [request.key for request in world.s3.requests if request.op in PUTS]
    assert len(order) == MANY * PARTS + 1
    assert IN_FLIGHT <= order.index("small") < 2 * IN_FLIGHT


async def test_an_urgent_upload_comes_before_small_ones(world: World, uploads: Uploads) -> None:
    world.s3.hold("UploadPart")
    uploads.start("big 0")
    await world.s3.wait_for_async("UploadPart", IN_FLIGHT)
    uploads.start("small", big=False)
    await uploads.until_it_waits(uploads.shared.slots, size=SMALL)
    waiting = PARTS - 1  # the last part is prepared when another one has ended
    uploads.start("urgent", priority=1)
    await uploads.until_it_waits(uploads.shared.slots, size=PARTS * PART, parts=waiting)
    world.s3.release("UploadPart")
    await uploads.all_proved()
    order = [request.key for request in world.s3.requests if request.op == "UploadPart"]
    assert order[IN_FLIGHT:][:waiting] == ["urgent"] * waiting


async def test_a_small_file_does_not_wait_for_what_others_hash_ahead(
    world: World, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PartHasher._hash
    gate = threading.Semaphore(0)
    order: list[int] = []

    def hash_when_told(self: PartHasher, part: Part, wanted: Digests, left_behind: threading.Event) -> Hashed:
        order.append(part.size)
        gate.acquire()
        return real(self, part, wanted, left_behind)

    monkeypatch.setattr(PartHasher, "_hash", hash_when_told)
    world.s3.hold("CreateMultipartUpload")  # a response ends the look-ahead
    for number in range(MANY):
        uploads.start(f"big {number}")
    try:
        threads = uploads.shared.hashing.total_tokens
        await until(lambda: len(order) >= threads, within=60)
        uploads.start("small", big=False)
        await uploads.until_it_waits(uploads.shared.hashing, size=SMALL)
        gate.release()  # one thread is free
        await until(lambda: len(order) > threads, within=60)
        assert order[threads:] == [SMALL]
    finally:
        gate.release(1000)
    world.s3.release("CreateMultipartUpload")
    await uploads.all_proved()

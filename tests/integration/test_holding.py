"""The engine holds a part of its source before it reads anything of it, and releases it whatever happens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import anyio
import pytest

from bigupload import errors, events
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.sources.file import FileSource
from tests.tools.waiting import until

from .support import PART, World

PARTS = 6


class Holding:
    """What every FileSource holds. Reading anything else of one fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held: dict[int, Part] = {}
        self.begun: list[int] = []
        """The parts that were held, in order of the calls."""
        self.released: list[int] = []
        self.room = 1000
        self.before: Callable[[Part], None] = lambda part: None
        """Called when a part is to be held. It may raise."""
        self.waiting: set[int] = set()
        """The parts whose hold never ends."""
        monkeypatch.setattr(FileSource, "hold", lambda source, part, wait=True: self._hold(part, wait))
        monkeypatch.setattr(FileSource, "release", lambda source, part: self._release(part))
        monkeypatch.setattr(FileSource, "fileno", lambda source: None)  # so that it is sent by `read_into`
        real = FileSource.read_into

        def read_into(source: FileSource, buffer: memoryview, offset: int) -> int:
            held = list(self.held.values())
            assert any(p.offset <= offset and offset + len(buffer) <= p.offset + p.size for p in held), "it is not held"
            return real(source, buffer, offset)

        monkeypatch.setattr(FileSource, "read_into", read_into)

    async def _hold(self, part: Part, wait: bool) -> bool:
        self.begun.append(part.number)
        self.before(part)
        if part.number in self.waiting:
            await anyio.sleep_forever()
        while part.number not in self.held and len(self.held) >= self.room:
            if not wait:
                return False
            await asyncio.sleep(0.001)  # turns without a rest would take a processor from what releases it
        self.held[part.number] = part
        return True

    def _release(self, part: Part) -> None:
        self.released.append(part.number)
        self.held.pop(part.number, None)


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Holding:
    return Holding(monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("checksum", ["auto", "md5", "none"])
@pytest.mark.parametrize("room", [1, 2, 1000])
async def test_all_parts_are_held_and_released(world: World, holding: Holding, room: int, checksum: str) -> None:
    holding.room = room
    path = world.file(PARTS * PART)
    with anyio.fail_after(60):
        await world.upload(path, checksum=checksum)
    assert world.holds(path)
    assert sorted(set(holding.begun)) == sorted(set(holding.released)) == [1, 2, 3, 4, 5, 6]
    assert not holding.held


async def test_also_those_that_are_only_compared(world: World, holding: Holding) -> None:
    """A file that was touched, parts that only the store has, and `verify_source`."""
    path = world.file(PARTS * PART)
    await world.interrupted(path, after=3)
    holding.room = 1  # only now: the part that the store puts off would keep it
    holding.held.clear()  # of the source that was closed
    holding.begun.clear()
    os.utime(path)
    with anyio.fail_after(60):
        await world.upload(path, verify_source=True)
    assert world.holds(path)
    assert {n: holding.begun.count(n) >= 2 for n in range(1, 7)} == dict.fromkeys(range(1, 7), True)
    assert not holding.held


async def test_adopted_parts_too(world: World, holding: Holding) -> None:
    path = world.file(PARTS * PART)
    await world.interrupted(path, after=3)
    world.manifest_path.unlink()
    holding.held.clear()
    with anyio.fail_after(60):
        await world.adopt(path)
    assert world.holds(path)
    assert not holding.held


async def test_a_fault_is_retried(world: World, holding: Holding) -> None:
    faults = 3

    def fail(part: Part) -> None:
        nonlocal faults
        if part.number == 2 and faults:
            faults -= 1
            raise Fault(FaultKind.BROKEN, "the origin closed the connection")

    holding.before = fail
    path = world.file(PARTS * PART)
    await world.upload(path)
    assert world.holds(path)
    reasons = {event.reason for event in world.told(events.Retrying)}
    assert reasons == {"the origin closed the connection"}
    assert sorted(world.sent()) == [1, 2, 3, 4, 5, 6], "nothing was sent twice"
    assert not holding.held


@pytest.mark.parametrize("known", [errors.SourceUnreadable, errors.SourceChanged])
async def test_the_last_failure_is_the_source_s_and_resumable(
    world: World, holding: Holding, known: type[errors.SourceError]
) -> None:
    def fail(part: Part) -> None:
        if part.number == 3:
            if known is errors.SourceChanged:
                raise errors.SourceChanged("the origin has another file now", same_size=True)
            raise Fault(FaultKind.SERVER, "the origin is broken", status=500, error=known)

    holding.before = fail
    path = world.file(PARTS * PART)
    with pytest.raises(known, match="the origin") as caught:
        await world.upload(path)
    assert caught.value.manifest is not None
    assert set(holding.begun) <= set(holding.released) | {3}
    assert not holding.held
    holding.before = lambda part: None
    await world.upload(path)
    assert world.holds(path)


@pytest.mark.parametrize("kind", [FaultKind.GONE, FaultKind.CONFLICT, FaultKind.UNSUPPORTED])
async def test_no_fault_of_the_source_is_taken_for_the_store_s(world: World, holding: Holding, kind: FaultKind) -> None:
    """The same kinds of the store would begin the upload anew, or without checksums."""

    def fail(part: Part) -> None:
        raise Fault(kind, "the origin says so", error=errors.SourceUnreadable)

    holding.before = fail
    with pytest.raises(errors.SourceUnreadable, match="the origin says so"):
        await world.upload(world.file(PARTS * PART))
    assert world.s3.count("CreateMultipartUpload") <= 1


async def test_a_cancel_while_a_part_is_waited_for_releases_it(world: World, holding: Holding) -> None:
    holding.waiting = {4}
    path = world.file(PARTS * PART)
    task = asyncio.create_task(world.upload(path))
    await until(lambda: world.s3.count("UploadPart") == PARTS - 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 4 in holding.released
    assert not holding.held
    holding.waiting.clear()
    await world.upload(path)
    assert world.holds(path)

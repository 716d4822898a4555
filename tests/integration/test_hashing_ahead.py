"""While the store is asked for an upload, the file's first parts are hashed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from bigupload import errors
from bigupload.core.concurrency_control import START
from bigupload.core.part_plan import Part
from bigupload.engine.part_hashing import Hashed, PartHasher
from bigupload.http.put_transport import HttpTransport
from bigupload.stores.s3.multipart import S3Store

from .support import BUCKET, PART, World

PARTS = 5


@dataclass
class Hashing:
    """`numbers`: of the parts that were read and hashed, in turn. `all` is set when there are PARTS of them."""

    numbers: list[int] = field(default_factory=list)
    all: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    seen = Hashing()
    loop = asyncio.get_running_loop()
    real = PartHasher._hash

    def note(self: PartHasher, part: Part, md5: bool) -> Hashed:
        found = real(self, part, md5)
        seen.numbers.append(part.number)
        if len(seen.numbers) == PARTS:
            loop.call_soon_threadsafe(seen.all.set)
        return found

    monkeypatch.setattr(PartHasher, "_hash", note)
    return seen


async def test_meanwhile_parts_are_hashed_and_not_again(
    world: World, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = S3Store.create

    async def create(self: S3Store, *arguments: Any, **more: Any) -> Any:
        await asyncio.wait_for(hashing.all.wait(), 60)
        return await real(self, *arguments, **more)

    monkeypatch.setattr(S3Store, "create", create)
    path = world.file(PARTS * PART)
    await world.upload(path)
    assert world.holds(path)
    assert hashing.numbers == [1, 2, 3, 4, 5]


async def test_the_upload_does_not_wait_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, real = anyio.Event(), S3Store.create

    async def create(self: S3Store, *arguments: Any, **more: Any) -> Any:
        await begun.wait()
        return await real(self, *arguments, **more)

    async def never(self: PartHasher, part: Part) -> Hashed:
        begun.set()
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(S3Store, "create", create)
    monkeypatch.setattr(PartHasher, "hash_ahead", never)
    path = world.file(PARTS * PART)
    with anyio.fail_after(60):
        await world.upload(path)
    assert world.holds(path)


@pytest.mark.parametrize("parts", [2, START + 1])
async def test_meanwhile_connections_are_made(world: World, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """As many as parts are sent at once."""
    made: list[tuple[str, int]] = []
    monkeypatch.setattr(HttpTransport, "connect_ahead", lambda _, address, count: made.append((address, count)))
    path = world.file(parts * PART)
    await world.upload(path)
    assert made == [(f"{world.s3.url}/{BUCKET}", min(parts, START))]
    assert world.holds(path)


async def test_what_can_t_be_read_is_told_in_its_turn_and_resumable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PartHasher._hash
    broken = True

    def hash_part(self: PartHasher, part: Part, md5: bool) -> Hashed:
        if part.number == 2 and broken:
            raise errors.SourceUnreadable("can't read that")
        return real(self, part, md5)

    monkeypatch.setattr(PartHasher, "_hash", hash_part)
    path = world.file(PARTS * PART)
    with pytest.raises(errors.SourceUnreadable) as caught:
        await world.upload(path)
    assert caught.value.manifest is not None
    broken = False
    await world.upload(path)
    assert world.holds(path)


async def test_a_refused_upload_is_told_as_it_was_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def create(self: S3Store, *arguments: Any, **more: Any) -> Any:
        raise errors.AccessDenied("not you")

    monkeypatch.setattr(S3Store, "create", create)
    with pytest.raises(errors.AccessDenied, match="not you"):
        await world.upload(world.file(PARTS * PART))

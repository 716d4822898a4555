"""While the store is asked for an upload, the file's first parts are hashed, and connections are made for them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

import bigupload
from bigupload import S3Options, errors
from bigupload.core.checksums import Digests, Hashed
from bigupload.core.flight import START
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.multipart_upload import MultipartUpload
from bigupload.engine.part_hashing import PartHasher
from bigupload.http.connection import MOST_IDLE
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

    def note(self: PartHasher, part: Part, wanted: Digests, left_behind: threading.Event) -> Hashed:
        found = real(self, part, wanted, left_behind)
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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The addresses to which connections are made ahead, and for how many parts."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(HttpTransport, "connect_ahead", lambda _, address, count: found.append((address, count)))
    return found


@pytest.fixture
def slow_create(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create waits until it was decided whether to connect."""
    create, connect, decided = S3Store.create, MultipartUpload._connect_ahead, anyio.Event()

    async def connect_ahead(self: MultipartUpload) -> None:
        await connect(self)
        decided.set()

    async def slow(self: S3Store, *arguments: Any, **more: Any) -> Any:
        with anyio.fail_after(60):
            await decided.wait()
        return await create(self, *arguments, **more)

    monkeypatch.setattr(MultipartUpload, "_connect_ahead", connect_ahead)
    monkeypatch.setattr(S3Store, "create", slow)


@pytest.mark.usefixtures("slow_create")
@pytest.mark.parametrize("parts", [2, START + 1])
async def test_meanwhile_connections_are_made(world: World, made: list[tuple[str, int]], parts: int) -> None:
    """As many as parts are sent at once."""
    path = world.file(parts * PART)
    await world.upload(path)
    assert made == [(f"{world.s3.url}/{BUCKET}", min(parts, START))]
    assert world.holds(path)


@pytest.mark.usefixtures("slow_create")
@pytest.mark.parametrize("expected_size", [None, 2 * PART])
async def test_not_for_a_stream_whose_bytes_may_come_late(
    world: World, made: list[tuple[str, int]], expected_size: int | None
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(2 * PART)

    await bigupload.upload(chunks(), to=f"s3://{BUCKET}/stream", s3=world.options(), expected_size=expected_size)
    assert not made


@pytest.mark.usefixtures("slow_create")
async def test_not_where_the_store_copies_most_parts(world: World, made: list[tuple[str, int]]) -> None:
    path = world.file(3 * PART)
    await world.upload(path)
    made.clear()
    with path.open("r+b") as file:
        file.write(b"changed")
    result = await world.upload(path, delta=True)
    assert result.bytes_copied
    assert not made


@pytest.mark.usefixtures("slow_create")
@pytest.mark.parametrize("error", [Fault(FaultKind.UNREACHABLE, "no"), errors.UsageError("no")])
async def test_without_an_address_the_upload_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    async def part_address(self: S3Store) -> str | None:
        asked.append(self)
        raise error

    monkeypatch.setattr(S3Store, "part_address", part_address)
    path = world.file(2 * PART)
    await world.upload(path)
    assert asked
    assert world.holds(path)


async def test_create_does_not_wait_behind_connections_that_say_nothing(world: World) -> None:
    """The store has fewer workers than parts are sent at once, and each serves one connection until it ends."""
    host, port = world.s3.url.removeprefix("http://").split(":")
    workers = asyncio.Semaphore(4)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with workers:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                from_store, to_store = await asyncio.open_connection(host, int(port))
                to_store.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
                writer.write(await from_store.read())
                to_store.close()
            writer.close()

    path = world.file(START * PART)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with anyio.fail_after(MOST_IDLE / 2):
            await world.upload(path, options=S3Options(endpoint_url=url, region=world.s3.region))
    assert world.holds(path)


async def test_what_can_t_be_read_is_told_in_its_turn_and_resumable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PartHasher._hash
    broken = True

    def hash_part(self: PartHasher, part: Part, wanted: Digests, left_behind: threading.Event) -> Hashed:
        if part.number == 2 and broken:
            raise errors.SourceUnreadable("can't read that")
        return real(self, part, wanted, left_behind)

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

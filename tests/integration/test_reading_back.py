"""Objects that are downloaded and compared with the file, byte by byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors, events
from bigupload.core.integrity import Verified
from bigupload.core.part_plan import MIB
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Call, CutResponse, LostResponse, Status
from bigupload.testing.strict_s3 import StrictS3
from bigupload.verification import by_download
from bigupload.verification.by_checksum import verify
from bigupload.verification.by_download import ReadBack, read_back
from tests.tools.buckets import options_for
from tests.tools.weed import weed_client

from .other_tools import SIZE, URL, delete, even, flipped, put, put_parts, replace, replace_alike
from .support import BUCKET, FAST, KIB, World, assert_secretless, content, no_leaks


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_download, "_PIECE", 64 * KIB)


async def read(world: World, path: Path, **more: Any) -> ReadBack:
    return await read_back(path, URL, s3=world.options(), retry=FAST, on_event=world.events.append, **more)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [SIZE, 64 * KIB + 1, 64 * KIB, 1, 0])
async def test_equal(world: World, small_pieces: None, size: int) -> None:
    path = world.file(size)
    put(world.s3, path.read_bytes())
    async with no_leaks():
        found = await read(world, path)
    assert (found.verified, found.bytes_read) == ("read-back", size)
    last = world.told(events.ReadingBack)[-1]
    assert (last.bytes_compared, last.size) == (size, size)


@pytest.mark.exhaustive
@pytest.mark.parametrize("places", [[0], [SIZE - 1], [64 * KIB], [70_000, 200_000, SIZE - 1], [65535, 65536]])
async def test_the_first_byte_that_differs_is_named(world: World, small_pieces: None, places: list[int]) -> None:
    """Although the pieces come in any order: the first is held up until the others are through."""
    path = world.file(SIZE)
    body = bytearray(path.read_bytes())
    for place in places:
        body[place] ^= 0x80
    put(world.s3, bytes(body))
    world.s3.script("GetObject", LostResponse(), LostResponse(), LostResponse())
    with pytest.raises(errors.ObjectMismatch, match=f"the first byte that differs is byte {places[0]:,} "):
        await read(world, path)


async def test_a_store_that_caps_ranges(world: World, small_pieces: None) -> None:
    path = world.file(SIZE)
    body = bytearray(path.read_bytes())
    put(world.s3, bytes(body))
    world.s3.knobs.most_of_range = 10 * KIB
    assert (await read(world, path)).bytes_read == SIZE
    body[99_999] ^= 1
    put(world.s3, bytes(body))
    with pytest.raises(errors.ObjectMismatch, match="the first byte that differs is byte 99,999 "):
        await read(world, path)


async def test_ranges_that_may_be_of_different_versions(world: World) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    world.s3.knobs.respond = lambda op, response: response.without("ETag") if op == "GetObject" else response
    with pytest.raises(errors.StoreRefused, match="the store sends ranges without an ETag"):
        await read(world, path)


async def test_another_size_is_not_read(world: World) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes()[:-1])
    with pytest.raises(errors.ObjectMismatch, match="bytes, and the file has"):
        await read(world, path)
    assert world.s3.count("GetObject") == 0


async def test_no_object(world: World) -> None:
    """A program may tell a missing object from one that differs, or treat them alike."""
    path = world.file(SIZE)
    with pytest.raises(errors.ObjectNotFound, match=f"there is no object at s3://{BUCKET}/"):
        await read(world, path)
    with pytest.raises(errors.ObjectMismatch):
        await verify(path, f"s3://{BUCKET}/key", s3=world.options(), retry=FAST)


async def test_https_without_a_secret_in_an_error(s3_tls: StrictS3, tmp_path: Path) -> None:
    world = World(s3_tls, tmp_path)
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    assert (await read(world, path)).bytes_read == SIZE
    world.s3.script("GetObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await read(world, path)
    assert_secretless(caught.value)


async def test_a_broken_read_goes_on_where_it_broke(world: World) -> None:
    """Each connection gives some bytes and breaks off, more often than a request may be tried without getting on."""
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    world.s3.script("GetObject", *[CutResponse(20_000)] * 14)
    async with no_leaks():
        found = await read(world, path)
    assert (found.bytes_read, found.retries) == (SIZE, 14)
    ranges = [r.headers["range"] for r in world.s3.requests if r.op == "GetObject"]
    assert ranges == [f"bytes={20_000 * n}-{SIZE - 1}" for n in range(15)]


async def test_faults_of_all_kinds(world: World, small_pieces: None) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    world.s3.script(
        "GetObject", Status(503, "SlowDown"), LostResponse(), Status(500, "InternalError"), Status(403, "AccessDenied"),
        Status(403, ""), LostResponse(),
    )  # fmt: skip
    async with no_leaks():
        found = await read(world, path)
    assert found.bytes_read == SIZE
    assert found.retries == 6


@pytest.mark.parametrize("meanwhile", [replace, replace_alike, delete])
async def test_an_object_that_is_another_while_it_is_read(world: World, small_pieces: None, meanwhile: Any) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    world.s3.script("GetObject", Call(meanwhile))
    with pytest.raises(errors.TargetReplaced, match="was replaced or deleted while it was read: verify it again"):
        await read(world, path)


async def test_a_store_that_ignores_ranges(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.s3.knobs.receive = lambda exchange: exchange.headers.pop("range", None)
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    assert (await read(world, path)).bytes_read == SIZE
    monkeypatch.setattr(by_download, "_PIECE", 64 * KIB)
    with pytest.raises(errors.StoreRefused, match="it ignores Range"):
        await read(world, path)


async def test_a_file_that_changes_meanwhile(world: World, small_pieces: None) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes())
    world.s3.script("GetObject", Call(lambda _: os.utime(path, (1, 1))))
    with pytest.raises(errors.SourceChanged, match="changed while it was compared: verify it again"):
        await read(world, path)


async def test_on_seaweedfs(weed: LocalStore, tmp_path: Path) -> None:
    """Parts of two sizes, no checksum: the store remembers its parts."""
    options = options_for(weed)
    body = content(12 * MIB)
    path = tmp_path / "file.bin"
    path.write_bytes(body)
    client = weed_client(weed)
    try:
        for sizes in (even(12 * MIB, 5 * MIB), [6 * MIB, 5 * MIB, MIB]):
            put_parts(client, body, sizes)
            found = await verify(path, URL, s3=options)
            assert found.verified is Verified.COMPOSITE_ETAG
        read_all = await read_back(path, URL, s3=options)
        assert (read_all.bytes_read, read_all.etag) == (12 * MIB, found.etag)
        with pytest.raises(errors.ObjectMismatch, match="the first byte that differs is byte 7,000,001 "):
            await read_back(flipped(path, 7_000_001), URL, s3=options)
    finally:
        client.close()

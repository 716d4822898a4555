"""Streams: bytes that come once. Whole uploads of them, and what never becomes an object."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import MIB, Limits, plan_stream
from bigupload.sources import part_pool
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.faults import FlipBit, Reset, Status
from bigupload.units import format_size
from tests.tools.cases import each_case

from .backends import Backend
from .stopped import PARTS, SIZE
from .streams import WHOLE, generator, hashed, pipe, reader, stream, whole
from .support import BUCKET, FAST, KIB, LEVELS, PART, World, content, no_leaks, of_function
from .test_sources import sha256_of

# -- each kind of stream


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["async generator", "generator", "StreamReader", "pipe"])
async def test_every_kind_of_stream(kind: str, real_store: Backend, tmp_path: Path) -> None:
    data = content(11 * MIB + 5)
    manifest = tmp_path / "manifest"
    with contextlib.ExitStack() as exits:
        kinds: dict[str, Callable[[], Any]] = {
            "async generator": lambda: stream(data, 65_537),
            "generator": lambda: generator(data),
            "pipe": lambda: exits.enter_context(pipe(data)),
        }
        source = await reader(data) if kind == "StreamReader" else kinds[kind]()
        async with no_leaks():
            result = await bigupload.upload(
                source, to=f"s3://{BUCKET}/folder/", name="movie.mov", s3=real_store.options, part_size="5MiB",
                manifest=manifest,
            )  # fmt: skip
    assert (result.key, result.size, result.parts, result.path) == ("folder/movie.mov", len(data), 3, Path("movie.mov"))
    assert (result.verified, result.guarded_by) == (Verified.FULL_OBJECT, "checksums")
    assert sha256_of(real_store, result.key) == hashed(data)
    first = manifest.read_bytes().splitlines()[0]
    assert b'"version":2' in first
    assert b'"steps":[{"parts":10000,"part_size":5242880}]' in first


@pytest.mark.exhaustive
@pytest.mark.parametrize("checksum", LEVELS)
async def test_every_checksum(world: World, checksum: str) -> None:
    result = await world.upload(stream(WHOLE), checksum=checksum)
    assert result.verified is LEVELS[checksum]
    assert whole(world.object()) == hashed(WHOLE)


async def test_the_events_of_a_stream(world: World) -> None:
    """Nobody knows its size before its end."""
    await world.upload(stream(WHOLE))
    (started,) = world.told(events.UploadStarted)
    assert (started.size, started.parts, started.part_size) == (None, None, PART)
    last = world.told(events.Progress)[-1]
    assert (last.size, last.parts, last.bytes_uploaded) == (SIZE, PARTS, SIZE)
    assert world.manifest.source.kind is SourceKind.STREAM


GROWING = Limits(min_part_size=KIB, max_part_size=16 * KIB, max_parts=20, default_part_size=KIB, granule=1)
"""Two parts of 1 KiB, two of 2 KiB, and so on."""


async def test_the_parts_of_a_long_stream_grow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Store, "limits", GROWING)
    size = plan_stream(limits=GROWING).capacity - 5
    data = content(size)
    result = await world.upload(stream(data))
    assert result.parts == 20
    assert whole(world.object()) == hashed(data)
    sizes = [world.manifest.parts[number].size for number in range(1, 21)]
    assert sizes == [KIB << min(4, n // 2) for n in range(19)] + [16 * KIB - 5]


async def test_a_store_that_wants_equal_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Store, "limits", GROWING)
    refusal = Status(400, "InvalidPart", "All non-trailing parts must have the same length.")
    world.s3.script("CompleteMultipartUpload", refusal, repeat=True)
    with pytest.raises(errors.StoreRefused, match="expected_size"):
        await world.upload(stream(content(10 * KIB)))
    world.s3.clear("CompleteMultipartUpload")
    result = await world.upload(stream(content(10 * KIB)), expected_size=10 * KIB, resume=False)
    assert len({part.size for part in list(world.manifest.parts.values())[:-1]}) == 1
    assert result.verified is Verified.FULL_OBJECT


async def test_a_store_that_fails_now_and_then(world: World) -> None:
    """A part is sent again from where it is held."""
    for number, fault in enumerate([Status(503, "SlowDown"), Reset(1000), FlipBit(77), Status(500)], 1):
        world.s3.script("UploadPart", fault, part_number=number)
    result = await world.upload(stream(WHOLE))
    assert result.retries == 4
    assert whole(world.object()) == hashed(WHOLE)


async def test_parts_in_temporary_files(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_pool, "_shared", part_pool.Memory(PART))
    (tmp_path / "temporary").mkdir()
    world.s3.script("UploadPart", Reset(1000), part_number=2)
    await world.upload(stream(WHOLE), temp_dir=tmp_path / "temporary")
    assert whole(world.object()) == hashed(WHOLE)
    assert not list((tmp_path / "temporary").iterdir())


# -- what never becomes an object


async def failing(data: bytes) -> AsyncIterator[bytes]:
    async for chunk in stream(data):
        yield chunk
    raise RuntimeError("the client has gone")


@pytest.mark.parametrize("expected", [None, SIZE])
async def test_an_iterator_that_raises_half_way(world: World, expected: int | None) -> None:
    with pytest.raises(errors.SourceUnreadable, match="RuntimeError") as caught:
        await world.upload(failing(WHOLE[: SIZE // 2]), expected_size=expected)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert caught.value.manifest == world.manifest_path
    kept = SIZE // 2 // PART * PART
    assert f" failed after {SIZE // 2:,} bytes: " in str(caught.value)
    assert str(caught.value).endswith(f". {format_size(kept)} of them are in the store and are not sent again")
    assert world.object() is None
    result = await world.upload(stream(WHOLE), expected_size=expected)
    assert whole(world.object()) == hashed(WHOLE)
    assert result.bytes_sent <= SIZE


@pytest.mark.parametrize("expected", [None, SIZE])
async def test_another_file_is_not_sent_in_place_of_a_stream(world: World, expected: int | None) -> None:
    with pytest.raises(errors.SourceUnreadable):
        await world.upload(failing(WHOLE[: SIZE // 2]), expected_size=expected)
    other, saved = world.directory / "other", world.directory / "saved"
    other.write_bytes(bytes(SIZE))
    saved.write_bytes(WHOLE)
    parts = SIZE // 2 // PART
    with pytest.raises(errors.SourceChanged, match=f"{parts} parts of the {parts} that are in the store") as caught:
        await world.resume(source=other)
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert world.object() is None
    assert len(world.manifest.parts) == parts
    assert (await world.resume(source=saved)).resumed_parts == parts
    assert whole(world.object()) == hashed(WHOLE)


async def test_an_empty_stream(world: World) -> None:
    with pytest.raises(errors.StreamInterrupted, match="is empty"):
        await world.upload(stream(b""))
    assert not world.s3.requests
    assert (await world.upload(stream(b""), allow_empty=True)).size == 0
    assert whole(world.object()) == hashed(b"")


@pytest.mark.parametrize("kind", ["empty", "failing"])
async def test_a_stream_without_a_first_byte_leaves_no_thread(kind: str, world: World) -> None:
    """A service may be asked to upload many of them."""

    def failing() -> Iterator[bytes]:
        raise OSError(errno.EIO, "Input/output error")
        yield b""

    before = set(threading.enumerate())
    with pytest.raises(errors.SourceError):
        await world.upload(failing() if kind == "failing" else iter(()))
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("bigupload-stream"):
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive()


async def test_a_stream_that_ends_before_its_expected_size(world: World) -> None:
    with pytest.raises(errors.StreamInterrupted, match="200,000 bytes, and 327,780 were expected") as caught:
        await world.upload(stream(WHOLE[:200_000]), expected_size=SIZE)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert world.object() is None
    assert world.manifest.header.version == 1
    result = await world.upload(stream(WHOLE), expected_size=SIZE)
    assert result.resumed_parts > 0
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_stream_that_is_longer_than_its_expected_size(world: World) -> None:
    with pytest.raises(errors.SourceChanged, match="more than the 327,779 bytes") as caught:
        await world.upload(stream(WHOLE), expected_size=SIZE - 1)
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert world.object() is None


async def test_another_expected_size_than_before(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3, expected_size=SIZE)
    for size in (SIZE + 1, 0):
        with pytest.raises(
            errors.UsageError, match="an earlier run began this upload with an expected size of 327,780 bytes"
        ):
            await world.upload(stream(WHOLE), expected_size=size)
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_stream_without_its_end_marker(world: World) -> None:
    with pytest.raises(errors.StreamInterrupted, match="does not end with the bytes of `end_marker`") as caught:
        await world.upload(stream(WHOLE), end_marker="complete")
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert world.object() is None
    result = await world.upload(stream(WHOLE + b"complete"), end_marker=b"complete")
    assert result.resumed_parts == PARTS - 1
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_stream_that_began_with_an_end_marker_is_not_resumed_without(world: World) -> None:
    """It could break off, and nobody would notice."""
    await world.interrupted(stream(WHOLE), after=3, end_marker="complete")
    for other in ({}, {"end_marker": "another"}):
        with pytest.raises(errors.UsageError, match="began with an `end_marker`"):
            await world.upload(stream(WHOLE), **other)
    assert world.object() is None
    result = await world.upload(stream(WHOLE + b"complete"), end_marker="complete")
    assert result.resumed_parts
    assert whole(world.object()) == hashed(WHOLE)


async def test_an_end_marker_can_be_given_later_or_left_out_of_a_new_upload(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    with pytest.raises(errors.StreamInterrupted):
        await world.upload(stream(WHOLE), end_marker="complete")
    await world.interrupted(stream(WHOLE), after=3, end_marker="complete", resume=False)
    await world.upload(stream(WHOLE), resume=False)
    assert whole(world.object()) == hashed(WHOLE)


async def test_the_expected_size_of_a_file(world: World) -> None:
    with pytest.raises(errors.UsageError, match="has 10 bytes, and 11 were expected"):
        await world.upload(world.file(10), expected_size=11)
    await world.upload(world.file(10), expected_size="10")


# -- what can't be done with a stream


@each_case(
    ("options", "message"),
    [
        ({"skip_existing": True}, "`skip_existing` is for files"),
        ({"verify_source": True}, "hashed and sent from one read"),
        ({"expected_size": -1}, "expected_size"),
        ({"expected_size": True}, "expected_size"),
        ({"expected_size": "much"}, "much"),
        ({"end_marker": ""}, "end_marker"),
        ({"end_marker": 7}, "end_marker"),
        ({"to": f"s3://{BUCKET}/folder/"}, "no name of its own"),
        ({"to": None, "service": "http://127.0.0.1:1", "name": "a.mp4"}, "expected_size"),
    ],
)
async def test_options_that_contradict_a_stream(world: World, options: dict[str, Any], message: str) -> None:
    call: dict[str, Any] = {"to": f"s3://{BUCKET}/key", "retry": FAST, "manifest": world.manifest_path}
    if "service" not in options:
        call["s3"] = world.options()
    with pytest.raises(errors.UsageError, match=message):
        await bigupload.upload(stream(WHOLE), **of_function({**call, **options}))
    assert not world.s3.requests


async def test_text(world: World) -> None:
    async def lines() -> AsyncIterator[str]:
        yield "text"

    with pytest.raises(errors.UsageError, match="gives text"):
        await world.upload(lines())
    assert world.object() is None

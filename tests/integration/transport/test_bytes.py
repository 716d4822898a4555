"""The bytes that HttpTransport sends are exact, by sendfile and through the buffer, and so is its gauge."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import mmap
import weakref
from collections.abc import Callable

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.http.part_body import PLAIN_BUFFER, TLS_BUFFER
from bigupload.ports import Gauge, Source
from bigupload.sources.file import FileSource
from bigupload.sources.objects import FileObjectSource, MemorySource
from bigupload.testing.faults import Stall
from tests.integration.support import content, no_leaks, write
from tests.integration.transport.support import Bench, stalls, transport_to
from tests.tools.waiting import until

# -- exact bytes

SIZES = [0, 1, TLS_BUFFER - 1, TLS_BUFFER, TLS_BUFFER + 1, PLAIN_BUFFER - 1, PLAIN_BUFFER, PLAIN_BUFFER + 1]


@pytest.mark.exhaustive
async def test_exact_bytes_of_every_size(any_path: Bench) -> None:
    with FileSource(write(any_path.directory / "file", 3 * MIB)) as source:
        async with no_leaks(), transport_to(any_path) as transport:
            for number, size in enumerate(SIZES, 1):
                part = Part(number, 12_345, size)
                response = await any_path.put(transport, source, part)
                expected = content(3 * MIB)[12_345 : 12_345 + size]
                assert any_path.stored(number) == expected
                assert response.etag == f'"{hashlib.md5(expected).hexdigest()}"'
                assert set(response.checksums) == {"x-amz-checksum-crc64nvme"}
                assert any_path.gauges[-1].sent() == size


@pytest.mark.exhaustive
async def test_the_reused_buffer_never_changes_what_was_sent(any_path: Bench) -> None:
    """Many parts of distinct content at once through the buffers that all of them share, while the store reads now
    and then: a buffer that is filled again before the socket has taken it would send another part's bytes."""
    count, size = 6, 4 * MIB + 111
    for n in range(count):
        any_path.s3.script("UploadPart", Stall(after_bytes=(n + 1) * 128 * 1024), part_number=n + 1)
    with FileSource(write(any_path.directory / "file", count * size)) as source:
        async with transport_to(any_path) as transport:
            tasks = [
                asyncio.create_task(any_path.put(transport, source, Part(n + 1, n * size, size))) for n in range(count)
            ]
            await stalls(any_path, count)
            any_path.s3.release()
            await asyncio.gather(*tasks)
            assert len(transport._resources._buffers) <= count
    whole = content(count * size)
    for n in range(count):
        assert (
            hashlib.sha256(any_path.stored(n + 1)).digest() == hashlib.sha256(whole[n * size : (n + 1) * size]).digest()
        )


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrap", [MemorySource, lambda name, data: FileObjectSource(name, mapped(data))])
async def test_exact_bytes_of_what_is_no_file(any_path: Bench, wrap: Callable[[str, memoryview], Source]) -> None:
    """Written from where they are in memory, or read in a thread, while the store stops and continues to read."""
    size, data = 24 * MIB, content(24 * MIB + 10)
    any_path.s3.script("UploadPart", Stall(after_bytes=3 * MIB))
    part = Part(1, 7, size)
    async with no_leaks(), transport_to(any_path) as transport:
        request = any_path.sign(part, data[7 : 7 + size])
        sending = asyncio.create_task(
            transport.put(request, wrap("name", memoryview(data)), part, on_start=any_path.gauges.append)
        )
        await stalls(any_path)
        assert 0 < any_path.gauges[0].sent() < size
        any_path.s3.release()
        await sending
        assert any_path.gauges[0].sent() == size
    assert any_path.stored() == data[7 : 7 + size]


def mapped(data: memoryview) -> mmap.mmap:
    found = mmap.mmap(-1, len(data))
    found[:] = data
    return found


# -- the gauge


@pytest.mark.exhaustive
async def test_the_gauge_is_monotone_and_never_ahead_of_the_kernel(any_path: Bench) -> None:
    size = 24 * MIB
    any_path.s3.script("UploadPart", Stall(after_bytes=MIB))
    seen: list[int] = []
    with FileSource(write(any_path.directory / "file", size)) as source:
        async with transport_to(any_path) as transport:
            sending = asyncio.create_task(any_path.put(transport, source, Part(1, 0, size)))
            await stalls(any_path)
            (gauge,) = any_path.gauges
            received = any_path.s3.bytes_received
            await until(lambda: gauge.sent() >= received)  # a thread counts what it wrote only afterwards
            seen.append(gauge.sent())
            any_path.s3.release()
            while not sending.done():
                seen.append(gauge.sent())
                await asyncio.sleep(0)
            seen.append(gauge.sent())
    assert seen == sorted(seen)
    assert seen[-1] == size
    assert seen[0] < size
    assert not any_path.gauges[0].paused()
    assert any_path.stored() == content(size)


@pytest.mark.exhaustive
async def test_a_body_is_freed_at_its_end(any_path: Bench) -> None:
    """Not when the garbage collector comes: bodies hold buffers, and the command runs with few collections."""
    gc.collect()
    gc.disable()
    try:
        with FileSource(write(any_path.directory / "file", 3 * MIB)) as source:
            async with transport_to(any_path) as transport:
                bodies: list[weakref.ref[Gauge]] = []
                for number in range(1, 4):
                    await any_path.put(transport, source, Part(number, 0, MIB), lambda b: bodies.append(weakref.ref(b)))
        assert [body() for body in bodies] == [None] * 3
    finally:
        gc.enable()

"""Hashing ranges of a source: the digests that hashlib gives, and a file that ends too early."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import pytest

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, Hashed
from bigupload.core.manifest import Fingerprint
from bigupload.core.part_plan import MIB, Part, Plan
from bigupload.engine.part_hashing import PartHasher
from bigupload.errors import SourceChanged, SourceUnreadable
from bigupload.sources.file import FileSource
from tests.tools.waiting import until

SIZE = 2 * MIB + 12_345
DATA = bytes((n * n + n // 256) % 256 for n in range(65_537)) * (SIZE // 65_537 + 1)
DATA = DATA[:SIZE]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileSource]:
    (tmp_path / "file").write_bytes(DATA)
    with FileSource(tmp_path / "file") as opened:
        yield opened


@pytest.mark.parametrize("part_size", [SIZE, 2 * MIB, MIB, 700_001])
async def test_parts(source: FileSource, part_size: int) -> None:
    """Parts that are smaller and larger than the buffer, and no multiple of it."""
    for algorithm, md5 in itertools.product(Algorithm, [False, True]):
        hasher = PartHasher(source, algorithm, anyio.CapacityLimiter(2))
        for part in Plan(SIZE, part_size):
            data = DATA[part.offset : part.offset + part.size]
            expected_md5 = hashlib.md5(data).digest() if md5 or algorithm is Algorithm.MD5 else None
            expected = Hashed(checksums.encode(checksums.digest_of(algorithm, data)), md5=expected_md5)
            assert await hasher.hash(part, md5=md5) == expected, (algorithm, md5, part)


async def test_an_empty_part(source: FileSource) -> None:
    hasher = PartHasher(source, Algorithm.MD5, anyio.CapacityLimiter(1))
    assert await hasher.hash(Part(1, 0, 0)) == Hashed("1B2M2Y8AsgTpgAmY7PhCfg==", md5=hashlib.md5(b"").digest())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files", "awscrt"),
        ImportError("/lib/_awscrt.abi3.so: cannot open shared object file: Too many open files"),
    ],
)
async def test_too_few_descriptors_for_the_library_of_checksums(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def import_it(name: str) -> NoReturn:
        raise error

    monkeypatch.setattr(checksums, "crc_function", import_it)
    monkeypatch.setattr(checksums._Few, "left", 0)
    with pytest.raises(SourceUnreadable, match="too many files and connections open: allow more"):
        await PartHasher(source, Algorithm.CRC64NVME, anyio.CapacityLimiter(1)).hash(Part(1, 0, 10))


async def test_what_was_hashed_ahead_is_good_for_one_use(source: FileSource) -> None:
    """A second call hashes the file as it is now."""
    hasher = PartHasher(source, Algorithm.CRC32C, anyio.CapacityLimiter(1))
    part = Part(1, 0, 1000)
    ahead = await hasher.hash_ahead(part)
    Path(source.path).write_bytes(bytes(SIZE))
    assert await hasher.hash_ahead(part) == await hasher.hash(part) == ahead
    now = Hashed(checksums.encode(checksums.digest_of(Algorithm.CRC32C, bytes(1000))))
    assert await hasher.hash(part) == now != ahead


async def test_nothing_to_hash_reads_nothing(source: FileSource) -> None:
    source.close()
    hasher = PartHasher(source, Algorithm.NONE, anyio.CapacityLimiter(1))
    assert await hasher.hash(Part(1, 0, SIZE)) == Hashed("")


@pytest.mark.parametrize("part", [Part(1, 0, SIZE + 1), Part(2, SIZE, 1), Part(3, SIZE - 10, 11)])
async def test_a_file_that_ends_within_the_part(source: FileSource, part: Part) -> None:
    hasher = PartHasher(source, Algorithm.CRC32C, anyio.CapacityLimiter(1))
    with pytest.raises(SourceChanged, match=r"became shorter.*: `on_change='restart'` uploads it") as caught:
        await hasher.hash(part)
    assert not caught.value.resumable


async def test_parts_hashed_at_once_do_not_share_a_buffer(source: FileSource) -> None:
    hasher = PartHasher(source, Algorithm.SHA256, anyio.CapacityLimiter(4))
    plan = Plan(SIZE, 100_000)
    found: dict[int, str] = {}

    async def one(part: Part) -> None:
        found[part.number] = (await hasher.hash(part)).checksum

    async with anyio.create_task_group() as group:
        for part in plan:
            group.start_soon(one, part)
    assert found == {
        part.number: checksums.encode(hashlib.sha256(DATA[part.offset : part.offset + part.size]).digest())
        for part in plan
    }


# -- interrupting


class Zeros:
    """A source of any size; `at_read` is called in the hashing thread, with the number of the read (from 1)."""

    path = "/zeros"
    fingerprint = Fingerprint(0, 0, 0, 0)

    def __init__(self, at_read: Callable[[int], None]) -> None:
        self.reads = 0
        self._at_read = at_read

    def view(self, offset: int, size: int) -> None:
        return None

    def read_into(self, buffer: memoryview, offset: int) -> int:
        self.reads += 1
        self._at_read(self.reads)
        return len(buffer)

    def fileno(self) -> None:
        return None

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class Cancelling(Zeros):
    """Cancels a scope in its read `number`, which ends after the caller of the hash has left it behind."""

    def __init__(self, scope: anyio.CancelScope, number: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope = scope
        self._number = number
        self.left = threading.Event()
        super().__init__(self._cancel)

    def _cancel(self, number: int) -> None:
        if number == self._number:
            self._loop.call_soon_threadsafe(self._scope.cancel)
            assert self.left.wait(60)


@pytest.mark.parametrize("read", [1, 3])
async def test_a_cancelled_scope_ends_the_hash_of_a_big_part(read: int) -> None:
    """At the next chunk, and not with the part."""
    scope, threads, before = anyio.CancelScope(), anyio.CapacityLimiter(1), set(threading.enumerate())
    source = Cancelling(scope, read)
    with scope:
        await PartHasher(source, Algorithm.CRC64NVME, threads).hash(Part(1, 0, 1000 * MIB))
    assert scope.cancelled_caught
    assert threads.borrowed_tokens == 0
    source.left.set()
    await until(lambda: set(threading.enumerate()) <= before)
    assert source.reads == read


async def test_after_an_interrupted_hash_the_next_is_right(source: FileSource) -> None:
    """The slot is used again, and the buffer of the thread that was left behind is not."""
    threads, scope = anyio.CapacityLimiter(1), anyio.CancelScope()
    interrupted = Cancelling(scope)
    with scope:
        await PartHasher(interrupted, Algorithm.MD5, threads).hash(Part(1, 0, 2 * MIB))
    assert scope.cancelled_caught
    interrupted.left.set()
    found = await PartHasher(source, Algorithm.MD5, threads).hash(Part(1, 0, SIZE))
    assert found.md5 == hashlib.md5(DATA).digest()


async def test_a_shielded_hash_goes_to_its_end() -> None:
    scope, loop = anyio.CancelScope(), asyncio.get_running_loop()
    source = Zeros(lambda _: [loop.call_soon_threadsafe(scope.cancel)].clear())
    with scope, anyio.CancelScope(shield=True):
        await PartHasher(source, Algorithm.CRC64NVME, anyio.CapacityLimiter(1)).hash(Part(1, 0, 4 * MIB))
    assert source.reads == 4


async def test_a_cancel_does_not_wait_for_a_read_that_hangs(source: FileSource) -> None:
    """As one on a network file system does."""
    reading, release = threading.Event(), threading.Event()

    class Hanging(FileSource):
        def read_into(self, buffer: memoryview, offset: int) -> int:
            reading.set()
            assert release.wait(10), "the cancel waited"
            return super().read_into(buffer, offset)

    with Hanging(source.path) as hanging:
        hasher = PartHasher(hanging, Algorithm.CRC32C, anyio.CapacityLimiter(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hasher.hash, Part(1, 0, 1000))
            assert await anyio.to_thread.run_sync(reading.wait, 10)
            tasks.cancel_scope.cancel()
        release.set()


async def test_for_how_long_reading_hangs(source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    called, released, read = threading.Event(), threading.Event(), FileSource.read_into

    def hanging(self: FileSource, buffer: memoryview, offset: int) -> int:
        if offset:
            called.set()
            assert released.wait(60)
        return read(self, buffer, offset)

    monkeypatch.setattr(FileSource, "read_into", hanging)
    hasher = PartHasher(source, Algorithm.CRC32C, anyio.CapacityLimiter(1))
    assert hasher.hangs_for(0.0) is None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hasher.hash, Part(1, 0, 2 * MIB))
        assert await anyio.to_thread.run_sync(called.wait, 60)
        assert [hasher.hangs_for(now) for now in (100.0, 109.0, 110.0, 160.0)] == [None, None, 10.0, 60.0]
        released.set()
    assert hasher.hangs_for(200.0) is None
    assert hasher.hangs_for(300.0) is None

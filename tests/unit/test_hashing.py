"""Hashing ranges of a source: the digests that hashlib gives, and a file that ends too early."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bigupload import checksums
from bigupload.checksums import Algorithm
from bigupload.errors import SourceChanged
from bigupload.hashing import Hashed, PartHasher
from bigupload.planning import MIB, Part, Plan
from bigupload.source import FileSource

SIZE = 2 * MIB + 12_345
DATA = bytes((n * n + n // 256) % 256 for n in range(65_537)) * (SIZE // 65_537 + 1)
DATA = DATA[:SIZE]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileSource]:
    (tmp_path / "file").write_bytes(DATA)
    with FileSource(tmp_path / "file") as opened:
        yield opened


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("md5", [False, True])
@pytest.mark.parametrize("part_size", [SIZE, 2 * MIB, MIB, 700_001])
async def test_parts(source: FileSource, algorithm: Algorithm, md5: bool, part_size: int) -> None:
    """Parts that are smaller and larger than the buffer, and no multiple of it."""
    hasher = PartHasher(source, algorithm, anyio.CapacityLimiter(2))
    for part in Plan(SIZE, part_size):
        data = DATA[part.offset : part.offset + part.size]
        expected_md5 = hashlib.md5(data).digest() if md5 or algorithm is Algorithm.MD5 else None
        expected = Hashed(checksums.encode(checksums.digest_of(algorithm, data)), expected_md5)
        assert await hasher.hash(part, md5=md5) == expected


async def test_an_empty_part(source: FileSource) -> None:
    hasher = PartHasher(source, Algorithm.MD5, anyio.CapacityLimiter(1))
    assert await hasher.hash(Part(1, 0, 0)) == Hashed("1B2M2Y8AsgTpgAmY7PhCfg==", hashlib.md5(b"").digest())


async def test_nothing_to_hash_reads_nothing(source: FileSource) -> None:
    source.close()
    hasher = PartHasher(source, Algorithm.NONE, anyio.CapacityLimiter(1))
    assert await hasher.hash(Part(1, 0, SIZE)) == Hashed("", None)


@pytest.mark.parametrize("part", [Part(1, 0, SIZE + 1), Part(2, SIZE, 1), Part(3, SIZE - 10, 11)])
async def test_a_file_that_ends_within_the_part(source: FileSource, part: Part) -> None:
    hasher = PartHasher(source, Algorithm.CRC32C, anyio.CapacityLimiter(1))
    with pytest.raises(SourceChanged, match="became shorter") as caught:
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

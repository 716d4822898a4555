"""Objects that any tool may have uploaded, compared with the file by what the store says of them."""

from __future__ import annotations

import hashlib

import pytest

from bigupload import errors
from bigupload.core.checksums import Algorithm, combine, digest_of, encode
from bigupload.core.integrity import MOST_GUESSES, Verified, plausible_part_sizes
from bigupload.core.part_plan import MIB, Plan
from bigupload.sources.file import FileSource
from bigupload.testing.faults import Call, Ok, Status
from bigupload.testing.strict_s3 import Exchange
from bigupload.verification.by_checksum import verify
from tests.tools.cases import each_case

from .other_tools import SIZE, URL, claim, even, flipped, put, replace, replace_alike, upload_parts
from .support import KIB, World


@pytest.mark.exhaustive
@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C", "CRC32", "SHA256", "SHA1"])
async def test_an_object_of_one_put(world: World, algorithm: str) -> None:
    path = world.file(SIZE)
    put(world.s3, path.read_bytes(), ChecksumAlgorithm=algorithm)
    found = await verify(path, URL, s3=world.options())
    assert found.verified is Verified.FULL_OBJECT
    assert (found.checksum or "").startswith(f"{algorithm.lower()}:")
    with pytest.raises(
        errors.ObjectMismatch, match=f"the store's checksum is {algorithm.lower()} .*, and the file's is another"
    ):
        await verify(flipped(path, SIZE - 1), URL, s3=world.options())


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "SHA256"])
@pytest.mark.parametrize("sha256", [False, True])
async def test_an_empty_object(world: World, algorithm: str, sha256: bool) -> None:
    path = world.file(0)
    put(world.s3, b"", ChecksumAlgorithm=algorithm)
    found = await verify(path, URL, s3=world.options(), sha256=sha256)
    assert (found.verified, found.size) == (Verified.FULL_OBJECT, 0)
    assert found.sha256 == (hashlib.sha256().hexdigest() if sha256 else None)


@pytest.mark.parametrize(
    ("algorithm", "kind", "level"),
    [
        ("CRC64NVME", "FULL_OBJECT", Verified.FULL_OBJECT),
        ("CRC32C", "FULL_OBJECT", Verified.FULL_OBJECT),
        ("CRC32", "FULL_OBJECT", Verified.FULL_OBJECT),
        ("CRC32C", "COMPOSITE", Verified.COMPOSITE_CHECKSUM),
        ("CRC32", "COMPOSITE", Verified.COMPOSITE_CHECKSUM),
        ("SHA256", "COMPOSITE", Verified.COMPOSITE_CHECKSUM),
        ("SHA1", "COMPOSITE", Verified.COMPOSITE_CHECKSUM),
    ],
)
@pytest.mark.parametrize("cut", ["even", "uneven", "one part"])
@pytest.mark.exhaustive
async def test_an_object_of_parts(world: World, algorithm: str, kind: str, level: Verified, cut: str) -> None:
    path = world.file(SIZE)
    sizes = {
        "even": even(SIZE, 64 * KIB),
        "uneven": [64 * KIB, 100 * KIB, 64 * KIB, 64 * KIB, 8 * KIB + 7],  # as many as even ones would be
        "one part": [SIZE],
    }[cut]
    upload_parts(world.s3, path.read_bytes(), sizes, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert (await verify(path, URL, s3=world.options())).verified is level
    with pytest.raises(errors.ObjectMismatch, match=f"the store's checksum is {algorithm.lower()} "):
        await verify(flipped(path, 0), URL, s3=world.options())


@pytest.mark.exhaustive
@pytest.mark.parametrize("sizes", [even(SIZE, 64 * KIB), [64 * KIB, 236 * KIB + 7], [SIZE], None])
async def test_a_store_without_checksums(world: World, sizes: list[int] | None) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(SIZE)
    if sizes is None:
        put(world.s3, path.read_bytes())
    else:
        upload_parts(world.s3, path.read_bytes(), sizes)
    assert (await verify(path, URL, s3=world.options())).verified is Verified.COMPOSITE_ETAG
    other = await verify(flipped(path, 5), URL, s3=world.options())
    assert (other.verified, other.checksum) == (Verified.SIZE, None)  # an ETag contradicts nothing


def checksum_of(algorithm: Algorithm, data: bytes, sizes: list[int] | None) -> str:
    """The checksum as S3 writes it: of the whole, or of parts of these sizes, which a digest has in its value."""
    if sizes is None:
        return encode(digest_of(algorithm, data))
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    digests = [digest_of(algorithm, data[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    return combine(algorithm, list(zip(digests, sizes, strict=True)))


@each_case(
    ("algorithm", "sizes", "other", "other_sizes"),
    [
        ("CRC64NVME", None, "sha256", None),
        ("SHA256", None, "crc64nvme", None),
        ("CRC32", None, "crc32c", None),
        ("CRC64NVME", even(SIZE, 64 * KIB), "sha256", even(SIZE, 64 * KIB)),
        ("CRC64NVME", even(SIZE, 77_777), "sha1", even(SIZE, 77_777)),
    ],
)
async def test_every_checksum_that_the_store_reports_must_be_the_files(
    world: World, algorithm: str, sizes: list[int] | None, other: str, other_sizes: list[int] | None
) -> None:
    path = world.file(SIZE)
    data = path.read_bytes()
    if sizes is None:
        put(world.s3, data, ChecksumAlgorithm=algorithm)
    else:
        upload_parts(world.s3, data, sizes, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    claim(world.s3, **{other: checksum_of(Algorithm(other), data, other_sizes)})
    found = await verify(path, URL, s3=world.options(), sha256=True)
    assert (found.verified, found.sha256) == (Verified.FULL_OBJECT, hashlib.sha256(data).hexdigest())
    claim(world.s3, **{other: checksum_of(Algorithm(other), data[::-1], other_sizes)})
    with pytest.raises(errors.ObjectMismatch, match=f"the store's checksum is {other} .*, and the file's is another"):
        await verify(path, URL, s3=world.options())


async def test_parts_that_one_checksum_proves_are_those_of_the_others(world: World) -> None:
    """Where the store does not report their sizes, they are guessed once."""
    world.s3.knobs.receive = tell_no_parts
    path, size, sizes = world.file(12 * MIB + 99), 12 * MIB + 99, even(12 * MIB + 99, 5_000_000)
    upload_parts(world.s3, path.read_bytes(), sizes, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
    claim(world.s3, sha1=checksum_of(Algorithm.SHA1, path.read_bytes(), sizes))
    assert (await verify(path, URL, s3=world.options())).verified is Verified.COMPOSITE_CHECKSUM
    claim(world.s3, sha1=checksum_of(Algorithm.SHA1, bytes(size), sizes))
    with pytest.raises(errors.ObjectMismatch, match="the store's checksum is sha1 "):
        await verify(path, URL, s3=world.options())


async def test_a_file_is_read_once_for_all_checksums_of_the_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = world.file(SIZE), 0
    put(world.s3, path.read_bytes(), ChecksumAlgorithm="CRC64NVME")
    claim(world.s3, sha256=checksum_of(Algorithm.SHA256, path.read_bytes(), None))
    into = FileSource.read_into

    def counted(self: FileSource, buffer: memoryview, offset: int) -> int:
        nonlocal read
        read += len(buffer)
        return into(self, buffer, offset)

    monkeypatch.setattr(FileSource, "read_into", counted)
    assert (await verify(path, URL, s3=world.options(), sha256=True)).verified is Verified.FULL_OBJECT
    assert read == SIZE


async def test_an_etag_that_is_no_md5(world: World) -> None:
    world.s3.knobs.echo_checksums, world.s3.knobs.etags = False, "opaque"
    path = world.file(SIZE)
    upload_parts(world.s3, path.read_bytes(), even(SIZE, 64 * KIB))
    assert (await verify(path, URL, s3=world.options())).verified is Verified.SIZE


def tell_no_parts(exchange: Exchange) -> None:
    if exchange.op == "HeadObject":
        exchange.query.pop("partNumber", None)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part_size", [5 * MIB, 6 * MIB, 5_000_000])
async def test_a_store_that_does_not_tell_its_parts(world: World, part_size: int) -> None:
    """Their size is guessed from their number, and the guess proved."""
    world.s3.knobs.receive = tell_no_parts
    world.s3.knobs.echo_checksums = False
    path = world.file(12 * MIB + 99)
    upload_parts(world.s3, path.read_bytes(), even(12 * MIB + 99, part_size))
    assert (await verify(path, URL, s3=world.options())).verified is Verified.COMPOSITE_ETAG


async def test_a_part_size_that_nobody_would_guess(world: World) -> None:
    world.s3.knobs.receive = tell_no_parts
    path = world.file(SIZE)
    sizes = even(SIZE, 77_777)
    upload_parts(world.s3, path.read_bytes(), sizes, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
    assert (await verify(path, URL, s3=world.options())).verified is Verified.SIZE  # not known to be another
    assert (await verify(path, URL, s3=world.options(), part_size=77_777)).verified is Verified.COMPOSITE_CHECKSUM


def test_guesses_make_the_parts_they_are_for() -> None:
    for size in (1, 5 * MIB, 12 * MIB + 99, 5_000_000_000, 5 << 40):
        for parts in (1, 2, 3, 7, 100, 9999, 10_000):
            guesses = plausible_part_sizes(size, parts)
            assert len(guesses) <= MOST_GUESSES
            assert all(Plan(size, guess).count == parts for guess in guesses)
    for part_size in (5, 8, 15, 16, 64):
        for parts in (2, 3, 50, 9000):
            size = part_size * MIB * parts - 12345
            assert part_size * MIB in plausible_part_sizes(size, parts)


async def test_a_store_that_gives_a_parts_own_etag(world: World) -> None:
    """The object was called replaced, although HEAD without a part number shows that it is the same."""
    world.s3.knobs.part_etags = True
    path = world.file(SIZE)
    sizes = even(SIZE, 77_777)
    upload_parts(world.s3, path.read_bytes(), sizes, ChecksumAlgorithm="SHA256", ChecksumType="COMPOSITE")
    assert (await verify(path, URL, s3=world.options())).verified is Verified.COMPOSITE_CHECKSUM


async def test_an_object_that_is_replaced_while_it_is_looked_at(world: World) -> None:
    path = world.file(SIZE)
    upload_parts(world.s3, path.read_bytes(), even(SIZE, 64 * KIB), ChecksumAlgorithm="SHA256")

    world.s3.script("HeadObject", Ok(), Call(replace))
    with pytest.raises(errors.TargetReplaced):
        await verify(path, URL, s3=world.options())
    world.s3.knobs.part_etags = True
    world.s3.script("HeadObject", Ok(), Call(replace_alike))
    with pytest.raises(errors.TargetReplaced):
        await verify(path, URL, s3=world.options())


@pytest.mark.parametrize("may_look", [False, True])
async def test_no_object_in_a_bucket_that_may_not_be_looked_at(world: World, may_look: bool) -> None:
    """Then the store does not show whether the bucket's name is wrong."""
    if not may_look:
        world.s3.script("HeadBucket", Status(403, ""), repeat=True)
    with pytest.raises(errors.ObjectNotFound) as raised:
        await verify(world.file(SIZE), URL, s3=world.options())
    assert ("or no such bucket" in str(raised.value)) is not may_look

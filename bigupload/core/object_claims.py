"""A store's claims about the bytes of an object that any tool uploaded, and the part sizes that may have made it. Pure.

Each S3 checksum can be of the whole object or of its parts.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

And objects that the store may copy parts from, so that their bytes need not be sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import Verified
from bigupload.core.part_plan import MIB, Part
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """An object of the store that an upload goes to, as it was when somebody looked. Holds nothing secret."""

    bucket: str
    key: str
    etag: str
    """With quotes. A copy is refused if the object has another one."""
    size: int
    """Bytes."""
    version_id: str | None = None
    """Copy this version, whatever the newest one is. None: the bucket keeps no versions."""
    owner: str | None = None
    """The AWS account that must own the bucket."""
    customer_key: bool = False
    """Whether it is encrypted with the customer key (SSE-C) of the upload that copies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOrigin:
    """An object that is uploaded by copying all of it, so that its bytes need not even be read here."""

    source: CopySource
    algorithm: Algorithm
    checksum: str
    """The whole object's checksum, from its store: the checksums of the copied parts must add up to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBase:
    """An object and the checksums of its parts, so that the parts of a new upload that are the same can be copied."""

    source: CopySource
    part_size: int
    """Bytes of every part but the last."""
    checksums: tuple[str, ...]
    """The parts' checksums, in order, as S3 writes them, by the algorithm of the upload that copies."""

    def has(self, part: Part, checksum: str) -> bool:
        """Whether the object has these bytes in the range of `part`."""
        number, misplaced = divmod(part.offset, self.part_size)
        if misplaced or not part.size or number >= len(self.checksums):
            return False
        size = min(self.part_size, self.source.size - part.offset)
        return part.size == size and self.checksums[number] == checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAttributes:
    """A store's response to HEAD, as far as it is about the object's bytes."""

    etag: str
    size: int
    """Bytes."""
    checksums: Mapping[str, str]
    """As S3 writes them, by S3's names (CRC64NVME, SHA256, …)."""
    checksum_type: str | None
    modified: str
    """ISO 8601, by the store's clock; empty if the store does not report it."""


@dataclass(frozen=True, slots=True)
class ObjectClaim:
    """The store's claim that the object has this `digest`: of its bytes, or of the digests of its `parts`."""

    algorithm: Algorithm
    digest: bytes
    parts: int | None
    """None: the digest is of the whole object. 0: it is of parts, and the store does not report their number."""
    is_etag: bool = False
    """An ETag is opaque by definition, so an ETag that differs contradicts nothing."""

    @property
    def level(self) -> Verified:
        """The level of proof if the file has the same digest."""
        if self.is_etag:
            return Verified.COMPOSITE_ETAG
        return Verified.FULL_OBJECT if self.parts is None else Verified.COMPOSITE_CHECKSUM

    @property
    def value(self) -> str:
        """The checksum as S3 writes it, with the number of parts if it is composite."""
        return checksums.encode(self.digest) + ("" if self.parts is None else f"-{self.parts}")

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


def claims_of(attributes: ObjectAttributes) -> list[ObjectClaim]:
    """List the claims in `attributes`, the strongest first. A checksum that is malformed is not a claim."""
    etag, _, count = attributes.etag.strip('"').partition("-")
    in_etag = int(count) if count.isascii() and count.isdigit() and len(count) <= 5 else None
    found = []
    for algorithm in Algorithm:
        if not algorithm.is_s3_checksum:
            continue
        text, dash, number = attributes.checksums.get(algorithm.s3_name, "").partition("-")
        try:
            digest = checksums.decode(algorithm, text)
        except ValueError:
            continue
        parts: int | None = None
        if dash or attributes.checksum_type == "COMPOSITE":  # some responses omit the "-N"
            parts = int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else in_etag or 0
        found.append(ObjectClaim(algorithm, digest, parts))
    found.sort(key=lambda claim: claim.parts is not None)
    if (md5 := checksums.md5_of_etag(etag)) is not None and (in_etag or not count):
        found.append(ObjectClaim(Algorithm.MD5, md5, in_etag, is_etag=True))
    return found


_COMMON_PART_SIZES = [n * MIB for n in (8, 16, 5, 64, 10, 15, 32, 50, 100, 128, 256, 512, 1024)] + [
    n * 1_000_000 for n in (5, 8, 10, 16, 20, 25, 50, 64, 100)
]
"""The default part sizes of common tools, in bytes."""
MOST_GUESSES = 32
"""Each guess costs a hash of the file. Many parts leave few sizes: N parts of S bytes leave S / N / (N - 1) bytes."""


def plausible_part_sizes(size: int, parts: int) -> list[int]:
    """List the part sizes that cut `size` bytes into `parts` equal parts (the last one smaller), the likeliest first.

    Args:
        size: The object's size in bytes.
        parts: The number of parts.

    Returns:
        At most `MOST_GUESSES` sizes in bytes: those that common tools use, then whole MiB, then the least possible.
    """
    if parts <= 1:
        return [max(1, size)] if parts == 1 else []
    least, most = -(-size // parts), (size - 1) // (parts - 1)
    whole = range(max(1, -(-least // MIB)) * MIB, most + 1, MIB)
    likely = [*(n for n in _COMMON_PART_SIZES if least <= n <= most), *whole[: MOST_GUESSES + len(_COMMON_PART_SIZES)]]
    if least <= most:
        likely.append(least)
    return list(dict.fromkeys(likely))[:MOST_GUESSES]

"""What a store says of an object's bytes, whichever tool uploaded them, and how the file can be held against it. Pure.

`checksums.Algorithm` is what bigupload uploads with; S3 knows more sums, and each as one of the whole object or of its
parts. https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bigupload.core.checksums import Crc, Hasher, md5_of_etag
from bigupload.core.integrity import Verified
from bigupload.core.part_plan import MIB


class Sum(enum.StrEnum):
    """The values are S3's names, the strongest and cheapest claim first."""

    CRC64NVME = "CRC64NVME"
    CRC32C = "CRC32C"
    CRC32 = "CRC32"
    SHA256 = "SHA256"
    SHA1 = "SHA1"
    MD5 = "MD5"
    """Of an ETag only."""

    @property
    def is_crc(self) -> bool:
        """Whether the whole's is made of its parts'."""
        return self.value.startswith("CRC")

    @property
    def digest_size(self) -> int:
        """Bytes."""
        return {"CRC64NVME": 8, "CRC32C": 4, "CRC32": 4, "SHA256": 32, "SHA1": 20, "MD5": 16}[self.value]

    def new(self) -> Hasher:
        """A fresh hasher."""
        if not self.is_crc:
            return hashlib.new(self.value.lower(), usedforsecurity=False)
        import awscrt.checksums

        return Crc(getattr(awscrt.checksums, self.value.lower()), self.digest_size)

    def of(self, data: bytes) -> bytes:
        """The digest of one buffer."""
        hasher = self.new()
        hasher.update(data)
        return hasher.digest()

    def whole(self, parts: Sequence[tuple[bytes, int]]) -> bytes:
        """The CRC of the whole, of its parts' (digest, size in bytes) in order."""
        import awscrt.checksums

        join: Callable[[int, int, int], int] = getattr(awscrt.checksums, f"combine_{self.value.lower()}")
        value = 0
        for digest, size in parts:
            value = join(value, int.from_bytes(digest, "big"), size)
        return value.to_bytes(self.digest_size, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAttributes:
    """A store's answer to HEAD, as far as it speaks of the bytes."""

    etag: str
    size: int
    checksums: Mapping[str, str]
    """As S3 writes them, by its names."""
    checksum_type: str | None
    modified: str
    """ISO 8601, the store's clock; empty where it does not tell."""


@dataclass(frozen=True, slots=True)
class ObjectClaim:
    """The object's `digest`: of its bytes, or of the digests of its `parts`."""

    sum: Sum
    digest: bytes
    parts: int | None
    """None: of the whole object. 0: of parts, nobody says how many."""
    is_etag: bool = False
    """An ETag is opaque by definition: that it is another number contradicts nothing."""

    @property
    def level(self) -> Verified:
        """What it proves where it is the file's."""
        if self.is_etag:
            return Verified.COMPOSITE_ETAG
        return Verified.FULL_OBJECT if self.parts is None else Verified.COMPOSITE_CHECKSUM

    def __str__(self) -> str:
        count = "" if self.parts is None else f"-{self.parts}"
        return f"{self.sum.lower()} {base64.b64encode(self.digest).decode()}{count}"


def claims_of(look: ObjectAttributes) -> list[ObjectClaim]:
    """The strongest first. What has not the form of its sum is no claim."""
    etag, _, count = look.etag.strip('"').partition("-")
    in_etag = int(count) if count.isascii() and count.isdigit() and len(count) <= 5 else None
    found = []
    for name in Sum:
        text, dash, number = look.checksums.get(name, "").partition("-")
        digest = _decode(text, name)
        if digest is None:
            continue
        parts: int | None = None
        if dash or look.checksum_type == "COMPOSITE":  # some answers leave the "-N" out
            parts = int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else in_etag or 0
        found.append(ObjectClaim(name, digest, parts))
    found.sort(key=lambda claim: claim.parts is not None)
    if (md5 := md5_of_etag(etag)) is not None and (in_etag or not count):
        found.append(ObjectClaim(Sum.MD5, md5, in_etag, is_etag=True))
    return found


def _decode(text: str, name: Sum) -> bytes | None:
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == name.digest_size else None


_USUAL = [n * MIB for n in (8, 16, 5, 64, 10, 15, 32, 50, 100, 128, 256, 512, 1024)] + [
    n * 1_000_000 for n in (5, 8, 10, 16, 20, 25, 50, 64, 100)
]
"""What tools cut by, without being told otherwise."""
MOST_GUESSES = 32
"""Each costs a hash of the file. A file of many parts leaves few sizes: of N parts, S / N / (N - 1) bytes of choice."""


def plausible_part_sizes(size: int, parts: int) -> list[int]:
    """Part sizes, in bytes, that make `parts` equal parts (the last one smaller) of `size` bytes, the likeliest first:
    what tools use, then whole MiB, then the least that does."""
    if parts <= 1:
        return [max(1, size)] if parts == 1 else []
    least, most = -(-size // parts), (size - 1) // (parts - 1)
    whole = range(max(1, -(-least // MIB)) * MIB, most + 1, MIB)
    likely = [*(n for n in _USUAL if least <= n <= most), *whole[: MOST_GUESSES + len(_USUAL)]]
    if least <= most:
        likely.append(least)
    return list(dict.fromkeys(likely))[:MOST_GUESSES]

"""Checksum algorithms: digests, their header encoding, and combining the parts' into the object's.

A *digest* is bytes, a *checksum* is S3's base64 of it. CRCs are of the whole object (FULL_OBJECT) and combine from the
parts' in microseconds; SHA-256 and MD5 can't, so the object's is a hash of the parts' digests (COMPOSITE) with
"-<number of parts>" behind it.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

Pure: no I/O. awscrt is imported where the first CRC is computed, because it costs 60 ms and `--help` needs none.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from bigupload.errors import UsageError

Data: TypeAlias = bytes | bytearray | memoryview
"""What can be hashed: collections.abc.Buffer, which Python 3.11 has not."""


class ChecksumType(enum.StrEnum):
    """How the object's checksum is made of its parts'."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


class Algorithm(enum.StrEnum):
    """What a part is hashed with. The values are the names that users and manifests write."""

    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    SHA256 = "sha256"
    MD5 = "md5"
    """Content-MD5: verified on arrival, kept by the store only as an opaque ETag, unknown to S3's checksum headers."""
    NONE = "none"

    @property
    def is_s3_checksum(self) -> bool:
        """Whether S3 has an x-amz-checksum-* header for it."""
        return self in (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.SHA256)

    @property
    def header(self) -> str:
        """The request header that carries a part's checksum, in lower case."""
        return "content-md5" if self is Algorithm.MD5 else f"x-amz-checksum-{self.value}"

    @property
    def s3_name(self) -> str:
        """S3's spelling in ChecksumAlgorithm, and behind "Checksum" in parameter names."""
        return self.value.upper()

    @property
    def type(self) -> ChecksumType:
        """CRC32C could be composite too; the full object is the stronger claim."""
        crc = self in (Algorithm.CRC64NVME, Algorithm.CRC32C)
        return ChecksumType.FULL_OBJECT if crc else ChecksumType.COMPOSITE

    @property
    def digest_size(self) -> int:
        """Bytes of a digest."""
        return {"crc64nvme": 8, "crc32c": 4, "sha256": 32, "md5": 16, "none": 0}[self.value]


def parse_algorithm(name: str) -> Algorithm:
    """`auto` is CRC64NVME: the only full-object checksum that S3 computes for every object by itself."""
    if name == "auto":
        return Algorithm.CRC64NVME
    try:
        return Algorithm(name)
    except ValueError:
        known = ", ".join(["auto", *Algorithm])
        raise UsageError(f"unknown checksum {name!r}: choose one of {known}") from None


class Hasher(Protocol):
    """An incremental hash, as hashlib's. `update` releases the GIL on large buffers."""

    def update(self, data: Data, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc:
    """A CRC of awscrt behind hashlib's interface."""

    def __init__(self, function: Callable[[Data, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: Data, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _Nothing:
    """The hasher of `Algorithm.NONE`."""

    def update(self, data: Data, /) -> None:
        pass

    def digest(self) -> bytes:
        return b""


def new_hasher(algorithm: Algorithm) -> Hasher:
    """A fresh hasher."""
    match algorithm:
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.NONE:
            return _Nothing()
        case _:
            import awscrt.checksums

            return Crc(getattr(awscrt.checksums, algorithm.value), algorithm.digest_size)


def digest_of(algorithm: Algorithm, data: Data) -> bytes:
    """The digest of one buffer."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


def encode(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode()


def decode(algorithm: Algorithm, checksum: str) -> bytes:
    """S3's spelling back to a digest. Raises ValueError if it is not one of this algorithm."""
    try:
        digest = base64.b64decode(checksum, validate=True)
    except binascii.Error as e:
        raise ValueError(f"not a base64 checksum: {checksum!r}") from e
    if len(digest) != algorithm.digest_size:
        raise ValueError(f"a {algorithm} digest has {algorithm.digest_size} bytes, not {len(digest)}")
    return digest


def combine(algorithm: Algorithm, parts: Sequence[tuple[bytes, int]]) -> str:
    """The object's checksum, as S3 writes it, from its parts' (digest, size in bytes) in order.

    For a CRC it equals the CRC of the whole; else it is the composite "<base64>-<parts>".
    """
    if algorithm.type is ChecksumType.COMPOSITE:
        return f"{encode(_hash_of_digests(algorithm, (digest for digest, _ in parts)))}-{len(parts)}"
    import awscrt.checksums

    join: Callable[[int, int, int], int] = getattr(awscrt.checksums, f"combine_{algorithm.value}")
    whole = 0
    for digest, size in parts:
        whole = join(whole, int.from_bytes(digest, "big"), size)
    return encode(whole.to_bytes(algorithm.digest_size, "big"))


def composite_etag(md5s: Sequence[bytes]) -> str:
    """The multipart ETag that S3 makes of its parts' MD5s, quotes included."""
    return f'"{_hash_of_digests(Algorithm.MD5, md5s).hex()}-{len(md5s)}"'


def etag_of_md5(md5: bytes) -> str:
    """A part's ETag where the store makes it the part's MD5, quotes included."""
    return f'"{md5.hex()}"'


def md5_of_etag(etag: str) -> bytes | None:
    """The MD5 that an ETag could be, or None if it has not the shape of one. The shape proves nothing by itself."""
    bare = etag.strip('"')
    try:
        md5 = bytes.fromhex(bare) if len(bare) == 32 else b""
    except ValueError:
        return None
    return md5 if len(md5) == 16 else None  # fromhex lets spaces through


def _hash_of_digests(algorithm: Algorithm, digests: Iterable[bytes]) -> bytes:
    return digest_of(algorithm, b"".join(digests))

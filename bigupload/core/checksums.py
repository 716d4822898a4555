"""Checksum algorithms: digests, their header encoding, and combining part checksums into the object's checksum.

A *digest* is bytes. A *checksum* is S3's base64 text of a digest. A CRC covers the whole object (FULL_OBJECT) and is
combined from the parts' CRCs in microseconds. SHA and MD5 cannot be combined like that: the object's checksum is then
a hash of the parts' digests (COMPOSITE), followed by "-<number of parts>".
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

Pure: no I/O. When the first CRC of more than some bytes is computed, awscrt's library is loaded for its functions. To
import awscrt takes 40 ms, in which nothing else runs: it gathers randomness and reads the system's certificates, which
a checksum does not need. So its library is loaded without its module's initialisation, in 3 ms, and the functions are
found by their names in C. Where this can't be done, awscrt is imported.
"""

from __future__ import annotations

import base64
import binascii
import enum
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, get_args

from bigupload.errors import UsageError
from bigupload.records import dataclass

_REVERSED_POLYNOMIAL = 0x9A6C9329AC4BC9B5
"""https://github.com/awslabs/aws-checksums: the polynomial 0xAD93D23594C93659, its bits in reverse order."""
_ALL = 0xFFFFFFFFFFFFFFFF
Data: TypeAlias = bytes | bytearray | memoryview
"""A buffer to hash. Python 3.11 does not have collections.abc.Buffer."""


class ChecksumType(enum.StrEnum):
    """The ways in which a store makes an object's checksum from the checksums of its parts."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"


class Algorithm(enum.StrEnum):
    """Every checksum that S3 knows, MD5 (the usual ETag), and none.

    The values are the names that users and manifests write. The order is by strength of the proof, then by cost.
    An upload uses one of `UPLOAD_ALGORITHMS`; `verify` understands all of them.
    """

    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    CRC32 = "crc32"
    SHA256 = "sha256"
    SHA1 = "sha1"
    MD5 = "md5"
    """Sent as Content-MD5: the store verifies it on arrival, and keeps it as the part's ETag at most."""
    NONE = "none"

    @property
    def is_s3_checksum(self) -> bool:
        """Whether S3 has an x-amz-checksum-* header for this algorithm."""
        return self not in (Algorithm.MD5, Algorithm.NONE)

    @property
    def is_crc(self) -> bool:
        """Whether the parts' digests can be combined into the digest of the whole."""
        return self in (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32)

    @property
    def header(self) -> str:
        """The request header that carries a part's checksum, in lower case."""
        return "content-md5" if self is Algorithm.MD5 else f"x-amz-checksum-{self.value}"

    @property
    def s3_name(self) -> str:
        """S3's name in ChecksumAlgorithm, and after "Checksum" in parameter names."""
        return self.value.upper()

    @property
    def type(self) -> ChecksumType:
        """The type that an upload declares. CRC32C and CRC32 could be composite too, which would prove less."""
        return ChecksumType.FULL_OBJECT if self.is_crc else ChecksumType.COMPOSITE

    @property
    def digest_size(self) -> int:
        """The size of a digest in bytes."""
        return _DIGEST_SIZES[self]


_DIGEST_SIZES = {
    Algorithm.CRC64NVME: 8,
    Algorithm.CRC32C: 4,
    Algorithm.CRC32: 4,
    Algorithm.SHA256: 32,
    Algorithm.SHA1: 20,
    Algorithm.MD5: 16,
    Algorithm.NONE: 0,
}

UploadChecksum: TypeAlias = Literal["crc64nvme", "crc32c", "sha256", "md5", "none"]
"""The algorithms of an upload. CRC32 and SHA1 would prove less at the same cost. The manifest's schema repeats them."""
UPLOAD_ALGORITHMS = tuple(map(Algorithm, get_args(UploadChecksum)))


_CHOICES = {"auto": Algorithm.CRC64NVME, **{algorithm.value: algorithm for algorithm in UPLOAD_ALGORITHMS}}


def parse_algorithm(name: str) -> Algorithm:
    """Read a user's choice of checksum.

    Args:
        name: One of `UPLOAD_ALGORITHMS`, or `auto`. `auto` is CRC64NVME: the only full-object checksum that S3 computes
            for every object by itself.

    Raises:
        UsageError: The name is unknown.
    """
    if name not in _CHOICES:
        raise UsageError(f"unknown checksum {name!r}: choose one of {', '.join(_CHOICES)}")
    return _CHOICES[name]


class Hasher(Protocol):
    """An incremental hash with hashlib's methods. `update` releases the GIL for large buffers."""

    def update(self, data: Data, /) -> None: ...

    def digest(self) -> bytes: ...


class _Few:
    """The number of bytes that this process still hashes without awscrt's library: to load it takes as long."""

    left = 64 * 1024


class _Crc:
    """A CRC of awscrt with hashlib's methods."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._function: Callable[[Data, int], int] | None = None
        self._size = algorithm.digest_size
        self._value = 0

    def update(self, data: Data, /) -> None:
        if self._function is None:
            size = memoryview(data).nbytes
            if self._algorithm is Algorithm.CRC64NVME and size <= _Few.left:
                _Few.left -= size
                self._value = crc64nvme(data, self._value)
                return
            _Few.left = -1  # from now on, there is awscrt
            self._function = crc_function(self._algorithm.value)
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
    """Make a hasher that has seen no data yet."""
    if algorithm.is_crc:
        return _Crc(algorithm)
    if algorithm is Algorithm.NONE:
        return _Nothing()
    return hashlib.new(algorithm.value, usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class KeptDigests:
    """The digests of a part that its manifest keeps: these are the fields of its record, too."""

    checksum: str
    """The checksum by the upload's algorithm, as S3 writes it; empty if that is `none`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed(KeptDigests):
    """The digests of a part. Everything that hashes, here or on another machine, returns this."""

    md5: bytes | None = None


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of a part to compute in one pass. The hasher gets it, here or on another machine."""

    algorithm: Algorithm
    md5: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute."""
        return self.algorithm is Algorithm.NONE and not self.md5

    def hashing(self) -> PartDigester:
        """Return an object that computes them."""
        return PartDigester(self)


class PartDigester:
    """Digests of a part whose bytes come one after another."""

    def __init__(self, wanted: Digests) -> None:
        self._own = new_hasher(wanted.algorithm)
        self._md5 = (
            self._own if wanted.algorithm is Algorithm.MD5 else new_hasher(Algorithm.MD5) if wanted.md5 else None
        )

    def update(self, data: Data) -> None:
        """Add bytes."""
        self._own.update(data)
        if self._md5 is not None and self._md5 is not self._own:
            self._md5.update(data)

    def result(self) -> Hashed:
        """Return the digests of all bytes."""
        return Hashed(encode(self._own.digest()), md5=None if self._md5 is None else self._md5.digest())


def digest_of(algorithm: Algorithm, data: Data) -> bytes:
    """Compute the digest of one buffer."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


def encode(digest: bytes) -> str:
    """Write a digest as S3 does, in base64."""
    return base64.b64encode(digest).decode()


def decode(algorithm: Algorithm, checksum: str) -> bytes:
    """Read a digest from S3's base64.

    Raises:
        ValueError: The text is not base64, or not as long as a digest of this algorithm.
    """
    try:
        digest = base64.b64decode(checksum, validate=True)
    except binascii.Error as e:
        raise ValueError(f"not a base64 checksum: {checksum!r}") from e
    if len(digest) != algorithm.digest_size:
        raise ValueError(f"a {algorithm} digest has {algorithm.digest_size} bytes, not {len(digest)}")
    return digest


def combine_crc(algorithm: Algorithm, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """Compute the CRC of the whole from the parts' (digest, size in bytes), in order. `algorithm` is a CRC."""
    rows = iter(parts)
    whole = int.from_bytes(next(rows, (b"", 0))[0], "big")  # the CRC of nothing is 0
    for digest, size in rows:
        join: Callable[[int, int, int], int] = crc_function(f"combine_{algorithm.value}")
        whole = join(whole, int.from_bytes(digest, "big"), size)
    return whole.to_bytes(algorithm.digest_size, "big")


def combine(algorithm: Algorithm, parts: Sequence[tuple[bytes, int]]) -> str:
    """Compute the object's checksum, as S3 writes it, from the parts' (digest, size in bytes), in order.

    Returns:
        For a CRC, the checksum of the whole. For any other algorithm, the composite "<base64>-<number of parts>".
    """
    if algorithm.type is ChecksumType.COMPOSITE:
        return f"{encode(_hash_of_digests(algorithm, (digest for digest, _ in parts)))}-{len(parts)}"
    return encode(combine_crc(algorithm, parts))


def composite_etag(md5s: Sequence[bytes]) -> str:
    """Compute the ETag that S3 gives a multipart object whose parts have these MD5s. The quotes are included."""
    return f'"{_hash_of_digests(Algorithm.MD5, md5s).hex()}-{len(md5s)}"'


def etag_of_md5(md5: bytes) -> str:
    """Write the ETag of a part whose ETag is its MD5. The quotes are included."""
    return f'"{md5.hex()}"'


def strong_etag(etag: str) -> str:
    """Return a store's ETag as the store knows it.

    Some stores leave the quotes out, in all of their responses or in some. A proxy that may compress a response marks
    its ETag as weak; those of a store are strong, and it knows no other.
    """
    etag = etag.removeprefix("W/")
    return etag if not etag or etag.endswith('"') else f'"{etag}"'


def md5_of_etag(etag: str) -> bytes | None:
    """Read the MD5 that an ETag could be, or None if it does not look like one. The look proves nothing by itself."""
    bare = etag.strip('"')
    try:
        md5 = bytes.fromhex(bare) if len(bare) == 32 else b""
    except ValueError:
        return None
    return md5 if len(md5) == 16 else None  # fromhex accepts spaces


def _hash_of_digests(algorithm: Algorithm, digests: Iterable[bytes]) -> bytes:
    return digest_of(algorithm, b"".join(digests))


@functools.cache
def _remainders() -> tuple[int, ...]:
    """The remainders of all bytes by the polynomial of CRC64NVME."""
    rows = []
    for byte in range(256):
        row = byte
        for _ in range(8):
            row = row >> 1 ^ (_REVERSED_POLYNOMIAL if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


def crc64nvme(data: Data, previous: int = 0) -> int:
    """Do the same as `awscrt.checksums.crc64nvme`, ten thousand times as slowly.

    To load what that needs takes 6 ms, a twentieth of the CPU time of a small upload, and as long as 60 KB take here.

    Args:
        data: Bytes.
        previous: The CRC of the bytes before them.
    """
    table, crc = _remainders(), previous ^ _ALL
    for byte in memoryview(data).cast("B"):
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ _ALL


NEWEST_TRIED = (0, 38)
"""The newest version of awscrt whose functions are known to be called like this. A newer one is imported."""
_CHECKS = {"crc64nvme": 0xAE8B14860A799888, "crc32c": 0xE3069283, "crc32": 0xCBF43926}
"""The CRC of b"123456789": https://reveng.sourceforge.io/crc-catalogue/all.htm"""


@functools.cache
def crc_function(name: str) -> Callable[..., int]:
    """Return a function of `awscrt.checksums`, such as `crc32c(data, previous)`, or `combine_crc32c(one, other, size)`.

    Raises:
        ImportError: awscrt can't be loaded, as where there is no memory for it.
    """
    kind = name.removeprefix("combine_")
    crc, combine = _of_library(f"checksums_{kind}"), _of_library(f"checksums_{kind}_combine")
    if crc is not None and combine is not None and _is_right(kind, crc, combine):
        return crc if name == kind else combine
    while True:
        module = importlib.import_module("awscrt.checksums")
        # Python gives a thread that waits for another one's import the module also where that fails: without contents.
        if hasattr(module, name) or sys.modules.get(module.__name__) is module:
            imported: Callable[..., int] = getattr(module, name)
            return imported


def _of_library(name: str) -> Callable[..., int] | None:
    library = None if "_awscrt" in sys.modules else _library()
    function = getattr(library, f"aws_py_{name}", None)
    if function is None:
        return None
    import ctypes

    function.restype, function.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object)
    return lambda *arguments: function(None, arguments)  # as Python calls a METH_VARARGS function of a module


@functools.cache
def _library() -> Any:
    """Return the library; None if it is not one of those that were tried, or can't be loaded alone."""
    # Written in Python, and small. It has no types of its own, and may not be there when a program is checked.
    import awscrt  # type: ignore[import-untyped, import-not-found, unused-ignore]  # may be absent

    try:
        version = tuple(map(int, awscrt.__version__.split(".")[:2]))
        found = importlib.util.find_spec("_awscrt")
        if version > NEWEST_TRIED or found is None or found.origin is None:
            return None
        import ctypes

        return ctypes.PyDLL(found.origin)
    except (AttributeError, ImportError, OSError, ValueError):  # a build without a version, or a Python without ctypes
        return None


def _is_right(kind: str, crc: Callable[..., int], combine: Callable[..., int]) -> bool:
    whole = _CHECKS[kind]
    return crc(b"123456789", 0) == whole == combine(crc(b"12345", 0), crc(b"6789", 0), 4)

"""Read a file once from its beginning to its end, for every digest that is wanted of it.

`with_digests` does that for a file that is in the store, for the digests that other tools compare: SHA-256, and XXH128
of film people's hash lists. If the object has a checksum of its whole content, the same read proves that, too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from bigupload import errors
from bigupload.core.checksums import Algorithm, Hasher, decode, new_hasher
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.core.part_plan import MIB
from bigupload.engine.part_hashing import WholeDigests
from bigupload.engine.upload_run import UploadResult
from bigupload.records import dataclass
from bigupload.sources.file import fingerprint_of
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import reason_of
from bigupload.support.pages import page_buffer
from bigupload.units import escaped
from bigupload.verification.media_hash_lists import XXH128, new_hasher_of

_BUFFER = MIB
_WHOLE = (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32, Algorithm.SHA256, Algorithm.SHA1)
_OBJECT = "object"


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read."""

    size: int
    """Bytes, with those before the first that was read."""
    before: Fingerprint
    """Its metadata before it was read."""
    after: Fingerprint


async def read_file(
    path: Path, hashers: Mapping[str, Hasher], reading: asyncio.Semaphore, *, start: int = 0
) -> ReadFile:
    """Read a file in a thread, which is left behind if nobody waits for it any more.

    Args:
        path: The file.
        hashers: Get its bytes.
        reading: Bounds the threads that read files.
        start: The first byte.

    Raises:
        SourceUnreadable: It can't be read.
    """
    stop = threading.Event()
    try:
        return await run_in_daemon_thread(lambda: _read(path, [*hashers.values()], stop, start), reading)
    finally:
        stop.set()


def _open(path: str, flags: int) -> int:
    """Open a file. The writer of a named pipe is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read(path: Path, hashers: list[Hasher], stop: threading.Event, start: int = 0) -> ReadFile:
    buffer, size = memoryview(page_buffer(_BUFFER)), start
    try:
        with open(path, "rb", buffering=0, opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            before = fingerprint_of(status)
            file.seek(start)
            while (count := file.readinto(buffer)) and not stop.is_set():
                size += count
                for hasher in hashers:
                    hasher.update(buffer[:count])
            after = fingerprint_of(os.fstat(file.fileno()))
    except OSError as e:
        raise errors.SourceUnreadable(f"can't read {errors.IT}: {reason_of(e)}", it=escaped(str(path))) from e
    return ReadFile(size, before, after)


async def with_digests(
    result: UploadResult,
    reading: asyncio.Semaphore,
    uploaded: Fingerprint | None,
    *,
    sha256: bool = False,
    xxh128: bool = False,
    whole: WholeDigests | None = None,
) -> UploadResult:
    """Return the result with the file's digests.

    Args:
        result: The file's, which is in the store.
        reading: Bounds the threads that read files.
        uploaded: The file's metadata when it was uploaded, or proved to be in the store. They decide where the object
            has no checksum of its whole content. None: they are not known.
        sha256: Whether SHA-256 is wanted.
        xxh128: Whether XXH128 is wanted.
        whole: What was computed while the parts were hashed. Only the rest of the file is read then.

    Raises:
        SourceChanged: The file is no longer what was uploaded.
        SourceUnreadable: It can't be read.
    """
    proof = whole_checksum(result.checksum) if result.verified is Verified.FULL_OBJECT else None
    if whole is not None and whole.size and proof is not None and uploaded is not None:
        found = await read_file(Path(result.path), whole.hashers, reading, start=whole.size)
        is_same = found.before == found.after == uploaded and found.size == result.size
        if is_same and whole.hashers[_OBJECT].digest() == proof[1]:
            return _with(result, whole.hashers)
    hashers = new_hashers(sha256=sha256, xxh128=xxh128)
    if proof is not None:
        hashers[_OBJECT] = proof[0]
    found = await read_file(Path(result.path), hashers, reading)
    is_same = found.before == found.after and found.size == result.size
    is_object = proof[0].digest() == proof[1] if proof is not None else uploaded in (None, found.before)
    if not (is_same and is_object):
        raise errors.SourceChanged(
            f"{errors.IT} changed after it was uploaded, so its {_named(hashers)} is not the object's. "
            "The object is complete. Upload the file again when nothing writes to it any more",
            it=escaped(str(result.path)),
            same_size=found.size == result.size,
        )
    return _with(result, hashers)


async def is_uploaded(path: Path, result: UploadResult, reading: asyncio.Semaphore) -> bool:
    """Return whether a file has the checksum of the whole object that its upload made. Without one, it is not known.

    Raises:
        SourceUnreadable: It can't be read.
    """
    whole = whole_checksum(result.checksum) if result.verified is Verified.FULL_OBJECT else None
    if whole is None:
        return False
    found = await read_file(path, {_OBJECT: whole[0]}, reading)
    return found.before == found.after and found.size == result.size and whole[0].digest() == whole[1]


def new_hashers(algorithm: Algorithm | None = None, *, sha256: bool = False, xxh128: bool = False) -> dict[str, Hasher]:
    """Make hashers for these digests, and for the checksum of the object, if that is one of the whole."""
    hashers: dict[str, Hasher] = {}
    if sha256:
        hashers["sha256"] = hashlib.sha256()
    if xxh128:
        hashers[XXH128] = new_hasher_of(XXH128)
    if algorithm is not None:
        hashers[_OBJECT] = new_hasher(algorithm)
    return hashers


def _with(result: UploadResult, hashers: Mapping[str, Hasher]) -> UploadResult:
    found = {name: hasher.digest().hex() for name, hasher in hashers.items() if name != _OBJECT}
    return dataclasses.replace(result, **found)  # type: ignore[arg-type]  # of these fields, each is a text


def _named(wanted: Mapping[str, object]) -> str:
    return "SHA-256" if "sha256" in wanted else "XXH128"


def whole_checksum(checksum: str | None) -> tuple[Hasher, bytes] | None:
    """Return the hasher of an object's whole content, and its checksum; None if the checksum is of another kind.

    Args:
        checksum: As `UploadResult.checksum`.
    """
    name, _, value = (checksum or "").partition(":")
    if name not in _WHOLE:
        return None
    algorithm = Algorithm(name)
    try:
        digest = decode(algorithm, value)
    except ValueError:
        return None
    return new_hasher(algorithm), digest

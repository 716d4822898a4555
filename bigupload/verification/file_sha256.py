"""The SHA-256 of a file whose object is complete, proved to be that of the object where its checksum allows.

A store's checksums are of parts, or CRCs; what other tools read is the SHA-256 of the whole file. So the file is read
once more. If the object has a checksum of its whole content, the same read computes that, too, and both are compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from pathlib import Path

import anyio

from bigupload import errors
from bigupload.core.checksums import Algorithm, Hasher, decode, new_hasher
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.engine.upload_run import UploadResult
from bigupload.sources.file import fingerprint_of
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import reason_of
from bigupload.support.pages import page_buffer
from bigupload.units import escaped

_BUFFER = 1 << 20
_WHOLE = (Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.SHA256)


async def with_sha256(
    result: UploadResult, reading: anyio.CapacityLimiter, uploaded: Fingerprint | None
) -> UploadResult:
    """Return the result with the file's SHA-256.

    Args:
        result: The file's, which is in the store.
        reading: Bounds the threads that read files.
        uploaded: The file's metadata when it was uploaded, or proved to be in the store. They decide where the object
            has no checksum of its whole content. None: they are not known.

    Raises:
        SourceChanged: The file is no longer what was uploaded.
        SourceUnreadable: It can't be read.
    """
    stop = threading.Event()
    try:
        hashed = await run_in_daemon_thread(lambda: _hash(result, uploaded, stop), reading)
    finally:
        stop.set()
    return dataclasses.replace(result, sha256=hashed)


def _hash(result: UploadResult, uploaded: Fingerprint | None, stop: threading.Event) -> str:
    sha256, buffer, size = hashlib.sha256(), memoryview(page_buffer(_BUFFER)), 0
    proof = _whole(result)
    try:
        with Path(result.path).open("rb", buffering=0) as file:
            before = fingerprint_of(os.fstat(file.fileno()))
            while (count := file.readinto(buffer)) and not stop.is_set():
                size += count
                sha256.update(buffer[:count])
                if proof is not None:
                    proof[0].update(buffer[:count])
            after = fingerprint_of(os.fstat(file.fileno()))
    except OSError as e:
        raise errors.SourceUnreadable(f"can't read {escaped(str(result.path))}: {reason_of(e)}") from e
    is_same = before == after and size == result.size
    is_object = proof[0].digest() == proof[1] if proof is not None else uploaded in (None, before)
    if not (is_same and is_object):
        raise errors.SourceChanged(
            f"{escaped(str(result.path))} changed after it was uploaded, so its SHA-256 is not the object's. The "
            "object is complete. Upload the file again when nothing writes to it any more",
            same_size=size == result.size,
        )
    return sha256.hexdigest()


def _whole(result: UploadResult) -> tuple[Hasher, bytes] | None:
    """What computes the checksum of the object's whole content, and that checksum; None if it has none."""
    name, _, value = (result.checksum or "").partition(":")
    if result.verified is not Verified.FULL_OBJECT or name not in _WHOLE:
        return None
    algorithm = Algorithm(name)
    try:
        digest = decode(algorithm, value)
    except ValueError:
        return None
    return new_hasher(algorithm), digest

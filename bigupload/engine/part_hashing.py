"""Hash parts in worker threads. This is the read-ahead too: the PUT that follows finds the pages in memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import MIB, Part
from bigupload.errors import UPLOAD_AS_IT_IS, SourceChanged
from bigupload.ports import Source

_BUFFER = MIB
_buffers = threading.local()


@dataclass(frozen=True, slots=True)
class Hashed:
    """A part's `checksum` of the upload's algorithm, as S3 writes it, and its `md5` if that was asked for."""

    checksum: str
    md5: bytes | None


class PartHasher:
    """Hashes parts of one source."""

    def __init__(self, source: Source, algorithm: Algorithm, threads: AbstractAsyncContextManager[Any]) -> None:
        """Hash nothing yet.

        Args:
            source: What the parts are of.
            algorithm: Of their checksums.
            threads: Entered while a thread hashes. It bounds the threads of all uploads.
        """
        self._source = source
        self.algorithm = algorithm
        self._threads = threads
        self._unbounded = anyio.CapacityLimiter(math.inf)
        self._ahead: dict[int, Hashed] = {}

    async def hash(self, part: Part, *, md5: bool = False) -> Hashed:
        """Hash a part.

        Args:
            part: What to hash.
            md5: Whether to compute the MD5 too.

        Raises:
            SourceUnreadable: An I/O error.
            SourceChanged: The file ends within the part.
        """
        if self.algorithm is Algorithm.NONE and not md5:
            return Hashed("", None)
        ahead = self._ahead.pop(part.number, None)  # used once: a second call asks whether the file has changed
        if ahead is not None and not md5:
            return ahead
        async with self._threads:
            # A read that hangs in a network file system must not hold up a cancel: the thread is left behind.
            return await anyio.to_thread.run_sync(
                self._hash, part, md5, abandon_on_cancel=True, limiter=self._unbounded
            )

    async def hash_ahead(self, part: Part) -> Hashed:
        """Like `hash`. The next `hash` of the part returns the same without reading the file again."""
        if part.number not in self._ahead:
            self._ahead[part.number] = await self.hash(part)
        return self._ahead[part.number]

    def _hash(self, part: Part, md5: bool) -> Hashed:
        own = checksums.new_hasher(self.algorithm)
        is_md5 = self.algorithm is Algorithm.MD5
        also = checksums.new_hasher(Algorithm.MD5) if md5 and not is_md5 else None
        for chunk in self._chunks(part):
            own.update(chunk)
            if also is not None:
                also.update(chunk)
            anyio.from_thread.check_cancelled()  # hashing gigabytes would delay Ctrl-C
        digest = own.digest()
        return Hashed(checksums.encode(digest), digest if is_md5 else also.digest() if also is not None else None)

    def _chunks(self, part: Part) -> Iterator[memoryview]:
        """The part's bytes. A chunk is valid until the next one."""
        whole = self._source.view(part.offset, part.size)
        buffer = memoryview(_buffer()) if whole is None else None
        for done in range(0, part.size, _BUFFER):
            size = min(_BUFFER, part.size - done)
            if buffer is None:
                assert whole is not None
                yield whole[done : done + size]
            elif self._source.read_into(buffer[:size], part.offset + done) < size:
                raise SourceChanged(
                    f"{self._source.path} became shorter while it was uploaded: {UPLOAD_AS_IT_IS}", same_size=False
                )
            else:
                yield buffer[:size]


def _buffer() -> bytearray:
    """The buffer of this thread."""
    if not hasattr(_buffers, "buffer"):
        _buffers.buffer = bytearray(_BUFFER)
    buffer: bytearray = _buffers.buffer
    return buffer

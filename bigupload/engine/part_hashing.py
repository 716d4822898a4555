"""Hash parts in worker threads. This is the read-ahead too: the PUT that follows finds the pages in memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.from_thread

from bigupload.core.checksums import Algorithm, Digests, Hashed
from bigupload.core.part_plan import MIB, Part
from bigupload.engine.whole_digests import WholeDigests
from bigupload.errors import UPLOAD_AS_IT_IS, SourceChanged, SourceUnreadable
from bigupload.ports import HashElsewhere, Source
from bigupload.support.daemon_threads import run_in_thread
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors
from bigupload.support.pages import page_buffer

_BUFFER = MIB
_buffers = threading.local()
HashGroup: TypeAlias = Callable[[Source, Sequence[Part], Digests], Awaitable[list[Hashed]]]
"""The same for several parts."""


_HANGS_AFTER = 10.0
"""Seconds without a byte after which a read counts as hanging."""


class _Reading:
    """Whether threads wait for the source, and when it last gave them bytes."""

    def __init__(self) -> None:
        self.threads = 0
        self._chunks = 0
        self._seen = 0, 0.0

    def progressed(self) -> None:
        """Called in a thread after each chunk."""
        self._chunks += 1

    def hangs_for(self, now: float) -> float | None:
        seen, since = self._seen
        if not self.threads or seen != self._chunks:
            self._seen = self._chunks, now
            return None
        return now - since if now - since >= _HANGS_AFTER else None


class PartHasher:
    """Hashes parts of one source."""

    def __init__(
        self,
        source: Source,
        algorithm: Algorithm,
        threads: AbstractAsyncContextManager[Any],
        elsewhere: HashElsewhere | None = None,
        whole: WholeDigests | None = None,
    ) -> None:
        """Hash nothing yet.

        Args:
            source: What the parts are of.
            algorithm: The algorithm of their checksums.
            threads: Entered while a thread hashes. It bounds the threads of all uploads.
            elsewhere: Hashes the parts instead of a thread here.
            whole: Gets the bytes that threads here read, for digests of the whole source.
        """
        self._source = source
        self.algorithm = algorithm
        self._threads = threads
        self._elsewhere = elsewhere
        self._whole = whole
        self._unbounded = anyio.CapacityLimiter(math.inf)
        self._ahead: dict[int, Hashed] = {}
        self._reading = _Reading()

    def hangs_for(self, now: float) -> float | None:
        """Return for how many seconds reading the source has hung; None: it has not, or for less than ten.

        Call it a few times a second: what it sees, it compares with what it saw before.
        """
        return self._reading.hangs_for(now)

    async def hash(self, part: Part, *, md5: bool = False) -> Hashed:
        """Hash a part.

        Args:
            part: What to hash.
            md5: Whether to compute the MD5 too.

        Raises:
            SourceUnreadable: An I/O error.
            SourceChanged: The file ends within the part.
        """
        wanted = Digests(self.algorithm, md5)
        if wanted.is_empty:
            return Hashed("")
        ahead = self._ahead.pop(part.number, None)  # used once: a second call asks whether the file has changed
        if ahead is not None and not md5:
            return ahead
        if self._elsewhere is not None:
            return await self._elsewhere(self._source, part, wanted)
        async with self._threads:
            self._reading.threads += 1
            try:
                # A read that hangs in a network file system must not hold up a cancel: the thread is left behind.
                return await run_in_thread(partial(self._hash, part, wanted), self._unbounded, abandon_on_cancel=True)
            finally:
                self._reading.threads -= 1

    async def hash_group(self, parts: Sequence[Part], *, md5: bool, groups: HashGroup) -> list[Hashed]:
        """Like `hash`, for several parts. `groups` hashes those that were not hashed ahead."""
        ahead = [] if md5 else [each.number for each in parts if each.number in self._ahead]
        found = {number: self._ahead.pop(number) for number in ahead}
        missing = [each for each in parts if each.number not in found]
        if missing:
            hashed = await groups(self._source, missing, Digests(self.algorithm, md5))
            found |= {part.number: each for part, each in zip(missing, hashed, strict=True)}
        return [found[each.number] for each in parts]

    async def hash_ahead(self, part: Part) -> Hashed:
        """Like `hash`. The next `hash` of the part returns the same without reading the file again."""
        if part.number not in self._ahead:
            self._ahead[part.number] = await self.hash(part)
        return self._ahead[part.number]

    def _hash(self, part: Part, wanted: Digests) -> Hashed:
        def check() -> None:
            self._reading.progressed()
            anyio.from_thread.check_cancelled()

        # Checked often: hashing gigabytes would delay Ctrl-C.
        hashed = hash_part(self._source, part, wanted, check=check, whole=self._whole)
        if self._whole is not None:
            self._whole.part_done(self._source, part, _buffer(), check)
        return hashed


def hash_part(
    source: Source, part: Part, wanted: Digests, *, check: Callable[[], object], whole: WholeDigests | None = None
) -> Hashed:
    """Hash a part. Blocking.

    Args:
        source: What the part is of.
        part: What to hash.
        wanted: Which digests to compute.
        check: Called after each MiB. What it raises ends the hashing.
        whole: Gets the same bytes, for digests of the whole source.

    Raises:
        SourceUnreadable: An I/O error.
        SourceChanged: The file ends within the part.
    """
    hashing, offset = wanted.hashing(), part.offset
    for chunk in _chunks(source, part):
        try:
            hashing.update(chunk)
        except (OSError, ImportError) as e:  # the first one imports awscrt
            if not is_out_of_descriptors(e):
                raise
            raise SourceUnreadable(f"can't hash {source.path}: {OUT_OF_DESCRIPTORS}") from e
        if whole is not None:
            whole.feed(offset, chunk)
        offset += len(chunk)
        check()
    return hashing.result()


def _chunks(source: Source, part: Part) -> Iterator[memoryview]:
    """The part's bytes. A chunk is valid until the next one."""
    whole = source.view(part.offset, part.size)
    buffer = _buffer() if whole is None else None
    for done in range(0, part.size, _BUFFER):
        size = min(_BUFFER, part.size - done)
        if buffer is None:
            assert whole is not None
            yield whole[done : done + size]
        elif source.read_into(buffer[:size], part.offset + done) < size:
            raise SourceChanged(
                f"{source.path} became shorter while it was uploaded: {UPLOAD_AS_IT_IS}", same_size=False
            )
        else:
            yield buffer[:size]


def _buffer() -> memoryview:
    """The buffer of this thread."""
    if not hasattr(_buffers, "buffer"):
        _buffers.buffer = memoryview(page_buffer(_BUFFER))
    buffer: memoryview = _buffers.buffer
    return buffer

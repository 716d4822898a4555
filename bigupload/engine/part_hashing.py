"""Hash parts in worker threads. This is the read-ahead too: the PUT that follows finds the pages in memory.

`WholeDigests` makes digests of a whole file from the reads of its parts, so that a disk gives each byte once. Parts are
hashed several at a time, and a digest such as SHA-256 can't be combined from theirs. So a chunk that comes in its turn
is taken as it is read. A part that was hashed out of turn is read again at once, when its turn comes: the page cache
has it. What is left at the end, as after a resume, whoever asks for the digests reads. These digests are not believed
for that: they count only if the checksum that is computed beside them is the object's.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from functools import partial
from typing import Any, TypeAlias

from bigupload.core.checksums import Algorithm, Digests, Hashed, Hasher
from bigupload.core.part_plan import MIB, Part
from bigupload.errors import IT, UPLOAD_AS_IT_IS, SourceChanged, SourceError, SourceUnreadable
from bigupload.ports import HashElsewhere, Source
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors
from bigupload.support.pages import thread_buffer


class WholeDigests:
    """The digests of one file. `feed` and `part_done` may be called by several threads."""

    def __init__(self, hashers: Mapping[str, Hasher]) -> None:
        """Begin with the first byte.

        Args:
            hashers: Get all bytes in their order.
        """
        self.hashers = hashers
        self.size = 0
        """Bytes that they have got."""
        self._lock = threading.Lock()
        self._done: dict[int, int] = {}
        """The ends of parts that were hashed, by their beginnings."""

    def feed(self, offset: int, chunk: memoryview) -> None:
        """Take a chunk of the file, if it is the next one."""
        if offset == self.size and self._lock.acquire(blocking=False):
            try:
                if offset == self.size:
                    self._take(chunk)
            finally:
                self._lock.release()

    def part_done(self, source: Source, part: Part, buffer: memoryview, check: Callable[[], object]) -> None:
        """A part was hashed: read what can be taken by now. Blocking.

        Args:
            source: The file.
            part: The part.
            buffer: For chunks.
            check: Called after each chunk. What it raises ends the reading.
        """
        self._done[part.offset] = part.offset + part.size
        # A thread that finds another one at it leaves the part to that one, which looks again after it.
        while self._end_of_next() is not None and self._lock.acquire(blocking=False):
            try:
                while (end := self._end_of_next()) is not None:
                    chunk = buffer[: min(len(buffer), end - self.size)]
                    if source.read_into(chunk, self.size) < len(chunk):
                        return  # it became shorter, which others report
                    self._take(chunk)
                    check()
            except SourceError:  # which others report
                return
            finally:
                self._lock.release()

    def _end_of_next(self) -> int | None:
        """The end of the hashed part that has the next byte; None: that part is not hashed yet."""
        for begin, end in list(self._done.items()):
            if end <= self.size:
                self._done.pop(begin, None)
            elif begin <= self.size:
                return end
        return None

    def _take(self, chunk: memoryview) -> None:
        for hasher in self.hashers.values():
            hasher.update(chunk)
        self.size += len(chunk)


_BUFFER = MIB
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


class _LeftBehind(Exception):
    """Ends a thread for which nobody waits any more."""


@dataclass(slots=True, eq=False)
class PartHasher:
    """Hashes parts of one source."""

    _source: Source
    algorithm: Algorithm
    """The algorithm of their checksums."""
    _threads: AbstractAsyncContextManager[Any]
    """Entered while a thread hashes. It bounds the threads of all uploads."""
    _elsewhere: HashElsewhere | None = None
    """Hashes the parts instead of a thread here."""
    _whole: WholeDigests | None = None
    """Gets the bytes that threads here read, for digests of the whole source."""
    _ahead: dict[int, Hashed] = field(default_factory=dict)
    _reading: _Reading = field(default_factory=_Reading)

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
            left_behind = threading.Event()
            try:
                # A read that hangs in a network file system must not hold up a cancel: the thread is left behind.
                hashing = partial(self._hash, part, wanted, left_behind)
                return await run_in_daemon_thread(hashing)
            finally:
                left_behind.set()
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

    def _hash(self, part: Part, wanted: Digests, left_behind: threading.Event) -> Hashed:
        def check() -> None:
            self._reading.progressed()
            if left_behind.is_set():
                raise _LeftBehind

        # Checked often: hashing gigabytes would delay Ctrl-C.
        hashed = hash_part(self._source, part, wanted, check=check, whole=self._whole)
        if self._whole is not None:
            self._whole.part_done(self._source, part, thread_buffer(_BUFFER), check)
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
            raise SourceUnreadable(f"can't hash {IT}: {OUT_OF_DESCRIPTORS}", it=source.path) from e
        if whole is not None:
            whole.feed(offset, chunk)
        offset += len(chunk)
        check()
    return hashing.result()


def _chunks(source: Source, part: Part) -> Iterator[memoryview]:
    """The part's bytes. A chunk is valid until the next one."""
    whole = source.view(part.offset, part.size)
    buffer = thread_buffer(_BUFFER) if whole is None else None
    for done in range(0, part.size, _BUFFER):
        size = min(_BUFFER, part.size - done)
        if buffer is None:
            assert whole is not None
            yield whole[done : done + size]
        elif source.read_into(buffer[:size], part.offset + done) < size:
            raise SourceChanged(
                f"{IT} became shorter while it was uploaded: {UPLOAD_AS_IT_IS}", it=source.path, same_size=False
            )
        else:
            yield buffer[:size]

"""Digests of a whole file from the reads of its parts, so that a disk gives each byte once.

Parts are hashed several at a time, and a digest such as SHA-256 can't be combined from theirs. So a chunk that comes in
its turn is taken as it is read. A part that was hashed out of turn is read again at once, when its turn comes: the page
cache has it. What is left at the end, as after a resume, whoever asks for the digests reads.

These digests are not believed for that: they count only if the checksum that is computed beside them is the object's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from bigupload.core.checksums import Hasher
from bigupload.core.part_plan import Part
from bigupload.errors import SourceError
from bigupload.ports import Source


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
        self._turn = threading.Lock()
        self._done: dict[int, int] = {}
        """The ends of parts that were hashed, by their beginnings."""

    def feed(self, offset: int, chunk: memoryview) -> None:
        """Take a chunk of the file, if it is the next one."""
        if offset == self.size and self._turn.acquire(blocking=False):
            try:
                if offset == self.size:
                    self._take(chunk)
            finally:
                self._turn.release()

    def part_done(self, source: Source, part: Part, buffer: memoryview, check: Callable[[], object]) -> None:
        """A part was hashed: read what can be taken by now. Blocking.

        Args:
            source: The file.
            part: The part.
            buffer: For chunks.
            check: Called after each chunk. What it raises ends the reading.
        """
        self._done[part.offset] = part.offset + part.size
        # Who finds another thread at it leaves the part to that one, which looks again after its turn.
        while self._end_of_next() is not None and self._turn.acquire(blocking=False):
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
                self._turn.release()

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

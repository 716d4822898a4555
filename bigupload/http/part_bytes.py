"""The bytes of one part: in memory, in the page cache, or somewhere that has to be waited for."""

from __future__ import annotations

from bigupload import errors
from bigupload.core.part_plan import MIB, Part
from bigupload.ports import Source
from bigupload.support.page_cache import is_cached, read_cached

LOOK_AHEAD = 4 * MIB
"""Bytes for which the page cache is asked at a time."""


class PartBytes:
    """A range of a source. Positions count from the beginning of the part."""

    def __init__(self, source: Source, part: Part) -> None:
        self._source = source
        self.offset = part.offset
        """Where the part begins in the source."""
        self.size = part.size
        self.view = source.view(part.offset, part.size)
        """The whole part, if it is in memory."""
        self.cached_until = 0 if self.view is None else part.size
        """Up to where the part was in memory or in the page cache, when that was last asked."""

    def fileno(self) -> int | None:
        """The source's descriptor, if it has one."""
        return self._source.fileno()

    def at_hand(self, position: int) -> bool:
        """Whether the next bytes can be read without waiting. The page cache is asked once for each `LOOK_AHEAD`."""
        if self.view is not None or position < self.cached_until:
            return True
        fd = self.fileno()
        if fd is None:
            return False
        size = min(LOOK_AHEAD, self.size - position)
        if size and not is_cached(fd, self.offset + position, size):
            return False
        self.cached_until = position + size
        return True

    def read_at_hand(self, buffer: memoryview, position: int) -> int:
        """Fill `buffer` with what needs no waiting. Returns how many bytes that was."""
        if self.view is not None:
            buffer[:] = self.view[position : position + len(buffer)]
            return len(buffer)
        fd = self.fileno()
        return read_cached(fd, buffer, self.offset + position) if fd is not None else 0

    def read(self, buffer: memoryview, position: int) -> int:
        """Fill `buffer`. Blocking. See `ports.Source.read_into`."""
        return self._source.read_into(buffer, self.offset + position)

    def chunk(self, buffer: memoryview, position: int, size: int) -> memoryview:
        """The next `size` bytes, in `buffer` if they had to be read. Blocking.

        Raises:
            SourceChanged: The source ends before that.
        """
        if self.view is not None:
            return self.view[position : position + size]
        if self.read(buffer[:size], position) < size:
            raise self.became_shorter()
        return buffer[:size]

    def became_shorter(self) -> errors.SourceChanged:
        """Return the error for a source that ends within the part."""
        return errors.SourceChanged(
            f"{self._source.path} became shorter while it was uploaded: {errors.UPLOAD_AS_IT_IS}", same_size=False
        )

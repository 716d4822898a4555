"""Bytes that are in memory already: sent from where they are, without a copy."""

from __future__ import annotations

from bigupload import errors
from bigupload.sources.unwatched import Unwatched


class MemorySource(Unwatched):
    """Bytes in memory. Implements `ports.Source`.

    They must not change while they are uploaded. If they do, the store refuses the part, and the upload stops.
    """

    def __init__(self, name: str, data: memoryview, start: int = 0) -> None:
        """Use the bytes of `data` from `start` on."""
        self._data = data[start:]
        super().__init__(name, len(self._data))
        self.start = start

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes of a range, fewer at the end. See `ports.Source.view`."""
        return self._data[offset : offset + size]

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. See `ports.Source.read_into`."""
        found = self.view(offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Let the bytes go: while they are viewed, their owner can't change its size. May be called again."""
        self._data = memoryview(b"")


def bytes_of(data: object) -> memoryview:
    """View a buffer as bytes.

    Raises:
        UsageError: It is not contiguous, so that it has no bytes in one row.
    """
    try:
        view = memoryview(data)  # type: ignore[arg-type]  # whatever has a buffer; others raise TypeError
        return view.cast("B") if view.nbytes else memoryview(b"")  # a view of nothing can't be cast
    except (TypeError, ValueError) as e:
        raise errors.UsageError(f"a source in memory is contiguous bytes: {e}") from None

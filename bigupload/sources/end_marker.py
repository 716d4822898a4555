"""A stream that must end with certain bytes, which only a program that succeeded writes. They are not part of it."""

from __future__ import annotations

from bigupload import errors
from bigupload.sources.producers import UNFINISHED, Producer


class MarkedProducer:
    """The bytes of another producer without the marker at their end. Implements `producers.Producer`.

    It always holds back as many bytes as the marker has, because they may be the last ones.
    """

    def __init__(self, producer: Producer, marker: bytes, name: str) -> None:
        """Read nothing yet.

        Args:
            producer: Where the bytes come from.
            marker: The last bytes, at least one.
            name: The stream's name, for an error.
        """
        self._producer = producer
        self._marker = marker
        self._name = name
        self._held: bytes | None = None
        self._ended = False

    async def fill(self, buffer: memoryview) -> int:
        """Fill `buffer`. See `producers.Producer.fill`.

        Raises:
            StreamInterrupted: The stream ended without the marker.
        """
        if self._ended:
            return 0
        if self._held is None:
            self._held = await self._read(len(self._marker))
            self._require(len(self._held) == len(self._marker))
        size, kept = len(buffer), len(self._held)
        if size <= kept:
            more = await self._read(size)
            whole = self._held + more
            buffer[: len(more)] = whole[: len(more)]
            return self._end(whole[len(more) :], given=len(more), wanted=size)
        buffer[:kept] = self._held
        count = kept + await self._producer.fill(buffer[kept:])
        if count < size:
            return self._end(bytes(buffer[count - kept : count]), given=count - kept, wanted=size)
        more = await self._read(kept)
        missing = kept - len(more)
        return self._end(bytes(buffer[size - missing :]) + more, given=size - missing, wanted=size)

    def close(self) -> None:
        """Read no more."""
        self._producer.close()

    def _end(self, held: bytes, *, given: int, wanted: int) -> int:
        """Hold these bytes back; they are the last ones if fewer bytes came than were wanted."""
        self._held = held
        if given < wanted:
            self._ended = True
            self._require(held == self._marker)
        return given

    async def _read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: await self._producer.fill(memoryview(buffer))])

    def _require(self, whole: bool) -> None:
        if not whole:
            raise errors.StreamInterrupted(
                f"{self._name} does not end with the end marker: did what writes it fail? {UNFINISHED}"
            )

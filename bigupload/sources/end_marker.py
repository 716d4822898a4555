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
        self._last = b""
        """The last byte that was given."""
        self._ended = False

    @property
    def taken(self) -> int:
        """See `producers.Producer.taken`."""
        return self._producer.taken

    async def fill(self, buffer: memoryview) -> int:
        """Fill `buffer`. See `producers.Producer.fill`.

        Raises:
            StreamInterrupted: The stream ended without the marker.
        """
        if self._ended:
            return 0
        if self._held is None:
            self._held = await self._read(len(self._marker))
            if len(self._held) < len(self._marker):
                self._require(self._held)
        size, kept = len(buffer), len(self._held)
        if size <= kept:
            more = await self._read(size)
            whole = self._held + more
            buffer[: len(more)] = whole[: len(more)]
            return self._end(whole[len(more) :], buffer, given=len(more))
        buffer[:kept] = self._held
        count = kept + await self._producer.fill(buffer[kept:])
        if count < size:
            return self._end(bytes(buffer[count - kept : count]), buffer, given=count - kept)
        more = await self._read(kept)
        missing = kept - len(more)
        return self._end(bytes(buffer[size - missing :]) + more, buffer, given=size - missing)

    def close(self) -> None:
        """Read no more."""
        self._producer.close()

    def _end(self, held: bytes, buffer: memoryview, *, given: int) -> int:
        """Hold these bytes back; they are the last ones if fewer bytes came than the buffer has."""
        self._held = held
        if given:
            self._last = bytes(buffer[given - 1 : given])
        if given < len(buffer):
            self._ended = True
            self._require(held)
        return given

    async def _read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: await self._producer.fill(memoryview(buffer))])

    def _require(self, held: bytes) -> None:
        if held == self._marker:
            return
        if self._last + held == self._marker + b"\n":
            raise errors.StreamInterrupted(
                f"{self._name} ends with the bytes of `end_marker` and a newline, which must not be there: echo "
                f"writes one, printf does not. {UNFINISHED}"
            )
        raise errors.StreamInterrupted(
            f"{self._name} does not end with the bytes of `end_marker`: did what writes it fail? {UNFINISHED}"
        )

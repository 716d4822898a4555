"""Where HTTP/1.1 messages and their bodies begin and end in a stream of bytes. For counting, not for understanding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

HEAD_LIMIT = 1 << 20


@dataclass(frozen=True)
class Head:
    """A start line and its headers, names in lower case."""

    start: tuple[str, str, str]
    headers: dict[str, str]

    @property
    def content_length(self) -> int | None:
        value = self.headers.get("content-length", "")
        return int(value) if value.isdecimal() else None

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


def parse_head(raw: bytes) -> Head:
    first, *lines = raw.decode("latin-1").split("\r\n")
    pieces = (*first.split(" ", 2), "", "")
    pairs = (line.partition(":") for line in lines if line)
    return Head((pieces[0], pieces[1], pieces[2]), {name.strip().lower(): value.strip() for name, _, value in pairs})


@dataclass(frozen=True)
class Body(Generic[T]):
    """What follows a head: whose body it is, and its length (None: chunked, or until the connection closes)."""

    owner: T
    length: int | None
    chunked: bool = False


class Framer(Generic[T]):
    """Splits one direction of a connection into runs of (owner of the body bytes or None, length).

    `begin` is called with each head and says what body follows; None for a head that has none and doesn't count, as
    `100 Continue`.
    """

    def __init__(self, begin: Callable[[Head], Body[T] | None], end: Callable[[T], None]) -> None:
        self._begin, self._end = begin, end
        self._line = bytearray()
        self._step: Callable[[memoryview], int] = self._head
        self._owner: T | None = None
        self._left: int | None = 0

    def feed(self, data: memoryview) -> list[tuple[T | None, int]]:
        runs: list[tuple[T | None, int]] = []
        at = 0
        while at < len(data):
            owner = self._owner if self._step == self._data else None
            used = self._step(data[at:])
            runs.append((owner, used))
            at += used
        return runs

    def _until(self, data: memoryview, mark: bytes) -> tuple[int, bytes | None]:
        """Collect up to `mark`: how much was used, and what was collected once the mark is there."""
        have = len(self._line)
        self._line += data[:HEAD_LIMIT]
        end = self._line.find(mark, max(0, have - len(mark) + 1))
        if end < 0:
            if len(self._line) > HEAD_LIMIT:
                raise ValueError("not HTTP/1.1")
            return min(len(data), HEAD_LIMIT), None
        found = bytes(self._line[:end])
        self._line.clear()
        return end + len(mark) - have, found

    def _head(self, data: memoryview) -> int:
        if not self._line and bytes(data[:2]) == b"\r\n":
            return 2  # an empty line before a message is to be ignored
        used, raw = self._until(data, b"\r\n\r\n")
        if raw is not None:
            body = self._begin(parse_head(raw))
            if body is not None:
                self._owner = body.owner
                self._left = body.length
                self._step = self._chunk_size if body.chunked else self._data
                if body.length == 0:
                    self._finish()
        return used

    def _data(self, data: memoryview) -> int:
        if self._left is None:
            return len(data)
        used = min(self._left, len(data))
        self._left -= used
        if self._left == 0:
            if self._chunks:
                self._step = self._chunk_end
            else:
                self._finish()
        return used

    _chunks = False

    def _chunk_size(self, data: memoryview) -> int:
        used, raw = self._until(data, b"\r\n")
        if raw is not None:
            self._left = int(raw.partition(b";")[0], 16)
            self._chunks = self._left > 0
            self._step = self._data if self._left else self._trailer
        return used

    def _chunk_end(self, data: memoryview) -> int:
        used, raw = self._until(data, b"\r\n")
        if raw is not None:
            self._step = self._chunk_size
        return used

    def _trailer(self, data: memoryview) -> int:
        used, raw = self._until(data, b"\r\n")
        if raw == b"":
            self._finish()
        return used

    def _finish(self) -> None:
        owner, self._owner = self._owner, None
        self._chunks = False
        self._step = self._head
        if owner is not None:
            self._end(owner)

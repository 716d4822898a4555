"""Reads responses of HTTP/1.1 out of the bytes that came: the head, and as much of the body as there is.

https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import errno
import re
from collections.abc import ItemsView, Iterator, Mapping
from typing import NamedTuple

MAX_HEAD = 64 * 1024
"""Bytes of a head, together with the interim ones before it."""
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LISTS = ("content-length", "transfer-encoding", "connection")
"""Headers of which each value counts."""
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,15}")
_WITHOUT_BODY = (204, 304)


class MalformedResponse(ConnectionError):
    """What came is no response of HTTP/1.1."""

    def __init__(self) -> None:
        super().__init__(errno.EPROTO, "the response is not HTTP")


class Headers(Mapping[str, str]):
    """The headers of a response. Names are looked up in any spelling, and listed in lower case."""

    def __init__(self, found: dict[str, str]) -> None:
        """Take the headers, whose names are in lower case."""
        self._found = found

    def __getitem__(self, name: str) -> str:
        return self._found[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def items(self) -> ItemsView[str, str]:
        return self._found.items()


class ResponseHead(NamedTuple):
    """A response without its body."""

    status: int
    headers: Headers
    length: int | None
    """Bytes of the body; None: as the chunks say, or else all until the connection ends."""
    chunked: bool
    keep: bool
    """Whether another request may follow on the connection, once the body was read."""


def end_of_head(received: bytearray) -> tuple[int, int] | None:
    """Return where a head ends, and where what follows begins; None if it has not come whole."""
    end = _END_OF_HEAD.search(received)
    return None if end is None else end.span()


def parse_head(head: bytes) -> ResponseHead:
    """Read a head.

    Args:
        head: All before its end.

    Raises:
        MalformedResponse: It is none.
    """
    first, *lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise MalformedResponse
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is not None:
            name, value = header[1].lower(), header[2].rstrip(" \t")
            if name not in found:
                found[name] = value
            elif name in _LISTS:
                found[name] += f", {value}"
        elif name and line.startswith((" ", "\t")) and "\r" not in line:  # the last header goes on, as it could once
            found[name] += f" {line.strip()}"
        else:
            raise MalformedResponse
    code = int(status[2])
    keep = status[1] == "1" and "close" not in found.get("connection", "").lower()
    coding = found.get("transfer-encoding", "identity").lower()
    if code < 200 or code in _WITHOUT_BODY:
        return ResponseHead(code, Headers(found), 0, False, keep)
    if coding != "identity":  # what a Content-Length beside it says does not count, and nothing may follow
        return ResponseHead(code, Headers(found), None, coding == "chunked", keep and "content-length" not in found)
    length = _length(found.get("content-length"))
    return ResponseHead(code, Headers(found), length, False, keep and length is not None)


def _length(said: str | None) -> int | None:
    if said is None:
        return None
    values = {each.strip() for each in said.split(",")}  # the same one said twice is one
    value = values.pop()
    if values or not _LENGTH.fullmatch(value):
        raise MalformedResponse
    return int(value)


def body_of(head: ResponseHead, received: bytes | bytearray) -> tuple[bytes, int | None]:
    """Return what has come of a body.

    Args:
        head: The response's.
        received: The bytes that came after it.

    Returns:
        The body's first bytes, and how many of `received` the whole body takes; None if it is not whole yet.

    Raises:
        MalformedResponse: A chunk is none.
    """
    if head.chunked:
        return _dechunked(bytes(received))
    if head.length is None:
        return bytes(received), None
    return bytes(received[: head.length]), head.length if len(received) >= head.length else None


def _dechunked(received: bytes) -> tuple[bytes, int | None]:
    found: list[bytes] = []
    at = 0
    while (end := received.find(b"\r\n", at)) >= 0:
        size = _CHUNK.fullmatch(received[at:end].partition(b";")[0].rstrip(b" \t"))
        if size is None:
            raise MalformedResponse
        at, length = end + 2, int(size[0], 16)
        if length == 0:
            return b"".join(found), _end_of_trailers(received, at)
        found.append(received[at : at + length])
        at += length
        if received[at : at + 2] not in (b"", b"\r", b"\r\n"):
            raise MalformedResponse
        at += 2
    return b"".join(found), None


def _end_of_trailers(received: bytes, at: int) -> int | None:
    if received.startswith(b"\r\n", at):
        return at + 2
    end = received.find(b"\r\n\r\n", at)
    return end + 4 if end >= 0 else None

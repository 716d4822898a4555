"""Fuzzed bytes as responses of HTTP: in whichever pieces they come, the same is read, and nothing is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import Any, cast

from bigupload.http.connection import Connection
from bigupload.http.response_head import BodyReader, MalformedResponse, end_of_head, parse_head
from tests.tools.no_transport import NoTransport

_MOST_PIECES = 1_000


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    """The event loop of all targets."""
    return asyncio.new_event_loop()


def received(pieces: Sequence[bytes], *, ended: bool) -> Connection:
    """A connection on which this has come, and perhaps its end."""
    connection, transport = Connection(), NoTransport()
    connection.connection_made(cast("asyncio.Transport", transport))
    for piece in pieces:
        connection.data_received(piece)
    if ended:
        connection.eof_received()
    return connection


def split(data: bytes, sizes: bytes) -> list[bytes]:
    """The data in pieces of these sizes, over and over; in the end all that is left, as byte by byte takes too long."""
    pieces, at, turn = list[bytes](), 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)] + 1 if sizes and turn < _MOST_PIECES else len(data)
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def _whole(data: bytes) -> tuple[Any, bytes | None, bytes]:
    """What comes out of a response that has come at once: its head, its body if that has ended, and what is left."""
    found = end_of_head(bytearray(data))
    if found is None:
        return None, None, data
    try:
        head = parse_head(data[: found[0]])
    except MalformedResponse:
        return "malformed", None, data
    body, left, read = BodyReader(head), bytearray(data[found[1] :]), bytearray()
    try:
        while piece := body.take(left, 1 << 20):
            read += piece
    except MalformedResponse:
        return head, None, b""
    if head.length is not None:
        assert len(read) <= head.length
    assert len(read) + len(left) <= len(data)
    return head, bytes(read) if body.ended else None, bytes(left)


def _in_pieces(data: bytes, sizes: bytes, most: int) -> tuple[Any, bytes | None, bytes]:
    """The same of one that comes piece by piece, and of which at most so many bytes are taken at a time."""
    come, body, head, read = bytearray(), None, None, bytearray()
    for piece in split(data, sizes):
        come += piece
        if body is None:
            if (found := end_of_head(come)) is None:
                continue
            try:
                head = parse_head(bytes(come[: found[0]]))
            except MalformedResponse:
                return "malformed", None, data
            del come[: found[1]]
            body = BodyReader(head)
        try:
            while taken := body.take(come, most):
                assert len(taken) <= most
                read += taken
        except MalformedResponse:
            return head, None, b""
    if body is None:
        return None, None, data
    return head, bytes(read) if body.ended else None, bytes(come)


def http(data: bytes) -> None:
    """A response in arbitrary pieces: first byte: how many sizes of pieces follow; then those; then the response."""
    count, most = (*data[:2], 0, 0)[:2]
    sizes, data = data[2 : 2 + count % 8], data[2 + count % 8 :][:20_000]
    assert _in_pieces(data, sizes, most + 1) == _whole(data)
    loop().run_until_complete(_over_a_connection(data, sizes, most + 1))


async def _over_a_connection(data: bytes, sizes: bytes, most: int) -> None:
    """As a client reads it, whose connection ends after that: no more than has come, and never for ever."""
    connection = received(split(data, sizes), ended=True)
    read = 0
    with contextlib.suppress(OSError):
        head = await connection.head()
        assert head.status >= 200
        body = BodyReader(head)
        while piece := await connection.read(body, most):
            read += len(piece)
            assert len(piece) <= most
        assert body.ended
    assert read <= len(data)

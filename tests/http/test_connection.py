"""What a connection remembers of its end, and bodies that meet it."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, cast

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.http.client import OpenResponse
from bigupload.http.connection import _MOST_WAITING, Connection
from bigupload.http.part_body import BodyResources, PartBody
from bigupload.http.put_transport import MemoryBody
from bigupload.http.response_head import BodyReader
from bigupload.sources.objects import MemorySource
from tests.tools.no_transport import NoTransport

STORED = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


def connected() -> tuple[Connection, NoTransport]:
    made, transport = Connection(), NoTransport()
    made.connection_made(cast("asyncio.Transport", transport))
    return made, transport


@pytest.mark.parametrize("unsent", [0, 1])
async def test_a_body_is_as_complete_as_when_the_response_came(unsent: int) -> None:
    """The transport forgets what it has when the connection breaks, before the task that waits hears of it."""
    made, transport = connected()
    body = MemoryBody(memoryview(b"body"), BodyResources(None, "system"))
    sending = asyncio.create_task(body.exchange(made, b"head"))
    while not transport.unsent:
        await asyncio.sleep(0)
    transport.unsent = unsent
    made.data_received(STORED)
    transport.unsent = 0
    made.connection_lost(ConnectionResetError())
    assert (await sending).status == 200
    assert body.complete is not bool(unsent)


async def test_what_came_counts_before_how_it_ended() -> None:
    made, _ = connected()
    made.data_received(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 2\r\n\r\nno")
    made.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    head = await made.head()
    assert (head.status, await OpenResponse(made, head, "here", None).read_as_far_as_it_comes(100, 60.0)) == (
        503,
        b"no",
    )
    with pytest.raises(ConnectionResetError, match="reset by peer"):
        await made.head()


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_an_end_without_a_response(received: bytes) -> None:
    made, _ = connected()
    made.data_received(received)
    made.eof_received()
    with pytest.raises(ConnectionAbortedError, match="closed without a response"):
        await made.head()


async def test_what_nobody_reads_is_not_received_further() -> None:
    """And all of it is there for who reads later."""
    made, transport = connected()
    data = bytes(range(256)) * 4096
    made.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * len(data)))
    body = BodyReader(await made.head())
    made.data_received(data[: _MOST_WAITING + 1])
    made.data_received(data[_MOST_WAITING + 1 :])  # what the kernel had handed over already
    assert transport.pauses == [True]
    found = bytearray()
    while len(found) < len(data):
        found += await made.read(body, 1000)
    assert found == data
    assert transport.pauses == [True]
    reading = asyncio.create_task(made.read(body, len(data)))
    await asyncio.sleep(0)
    assert transport.pauses == [True, False]
    made.data_received(data)
    assert await reading == data
    assert body.ended


@pytest.mark.parametrize("reset", [False, True])
async def test_a_body_until_the_connection_ends(reset: bool) -> None:
    """Its end is the body's, but for a reset: then some of it may be missing."""
    made, _ = connected()
    made.data_received(b"HTTP/1.1 200 OK\r\n\r\nall there is")
    body = BodyReader(await made.head())
    made.connection_lost(ConnectionResetError(104, "Connection reset by peer") if reset else None)
    assert await made.read(body, 100) == b"all there is"
    if reset:
        with pytest.raises(ConnectionResetError):
            await made.read(body, 100)
    else:
        assert await made.read(body, 100) == b""
    assert body.ended is not reset


async def test_who_cancels_a_body_that_fails_hears_of_the_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def fail(self: Any, connection: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("no thread is left")

    monkeypatch.setattr(PartBody, "_write_body", fail)
    made, _ = connected()
    source = MemorySource("b", memoryview(bytes(MIB)))
    body = PartBody(source, Part(1, 0, MIB), BodyResources(None, "system"))
    sending = asyncio.create_task(body.exchange(made, b"head"))
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


@pytest.mark.parametrize("taken", [0, 3, 4, 6, 8])
async def test_head_and_body_go_together_however_much_the_kernel_takes(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not take at once goes to the transport, as a copy: the buffer may be used again."""
    made, transport = connected()
    ours, peer = socket.socketpair()
    written: list[bytes] = []
    monkeypatch.setattr(transport, "get_extra_info", lambda name: ours if name == "socket" else None)
    monkeypatch.setattr(transport, "write", written.append)

    def takes(fd: int, pieces: tuple[bytes, memoryview]) -> int:
        if not taken:
            raise BlockingIOError
        return os.write(fd, b"".join(pieces)[:taken])

    monkeypatch.setattr(os, "writev", takes)
    body = bytearray(b"body")
    made.write_both(b"head", memoryview(body))
    body[:] = b"else"
    with ours, peer:
        arrived = peer.recv(100) if taken else b""
    assert arrived + b"".join(written) == b"headbody"
    assert len(arrived) == taken


async def test_a_body_goes_behind_what_the_transport_still_has(monkeypatch: pytest.MonkeyPatch) -> None:
    made, transport = connected()
    ours, peer = socket.socketpair()
    monkeypatch.setattr(transport, "get_extra_info", lambda name: ours if name == "socket" else None)
    transport.write(b"before")
    with ours, peer:
        made.write_both(b"head", memoryview(b"body"))
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
    assert transport.unsent == len(b"beforeheadbody")

"""Responses to calls made by credentials that never end, or are no responses of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http import client
from bigupload.options import S3Options
from bigupload.service.media_objects import MediaBucket
from bigupload.stores.s3.multipart import S3Store
from tests.tools.cases import each_case

from .test_hostile_store import refusal


@contextlib.asynccontextmanager
async def sending(
    begin: bytes, then: bytes = b"", *, trickling: bool = False
) -> AsyncIterator[tuple[S3Store, list[int]]]:
    """A store that responds to each request with `begin`, and with `then` for ever.

    Args:
        begin: The beginning of a response.
        then: What follows, again and again; nothing: the end.
        trickling: Whether each turn of the event loop brings one; else they come as fast as they are taken.

    Yields:
        The client's side, and the bytes that were sent on each connection.
    """
    sent: list[int] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        number = len(sent)
        sent.append(0)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(begin)
            while then and not writer.is_closing():
                writer.write(then)
                await writer.drain()
                sent[number] += len(then)
                if trickling:
                    await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    options = S3Options(endpoint_url=url, region="us-east-1", access_key="a", secret_key="hidden")
    async with server, contextlib.aclosing(S3Store("bucket", "key", options)) as store:
        yield store, sent
    await asyncio.gather(*tasks)  # each ends, because its connection is closed


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "headers": (OK, b"x-header: value\r\n" * 1000),
    "one header": (OK + b"x-header: ", b"a" * 10_000),
    "a header that goes on": (OK + b"x-header: a\r\n", b" and so on\r\n" * 1000),
    "the status": (b"HTTP/1.1 200 ", b"O" * 10_000),
    "interim responses": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
    "the size of a chunk": (CHUNKED, b"0" * 10_000),
    "the extension of a chunk": (CHUNKED + b"1;", b"a" * 10_000),
    "trailers": (CHUNKED + b"0\r\n", b"x-trailer: value\r\n" * 1000),
    "chunks": (CHUNKED, (b"3e8\r\n" + b" " * 1000 + b"\r\n") * 10),
    "zeros": (b"", bytes(10_000)),
}


@pytest.mark.slow
@each_case("call", ["list", "complete"])
@each_case(("begin", "then"), ENDLESS.values())
async def test_no_part_of_a_response_is_read_for_ever(call: str, begin: bytes, then: bytes) -> None:
    async with sending(begin, then) as (store, sent):
        found = await refusal(store, call)
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.BROKEN
        assert len(sent) == 1
    assert sent[0] < 128 << 20  # what is read, and what the sockets between hold


@pytest.mark.parametrize("where", ["the head", "the body"])
async def test_a_response_that_trickles_for_ever(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never silent for long. Complete, too, may send white space for minutes, and not for hours."""
    monkeypatch.setattr(client, "MOST_SECONDS", 0.05)
    begin, then = (OK + b"x-header: ", b"a") if where == "the head" else (CHUNKED, b"1\r\n \r\n")
    async with sending(begin, then, trickling=True) as (store, _):
        if where == "the head":
            store._bucket._answer_within = 0.05
        found = await refusal(store, "list")
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.STALLED


async def test_an_object_that_trickles_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which only the beginning is wanted."""
    monkeypatch.setattr(client, "MOST_SECONDS", 0.05)
    async with sending(CHUNKED, b"1\r\n \r\n", trickling=True) as (store, _):
        with pytest.raises(Fault, match=r"did not end within") as caught:
            await MediaBucket(store._bucket).look("key", first=1 << 20)
        assert caught.value.kind is FaultKind.STALLED


@each_case(
    "response",
    [
        b"", b"\0", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n",
        OK + b"no header\r\n\r\n", OK + b"Content-Length: -1\r\n\r\n", OK + b"Content-Length: 5\r\n\r\n<a/>",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n<a/>", CHUNKED + b"-1\r\n", CHUNKED + b"4\r\n<a/>x\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n", CHUNKED + b"4\r\n<a/>\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_response_is_a_broken_connection(response: bytes) -> None:
    async with sending(response) as (store, sent):
        found = await refusal(store, "list")
        assert isinstance(found, Fault)
        assert found.kind is FaultKind.BROKEN
        assert len(sent) == 1

"""A stream is cut into the same parts however its bytes come, and nothing is made of one that fails."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import http.client
import io
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import errors
from bigupload.core.checksums import Algorithm, combine_crc, digest_of
from bigupload.core.part_plan import Limits, Part, plan_parts, plan_stream
from tests.sources.streams import DATA, LIMITS, PLAN, WAYS, Raw, async_chunks, chunked, cut, stream_of
from tests.tools.cases import each_case, examples
from tests.tools.waiting import until


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=examples(170))
@given(size=st.integers(1, len(DATA)), cuts=st.lists(st.integers(0, len(DATA)), max_size=40))
def test_the_chunks_make_no_difference(way: str, size: int, cuts: list[int]) -> None:
    """The same parts, and the same checksum of the whole."""
    data = DATA[:size]
    source = WAYS[way](chunked(data, [min(at, size) for at in cuts]))
    found = asyncio.run(cut(stream_of(source)))
    assert [part for part, _ in found] == list(PLAN.closed(size))
    assert b"".join(piece for _, piece in found) == data
    digests = [(digest_of(Algorithm.CRC64NVME, piece), len(piece)) for _, piece in found]
    assert combine_crc(Algorithm.CRC64NVME, digests) == digest_of(Algorithm.CRC64NVME, data)


@each_case("size", [99, 100, 101, 499, 500, 501, 700, 1500, 1501])
async def test_at_the_edges_of_parts_and_steps(size: int) -> None:
    found = await cut(stream_of([DATA[:size]]))
    assert [part for part, _ in found] == list(PLAN.closed(size))


@pytest.mark.parametrize("size", [1, 100, 301])
async def test_of_a_size_that_was_expected(size: int) -> None:
    plan = plan_parts(size, 100, limits=LIMITS)
    stream = stream_of([DATA[:size]], expected=size)
    assert stream.fingerprint.size == size
    assert [part for part, _ in await cut(stream, plan)] == list(plan)


# -- where it ends


@each_case("expected", [False, True])
@each_case("is_open", [False, True])
@each_case("size", [1, 99, 100, 150, 299])
async def test_a_stream_that_ends_early(expected: bool, is_open: bool, size: int) -> None:
    """The size may be the caller's, or that of the plan that an earlier run began with."""
    plan = PLAN if is_open else plan_parts(300, 100, limits=LIMITS)
    stream = stream_of([DATA[:size]], expected=300 if expected or is_open else None)
    with pytest.raises(errors.StreamInterrupted, match=f"ended after {size} bytes, and 300 were expected") as caught:
        await cut(stream, plan)
    assert caught.value.resumable


@each_case("is_open", [False, True])
@each_case("size", [301, 400, 4000])
async def test_a_stream_that_goes_on(is_open: bool, size: int) -> None:
    plan = PLAN if is_open else plan_parts(300, 100, limits=LIMITS)
    with pytest.raises(errors.SourceChanged, match="more than the 300 bytes") as caught:
        await cut(stream_of([DATA[:size]], expected=300), plan)
    assert not caught.value.resumable


async def test_a_stream_that_no_plan_holds() -> None:
    tiny = plan_stream(limits=Limits(min_part_size=10, max_part_size=20, max_parts=4, default_part_size=10))
    assert len(await cut(stream_of([DATA[: tiny.capacity]]), tiny)) == 4
    with pytest.raises(errors.SourceUnsupported, match="`expected_size`"):
        await cut(stream_of([DATA[: tiny.capacity + 1]]), tiny)


@each_case("source", [[], [b""], [b"", b""], io.BufferedReader(Raw([]))])
async def test_an_empty_stream(source: Any) -> None:
    with pytest.raises(errors.StreamInterrupted, match="is empty: did its writer fail"):
        await stream_of(source).begin()


async def test_an_empty_stream_that_may_be_empty() -> None:
    assert [part for part, _ in await cut(stream_of([], allow_empty=True))] == [Part(1, 0, 0)]
    assert [part for part, _ in await cut(stream_of([], expected=0))] == [Part(1, 0, 0)]


async def test_a_generator_runs_in_one_thread() -> None:
    """What it opens may be bound to the thread, as a connection of sqlite3 is; and it sees the caller's context."""
    threads: set[int] = set()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(DATA), 100):
            threads.add(threading.get_ident())
            assert variable.get() == "the caller's"
            yield DATA[at : at + 100]

    stream = stream_of(chunks())
    await cut(stream)
    stream.close()
    stream.close()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


# -- what fails


class Broken(Exception):
    pass


def raising(error: BaseException, after: int) -> Iterator[bytes]:
    yield DATA[:after]
    raise error


async def later(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("kind", [iter, later])
@pytest.mark.parametrize(
    ("error", "reason"),
    [(Broken("https://x/?X-Amz-Signature=s"), "Broken"), (OSError(5, "Input/output error"), "Input/output error")],
)
async def test_an_iterator_that_raises(error: Exception, reason: str, kind: Callable[[Iterator[bytes]], Any]) -> None:
    """Its text may hold a URL, which may be a secret."""
    with pytest.raises(errors.SourceUnreadable, match=rf"name failed after 250 bytes: {reason}") as caught:
        await cut(stream_of(kind(raising(error, 250))))
    assert caught.value.__cause__ is error
    assert "Signature" not in str(caught.value)
    assert caught.value.resumable


@pytest.mark.parametrize("error", [errors.SourceNotFound("none"), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_what_is_not_translated(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await cut(stream_of(raising(error, 250)))


@each_case("wrong", ["text", 7, None, [b"a"]])
@each_case("kind", [iter, async_chunks])
async def test_chunks_that_are_no_bytes(wrong: Any, kind: Any) -> None:
    with pytest.raises(errors.UsageError, match="the stream gives"):
        await cut(stream_of(kind([b"right", wrong])))


async def test_chunks_of_every_kind() -> None:
    chunks: list[Any] = [
        b"ab",
        bytearray(b"cd"),
        memoryview(b"ef"),
        memoryview(b"g.h.")[::2],
        memoryview(bytes(8)).cast("I"),
    ]
    ((_, data),) = await cut(stream_of(chunks))
    assert data == b"abcdefgh" + bytes(8)


def refilled() -> Iterator[bytearray]:
    buffer = bytearray()
    for at in range(0, 500, 50):
        buffer += DATA[at : at + 50]
        yield buffer
        buffer.clear()


async def refilled_async() -> AsyncIterator[bytearray]:
    for chunk in refilled():
        yield chunk


@pytest.mark.parametrize("chunks", [refilled, refilled_async])
async def test_a_bytearray_that_is_emptied_and_filled_again(chunks: Any) -> None:
    """Python refuses to change its size while anything views it."""
    found = await cut(stream_of(chunks()))
    assert b"".join(piece for _, piece in found) == DATA[:500]


@contextlib.contextmanager
def response(sent: int) -> Iterator[http.client.HTTPResponse]:
    """Python's own response of 300 bytes, of which the server sends so many before it closes the connection."""
    server, client = socket.socketpair()
    with server, client:
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + DATA[:sent])
        server.shutdown(socket.SHUT_WR)
        with http.client.HTTPResponse(client) as made:
            made.begin()
            yield made


async def test_an_http_response() -> None:
    with response(300) as whole:
        assert b"".join(piece for _, piece in await cut(stream_of(whole))) == DATA[:300]


@each_case("sent", [0, 1, 100, 200, 250, 299])
async def test_an_http_response_that_was_cut_off(sent: int) -> None:
    """Python ends it as if it were whole."""
    with response(sent) as short, pytest.raises(errors.SourceUnreadable, match=f"ended {300 - sent} bytes before"):
        await cut(stream_of(short))


async def test_a_response_of_urllib3_that_does_not_look_at_its_length() -> None:
    with response(250) as short:
        headers = dict(short.headers)
        raw = urllib3.HTTPResponse(short, headers, preload_content=False, enforce_content_length=False)
        with pytest.raises(errors.SourceUnreadable, match="ended 50 bytes before"):
            await cut(stream_of(raw))


async def test_a_file_object_that_does_not_block() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    refused = pytest.raises(errors.UsageError, match="let it block")
    with os.fdopen(reading, "rb", buffering=0) as file, os.fdopen(writing, "wb"), refused:
        await stream_of(file).begin()


class Decrypting(io.BufferedReader):
    """Has a `read` of its own, and the `readinto` of its base."""

    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(byte ^ 1 for byte in super().read(size))


class OnlyRead(io.RawIOBase):
    """Has no `readinto`."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(size)


async def test_a_read_of_one_s_own_is_what_is_read() -> None:
    encrypted = Raw([bytes(byte ^ 1 for byte in DATA)])
    assert b"".join(piece for _, piece in await cut(stream_of(Decrypting(encrypted)))) == DATA
    assert b"".join(piece for _, piece in await cut(stream_of(OnlyRead(DATA)))) == DATA


async def test_a_part_whose_reading_was_cancelled_has_gone_by() -> None:
    """Nobody has its first bytes any more: a part that began behind them would be proved, and wrong."""
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    chunks.put_nowait(DATA[:150])

    async def produced() -> AsyncIterator[bytes]:
        while True:
            yield await chunks.get()

    stream = stream_of(produced())
    reading = asyncio.create_task(stream.next_part(plan_stream(1000, limits=LIMITS)))
    await until(chunks.empty)
    reading.cancel()
    await asyncio.wait({reading})
    assert not await stream.rewind()
    with pytest.raises(errors.StreamInterrupted, match="interrupted"):
        await stream.next_part(plan_stream(1000, limits=LIMITS))

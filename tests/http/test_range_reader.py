"""Ranges of an object, from stores that write ETags, errors and ends as they like. `integration` has whole objects."""

from __future__ import annotations

import pytest

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.client import HttpClient, read_range
from bigupload.http.http_errors import MAX_ERROR_BODY
from bigupload.ports import SignedRequest
from tests.tools.cases import each_case
from tests.tools.scripted import Script, asking, refusal

DATA = bytes(range(100))


def answer(start: int, end: int, *, etag: str | None = '"e"', status: int = 206) -> bytes:
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {end - start}\r\n"
    head += "" if etag is None else f"ETag: {etag}\r\n"
    head += f"Content-Range: bytes {start}-{end - 1}/100\r\n" if status == 206 else ""
    return f"{head}\r\n".encode() + DATA[start:end]


async def read(
    client: HttpClient, script: Script, start: int, end: int, *, etag: str = '"e"', most: int = 1000
) -> bytes:
    found = bytearray()

    async def take(data: bytes) -> bool:
        found.extend(data)
        return len(found) < most

    request = SignedRequest(f"{script.url}/key", {"x-amz-a": "b"}, 60)
    await read_range(client, request, start, end, etag=etag, size=100, within=60, take=take)
    return bytes(found)


async def test_a_range_in_as_many_requests_as_it_takes() -> None:
    async with asking(answer(10, 20), answer(20, 50), answer(50, 60)) as (client, script):
        assert await read(client, script, 10, 60) == DATA[10:60]
        ranges = [each.partition(b"Range: ")[2].partition(b"\r\n")[0] for each in script.requests]
        assert ranges == [b"bytes=10-59", b"bytes=20-59", b"bytes=50-59"]
        assert all(b'If-Match: "e"\r\n' in each and b"x-amz-a: b\r\n" in each for each in script.requests)
        assert script.connections == 1


@each_case("known", ['"e"', "e"])
@each_case("found", ['"e"', "e"])
async def test_an_etag_with_or_without_quotes(known: str, found: str) -> None:
    """A store may leave them out, in all of its responses or in some."""
    async with asking(answer(0, 5, etag=found)) as (client, script):
        assert await read(client, script, 0, 5, etag=known) == DATA[:5]


@each_case(
    ("response", "kind"),
    [
        (answer(0, 5, etag='"f"'), FaultKind.EXISTS), (answer(0, 5, etag=None), FaultKind.UNSUPPORTED),
        (answer(1, 5), FaultKind.UNSUPPORTED), (answer(0, 6), FaultKind.UNSUPPORTED),
        (answer(0, 5)[:-1], FaultKind.BROKEN),
        (answer(0, 4, status=200), FaultKind.BROKEN),
        (b"HTTP/1.1 307 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", FaultKind.FINAL),
    ],
)  # fmt: skip
async def test_what_are_other_bytes(response: bytes, kind: FaultKind) -> None:
    async with asking(response) as (client, script):
        with pytest.raises(Fault) as caught:
            await read(client, script, 0, 5)
    assert caught.value.kind is kind


async def test_a_store_that_ignores_the_range_sends_more_than_is_read() -> None:
    async with asking(answer(0, 100, status=200)) as (client, script):
        assert await read(client, script, 0, 5) == DATA[:5]


async def test_who_has_enough_reads_no_further() -> None:
    async with asking(answer(0, 5)) as (client, script):
        assert await read(client, script, 0, 10, most=5) == DATA[:5]
        assert len(script.requests) == 1


async def test_an_error_is_read_and_leaves_its_connection() -> None:
    async with asking(refusal(503, "SlowDown"), answer(0, 5)) as (client, script):
        with pytest.raises(Fault, match=r"refused to read the object: 503 SlowDown") as caught:
            await read(client, script, 0, 5)
        assert caught.value.kind is FaultKind.BUSY
        assert await read(client, script, 0, 5) == DATA[:5]
        assert script.connections == 1


@pytest.mark.parametrize("length", [10, 100 * MAX_ERROR_BODY], ids=["cut off", "too long"])
async def test_of_an_error_the_status_is_enough(length: int) -> None:
    body = b"<Code>SlowDown</Code>" + bytes(min(length, 2 * MAX_ERROR_BODY))
    async with asking(b"HTTP/1.1 503 x\r\nContent-Length: %d\r\n\r\n%s" % (length + 100, body)) as (client, script):
        with pytest.raises(Fault, match="503 SlowDown"):
            await read(client, script, 0, 5)


async def test_a_url_that_can_t_be_requested() -> None:
    script = Script()
    script.url = "http://host/a b"
    with pytest.raises(errors.StoreRefused):
        await read(HttpClient(None), script, 0, 5)

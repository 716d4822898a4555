"""Responses of HTTP/1.1, as stores send them and as nobody should."""

from __future__ import annotations

import http.client
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.http.response_head import (
    MAX_HEAD,
    BodyReader,
    Headers,
    MalformedResponse,
    ResponseHead,
    end_of_head,
    parse_head,
)
from tests.tools.cases import each_case


def head_of(text: str) -> ResponseHead:
    return parse_head(text.replace("\n", "\r\n").encode("latin-1"))


def test_a_response_of_s3() -> None:
    head = head_of('HTTP/1.1 200 OK\nx-amz-id-2: a/b=\nETag:  "e"\t\nx-amz-checksum-crc64nvme: 0:1\nContent-Length: 0')
    assert (head.status, head.length, head.chunked, head.keep) == (200, 0, False, True)
    assert head.headers["etag"] == head.headers["ETAG"] == '"e"'
    assert head.headers.get("Location") is None
    assert list(head.headers) == ["x-amz-id-2", "etag", "x-amz-checksum-crc64nvme", "content-length"]
    assert dict(head.headers.items())["x-amz-checksum-crc64nvme"] == "0:1"
    assert len(head.headers) == 4


def test_of_a_header_that_comes_twice_the_first_one_counts() -> None:
    assert head_of('HTTP/1.1 200 OK\nETag: "a"\netag: "b"').headers["ETag"] == '"a"'
    assert not head_of("HTTP/1.1 200 OK\nContent-Length: 0\nConnection: x\nConnection: close").keep


def test_a_header_that_goes_on_in_the_next_line() -> None:
    """As it could until RFC 7230."""
    assert head_of("HTTP/1.1 200 OK\nETag: a\n\t b\nServer: c").headers["etag"] == "a b"


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_lines_may_end_without_a_carriage_return(end: bytes) -> None:
    received = bytearray(end.join([b"HTTP/1.1 200 OK", b'ETag: "e"', b"", b"body"]))
    found = end_of_head(received)
    assert found is not None
    assert parse_head(bytes(received[: found[0]])).headers["ETag"] == '"e"'
    assert received[found[1] :] == b"body"
    assert end_of_head(received[: found[1] - 1]) is None


@each_case(
    ("text", "length", "chunked", "keep"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 12", 12, False, True),
        ("HTTP/1.1 200 OK\nContent-Length: 12\nContent-Length: 12", 12, False, True),
        ("HTTP/1.1 200 OK\nContent-Length: 12\nConnection: Close", 12, False, False),
        ("HTTP/1.1 200 OK\nContent-Length: 12\nConnection: x, close", 12, False, False),
        ("HTTP/1.0 200 OK\nContent-Length: 12", 12, False, False),
        ("HTTP/1.1 200", None, False, False),
        ("HTTP/1.1 204 No Content", 0, False, True),
        ("HTTP/1.1 304 Not Modified\nContent-Length: 12", 0, False, True),
        ("HTTP/1.1 100 Continue", 0, False, True),
        ("HTTP/1.1 500 x\nTransfer-Encoding: identity\nContent-Length: 12", 12, False, True),
        ("HTTP/1.1 500 x\nTransfer-Encoding: Chunked", None, True, True),
        ("HTTP/1.1 500 x\nTransfer-Encoding: gzip, chunked", None, False, False),
        ("HTTP/1.1 500 x\nTransfer-Encoding: chunked\nContent-Length: 1", None, True, False),
    ],
)
def test_where_the_body_ends(text: str, length: int | None, chunked: bool, keep: bool) -> None:
    head = head_of(text)
    assert (head.length, head.chunked, head.keep) == (length, chunked, keep)


@each_case(
    "text",
    [
        "", "SSH-2.0-OpenSSH_9.6", "HTTP/2 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 099 x", "HTTP/1.1 2000 x",
        "http/1.1 200 OK",
        "HTTP/1.1 200 OK\nno colon", "HTTP/1.1 200 OK\n: no name", "HTTP/1.1 200 OK\nna me: x",
        "HTTP/1.1 200 OK\nname : x",
        "HTTP/1.1 200 OK\na: b\rc: d", "HTTP/1.1 200 OK\na: b\r\nc: d",
        "HTTP/1.1 200 OK\n folded: x", "HTTP/1.1 200 OK\nname: x\n y\rz",
        "HTTP/1.1 200 OK\nContent-Length: -1", "HTTP/1.1 200 OK\nContent-Length: 1_0",
        "HTTP/1.1 200 OK\nContent-Length: ", "HTTP/1.1 200 OK\nContent-Length: 1, 2",
        f"HTTP/1.1 200 OK\nContent-Length: {'9' * 19}", "HTTP/1.1 200 OK\nContent-Length: ²",
    ],
)  # fmt: skip
def test_what_is_no_response(text: str) -> None:
    with pytest.raises(MalformedResponse):
        head_of(text)
    with pytest.raises(MalformedResponse):
        parse_head(b"HTTP/1.1 200 OK\r\na\n: b")


CHUNKED = ResponseHead(500, Headers({}), None, chunked=True, keep=True)


def read(head: ResponseHead, pieces: Iterable[bytes], most: int) -> tuple[bytes, bool, bytes]:
    """What is read of a body that comes in pieces, whether it is whole, and what is left over."""
    reader, received, found = BodyReader(head), bytearray(), bytearray()
    for piece in pieces:
        received += piece
        while taken := reader.take(received, most):
            assert len(taken) <= most
            found += taken
    return bytes(found), reader.ended, bytes(received)


def splits(data: bytes) -> Iterator[list[bytes]]:
    """All ways in which some bytes can come in three pieces or fewer, and one by one."""
    for first, second in itertools.combinations_with_replacement(range(len(data) + 1), 2):
        yield [data[:first], data[first:second], data[second:]]
    yield [data[at : at + 1] for at in range(len(data))]


@each_case(
    ("received", "body", "left"),
    [
        (b"", b"", None),
        (b"3", b"", None),
        (b"3\r\nab", b"ab", None),
        (b"3\r\nabc", b"abc", None),
        (b"3\r\nabc\r", b"abc", None),
        (b"3\r\nabc\r\n", b"abc", None),
        (b"3\r\nabc\r\n0\r\n", b"abc", None),
        (b"0\r\n\r\n", b"", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc", b""),
        (b"3\r\nabc\r\n0\r\n\r\nHTTP/1.1", b"abc", b"HTTP/1.1"),
        (b"3;name=value \r\nabc\r\n0\r\nTrailer: x\r\n\r\nH", b"abc", b"H"),
        (b"1\r\n\r\r\n2\r\n\r\n\r\n00\r\n\r\n\r\n", b"\r\r\n", b"\r\n"),
        (b"A\r\n0123456789\r\n0b\r\nabcdefghijk\r\n", b"0123456789abcdefghijk", None),
    ],
)
def test_chunks(received: bytes, body: bytes, left: bytes | None) -> None:
    """However the bytes are cut into pieces, and however many are read at a time."""
    for most in range(1, len(body) + 2):
        for pieces in splits(received):
            found, ended, rest = read(CHUNKED, pieces, most)
            assert (found, ended) == (body, left is not None), pieces
            assert left is None or rest == left


@each_case(
    "received",
    [b"x\r\n", b"-1\r\n", b"\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n", b"f" * 16 + b"\r\n"],
)
def test_what_is_no_chunk(received: bytes) -> None:
    for pieces in splits(received):
        with pytest.raises(MalformedResponse):
            read(CHUNKED, pieces, 100)


@each_case("line", [b"0;" + b"x" * MAX_HEAD, b"0\r\n" + b"Trailer: xyz\r\n" * (MAX_HEAD // 12 + 1)])
@each_case("at_once", [1 << 20, 1000])
def test_lines_between_chunks_have_an_end(line: bytes, at_once: int) -> None:
    with pytest.raises(MalformedResponse):
        read(CHUNKED, (line[at : at + at_once] for at in range(0, len(line), at_once)), 100)


def test_a_body_of_known_length() -> None:
    for size, sent in itertools.product(range(4), (b"", b"a", b"ab", b"abcd")):
        head = head_of(f"HTTP/1.1 400 x\nContent-Length: {size}")
        assert BodyReader(head).ended is (size == 0)
        for most, pieces in itertools.product((1, 2, 100), splits(sent)):
            assert read(head, pieces, most) == (sent[:size], len(sent) >= size, sent[size:])


def test_a_body_until_the_end_of_the_connection() -> None:
    head = head_of("HTTP/1.1 400 x")
    assert BodyReader(head).until_close
    assert not BodyReader(CHUNKED).until_close
    for most, pieces in itertools.product((1, 2, 100), splits(b"abcd")):
        assert read(head, pieces, most) == (b"abcd", False, b"")


NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z0-9-]{0,12}\Z").filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding", "connection")
)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@given(
    status=st.integers(200, 599).filter(lambda each: each not in (204, 304)),
    fields=st.dictionaries(NAMES, VALUES, max_size=6),
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    chunked=st.booleans(),
)
def test_the_standard_library_reads_the_same(
    status: int, fields: dict[str, str], pieces: list[bytes], chunked: bool
) -> None:
    body = b"".join(pieces)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = [f"HTTP/1.1 {status} Words", *(f"{name}: {value}" for name, value in fields.items()), framing]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in [*pieces, b""]) if chunked else body
    head = "\r\n".join(lines).encode()

    class Socket:
        def makefile(self, _: str) -> Any:
            return io.BytesIO(head + b"\r\n\r\n" + sent)

    theirs = http.client.HTTPResponse(Socket())  # it needs no more of a socket
    theirs.begin()
    ours = parse_head(head)
    assert ours.status == theirs.status
    assert all(ours.headers[name] == theirs.headers[name] for name in fields)  # of one that comes twice, the first
    assert read(ours, [sent + b"next"], 1 << 20) == (theirs.read(), True, b"next")


@pytest.mark.timeout(15)  # against a hang: it takes milliseconds
@pytest.mark.parametrize(
    ("head", "is_sound"),
    [
        (b"HTTP/1.1 200 OK\r\nA: " + b" " * 60_000 + b"\r\n b", True),
        (b"HTTP/1.1 200 OK\r\nA: " + b" " * 60_000 + b"\rb", False),
        (b"HTTP/1.1 200 OK\r\nA:" + b"\r\n b" * 15_000, True),
        (b"HTTP/1.1 200 OK\r\n" + b"a" * 60_000, False),
        (b"HTTP/1.1 200 " + b" " * 60_000 + b"\rx", True),
        (b"HTTP/1.1 200 OK\r\n" + b"\n " * 30_000, False),
    ],
)
def test_a_hostile_head_is_read_in_linear_time(head: bytes, is_sound: bool) -> None:
    """A regular expression that allowed white space beside what may be missing took 38 s for the second one."""
    if is_sound:
        assert parse_head(head).status == 200
        return
    with pytest.raises(MalformedResponse):
        parse_head(head)

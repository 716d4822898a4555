"""ASGI's requests as HTTP/1.1, and its responses: what may be in them, and what must not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.service.asgi import MalformedScope, ResponseParser, path_in_app, request_head
from tests.tools.cases import each_case


def scope(
    path: str = "/v1/media", method: str = "GET", headers: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": headers or [], "query_string": b""} | more


def target(**of: Any) -> str:
    first = request_head(scope(**of)).data.split(b"\r\n")[0]
    return first.removeprefix(b"GET ").removesuffix(b" HTTP/1.1").decode()


def test_a_head() -> None:
    given = [(b"host", b"media.example.com"), (b"Accept", b"*/*"), (b"x", "é".encode("latin-1")), (b"x", b"")]
    head = request_head(scope("/v1/media/é", "POST", [*given, (b"content-length", b"12")], query_string=b"a=%20&b"))
    assert head.length == 12
    assert head.data == (
        b"POST /v1/media/%C3%A9?a=%20&b HTTP/1.1\r\nhost: media.example.com\r\nAccept: */*\r\nx: \xe9\r\nx: \r\n"
        b"content-length: 12\r\nConnection: close\r\n\r\n"
    )


def test_headers_of_the_client_s_connection_end_there() -> None:
    """Those of `Upgrade` and `Expect` would have effects here, too."""
    names = [b"Connection", b"keep-alive", b"upgrade", b"EXPECT", b"te", b"Transfer-Encoding", b"proxy-connection"]
    data = request_head(scope(headers=[(name, b"chunked") for name in names])).data
    assert (
        data == b"GET /v1/media HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )


@each_case(
    ("server", "host"),
    [
        (None, b"localhost"),
        (("10.0.0.1", 80), b"10.0.0.1:80"),
        (["::1", 8080], b"[::1]:8080"),
        (("media.example.com", None), b"media.example.com"),
    ],
)
def test_a_request_of_http_1_0_that_names_no_host(server: Any, host: bytes) -> None:
    assert b"\r\nHost: %b\r\n" % host in request_head(scope(http_version="1.0", server=server)).data


@each_case(
    ("headers", "version", "length"),
    [
        ([], "1.1", 0),
        ([], "1.0", 0),
        ([], "2", None),  # whose bodies end without either header
        ([(b"content-length", b"0")], "2", 0),
        ([(b"transfer-encoding", b"chunked")], "1.1", None),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"3")], "1.1", None),
        ([(b"content-length", b"3"), (b"transfer-encoding", b"chunked")], "1.1", None),
    ],
)
def test_how_the_body_follows(headers: list[Any], version: str, length: int | None) -> None:
    head = request_head(scope(headers=headers, http_version=version))
    assert head.length == length
    assert (b"Transfer-Encoding: chunked" in head.data) == (length is None)
    assert (b"content-length" in head.data) == (length is not None and headers != [])


@each_case(
    "wrong",
    [
        {"method": "GET / HTTP/1.1\r\nX:"},
        {"method": ""},
        {"headers": [(b"a b", b"")]},
        {"headers": [(b"", b"")]},
        {"headers": [(b"a:", b"")]},
        {"headers": [(b"a", b"b\r\nc: d")]},
        {"headers": [(b"a", b"b\nc: d")]},
        {"headers": [(b"a", b"\0")]},
        {"headers": [(b"content-length", b"1"), (b"Content-Length", b"1")]},
        {"headers": [(b"content-length", b"+1")]},
        {"headers": [(b"content-length", b"")]},
        {"headers": [(b"content-length", b"1" * 5000)]},
        {"path": "*"},
        {"path": ""},
        {"path": "http://evil.example/"},
    ],
)
def test_what_is_no_request(wrong: dict[str, Any]) -> None:
    """A server in front refuses it. What made this scope may be something else."""
    with pytest.raises(MalformedScope):
        request_head(scope(**wrong))


@each_case(
    ("of", "there"),
    [
        ({"path": "/v1/x"}, "/v1/x"),
        ({"path": "/m/v1/x", "root_path": "/m"}, "/v1/x"),
        ({"path": "/m/v1/x", "root_path": "/m/"}, "/v1/x"),
        ({"path": "/v1/x", "root_path": "/m"}, "/v1/x"),  # a proxy took the prefix away
        ({"path": "/media/x", "root_path": "/m"}, "/media/x"),
        ({"path": "/m", "root_path": "/m"}, ""),
        ({"path": "/m/", "root_path": "/m"}, "/"),
    ],
)
def test_the_path_below_the_prefix(of: dict[str, str], there: str) -> None:
    assert path_in_app(of) == there


@each_case(
    ("of", "there"),
    [
        ({"path": "/m/a/b c", "raw_path": b"/m/a%2Fb%20c", "root_path": "/m"}, "/a%2Fb%20c"),
        ({"path": "/m/a/b", "raw_path": b"/a%2fb", "root_path": "/m"}, "/a%2fb"),
        ({"path": "/p/m/a/b", "raw_path": b"/m/a%2fb", "root_path": "/p/m"}, "/a%2fb"),
        ({"path": "/m n/a/b", "raw_path": b"/m%20n/a%2fb", "root_path": "/m n"}, "/a%2fb"),
        ({"path": "/m/a b", "raw_path": None, "root_path": "/m"}, "/a%20b"),
        ({"path": "/m/a?b#c%25", "raw_path": b"/other", "root_path": "/m"}, "/a%3Fb%23c%2525"),
        ({"path": "/a b\r\n", "raw_path": b"/a b\r\n"}, "/a%20b%0D%0A"),
        ({"path": "/é", "raw_path": "/é".encode()}, "/%C3%A9"),
        ({"path": "/a", "query_string": b"x= \r\ny: z#"}, "/a?x=%20%0D%0Ay:%20z%23"),
    ],
)
def test_the_target_is_quoted_as_the_client_did(of: dict[str, Any], there: str) -> None:
    assert target(**of) == there


@given(st.text(st.characters(codec="utf-8")), st.binary(), st.binary())
def test_no_target_breaks_the_line(path: str, raw: bytes, query: bytes) -> None:
    told = target(path=f"/{path}", raw_path=raw, query_string=query)
    assert told.startswith("/")
    assert not set(told) - {chr(code) for code in range(0x21, 0x7F)}


# -- responses

HEAD = b"HTTP/1.1 200 OK\r\nX-A: b: c\r\nDate: now\r\nServer: s\r\nConnection: close\r\n"


def read(pieces: list[bytes], method: str = "GET") -> tuple[ResponseParser, bytes]:
    response = ResponseParser(method)
    body = b"".join(response.feed(piece) for piece in pieces if not response.complete)
    return response, body


@each_case(
    ("data", "body"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (HEAD + b"Content-Length: 0\r\n\r\n", b""),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nb\r\n\r\n wor\r\n\r\n0\r\n0\r\n\r\n",
            b"hello\r\n wor\r\n\r\n0",
        ),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\nx", b"x"),
    ],
)
def test_a_response_in_any_pieces(data: bytes, body: bytes) -> None:
    ways = [[data], [data[i : i + 1] for i in range(len(data))]]
    ways += [[data[:at], data[at:]] for at in range(1, len(data))]
    for pieces in ways:
        response, found = read(pieces)
        assert (response.complete, response.status, found) == (True, 200, body), pieces
        assert response.headers[0] == (b"x-a", b"b: c")
        assert {name for name, _ in response.headers} <= {b"x-a", b"content-length"}


def test_responses_without_a_body() -> None:
    for data, method in (
        (HEAD + b"Content-Length: 5\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET"),
    ):
        response, body = read([data], method)
        assert (response.complete, body) == (True, b"")
        assert dict(response.headers).get(b"content-length") == (b"5" if b"5" in data else None)


def test_a_body_until_the_end() -> None:
    response, body = read([HEAD + b"\r\n", b"he", b"llo"])
    assert (response.complete, body) == (False, b"hello")
    response.end()
    assert response.complete


def test_a_response_that_is_cut_off() -> None:
    for data in (
        HEAD,
        HEAD + b"Content-Length: 5\r\n\r\nhell",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ):
        response, _ = read([data])
        response.end()
        assert not response.complete

"""POST /v1/posts: what is not media is the posts API's, byte for byte."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.service.posts.support import CREATED, post, refusal, sent
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service

_MEDIA = b'"mediaItems": [{"url": "%s", "alt": "\\u00e4", "type": "image"}]'


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' \r\n\t{"content" : "x"}\n\n ',
        b'{"mediaItems": []}',
        b'{"a": 1, "a": 2, "a": {"b": [], "b": {}}}',
        b'{"a": 123456789012345678901234567890, "b": 1e400, "c": -0.0, "d": 1E+2, "e": 0.10000000000000000000000001}',
        '{"content": "\N{GRINNING FACE}ä\u2028\ufeff", "\\u0061\\/": "\\ud83d\\ude00"}'.encode(),
        b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}",
        b'{"type": 1, "type": 2, "url": 1, "url": 2, "MediaItem": 1}',
        b'{"__proto__": {"x": 1}, "": null, "content": "\\u0000"}',
        b'{"content": "' + b"x" * 1_000_000 + b'"}',
        b"{%s}" % _MEDIA,
        b'{"z": 1, %s, "a": 2}' % _MEDIA,
    ],
    ids=lambda body: body[:30].decode(errors="replace"),
)
def test_the_body_is_unchanged(posting: Service, posts_api: HttpStub, body: bytes) -> None:
    posts_api.responses["/v1/posts"] = CREATED
    url = b""
    if b"%s" in body:
        url = sent(posting, sample("jpg")).encode()
        body %= url
    response = posting.call("POST", "/v1/posts", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.content) == (201, CREATED.body), response.text
    (received,) = posts_api.received
    if url:  # in its place stands the URL of an immutable copy
        (item,) = json.loads(received.body)["mediaItems"]
        body = body.replace(url, item["url"].encode())
    assert received.body == body
    assert (received.headers["content-type"], received.headers["x-bigupload-owner"]) == ("application/json", "local")
    assert "authorization" not in received.headers
    assert not received.has(posting.key)


@pytest.mark.parametrize(
    "response",
    [
        Response(status=200, headers={"Content-Type": "text/plain; charset=latin-1"}, body=b"\xe4"),
        Response(status=204),
        Response(status=400, headers={"Content-Type": "application/problem+json"}, body=b"{}"),
        Response(status=401, headers={"Content-Type": "application/json"}, body=b'{"error": "x"}'),
        Response(status=429, headers={"Content-Type": "application/json", "Retry-After": "7"}, body=b"{}"),
        Response(status=500, headers={"Content-Type": "text/html"}, body=b"<h1>oops</h1>"),
        Response(status=503, body=b"\x00\xff"),
    ],
    ids=lambda response: str(response.status),
)
def test_the_response_is_handed_back(posting: Service, posts_api: HttpStub, response: Response) -> None:
    posts_api.responses["/v1/posts"] = response
    got = post(posting)
    assert (got.status_code, got.content) == (response.status, response.body)
    for name, value in response.headers.items():
        assert got.headers[name] == value
    assert got.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_handed_back_and_not_followed(posting: Service, posts_api: HttpStub, status: int) -> None:
    """The post is for the host that the operator named. Nor is the client led on: it would take its key along."""
    posts_api.responses["/v1/posts"] = Response(
        status=status, headers={"Location": f"{posts_api.url}/else"}, body=b"there"
    )
    got = post(posting)
    assert (got.status_code, got.content) == (status, b"there")
    assert "Location" not in got.headers
    assert [received.path for received in posts_api.received] == ["/v1/posts"]


def test_a_compressed_response_is_still_readable(posting: Service, posts_api: HttpStub) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    posts_api.responses["/v1/posts"] = Response(headers=headers, body=gzip.compress(b'{"id": 1}'))
    assert post(posting).json() == {"id": 1}
    assert posts_api.received[0].headers["accept-encoding"] == "identity"


def test_a_posts_api_that_is_down(posting: Service, posts_api: HttpStub) -> None:
    posts_api.responses["/v1/posts"] = None
    assert refusal(post(posting)) == (502, "posts_unreachable", None)


def test_a_posts_api_that_closes_idle_connections(posting: Service, posts_api: HttpStub) -> None:
    """A kept connection may end at the moment when the next post is sent, and no post is sent twice."""
    posts_api.responses["/v1/posts"] = CREATED
    posts_api.keeps = True
    assert [post(posting).status_code for _ in range(3)] == [201] * 3
    assert len(posts_api.received) == 3


def test_a_response_that_is_cut_off(posting: Service, posts_api: HttpStub) -> None:
    posts_api.responses["/v1/posts"] = Response(headers={"Content-Length": "10"}, body=b"short")
    assert refusal(post(posting)) == (502, "posts_unreachable", None)


def test_a_response_that_is_too_long(posting: Service, posts_api: HttpStub) -> None:
    posts_api.responses["/v1/posts"] = Response(body=bytes(4 * 1024 * 1024))
    assert len(post(posting).content) == 4 * 1024 * 1024
    posts_api.responses["/v1/posts"] = Response(body=bytes(4 * 1024 * 1024 + 1))
    assert refusal(post(posting)) == (502, "posts_unreachable", None)


def test_a_body_that_is_too_long(posting: Service, posts_api: HttpStub) -> None:
    response = posting.call("POST", "/v1/posts", json={"content": "x" * 1024 * 1024})
    assert refusal(response) == (413, "body_too_large", None)
    assert posts_api.received == []

"""POST /v1/posts: what is not media is the posts API's, byte for byte."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.service.posts.support import CREATED, post, refusal, sent
from tests.tools.http_stub import Answer, HttpStub
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
    posts_api.answers["/v1/posts"] = CREATED
    url = b""
    if b"%s" in body:
        url = sent(posting, sample("jpg")).encode()
        body %= url
    answer = posting.call("POST", "/v1/posts", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.content) == (201, CREATED.body), answer.text
    (received,) = posts_api.received
    if url:  # in its place stands the URL of an immutable copy
        (item,) = json.loads(received.body)["mediaItems"]
        body = body.replace(url, item["url"].encode())
    assert received.body == body
    assert (received.headers["content-type"], received.headers["x-bigupload-owner"]) == ("application/json", "local")
    assert "authorization" not in received.headers
    assert not received.has(posting.key)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=200, headers={"Content-Type": "text/plain; charset=latin-1"}, body=b"\xe4"),
        Answer(status=204),
        Answer(status=400, headers={"Content-Type": "application/problem+json"}, body=b"{}"),
        Answer(status=401, headers={"Content-Type": "application/json"}, body=b'{"error": "x"}'),
        Answer(status=429, headers={"Content-Type": "application/json", "Retry-After": "7"}, body=b"{}"),
        Answer(status=500, headers={"Content-Type": "text/html"}, body=b"<h1>oops</h1>"),
        Answer(status=503, body=b"\x00\xff"),
    ],
    ids=lambda answer: str(answer.status),
)
def test_the_answer_is_handed_back(posting: Service, posts_api: HttpStub, answer: Answer) -> None:
    posts_api.answers["/v1/posts"] = answer
    got = post(posting)
    assert (got.status_code, got.content) == (answer.status, answer.body)
    for name, value in answer.headers.items():
        assert got.headers[name] == value
    assert got.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_handed_back_and_not_followed(posting: Service, posts_api: HttpStub, status: int) -> None:
    """The post is for the host that the operator named. Nor is the client led on: it would take its key along."""
    posts_api.answers["/v1/posts"] = Answer(status=status, headers={"Location": f"{posts_api.url}/else"}, body=b"there")
    got = post(posting)
    assert (got.status_code, got.content) == (status, b"there")
    assert "Location" not in got.headers
    assert [received.path for received in posts_api.received] == ["/v1/posts"]


def test_a_compressed_answer_is_still_readable(posting: Service, posts_api: HttpStub) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    posts_api.answers["/v1/posts"] = Answer(headers=headers, body=gzip.compress(b'{"id": 1}'))
    assert post(posting).json() == {"id": 1}
    assert posts_api.received[0].headers["accept-encoding"] == "identity"


def test_a_posts_api_that_is_down(posting: Service, posts_api: HttpStub) -> None:
    posts_api.answers["/v1/posts"] = None
    assert refusal(post(posting)) == (502, "posts_unreachable", None)


def test_an_answer_that_is_cut_off(posting: Service, posts_api: HttpStub) -> None:
    posts_api.answers["/v1/posts"] = Answer(headers={"Content-Length": "10"}, body=b"short")
    assert refusal(post(posting)) == (502, "posts_unreachable", None)


def test_an_answer_that_is_too_long(posting: Service, posts_api: HttpStub) -> None:
    posts_api.answers["/v1/posts"] = Answer(body=bytes(4 * 1024 * 1024))
    assert len(post(posting).content) == 4 * 1024 * 1024
    posts_api.answers["/v1/posts"] = Answer(body=bytes(4 * 1024 * 1024 + 1))
    assert refusal(post(posting)) == (502, "posts_unreachable", None)


def test_a_body_that_is_too_long(posting: Service, posts_api: HttpStub) -> None:
    answer = posting.call("POST", "/v1/posts", json={"content": "x" * 1024 * 1024})
    assert refusal(answer) == (413, "body_too_large", None)
    assert posts_api.received == []

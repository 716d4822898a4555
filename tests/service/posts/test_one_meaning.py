"""POST /v1/posts: a post means one thing, whichever parser reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigupload.service.problems import Refused
from bigupload.service.uploads.posts import _check_unambiguous
from tests.service.posts.support import CREATED, refusal
from tests.tools.cases import each_case, examples
from tests.tools.http_stub import HttpStub
from tests.tools.service import Service


@each_case(
    ("body", "expected"),
    [
        (b'{"mediaItems": [{"type": "image", "url": "x"}], "mediaItems": []}', (422, "invalid_field", "mediaItems")),
        (b'{"mediaItems": [], "mediaItems": []}', (422, "invalid_field", "mediaItems")),
        (b'{"mediaItems": [], "media\\u0049tems": []}', (422, "invalid_field", "mediaItems")),
        (b'{"mediaItems": [], "mediaitems": [1]}', (422, "invalid_field", "mediaItems")),
        (b'{"MEDIAITEMS": [1]}', (422, "invalid_field", "mediaItems")),
        ('{"mediaItem\u017f": [1]}'.encode(), (422, "invalid_field", "mediaItems")),
        (
            b'{"mediaItems": [{"type": "image", "url": "x", "url": "y"}]}',
            (422, "invalid_field", "mediaItems[0].url"),
        ),
        (
            b'{"mediaItems": [{"type": "image", "url": "x", "TYPE": "gif"}]}',
            (422, "invalid_field", "mediaItems[0].type"),
        ),
        (b'{"content": NaN}', (400, "invalid_json", None)),
        (b'{"content": [-Infinity]}', (400, "invalid_json", None)),
        (b'{"content": "\\ud800"}', (400, "invalid_json", None)),
        (b'{"content": "\xff"}', (400, "invalid_json", None)),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", (400, "invalid_json", None)),
        ('{"content": 1}'.encode("utf-16"), (400, "invalid_json", None)),
        (b'{"content": 1} {}', (400, "invalid_json", None)),
        (b'{"content": ' + b"[" * 100_000, (400, "invalid_json", None)),
        (b"[]", (400, "invalid_json", None)),
        (b"", (400, "invalid_json", None)),
        (b'{"mediaItems": null}', (422, "invalid_field", "mediaItems")),
        (b'{"mediaItems": {}}', (422, "invalid_field", "mediaItems")),
        (b'{"mediaItems": [[]]}', (422, "invalid_field", "mediaItems[0]")),
        (b'{"mediaItems": [{"type": "image"}]}', (422, "invalid_field", "mediaItems[0].url")),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(
    posting: Service, posts_api: HttpStub, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    response = posting.call("POST", "/v1/posts", content=body, headers={"Content-Type": "application/json"})
    assert refusal(response) == expected
    assert posts_api.received == []


def test_a_byte_order_mark_is_not_handed_on(posting: Service, posts_api: HttpStub) -> None:
    """Some parsers refuse it: https://www.rfc-editor.org/rfc/rfc8259#section-8.1"""
    posts_api.responses["/v1/posts"] = CREATED
    body = b'\xef\xbb\xbf{"content": "x"}'
    response = posting.call("POST", "/v1/posts", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 201
    assert posts_api.received[0].body == b'{"content": "x"}'


def test_media_items_under_python_s_name_are_none(posting: Service, posts_api: HttpStub) -> None:
    """It is a field like any other, and the posts API's business."""
    posts_api.responses["/v1/posts"] = CREATED
    assert posting.call("POST", "/v1/posts", json={"media_items": [1]}).status_code == 201
    assert posting.call("POST", "/v1/posts", json={"media_items": [], "mediaItems": [1]}).status_code == 422


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


# A machine that is busy otherwise makes generating slow: that says nothing of what is tested.
@pytest.mark.slow
@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), _JSON))
def test_whatever_else_is_in_a_post_is_nobody_s_business(post: dict[str, Any]) -> None:
    post.pop("mediaItems", None)
    named = any(name.casefold() == "mediaitems" for name in post)
    try:
        _check_unambiguous(json.dumps(post).encode())
    except Refused:
        assert named or "\\ud" in json.dumps(post)


@pytest.mark.slow
@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.text(), _JSON), st.booleans())
def test_any_body_is_unchanged(posting: Service, posts_api: HttpStub, body: dict[str, Any], ascii_only: bool) -> None:
    posts_api.forget()
    posts_api.responses["/v1/posts"] = CREATED
    text = json.dumps(body | {"mediaItems": []}, ensure_ascii=ascii_only).encode()
    response = posting.call("POST", "/v1/posts", content=text, headers={"Content-Type": "application/json"})
    assert (response.status_code, posts_api.received[0].body) == (201, text)

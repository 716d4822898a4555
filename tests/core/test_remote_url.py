"""URLs as sources: what they are called, and where redirects may lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload.core.remote_url import (
    ContentRange,
    chosen_name,
    content_range,
    foreign_scheme,
    is_progress,
    is_remote,
    is_strong,
    parse_remote,
    path_of,
    redirected,
    shown_url,
)
from bigupload.errors import SourceUnsupported, UsageError
from tests.tools.cases import each_case


@each_case(
    ("given", "url", "shown", "name"),
    [
        ("https://h/a/b.mov?s=%2F+a#x", "https://h/a/b.mov?s=%2F+a", "https://h/a/b.mov", "b.mov"),
        ("HTTPS://Host.Example:443/B", "https://host.example/B", "https://host.example/B", "B"),
        ("http://h:8080", "http://h:8080/", "http://h:8080/", ""),
        ("http://[::1]:80/x", "http://[::1]/x", "http://[::1]/x", "x"),
        ("https://h/a b/ä.mov", "https://h/a%20b/%C3%A4.mov", "https://h/a%20b/%C3%A4.mov", "ä.mov"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x", "x"),
        ("https://h/a%2Fb%20c", "https://h/a%2Fb%20c", "https://h/a%2Fb%20c", "a/b c"),
        ("https://h/%FF", "https://h/%FF", "https://h/%FF", "\udcff"),
        ("S3://bucket/a%20b?c", "S3://bucket/a%20b?c", "s3://bucket/a%20b?c", "a%20b?c"),
    ],
)
def test_what_a_url_is_called(given: str, url: str, shown: str, name: str) -> None:
    """A signature covers what is requested: nothing that a URL may hold is written in another way."""
    found = parse_remote(given)
    assert (found.url, found.shown, found.name) == (url, shown, name)
    assert shown_url(given) == shown
    assert "s=" not in repr(found)


@each_case(
    "url",
    [
        "https://",
        "https:///x",
        "https://u@h/x",
        "https://u:p@h/x",
        "https://:p@h/x",
        "https://h:x/",
        "http://[x/",
        "https://a b/",
        "https://a<b/x",
        "https://a\\b/x",
    ],
)
def test_urls_that_can_t_be_used(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_remote(url)
    assert "p@" not in str(caught.value)
    assert shown_url(url) == "a URL that can't be used"


def test_what_is_a_url() -> None:
    assert [
        source for source in ("s3://b", "https:/x", "https//x", Path("https://x"), "gopher://x") if is_remote(source)
    ] == ["s3://b"]
    assert [foreign_scheme(each) for each in ("gopher://x", "GS://b", "c://x", "a/b://c", "https://x", "x")] == [
        "gopher", "gs", None, None, None, None,
    ]  # fmt: skip
    assert (path_of("https://h/a%20b"), path_of("/a/b"), path_of("https://h")) == (
        Path("a b"), Path("/a/b"), Path("https://h"),
    )  # fmt: skip


@each_case(
    ("url", "location", "target"),
    [
        ("https://h/a/b?x", "c?y", "https://h/a/c?y"),
        ("https://h/a/b", "/c", "https://h/c"),
        ("http://h/a", "https://other/c?s=%2F#f", "https://other/c?s=%2F"),
        ("http://h/a", "http://other:81/c", "http://other:81/c"),
        ("https://h/a", "//other/c", "https://other/c"),
    ],
)
def test_where_a_redirect_leads(url: str, location: str, target: str) -> None:
    assert redirected(url, location, "it") == target


@each_case(
    ("url", "location", "says"),
    [
        ("https://h/a", "http://other/?secret", "it redirects to http://other, which is not encrypted"),
        ("https://h/a", "gopher://u:secret@h/", "of another scheme (gopher:)"),
        ("https://h/a", "s3://b/secret", "of another scheme (s3:)"),
        ("https://h/a", "javascript:secret", "of another scheme (javascript:)"),
        ("https://h/a", "https://u:secret@h/", "holds credentials"),
        ("https://h/a", "https://[secret", "can't be used"),
        ("https://h/a", "", "without a valid Location"),
        ("https://h/a", None, "without a valid Location"),
    ],
)
def test_redirects_that_are_not_followed(url: str, location: str | None, says: str) -> None:
    with pytest.raises(SourceUnsupported) as caught:
        redirected(url, location, "it")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_headers_say() -> None:
    assert content_range("bytes 0-99/200") == ContentRange(0, 100, 200)
    assert content_range("bytes */0") == ContentRange(None, None, 0)
    for nothing in (None, "", "bytes 0-99/*", "items 0-9/10", "bytes 0-99/200, bytes 5-9/200", "bytes -5-9/10"):
        assert content_range(nothing) is None
    assert [etag for etag in ('"a"', '""', 'W/"a"', "a", '"a', '"a"b"', '"ä"', None) if is_strong(etag)] == [
        '"a"',
        '""',
    ]


@each_case(
    ("url", "suggested", "name"),
    [
        ("https://h/film.mov", "other.mov", "film.mov"),
        ("https://h/download", "other.mov", "other.mov"),
        ("https://h/", "a/../b\\c.mov", "c.mov"),
        ("https://h/x", "..", "x"),
        ("https://h/x", "a\x1b[2J", "x"),
        ("https://h/..x", "y.mov", "y.mov"),
        ("https://h/", None, ""),
    ],
)
def test_which_name_counts(url: str, suggested: str | None, name: str) -> None:
    assert chosen_name(parse_remote(url), suggested) == name


@each_case(
    ("came", "asked", "counts"),
    [
        (0, 1, False),
        (1, 1, True),
        (1, 31, True),
        (1, 32, False),
        (2, 32, True),
        (64 * 1024 - 1, 1 << 30, False),
        (64 * 1024, 1 << 30, True),
    ],
)
def test_what_counts_as_progress(came: int, asked: int, counts: bool) -> None:
    assert is_progress(came, asked) is counts

"""Where a URL's path begins, as it is connected to and as it was signed."""

from __future__ import annotations

import pytest

from bigupload.http.origins import WebOrigin, origin_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9000", WebOrigin("http", "127.0.0.1", 9000, "127.0.0.1:9000")),
        ("http://S3.example:80/b/k?q", WebOrigin("http", "s3.example", 80, "s3.example")),
        ("https://s3.example:443", WebOrigin("https", "s3.example", 443, "s3.example")),
        ("https://s3.example:80", WebOrigin("https", "s3.example", 80, "s3.example:80")),
        ("https://s3.example.", WebOrigin("https", "s3.example.", 443, "s3.example.")),
        ("http://user:password@[::1]:9000", WebOrigin("http", "::1", 9000, "[::1]:9000")),
        ("https://bücher.example:1", WebOrigin("https", "xn--bcher-kva.example", 1, "xn--bcher-kva.example:1")),
    ],
)
def test_origins(url: str, expected: WebOrigin) -> None:
    assert origin_of(url) == expected


@pytest.mark.parametrize(
    "url", ["", "no url", "ftp://s3.example", "http://", "http://:9000", "http://h:x", "http://h:65536"]
)
def test_what_is_none(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)


def test_an_origin_in_messages() -> None:
    assert origin_of("http://[::1]:9000").where == "[::1]:9000"
    assert origin_of("https://s3.example").where == "s3.example:443"

"""Where the check of a URL follows a redirect, and how far."""

from __future__ import annotations

import pytest

from bigupload.service.media.direct_url import Rule
from bigupload.service.media.media_types import PNG
from tests.service.direct_url.support import Site, check
from tests.tools.media import sample


async def test_three_redirects_and_no_more(site: Site) -> None:
    for number, status in zip(range(4), (301, 302, 307, 308), strict=True):
        site.redirect(f"/{number}", f"/{number + 1}", status)
    site.serve("/4", sample("png"), Content_Type="image/png")
    assert (await check(site.url("/1"))).media is PNG
    site.requests.clear()
    found = await check(site.url("/0"))
    assert found.rule is Rule.TOO_MANY_REDIRECTS
    assert [request.path for request in site.requests] == ["/0", "/1", "/2", "/3"]


async def test_a_circle(site: Site) -> None:
    site.redirect("/a", "/a")
    assert (await check(site.url("/a"))).rule is Rule.TOO_MANY_REDIRECTS
    assert len(site.requests) == 4


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1:6379/_FLUSHALL", "http://user:secret@h.example/",
        "http://a..b/", "http://example.com:99999/", "http://ex%61mple.com/",
    ],
)  # fmt: skip
async def test_redirects_to_what_is_no_url(site: Site, location: str) -> None:
    site.redirect("/a", location)
    found = await check(site.url("/a"))
    assert (found.rule, found.url) == (Rule.NOT_A_URL, site.url("/a"))
    assert "the target of the URL's redirect" in str(found.message)
    assert "secret" not in str(found)


@pytest.mark.parametrize("location", ["b c.png?x=y z", "b%20c.png", "//127.0.0.2:{port}/b%20c.png", "./d/../b%20c.png"])
async def test_relative_redirects(site: Site, location: str) -> None:
    site.redirect("/dir/a", location.format(port=site.port))
    for path in ("/dir/b c.png", "/b c.png"):
        site.serve(path, sample("png"), Content_Type="image/png")
    assert (await check(site.url("/dir/a"))).media is PNG

"""May a URL be used: every rule against a real server."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bigupload.service.contract import CheckResponse
from bigupload.service.media import direct_url
from bigupload.service.media.direct_url import Rule, _without_secrets, is_public_host, sharing_service
from bigupload.service.media.media_types import GIF, MAX_FILE_SIZE, MP4, PNG
from bigupload.testing.certificates import make_certificates
from tests.service.direct_url.support import SITE, Site, check, raw_server, resolving
from tests.tools.cases import each_case
from tests.tools.media import sample

# -- what is fine


@pytest.mark.parametrize(
    ("recipe", "content_type", "media"),
    [
        ("png", "image/png", PNG),
        ("animated.gif", "image/gif; charset=binary", GIF),
        ("mp4", "video/mp4", MP4),
        ("m4v", "Video/X-M4V", MP4),
    ],
)
async def test_usable(site: Site, recipe: str, content_type: str, media: object) -> None:
    site.serve("/a", sample(recipe), Content_Type=content_type)
    found = await check(site.url("/a"))
    assert (found.rule, found.media, found.size) == (None, media, len(sample(recipe)))
    assert found.url == site.url("/a")


async def test_the_contract_takes_both_responses(site: Site) -> None:
    site.serve("/a", sample("png"), Content_Type="image/png")
    response = CheckResponse.model_validate((await check(site.url("/a"))).to_json())
    assert (response.usable, response.content_type, response.type, response.error) == (True, "image/png", "image", None)
    response = CheckResponse.model_validate((await check(site.url("/b"))).to_json())
    assert response.error is not None
    assert (response.usable, response.content_type, response.error.code) == (False, None, "bad_status")


async def test_a_host_that_tells_no_size(site: Site) -> None:
    async def chunked(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        for byte in sample("png"):
            await response.write(bytes([byte]))
        return response

    site.paths["/a"] = chunked
    found = await check(site.url("/a"))
    assert (found.media, found.size) == (PNG, None)


async def test_what_is_sent(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path and query as they were written, nothing of the environment, no cookie, no compression."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.2 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def with_cookie(_: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/c?sig=a%2Bb%2f'()*~", "Set-Cookie": "a=b; Path=/"})

    site.paths["/a/b"] = with_cookie
    site.serve("/c", sample("png"), Content_Type="image/png")
    found = await check(site.url("/a%2Fb?x=%2f#fragment"))
    assert found.url == site.url("/c")
    assert [request.raw_path for request in site.requests] == ["/a%2Fb?x=%2f", "/c?sig=a%2Bb%2f'()*~"]
    for request in site.requests:
        assert set(request.headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.method == "GET"


# -- rules


NOT_URLS = [
    "", "x", "example.com/a.jpg", "//example.com/a.jpg", "/a.jpg", "ftp://example.com/a.jpg", "file:///etc/passwd",
    "javascript:alert(1)", "data:image/png;base64,AAAA", "gopher://example.com/", "http://", "http:///a.jpg",
    "http://example.com:99999/", "http://example.com:0/", "http://exa mple.com/", "http://example.com/a b.jpg",
    " http://example.com/", "http://example.com/\r\nX: y", "http://example.com/\n", "http://a..b/",
    "http://example.com\\@127.0.0.1/", "http://ex%61mple.com/", "http://127.0.0.1%00.example.com/",
    "http://-a.example/", f"http://{'a' * 64}.example/", f"http://{'a.' * 130}example/", "http://[::1]x/",
    "http://[::1/", "http://user@example.com/", "http://user:secret@example.com/", "http://@example.com/",
    "http://:secret@example.com/", "http://example.com/\ud800", "http://127.1/", "http://127.0.0.1./",
]  # fmt: skip


async def test_not_a_url() -> None:
    for url in NOT_URLS:
        found = await check(url, resolve=resolving())
        assert (found.rule, "secret" in found.url + str(found.message)) == (Rule.NOT_A_URL, False), url


async def test_status(site: Site) -> None:
    rules = dict.fromkeys((401, 403, 407), Rule.NEEDS_AUTHENTICATION)
    rules |= dict.fromkeys((201, 204, 206, 300, 304, 404, 410, 429, 500, 503), Rule.BAD_STATUS)
    for status, rule in rules.items():
        site.serve("/a", b"" if status in (204, 304) else sample("png"), status=status, Content_Type="image/png")
        found = await check(site.url("/a"))
        assert (found.rule, str(status) in str(found.message)) == (rule, True), status


async def test_a_redirect_to_nowhere(site: Site) -> None:
    site.serve("/a", b"", status=302)
    assert (await check(site.url("/a"))).rule is Rule.BAD_STATUS


async def test_html(site: Site) -> None:
    site.serve("/page", b"<p>", Content_Type="text/html; charset=utf-8")
    found = await check(site.url("/page"))
    assert (found.rule, found.message) == (Rule.HTML, "the URL returns an HTML page, not a media file")
    site.redirect("/a.png", "/page")
    found = await check(site.url("/a.png"))
    assert (found.rule, found.url) == (Rule.HTML, site.url("/page"))
    assert "redirects to 127.0.0.2, which returns an HTML page" in str(found.message)


async def test_html_that_calls_itself_something_else(site: Site) -> None:
    for body in (b"<!DOCTYPE html>", b"\xef\xbb\xbf\n <html lang=en>", b"<!-- x --><HEAD>", b"<script>"):
        for content_type in ("image/png", "application/octet-stream", "text/plain"):
            site.serve("/a", body, Content_Type=content_type)
            assert (await check(site.url("/a"))).rule is Rule.HTML, (body, content_type)


async def test_content_type(site: Site) -> None:
    site.serve("/a", sample("png"), Content_Type="application/octet-stream")
    found = await check(site.url("/a"))
    assert found.rule is Rule.WRONG_CONTENT_TYPE
    assert found.message == "the host's Content-Type is application/octet-stream: the file is PNG (image/png)"
    site.serve("/a", sample("png"), Content_Type="image/jpeg")
    found = await check(site.url("/a"))
    assert found.rule is Rule.WRONG_CONTENT_TYPE
    assert "is image/jpeg, but the first bytes are of PNG" in str(found.message)
    site.serve("/a", sample("avif"), Content_Type="image/avif")
    assert (await check(site.url("/a"))).rule is Rule.WRONG_CONTENT_TYPE


async def test_no_content_type() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sample("png")) + sample("png")
    async with raw_server(response) as url:
        found = await check(url)
    assert found.rule is Rule.WRONG_CONTENT_TYPE
    assert "missing" in str(found.message)


@pytest.mark.parametrize("body", [b"", b"MZ", b"GIF89a<script>", b"\x89PNG"])
async def test_not_media(site: Site, body: bytes) -> None:
    site.serve("/a", body, Content_Type="image/png")
    assert (await check(site.url("/a"))).rule is Rule.NOT_MEDIA


async def test_compressed_though_unasked(site: Site) -> None:
    """A bomb stays packed, whatever is in it: four kilobytes are read of it."""
    for body in (gzip.compress(bytes(1 << 26), compresslevel=1), sample("png")):
        site.serve("/a", body, Content_Type="image/png", Content_Encoding="gzip")
        found = await check(site.url("/a"))
        assert found.rule is Rule.NOT_MEDIA
        assert "compressed" in str(found.message)


async def test_too_large() -> None:
    for size, rule in ((MAX_FILE_SIZE, None), (MAX_FILE_SIZE + 1, Rule.TOO_LARGE)):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % size
        async with raw_server(head + sample("png"), again=bytes(4096)) as url:
            found = await check(url)
        assert (found.rule, found.size) == (rule, None if rule else size)


async def test_a_body_without_end_is_not_read_on() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = b"%x\r\n" % len(sample("png")) + sample("png") + b"\r\n"
    async with raw_server(head + first, again=b"1000\r\n" + bytes(4096) + b"\r\n") as url:
        assert (await check(url)).media is PNG


async def test_a_body_that_breaks_off() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 4000\r\n\r\n\x89PNG"
    async with raw_server(head) as url:
        assert (await check(url)).rule is Rule.UNREACHABLE


@pytest.mark.parametrize("again", [b"X-A: b\r\n" * 100, b"a" * 4096], ids=["many", "long"])
async def test_headers_without_end(again: bytes) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\n", again=again) as url:
        assert (await check(url)).rule is Rule.UNREACHABLE


@pytest.mark.parametrize(
    "response", [b"", b"220 smtp.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_no_http(response: bytes) -> None:
    async with raw_server(response) as url:
        found = await check(url)
    assert (found.rule, found.message) == (Rule.UNREACHABLE, "the host's response ended early, or can't be read")


@pytest.mark.parametrize("sent", [0, 10])
async def test_a_host_that_holds(site: Site, sent: int) -> None:
    async def hold(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        if sent:
            await response.prepare(request)
            await response.write(sample("png")[:sent])
        await asyncio.Event().wait()
        return response

    site.paths["/a"] = hold
    found = await check(site.url("/a"), time_limit=0.1)
    assert (found.rule, found.url) == (Rule.TOO_SLOW, site.url("/a"))


async def test_interim_responses_without_end() -> None:
    async with raw_server(b"", again=b"HTTP/1.1 100 Continue\r\n\r\n") as url:
        assert (await check(url, time_limit=0.2)).rule in (Rule.TOO_SLOW, Rule.UNREACHABLE)


async def test_the_time_limit_is_for_all_hops(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is for all hops together: with a limit for each hop, all four would pass."""
    limit = 10.0
    loop = asyncio.get_running_loop()
    real, passed = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + passed[0])

    async def late(request: web.BaseRequest) -> web.StreamResponse:
        passed[0] += limit / 2
        return web.Response(status=302, headers={"Location": request.path + "x"})

    for number in range(4):
        site.paths["/a" + "x" * number] = late
    assert (await check(site.url("/a"), time_limit=limit)).rule is Rule.TOO_SLOW
    assert passed[0] < 4 * limit / 2


async def test_a_name_server_that_never_responds() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    assert (await check("http://cdn.example/a", resolve=resolve, time_limit=0.05)).rule is Rule.TOO_SLOW


async def test_unreachable(vault: list[int], tmp_path: Path) -> None:
    found = await check("http://cdn.example/a?signature=secret", resolve=resolving())
    assert (found.rule, found.message) == (Rule.UNREACHABLE, "the host name does not exist")
    assert found.url == "http://cdn.example/a"
    found = await check("http://cdn.example/a", resolve=resolving(cdn_example=[]))
    assert found.rule is Rule.UNREACHABLE
    with socket.create_server((SITE, 0)) as closed:
        port = closed.getsockname()[1]
    found = await check(f"http://{SITE}:{port}/a")
    assert (found.rule, found.message) == (Rule.UNREACHABLE, "the connection to the host failed")

    files = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.cert, files.key)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls) as server:
        found = await check(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/a")
    assert (found.rule, found.message) == (
        Rule.UNREACHABLE, "the host's TLS certificate is not trusted"
    )  # fmt: skip


# -- sharing links

SHARED = {
    "https://drive.google.com/file/d/abc/view?usp=sharing": "Google Drive",
    "https://drive.google.com/uc?export=download&id=abc": "Google Drive",
    "https://DRIVE.google.com./file/d/abc": "Google Drive",
    "https://docs.google.com/presentation/d/abc": "Google Docs",
    "https://photos.google.com/share/abc": "Google Photos",
    "https://photos.app.goo.gl/abc": "Google Photos",
    "https://www.dropbox.com/s/abc/a.jpg?dl=0": "Dropbox",
    "https://dropbox.com/scl/fi/abc/a.jpg?raw=1": "Dropbox",
    "https://1drv.ms/i/s!abc": "OneDrive",
    "https://onedrive.live.com/?id=abc": "OneDrive",
    "https://contoso.sharepoint.com/:v:/g/abc": "OneDrive",
    "https://contoso-my.sharepoint.com/:v:/g/abc": "OneDrive",
    "https://www.icloud.com/iclouddrive/abc": "iCloud",
    "https://share.icloud.com/photos/abc": "iCloud",
}


@pytest.mark.parametrize("redirected", [False, True])
async def test_sharing_links(site: Site, redirected: bool) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    for url, service in SHARED.items():
        site.redirect("/a", url)
        found = await check(site.url("/a") if redirected else url, resolve=resolve)
        assert found.rule is Rule.SHARING_LINK, url
        assert str(found.message).startswith(f"{service} sharing links return HTML pages"), url
        assert "upload the file instead" in str(found.message), url


@each_case("host", ["notdropbox.com", "dropbox.com.example", "icloud.com.evil.example", "google.com", "com"])
def test_not_a_sharing_host(host: str) -> None:
    assert sharing_service(host) is None


# -- what is shown


@each_case(
    ("url", "shown"),
    [
        ("https://u:p@h.example/a?sig=s#f", "https://h.example/a"),
        ("https://h.example/a@b?x@y", "https://h.example/a@b"),
        ("http://u@x@h.example/", "http://h.example/"),
        ("//u:p@h.example/a", "//h.example/a"),
        ("u:p@h.example", "u:p@h.example"),
        ("http://h\n\x1b[2J/a", "http://h  [2J/a"),
        (f"https://h.example/{'a' * 2000}", f"https://h.example/{'a' * 2000}"),
    ],
)
def test_without_secrets(url: str, shown: str) -> None:
    assert _without_secrets(url) == shown


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://x.example/", "http://[", "http://1"]))
def test_no_text_is_too_strange(text: str, prefix: str) -> None:
    try:
        url = direct_url._parse(prefix + text)
    except direct_url._RuleBroken as e:
        assert e.rule is Rule.NOT_A_URL  # noqa: PT017 - both outcomes are fine, others are not
    else:
        assert url.scheme in ("http", "https")
        is_public_host(direct_url._host(url))


def test_every_rule_has_a_code_and_a_meaning() -> None:
    assert {rule.code for rule in Rule} == {
        "not_a_url", "not_public", "sharing_link", "needs_authentication", "bad_status", "html", "wrong_content_type",
        "not_media", "too_many_redirects", "too_large", "unreachable", "too_slow",
    }  # fmt: skip
    assert all(rule.value.endswith(".") for rule in Rule)

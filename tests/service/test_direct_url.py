"""May a URL be used: every rule against a real server, and every way that is known to a private address.

The site is at 127.0.0.2, so most tests allow private hosts. Those of the attack don't, but for that one address, which
stands for the public internet; at 127.0.0.1 listens a vault that counts who connects. Names are resolved by the tests'
own resolver, never by a name server.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bigupload.service import direct_url
from bigupload.service._addresses import is_public, is_public_host, sharing_service
from bigupload.service.contract import MAX_FILE_SIZE, CheckAnswer
from bigupload.service.direct_url import DirectUrls, Rule, UrlCheck, _without_secrets
from bigupload.service.media import GIF, MP4, PNG
from tests.tools.certs import make_certificates
from tests.tools.media import sample

SITE = "127.0.0.2"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Site:
    """A server whose every path is what a test says, and which keeps what was asked of it."""

    def __init__(self, port: int) -> None:
        self.paths: dict[str, Handler] = {}
        self.requests: list[web.BaseRequest] = []
        self.port = port

    def serve(self, path: str, body: bytes, *, status: int = 200, **headers: str) -> None:
        async def handler(_: web.BaseRequest) -> web.Response:
            return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.paths[path] = handler

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        self.serve(path, b"", status=status, Location=location)

    def url(self, path: str, host: str = SITE) -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        handler = self.paths.get(request.path)
        return await handler(request) if handler else web.Response(status=404)


@pytest.fixture
async def vault() -> AsyncIterator[list[int]]:
    """What must not be reached, on this machine: [its port]; a further number for each connection."""
    reached: list[int] = []

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(1)
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    reached.append(server.sockets[0].getsockname()[1])
    async with server:
        yield reached


@pytest.fixture
async def site(vault: list[int]) -> AsyncIterator[Site]:
    """On the port that the vault has too: only the address tells them apart."""
    site = Site(vault[0])
    runner = web.ServerRunner(web.Server(site.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, SITE, site.port).start()
    yield site
    await runner.cleanup()


@asynccontextmanager
async def raw_server(answer: bytes, *, again: bytes = b"") -> AsyncIterator[str]:
    """Answers with bytes that no HTTP library would send, then `again` for ever. Its URL."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            while again:
                writer.write(again)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"


def resolving(**hosts: list[str]) -> Resolve:
    async def resolve(host: str, port: int) -> list[str]:
        try:
            return hosts[host.replace(".", "_")]
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, "no such name") from None

    return resolve


async def check(url: str, **how: Any) -> UrlCheck:
    how.setdefault("allow_private", True)
    async with DirectUrls(**how) as urls:
        found = await urls.check(url)
    assert CheckAnswer.model_validate(found.to_json()).usable == found.usable
    assert (found.message is None) == found.usable
    assert found.message is None or found.message.isprintable()
    return found


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


async def test_the_contract_takes_both_answers(site: Site) -> None:
    site.serve("/a", sample("png"), Content_Type="image/png")
    answer = CheckAnswer.model_validate((await check(site.url("/a"))).to_json())
    assert (answer.usable, answer.content_type, answer.type, answer.error) == (True, "image/png", "image", None)
    answer = CheckAnswer.model_validate((await check(site.url("/b"))).to_json())
    assert answer.error is not None
    assert (answer.usable, answer.content_type, answer.error.code) == (False, None, "bad_status")


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


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "example.com/a.jpg", "//example.com/a.jpg", "/a.jpg", "ftp://example.com/a.jpg", "file:///etc/passwd",
        "javascript:alert(1)", "data:image/png;base64,AAAA", "gopher://example.com/", "http://", "http:///a.jpg",
        "http://example.com:99999/", "http://example.com:0/", "http://exa mple.com/", "http://example.com/a b.jpg",
        " http://example.com/", "http://example.com/\r\nX: y", "http://example.com/\n", "http://a..b/",
        "http://example.com\\@127.0.0.1/", "http://ex%61mple.com/", "http://127.0.0.1%00.example.com/",
        "http://-a.example/", f"http://{'a' * 64}.example/", f"http://{'a.' * 130}example/", "http://[::1]x/",
        "http://[::1/", "http://user@example.com/", "http://user:secret@example.com/", "http://@example.com/",
        "http://:secret@example.com/", "http://example.com/\ud800", "http://127.1/", "http://127.0.0.1./",
    ],
)  # fmt: skip
async def test_not_a_url(url: str) -> None:
    found = await check(url, resolve=resolving())
    assert found.rule is Rule.NOT_A_URL
    assert "secret" not in found.url + str(found.message)


@pytest.mark.parametrize(("status", "rule"), [(s, Rule.NEEDS_AUTHENTICATION) for s in (401, 403, 407)] + [
    (s, Rule.BAD_STATUS) for s in (201, 204, 206, 300, 304, 404, 410, 429, 500, 503)
])  # fmt: skip
async def test_status(site: Site, status: int, rule: Rule) -> None:
    site.serve("/a", b"" if status in (204, 304) else sample("png"), status=status, Content_Type="image/png")
    found = await check(site.url("/a"))
    assert found.rule is rule
    assert str(status) in str(found.message)


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


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html>", b"\xef\xbb\xbf\n <html lang=en>", b"<!-- x --><HEAD>", b"<script>"]
)
@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "text/plain"])
async def test_html_that_calls_itself_something_else(site: Site, body: bytes, content_type: str) -> None:
    site.serve("/a", body, Content_Type=content_type)
    assert (await check(site.url("/a"))).rule is Rule.HTML


async def test_content_type(site: Site) -> None:
    site.serve("/a", sample("png"), Content_Type="application/octet-stream")
    found = await check(site.url("/a"))
    assert found.rule is Rule.WRONG_CONTENT_TYPE
    assert found.message == "the host's Content-Type is application/octet-stream: the file is PNG, of image/png"
    site.serve("/a", sample("png"), Content_Type="image/jpeg")
    found = await check(site.url("/a"))
    assert found.rule is Rule.WRONG_CONTENT_TYPE
    assert "is image/jpeg, but the first bytes are those of PNG" in str(found.message)
    site.serve("/a", sample("avif"), Content_Type="image/avif")
    assert (await check(site.url("/a"))).rule is Rule.WRONG_CONTENT_TYPE


async def test_no_content_type() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sample("png")) + sample("png")
    async with raw_server(answer) as url:
        found = await check(url)
    assert found.rule is Rule.WRONG_CONTENT_TYPE
    assert "none at all" in str(found.message)


@pytest.mark.parametrize("body", [b"", b"MZ", b"GIF89a<script>", b"\x89PNG"])
async def test_not_media(site: Site, body: bytes) -> None:
    site.serve("/a", body, Content_Type="image/png")
    assert (await check(site.url("/a"))).rule is Rule.NOT_MEDIA


async def test_compressed_though_unasked(site: Site) -> None:
    """A bomb of a gigabyte is a megabyte here, and stays packed: four kilobytes are read of it."""
    for body in (gzip.compress(bytes(1 << 30), compresslevel=1), sample("png")):
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
    "answer", [b"", b"220 smtp.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_no_http(answer: bytes) -> None:
    async with raw_server(answer) as url:
        found = await check(url)
    assert (found.rule, found.message) == (Rule.UNREACHABLE, "the host's answer broke off, or can't be read")


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


async def test_interim_answers_without_end() -> None:
    async with raw_server(b"", again=b"HTTP/1.1 100 Continue\r\n\r\n") as url:
        assert (await check(url, time_limit=0.2)).rule in (Rule.TOO_SLOW, Rule.UNREACHABLE)


async def test_the_time_limit_is_for_all_hops(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it does not begin anew with each: one that began anew would see all four through."""
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


async def test_a_name_server_that_never_answers() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    assert (await check("http://cdn.example/a", resolve=resolve, time_limit=0.05)).rule is Rule.TOO_SLOW


async def test_unreachable(vault: list[int], tmp_path: Path) -> None:
    found = await check("http://cdn.example/a?signature=secret", resolve=resolving())
    assert (found.rule, found.message) == (Rule.UNREACHABLE, "there is no host of that name")
    assert found.url == "http://cdn.example/a"
    found = await check("http://cdn.example/a", resolve=resolving(cdn_example=[]))
    assert found.rule is Rule.UNREACHABLE
    with socket.create_server((SITE, 0)) as closed:
        port = closed.getsockname()[1]
    found = await check(f"http://{SITE}:{port}/a")
    assert (found.rule, found.message) == (Rule.UNREACHABLE, "the host can't be connected to")

    files = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.cert, files.key)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls) as server:
        found = await check(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/a")
    assert (found.rule, found.message) == (
        Rule.UNREACHABLE, "the host has no TLS certificate that can be trusted"
    )  # fmt: skip


# -- redirects


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
    assert "redirects to what" in str(found.message)
    assert "secret" not in str(found)


@pytest.mark.parametrize("location", ["b c.png?x=y z", "b%20c.png", "//127.0.0.2:{port}/b%20c.png", "./d/../b%20c.png"])
async def test_relative_redirects(site: Site, location: str) -> None:
    site.redirect("/dir/a", location.format(port=site.port))
    for path in ("/dir/b c.png", "/b c.png"):
        site.serve(path, sample("png"), Content_Type="image/png")
    assert (await check(site.url("/dir/a"))).media is PNG


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


@pytest.mark.parametrize(("url", "service"), SHARED.items())
@pytest.mark.parametrize("redirected", [False, True])
async def test_sharing_links(site: Site, url: str, service: str, redirected: bool) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    site.redirect("/a", url)
    found = await check(site.url("/a") if redirected else url, resolve=resolve)
    assert found.rule is Rule.SHARING_LINK
    assert str(found.message).startswith(f"{service} sharing links return HTML pages")
    assert "upload the file instead" in str(found.message)


@pytest.mark.parametrize(
    "host", ["notdropbox.com", "dropbox.com.example", "icloud.com.evil.example", "google.com", "com"]
)
def test_not_a_sharing_host(host: str) -> None:
    assert sharing_service(host) is None


# -- the way to private addresses

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "100::1", "2001::1", "2001:0:1::1",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "ffff::",
    "", "x", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256",
]  # fmt: skip
GLOBAL = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.17",
    "2606:4700::1111", "2a00:1450:4001::1", "2001:200::1", "2001:4860:4860::8888", "2003::1", "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]  # fmt: skip


def test_addresses() -> None:
    assert [address for address in PRIVATE if is_public(address)] == []
    assert [address for address in GLOBAL if not is_public(address)] == []


HOSTS = [
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "0177.0.0.1",
    "017700000001", "0x7f.0x0.0x0.0x1", "127.0.0.0x1", "127.0.0.1.", "0x", "134744072", "8.8.2056", "010.8.8.8",
    "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1", "\u2460\u2461\u2466.0.0.1", "\uff11\uff12\uff17.0.0.1",
    "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.100.100.200", "255.255.255.255",
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "ip6-localhost", "intranet", "metadata",
    "metadata.google.internal",
    "printer.local", "nas.home.arpa", "router.lan", "kubernetes.default",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]",
    "[fd00::1]",
    "[fc00::1]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]", "[::ffff:169.254.169.254]",
]  # fmt: skip


async def this_machine(host: str, port: int) -> list[str]:
    """What the system's resolver would make of many of them."""
    return ["127.0.0.1"]


@pytest.fixture
def guarded(site: Site, vault: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site counts as public, nothing else on this machine does, and nobody gets into the vault."""
    monkeypatch.setattr(direct_url, "is_public", lambda address: address == SITE or is_public(address))
    yield site
    assert len(vault) == 1


async def guarded_check(url: str, resolve: Resolve) -> UrlCheck:
    found = await check(url, allow_private=False, resolve=resolve)
    if found.rule is Rule.NOT_PUBLIC:
        assert found.message == "the URL's host is not on the public internet"
    return found


@pytest.mark.parametrize("host", HOSTS)
async def test_private_hosts(guarded: Site, host: str) -> None:
    found = await guarded_check(guarded.url("/secret.png", host), this_machine)
    assert found.rule is Rule.NOT_PUBLIC
    assert guarded.requests == []


@pytest.mark.parametrize("host", HOSTS)
async def test_redirects_to_private_hosts(guarded: Site, host: str) -> None:
    guarded.redirect("/a", guarded.url("/secret.png", host))

    async def resolve(host: str, port: int) -> list[str]:
        return [SITE] if host == "cdn.example" else await this_machine(host, port)

    found = await guarded_check(guarded.url("/a", "cdn.example"), resolve)
    assert found.rule is Rule.NOT_PUBLIC
    assert [request.path for request in guarded.requests] == ["/a"]


@pytest.mark.parametrize(
    "host", ["metadata", "a.localhost", "printer.local", "vault.internal", "nas.home.arpa", "127.1"]
)
async def test_names_that_are_private_whatever_they_resolve_to(guarded: Site, host: str) -> None:
    """Not even looked up: whether an internal name exists is nobody's business."""

    async def resolve(name: str, port: int) -> list[str]:
        raise AssertionError(f"{name} was looked up")

    assert (await guarded_check(guarded.url("/a", host), resolve)).rule is Rule.NOT_PUBLIC


@pytest.mark.parametrize("address", [a for a in PRIVATE if a.count(".") == 3 or ":" in a])
@pytest.mark.parametrize("first", [True, False])
async def test_names_with_a_private_address_among_public_ones(guarded: Site, address: str, first: bool) -> None:
    addresses = [address, SITE] if first else [SITE, SITE, address]
    found = await guarded_check(guarded.url("/a", "cdn.example"), resolving(cdn_example=addresses))
    assert found.rule is Rule.NOT_PUBLIC
    assert guarded.requests == []


async def test_a_name_that_is_public_only_when_it_is_checked(guarded: Site) -> None:
    """Rebinding: what was checked is what is connected to, and a further hop is checked anew."""
    answers = [[SITE], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0)

    guarded.serve("/a", sample("png"), Content_Type="image/png")
    assert (await guarded_check(guarded.url("/a", "cdn.example"), resolve)).media is PNG
    assert answers == [["127.0.0.1"]]

    answers[:] = [[SITE], ["127.0.0.1"]]
    guarded.redirect("/b", "/a")
    guarded.requests.clear()
    assert (await guarded_check(guarded.url("/b", "cdn.example"), resolve)).rule is Rule.NOT_PUBLIC
    assert answers == []
    assert [request.path for request in guarded.requests] == ["/b"]


async def test_the_socket_is_the_last_to_check(guarded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should an address get past what comes before it, by a mistake here or in aiohttp."""
    monkeypatch.setattr(direct_url, "is_public_host", lambda host: True)
    for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
        found = await guarded_check(guarded.url("/a", host), this_machine)
        assert found.rule is Rule.UNREACHABLE


async def test_the_vault_can_be_reached(site: Site, vault: list[int]) -> None:
    """Else none of the tests above could fail."""
    await check(site.url("/a", "127.0.0.1"))
    assert len(vault) > 1


async def test_private_hosts_can_be_allowed(site: Site) -> None:
    site.serve("/a", sample("png"), Content_Type="image/png")
    for host in ("cdn", "cdn.local"):
        found = await check(site.url("/a", host), resolve=resolving(cdn=[SITE], cdn_local=[SITE]))
        assert found.media is PNG


async def test_the_systems_resolver() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n" + sample("png")
    async with raw_server(answer) as url:
        assert (await check(url.replace("127.0.0.1", "localhost"))).media is PNG
    assert (await check("http://nothing.invalid/a")).rule is Rule.UNREACHABLE


# -- what is shown


@pytest.mark.parametrize(
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
    except direct_url._Broken as e:
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

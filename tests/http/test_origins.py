"""Where a URL's path begins, as it is connected to and as it was signed, and which proxy is on the way."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from bigupload.http.origins import Proxy, WebOrigin, origin_of, proxy_for
from tests.tools.cases import each_case

HTTP, HTTPS, IPV6 = map(origin_of, ("http://s3.example", "https://s3.example", "http://[::1]:9000/b/k"))
PROXY, SECURE = "http://proxy.example:3128", "http://secure.example:3129"


@each_case(
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


@each_case("url", ["", "no url", "ftp://s3.example", "http://", "http://:9000", "http://h:x", "http://h:65536"])
def test_what_is_none(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)


def test_an_origin_in_messages() -> None:
    assert (IPV6.where, HTTPS.where) == ("[::1]:9000", "s3.example:443")


# -- proxies


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "for_http", "for_https"),
    [
        ({}, None, None), ({"https_proxy": ""}, None, None),
        ({"http_proxy": PROXY}, PROXY, None), ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"http_proxy": PROXY, "https_proxy": SECURE}, PROXY, SECURE),
        ({"https_proxy": "proxy.example:3128"}, None, PROXY),
    ],
)  # fmt: skip
def test_a_proxy_is_that_of_the_scheme(
    environment: dict[str, str], for_http: str | None, for_https: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (proxy_for(HTTP), proxy_for(HTTPS)) == (Proxy(for_http), Proxy(for_https))


@each_case(
    ("no_proxy", "place", "direct"),
    [
        ("s3.example", HTTPS, True), ("other, s3.example", HTTPS, True), ("example", HTTPS, True),
        (".example", HTTPS, True), ("*", HTTPS, True), ("3.example", HTTPS, False), ("s3.example.com", HTTPS, False),
        ("", HTTPS, False), ("s3.example:443", HTTPS, True), ("s3.example:9000", HTTPS, False),
        ("example:443", HTTPS, True),
        ("::1", IPV6, True), ("[::1]", IPV6, True), ("[::1]:9000", IPV6, True), ("[::1]:9001", IPV6, False),
    ],
)  # fmt: skip
def test_hosts_that_are_reached_directly(
    no_proxy: str, place: WebOrigin, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("http_proxy", PROXY), ("https_proxy", PROXY), ("no_proxy", no_proxy)):
        monkeypatch.setenv(name, value)
    assert (proxy_for(place) == Proxy()) is direct


@pytest.mark.parametrize(
    ("userinfo", "auth"),
    [("user:pass", "user:pass"), ("user", "user:"), ("us%40er:p%3Aa%2Fs", "us@er:p:a/s"), ("us%C3%A9r:p", "usér:p")],
)
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxys_credentials_are_not_in_its_url(
    monkeypatch: pytest.MonkeyPatch, scheme: str, userinfo: str, auth: str
) -> None:
    monkeypatch.setenv("https_proxy", f"{scheme}{userinfo}@proxy.example:3128")
    proxy = proxy_for(HTTPS)
    assert proxy.url == PROXY
    assert proxy.headers == {"Proxy-Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"}


@pytest.mark.parametrize("how", ["HOME", "NETRC"])
def test_netrc_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    """Neither for the proxy nor for the store."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine proxy.example login me password hidden\ndefault login me password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv(how, str(tmp_path if how == "HOME" else netrc))
    assert proxy_for(HTTPS) == Proxy()
    monkeypatch.setenv("https_proxy", PROXY)
    assert proxy_for(HTTPS) == Proxy(PROXY)


def test_given_proxies_take_the_place_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that the environment excepts are none of theirs."""
    monkeypatch.setenv("http_proxy", "http://other.example:1")
    monkeypatch.setenv("no_proxy", "*")
    assert proxy_for(HTTP, {"http": PROXY}) == Proxy(PROXY)
    assert proxy_for(HTTPS, {"http": PROXY}) == proxy_for(HTTP, {}) == Proxy()
    with pytest.raises(ValueError, match="not supported"):
        proxy_for(HTTP, {"http": "socks5://proxy.example:1"})

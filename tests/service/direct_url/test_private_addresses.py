"""Every way that is known to a private address, and none of them open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload.service.media import direct_url
from bigupload.service.media.direct_url import Rule, UrlCheck, is_public
from bigupload.service.media.media_types import PNG
from tests.service.direct_url.support import SITE, Resolve, Site, check, raw_server, resolving
from tests.tools.media import sample

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
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1",
    "0X7F.0.0.1", "0177.0.0.1",
    "017700000001", "0x7f.0x0.0x0.0x1", "127.0.0.0x1", "127.0.0.1.", "0x", "134744072", "8.8.2056", "010.8.8.8",
    "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1", "\u2460\u2461\u2466.0.0.1",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "\uff11\uff12\uff17.0.0.1",
    "169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "255.255.255.255",
    "localhost", "LOCALHOST", "localhost.", "LOCALHOST.", "a.localhost", "ip6-localhost", "intranet", "metadata",
    "metadata.google.internal",
    "printer.local", "nas.home.arpa", "router.lan", "kubernetes.default",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%25eth0]",
    "[fe80::1%lo]", "[fd00::1]", "[fd00:ec2::254]",
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


async def test_private_hosts(guarded: Site, vault: list[int]) -> None:
    for host in HOSTS:
        found = await guarded_check(guarded.url("/secret.png", host), this_machine)
        assert (found.rule, guarded.requests, len(vault)) == (Rule.NOT_PUBLIC, [], 1), host


async def test_redirects_to_private_hosts(guarded: Site, vault: list[int]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return [SITE] if host == "cdn.example" else await this_machine(host, port)

    for host in HOSTS:
        guarded.redirect("/a", guarded.url("/secret.png", host))
        guarded.requests.clear()
        found = await guarded_check(guarded.url("/a", "cdn.example"), resolve)
        asked = [request.path for request in guarded.requests]
        assert (found.rule, asked, len(vault)) == (Rule.NOT_PUBLIC, ["/a"], 1), host


@pytest.mark.parametrize(
    "host", ["metadata", "a.localhost", "printer.local", "vault.internal", "nas.home.arpa", "127.1"]
)
async def test_names_that_are_private_whatever_they_resolve_to(guarded: Site, host: str) -> None:
    """It is not even resolved, because that would reveal whether an internal name exists."""

    async def resolve(name: str, port: int) -> list[str]:
        raise AssertionError(f"{name} was looked up")

    assert (await guarded_check(guarded.url("/a", host), resolve)).rule is Rule.NOT_PUBLIC


@pytest.mark.parametrize("first", [True, False])
async def test_names_with_a_private_address_among_public_ones(guarded: Site, vault: list[int], first: bool) -> None:
    for address in (a for a in PRIVATE if a.count(".") == 3 or ":" in a):
        addresses = [address, SITE] if first else [SITE, SITE, address]
        found = await guarded_check(guarded.url("/a", "cdn.example"), resolving(cdn_example=addresses))
        assert (found.rule, guarded.requests, len(vault)) == (Rule.NOT_PUBLIC, [], 1), address


async def test_a_name_that_is_public_only_when_it_is_checked(guarded: Site) -> None:
    """Rebinding: the service connects to the checked address, and checks each further hop."""
    responses = [[SITE], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        return responses.pop(0)

    guarded.serve("/a", sample("png"), Content_Type="image/png")
    assert (await guarded_check(guarded.url("/a", "cdn.example"), resolve)).media is PNG
    assert responses == [["127.0.0.1"]]

    responses[:] = [[SITE], ["127.0.0.1"]]
    guarded.redirect("/b", "/a")
    guarded.requests.clear()
    assert (await guarded_check(guarded.url("/b", "cdn.example"), resolve)).rule is Rule.NOT_PUBLIC
    assert responses == []
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
    response = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n" + sample("png")
    async with raw_server(response) as url:
        assert (await check(url.replace("127.0.0.1", "localhost"))).media is PNG
    assert (await check("http://nothing.invalid/a")).rule is Rule.UNREACHABLE

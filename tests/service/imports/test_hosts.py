"""Which hosts an import reaches: those on the public internet alone, however they are named."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from bigupload import errors
from bigupload.core.retry_policy import RetryPolicy
from bigupload.service import direct_url
from bigupload.service.direct_url import is_public
from bigupload.service.imports.fetching import HostNotPublicError, why_failed
from bigupload.service.problems import Problem, Refused
from tests.service.direct_url.conftest import site as site
from tests.service.direct_url.conftest import vault as vault
from tests.service.direct_url.support import SITE, Site
from tests.service.direct_url.test_private_addresses import HOSTS
from tests.service.imports.replicas import replica
from tests.tools.buckets import Meddled
from tests.tools.media import sample

Resolve = Callable[[Callable[[str], list[str]]], None]
ONCE = RetryPolicy(attempts=1, give_up_after=0.0)


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Let names have the addresses that a function returns."""

    def of(addresses: Callable[[str], list[str]]) -> None:
        def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses(host)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return of


@pytest.fixture
def guarded(site: Site, vault: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site counts as public, nothing else on this machine does, and nobody gets into the vault."""
    monkeypatch.setattr(direct_url, "is_public", lambda address: address == SITE or is_public(address))
    site.serve("/a.png", sample("png"), ETag='"one"')
    yield site
    assert len(vault) == 1


async def failure(bucket: Meddled, url: str) -> Exception | None:
    """How it fails to read the beginning of a file."""
    async with replica(bucket, allow_private=False) as one, contextlib.AsyncExitStack() as opened:
        try:
            await one.fetching.open(url, opened, name="a.png", size=None, policy=ONCE)
        except errors.BigUploadError as e:
            return e
    return None


async def test_private_hosts(bucket: Meddled, guarded: Site, resolve: Resolve) -> None:
    resolve(lambda _: ["127.0.0.1"])
    for host in HOSTS:
        found = await failure(bucket, guarded.url("/secret.png", host))
        assert isinstance(found, HostNotPublicError | errors.UsageError), host
        assert guarded.requests == []


async def test_redirects_to_private_hosts(bucket: Meddled, guarded: Site, resolve: Resolve) -> None:
    resolve(lambda host: {"public.example": [SITE], "both.example": [SITE, "127.0.0.1"]}.get(host, ["127.0.0.1"]))
    for host in ("127.0.0.1", "private.example", "both.example", "localhost", "[::ffff:127.0.0.1]"):
        guarded.redirect("/start", guarded.url("/a.png", host))
        found = await failure(bucket, guarded.url("/start", "public.example"))
        assert isinstance(found, HostNotPublicError), host
    guarded.redirect("/start", "/a.png")
    assert await failure(bucket, guarded.url("/start", "public.example")) is None
    for location in (
        "ftp://public.example/a.png",
        "file:///etc/passwd",
        "s3://bucket/key",
        "http://u:p@public.example/",
    ):
        guarded.redirect("/start", location)
        assert isinstance(await failure(bucket, guarded.url("/start", "public.example")), errors.SourceUnsupported)


async def test_a_name_whose_address_changes(bucket: Meddled, guarded: Site, resolve: Resolve) -> None:
    """What was checked is what is connected to, and each look-up is checked."""
    answers = iter([[SITE], ["127.0.0.1"], [SITE, "127.0.0.1"]])
    resolve(lambda _: next(answers))
    url = guarded.url("/a.png", "rebinding.example")
    assert await failure(bucket, url) is None
    assert len(guarded.requests) == 1
    for _ in range(2):
        assert isinstance(await failure(bucket, url), HostNotPublicError)


async def test_the_proxy_of_the_environment_is_not_used(
    bucket: Meddled, guarded: Site, vault: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{vault[0]}")
    assert await failure(bucket, guarded.url("/a.png")) is None


async def test_a_refusal_says_no_more_than_that(bucket: Meddled, guarded: Site) -> None:
    async with replica(bucket, allow_private=False) as one:
        with pytest.raises(Refused) as refused:
            await one.begin("http://127.0.0.1:1/a.png?secret-of-the-url")
        assert refused.value.problem is Problem.IMPORT_FAILED
        assert str(refused.value) == why_failed(HostNotPublicError(""))

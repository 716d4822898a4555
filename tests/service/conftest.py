"""The services that most tests share."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import Meddled, fresh_name, options_for
from tests.tools.declared import what_is_wrong
from tests.tools.directories import session_directory
from tests.tools.http_stub import HttpStub, http_stub
from tests.tools.service import Service, serving


@pytest.fixture(autouse=True, scope="session")
def one_tls_context() -> Iterator[None]:
    """httpx would read all certificate authorities for each request, and that costs more than the request."""
    with pytest.MonkeyPatch.context() as patch:
        made_once = functools.cache(httpx.create_ssl_context)
        patch.setattr("httpx._transports.default.create_ssl_context", made_once)
        yield


_GENEROUS = ("--requests", "10000", "--open-uploads", "1000", "--sweep-every", "0")


@pytest.fixture(scope="session", params=["aiohttp", pytest.param("asgi", marks=pytest.mark.slow)])
def service(
    request: pytest.FixtureRequest, weed: LocalStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """`bigupload serve --local`, generous with requests, and never sweeping what a test is about to look at.

    Each test runs over both edges.
    """
    with (
        session_directory(tmp_path_factory, f"service-{request.param}") as home,
        serving(weed, home, *_GENEROUS, asgi=request.param == "asgi") as running,
    ):
        yield running
        assert what_is_wrong(running.log()) == []


@pytest.fixture(scope="session")
def session_stub() -> Iterator[HttpStub]:
    """The stub behind `posts_api`, which tests use."""
    with http_stub() as running:
        yield running


@pytest.fixture(scope="session")
def posting(weed: LocalStore, session_stub: HttpStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Like `service`, with a posts API (at /v1/posts of the stub), and URLs of this machine allowed."""
    posts = ("--posts-url", f"{session_stub.url}/v1/posts", "--allow-private-media-hosts")
    with session_directory(tmp_path_factory, "posting") as home, serving(weed, home, *_GENEROUS, *posts) as running:
        yield running
        assert what_is_wrong(running.log()) == []


@pytest.fixture
def posts_api(session_stub: HttpStub) -> HttpStub:
    """The posts API of `posting`, and any host that a test needs beside it; with a clean memory."""
    session_stub.forget()
    return session_stub


@pytest.fixture
async def bucket(weed: LocalStore) -> AsyncIterator[Meddled]:
    """An empty one in SeaweedFS."""
    found = Meddled(fresh_name(weed), options_for(weed))
    await found.ensure()
    yield found
    await found.aclose()


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    """A strict fake, for stores that refuse."""
    with StrictS3() as server:
        yield server

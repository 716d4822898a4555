"""The real command, and a proxy between it and the real service."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.client.support import AHEAD, PART, PARTS, Client, stopped
from tests.tools.api_proxy import ApiProxy
from tests.tools.media import sample
from tests.tools.service import Service


@pytest.fixture
def proxy(service: Service) -> Iterator[ApiProxy]:
    with ApiProxy(service.url) as running:
        yield running


@pytest.fixture(scope="package")
def movie_bytes() -> bytes:
    return sample("mp4") + random.Random(7).randbytes((PARTS - 1) * PART + 1000)


@pytest.fixture
def movie(tmp_path: Path, movie_bytes: bytes) -> Path:
    path = tmp_path / "movie.mp4"
    path.write_bytes(movie_bytes)
    return path


@pytest.fixture
def short_movie(tmp_path: Path, movie_bytes: bytes) -> Path:
    """Of two parts, for what does not depend on their number."""
    path = tmp_path / "short.mp4"
    path.write_bytes(movie_bytes[: PART + 1000])
    return path


@pytest.fixture
def client(tmp_path: Path, proxy: ApiProxy, service: Service, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(tmp_path, proxy.url, service.key, capsys)


@pytest.fixture
def half(client: Client, proxy: ApiProxy, movie: Path) -> Client:
    """Of `movie`, the parts that create signed are recorded; then the command was killed."""
    release = proxy.hold("sign")
    client.killed(movie, parts=AHEAD)
    del proxy.before["sign"]
    release.set()
    proxy.exchanges.clear()
    return client


@pytest.fixture
def unfinished(client: Client, proxy: ApiProxy, short_movie: Path) -> Client:
    """Both parts of `short_movie` are recorded; the store refused the complete once."""
    proxy.refuse("complete", 502, "store_refused")
    stopped(client.upload(short_movie), 75, "store_refused")
    proxy.exchanges.clear()
    return client

"""An upload through the service whose handle has expired."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bigupload.service.access.handles import Handles
from bigupload.service.access.keys import load_secret
from tests.service.client.support import Client, object_sha256, sha256, stopped
from tests.tools.api_proxy import ApiProxy
from tests.tools.service import Service


@pytest.fixture
def expire(service: Service) -> Callable[[str], str]:
    """Makes of a handle what it is a week later."""

    def expired(handle: str) -> str:
        week = 8 * 24 * 3600
        secret = load_secret(service.home / "secret", create=False)
        handles = Handles(secret, clock=time.time)
        found = handles.decode(handle, owner="local")
        return handles.encode(dataclasses.replace(found, expires=found.expires - week))

    return expired


@pytest.mark.slow
def test_a_handle_that_expired_since(half: Client, proxy: ApiProxy, movie: Path, expire: Callable[[str], str]) -> None:
    path = half.place.manifest_path()
    handle = half.place.manifest().upload_id
    path.write_text(path.read_text().replace(handle, expire(handle)))
    ended = half.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert "starting again" in ended.err
    assert ended.result["resumed_parts"] == 0
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1


@pytest.mark.slow
def test_a_handle_that_expires_half_way(
    client: Client, proxy: ApiProxy, movie: Path, expire: Callable[[str], str]
) -> None:
    proxy.change["sign"] = lambda body: body.update(upload=expire(body["upload"]))
    stopped(client.upload(movie), 75, "has expired", "try again")

"""An upload through the service with an upload token in place of an API key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from bigupload.service.access.keys import load_secret
from bigupload.service.access.upload_tokens import TokenRequest, UploadTokens
from tests.service.client.support import Client, object_sha256, sha256, stopped
from tests.tools.api_proxy import ApiProxy
from tests.tools.service import Service
from tests.tools.waiting import until


def token(service: Service, **limits: Any) -> str:
    made = service.call("POST", "/v1/media/tokens", json=limits)
    assert made.status_code == 200, made.text
    return str(made.json()["token"])


def expired(service: Service) -> str:
    """A token that was good for a minute, an hour ago."""
    tokens = UploadTokens(load_secret(service.home / "secret", create=False), clock=lambda: time.time() - 3600)
    return tokens.mint("local", TokenRequest(expires_in=60), key_id=None).token


@pytest.mark.slow
def test_a_token_that_expires_half_way(client: Client, proxy: ApiProxy, service: Service, movie: Path) -> None:
    """It ends resumable, and the same command with a new token sends what is missing."""
    size = movie.stat().st_size
    client.key = token(service, maxSize=size, uploads=1)
    proxy.keys["sign"] = expired(service)
    proxy.before["sign"] = lambda: asyncio.run(until(lambda: client.recorded() > 0))
    stopped(client.upload(movie), 75, "the upload token has expired", "set BIGUPLOAD_API_KEY to a new one")
    del proxy.keys["sign"], proxy.before["sign"]
    done = client.recorded()
    assert done > 0
    assert client.key not in "".join(path.read_text() for path in client.place.state.glob("*.jsonl"))
    ended = client.upload(movie, "--json", key=token(service, maxSize=size, uploads=1))
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] >= done
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1


@pytest.mark.slow
def test_a_create_whose_response_is_lost_counts_once(
    client: Client, proxy: ApiProxy, service: Service, movie: Path
) -> None:
    client.key = token(service, uploads=1)
    proxy.lose("create")
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert proxy.calls.count("create") == 2
    stopped(client.upload(movie, "--no-resume"), 1, "allows no more uploads")


@pytest.mark.slow
def test_a_file_that_the_token_does_not_allow(client: Client, proxy: ApiProxy, service: Service, movie: Path) -> None:
    client.key = token(service, maxSize=1000)
    stopped(client.upload(movie), 1, "larger than the upload token allows")
    client.key = token(service, contentTypes=["image/*"])
    stopped(client.upload(movie), 1, "does not allow this type of file")
    assert proxy.calls == ["create"] * 2

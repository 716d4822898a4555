"""Responses of the service that are lost or pass, and uploads that vanish."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.running import until
from tests.service.client.support import PARTS, Client, object_sha256, sha256, stopped
from tests.tools.api_proxy import ApiProxy
from tests.tools.media import sample
from tests.tools.service import Service


@pytest.mark.exhaustive
@pytest.mark.parametrize("twice", [False, True])
def test_a_complete_whose_response_is_lost(client: Client, proxy: ApiProxy, short_movie: Path, twice: bool) -> None:
    """The client asks the service for the state, and never starts again."""
    proxy.lose("complete", *["status"] * twice)
    ended = client.upload(short_movie, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    assert object_sha256(ended.result["url"]) == sha256(short_movie)
    assert proxy.calls == ["create", "complete"] + ["status"] * (1 + twice)


@pytest.mark.slow
def test_killed_while_it_completes(client: Client, proxy: ApiProxy, movie: Path) -> None:
    release = proxy.hold("complete")
    with client.start(movie) as process:
        until(lambda: "complete" in proxy.calls, process)
        process.kill()
    del proxy.before["complete"]
    release.set()
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] == PARTS
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ("create", 429, "rate_limited"), ("create", 503, "credentials_expiring"), ("create", 502, "<html>"),
        ("sign", 429, "rate_limited"), ("sign", 500, "internal"), ("complete", 503, "store_unavailable"),
        ("complete", 409, "part_not_stored"), ("complete", 504, "<html>"),
    ],
)  # fmt: skip
def test_what_passes(
    client: Client, proxy: ApiProxy, request: pytest.FixtureRequest, call: str, status: int, code: str
) -> None:
    movie: Path = request.getfixturevalue("movie" if call == "sign" else "short_movie")
    proxy.refuse(call, status, code)
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1 + (call == "create")
    assert proxy.count(call, status) == 1


def test_an_upload_that_vanishes_while_parts_are_signed(client: Client, proxy: ApiProxy, movie: Path) -> None:
    proxy.refuse("sign", 404, "upload_gone")
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert "starting again" in ended.err
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 2


@pytest.mark.slow
def test_a_service_whose_store_knows_no_checksums(client: Client, proxy: ApiProxy, movie: Path) -> None:
    proxy.refuse("create", 422, "unsupported_checksum")
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert "proved by MD5 instead" in ended.err
    assert ended.result["verified"] == "composite-etag"
    assert object_sha256(ended.result["url"]) == sha256(movie)


@pytest.mark.slow
def test_the_operator_has_to_look(client: Client, proxy: ApiProxy, movie: Path) -> None:
    """After the operator has fixed it, the same command resumes."""
    proxy.refuse("complete", 502, "store_refused")
    stopped(client.upload(movie), 75, "refused to complete the upload: store_refused")
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] == PARTS
    assert proxy.calls.count("create") == 1


def test_a_service_that_restarts_is_waited_for(tmp_path: Path, service: Service, client: Client) -> None:
    """The command begins while nothing listens. It has uploaded through this URL before, so the URL is right."""
    picture = tmp_path / "a.gif"
    picture.write_bytes(sample("gif"))
    with ApiProxy(service.url) as gone:
        client.url = gone.url
        assert client.upload(picture).code == 0
    picture.write_bytes(sample("gif") + b"more")
    ended = client.upload(picture, "--give-up-after", "0s")
    assert ended.code == 75, ended.err
    assert "no connection" in ended.err  # it waited for as long as it may, and not for four attempts

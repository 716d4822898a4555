"""What the service refuses, in the command's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.service.client.support import PART, Client, object_sha256, sha256, stopped
from tests.tools.api_proxy import ApiProxy
from tests.tools.media import sample
from tests.tools.service import Service

# -- keys


@pytest.mark.slow
def test_a_key_that_is_revoked_half_way(client: Client, proxy: ApiProxy, service: Service, movie: Path) -> None:
    client.key = service.new_key("press")

    def revoke() -> None:
        del proxy.before["sign"]
        service.revoke(client.key)

    proxy.before["sign"] = revoke
    stopped(client.upload(movie), 75, "does not accept this API key", "set BIGUPLOAD_API_KEY", "try again")
    done = client.recorded()
    ended = client.upload(movie, "--json", key=service.new_key("press"))
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] >= done  # more where the store had what no record told of yet
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1


@pytest.mark.slow
def test_another_owners_key(half: Client, service: Service, movie: Path) -> None:
    stopped(half.upload(movie, key=service.new_key("stranger")), 75, "another owner's API key", "--no-resume")
    assert half.upload(movie).code == 0


@pytest.mark.slow
def test_without_a_key(half: Client, proxy: ApiProxy, movie: Path, tmp_path: Path) -> None:
    stopped(half.upload(movie, key=""), 75, "set BIGUPLOAD_API_KEY")
    (tmp_path / "new.mp4").write_bytes(sample("mp4"))
    stopped(half.upload(tmp_path / "new.mp4", key=""), 1, "set BIGUPLOAD_API_KEY")
    assert proxy.calls == []


# -- refused


def test_what_is_not_media_is_refused_before_it_is_sent(client: Client, proxy: ApiProxy, tmp_path: Path) -> None:
    path = tmp_path / "movie.mp4"
    path.write_bytes(b"MZ" + bytes(PART))
    stopped(client.upload(path), 1, "movie.mp4: the file is not MP4")
    assert proxy.calls == ["create"]
    assert not list(client.place.state.glob("*.manifest.jsonl"))


@pytest.mark.slow
def test_what_is_not_media_is_refused_at_complete(
    client: Client, proxy: ApiProxy, service: Service, tmp_path: Path
) -> None:
    """And the same command says the same, without a second upload."""
    proxy.change["create"] = lambda body: body.pop("head")
    path = tmp_path / "movie.mp4"
    path.write_bytes(b"MZ" + bytes(PART))
    stopped(client.upload(path), 1, "first bytes")
    assert "complete" in proxy.calls
    for _ in range(2):
        stopped(client.upload(path), 1, "do not match the content type")
    stopped(client("resume", client.place.manifest_path()), 1, "do not match the content type")
    assert proxy.calls.count("create") == 1
    assert proxy.calls.count("complete") == 1
    assert client("abort", client.place.manifest_path()).code == 0


@pytest.mark.slow
def test_a_name_that_is_no_media(client: Client, proxy: ApiProxy, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"text")
    stopped(client.upload(path), 1, "the file name must end in one of")
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"")
    stopped(client.upload(path), 1, "the file is empty")
    assert proxy.calls == ["create"]


@pytest.mark.slow
def test_what_is_no_service(client: Client, service: Service, weed: Any, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4"))
    for url in (weed.endpoint_url, service.url + "/elsewhere"):
        ended = client("upload", path, "--service", url)
        assert ended.code == 1
        assert "media service" in ended.err

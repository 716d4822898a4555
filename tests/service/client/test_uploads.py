"""The real command through the real service into SeaweedFS, as it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import bigupload
from bigupload import errors, events
from tests.crash.running import REPOSITORY
from tests.integration.support import of_function
from tests.service.client.support import PART, PARTS, Client, object_sha256, sha256
from tests.tools.api_proxy import ApiProxy
from tests.tools.media import sample
from tests.tools.service import Service


def test_an_upload(client: Client, proxy: ApiProxy, movie: Path) -> None:
    ended = client.upload(movie, "--json", "--require-proof", "full-object")
    assert ended.code == 0, ended.err
    result = ended.result
    assert (result["verified"], result["parts"], result["resumed_parts"], result["bucket"]) == (
        "full-object",
        PARTS,
        0,
        "",
    )
    assert result["key"].startswith("media/local/")
    assert result["key"].endswith(".mp4")
    assert result["url"].endswith(result["key"])
    assert object_sha256(result["url"]) == sha256(movie)
    assert proxy.calls[0] == "create"
    assert proxy.calls[-1] == "complete"
    assert set(proxy.calls[1:-1]) == {"sign"}


@pytest.mark.slow
def test_the_workers_of_a_cluster_send_the_parts(client: Client, movie: Path) -> None:
    ended = client.upload(movie, "--json", "--require-proof", "full-object", "--dask", "local:2")
    assert ended.code == 0, ended.err
    lines = ended.err.splitlines()
    assert lines[-1] == "movie.mp4: done, proved: full-object"
    assert all(line.startswith("movie.mp4: ") for line in lines)
    assert object_sha256(ended.result["url"]) == sha256(movie)


def test_a_small_upload_is_two_round_trips(client: Client, proxy: ApiProxy, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4") + bytes(2 * PART))
    assert client.upload(path, "--require-proof", "full-object").code == 0
    assert proxy.calls == ["create", "complete"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("checksum", "proof"),
    [("crc32c", "full-object"), ("sha256", "composite-checksum"), ("md5", "composite-etag"), ("none", "size")],
)
def test_other_checksums(client: Client, proxy: ApiProxy, tmp_path: Path, checksum: str, proof: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4") + bytes(2 * PART))
    ended = client.upload(path, "--json", "--checksum", checksum)
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == proof
    assert object_sha256(ended.result["url"]) == sha256(path)
    assert proxy.calls.count("create") == 1


def test_the_service_of_the_environment(client: Client, short_movie: Path) -> None:
    ended = client("upload", short_movie, "--part-size", "5MiB", BIGUPLOAD_SERVICE=client.url + "/")
    assert ended.code == 0, ended.err
    assert "service" in json.loads(client.place.manifest_path().read_text().splitlines()[0])["target"]


def test_several_files(client: Client, tmp_path: Path) -> None:
    """Of one name too: the service makes the keys."""
    paths = [tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(sample("mp4"))
    ended = client("upload", *paths, "--service", client.url)
    assert ended.code == 0, ended.err
    assert len(set(ended.out.splitlines())) == 2


@pytest.mark.slow
def test_a_manifest_holds_no_secret(half: Client, movie: Path) -> None:
    """The key would be worth something, a signed URL for an hour; the handle is nothing without a key."""
    text = half.place.manifest_path().read_text()
    assert half.key not in text
    assert "X-Amz-" not in text
    ended = half.upload(movie)
    assert ended.code == 0, ended.err
    text = half.place.manifest_path().read_text()
    assert half.key not in text
    assert "X-Amz-" not in text


def test_no_boto3(client: Client, tmp_path: Path) -> None:
    """Nor aiohttp and pydantic: the client needs none of them, and they are slow to load."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4"))
    arguments = ["upload", str(path), "--service", client.url]
    code = (
        "import atexit, runpy, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
        f"sys.argv[1:] = {arguments!r}; runpy.run_module('bigupload', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=client.environment(), cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "bigupload" in loaded
    assert not {"aiohttp", "boto3", "botocore", "pydantic", "itsdangerous"} & loaded


async def test_from_python(proxy: ApiProxy, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4"))
    told: list[events.Event] = []
    result = await bigupload.upload(
        path, service=proxy.url, api_key=service.key, manifest=tmp_path / "m", on_event=told.append
    )
    assert result.verified is bigupload.Verified.FULL_OBJECT
    (started,) = [event for event in told if isinstance(event, events.UploadStarted)]
    assert started.target == f"{proxy.url}#{result.key}"
    again = await bigupload.resume(tmp_path / "m", api_key="sk_not-asked-for")
    assert (again.url, again.key) == (result.url, result.key)
    for target in ({}, {"to": "s3://b/k", "service": proxy.url}):
        with pytest.raises(errors.UsageError, match="target"):
            await bigupload.upload(path, **of_function(target))

"""A killed upload through the service resumes."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.crash.running import until
from tests.service.client.support import AHEAD, MIB, Client, object_sha256, sha256
from tests.tools.api_proxy import ApiProxy
from tests.tools.service import Service

# -- interrupted


@pytest.mark.slow
def test_resumed_by_its_manifest_after_a_move(half: Client, proxy: ApiProxy, movie: Path) -> None:
    moved = movie.rename(movie.with_name("film.mp4"))
    ended = half("resume", half.place.manifest_path(), "--source", moved, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] == AHEAD
    assert object_sha256(ended.result["url"]) == sha256(moved)
    assert "create" not in proxy.calls


def test_status_and_abort(unfinished: Client, proxy: ApiProxy, service: Service) -> None:
    manifest = unfinished.place.manifest()
    shown = unfinished("status")
    assert f"→ {unfinished.url}#{manifest.target.key}" in shown.out
    assert service.call("GET", "/v1/media/multipart", params={"upload": manifest.upload_id}).json()["status"] == "open"
    assert unfinished("abort", unfinished.place.manifest_path()).code == 0
    assert service.call("GET", "/v1/media/multipart", params={"upload": manifest.upload_id}).json()["status"] == "gone"
    assert unfinished.place.manifest().aborted


@pytest.mark.slow
def test_an_upload_that_the_store_forgot(half: Client, proxy: ApiProxy, service: Service, movie: Path) -> None:
    manifest = half.place.manifest()
    service.call("DELETE", "/v1/media/multipart", params={"upload": manifest.upload_id})
    ended = half.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert "starting again" in ended.err
    assert ended.result["key"] != manifest.target.key
    assert ended.result["key"] == half.place.manifest().target.key
    assert ended.result["resumed_parts"] == 0
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1


# -- a real film

FILM_SIZE = 400 * MIB


def film(path: Path) -> Path:
    """An MP4 of FILM_SIZE: some seconds of noise, over and over."""
    import imageio_ffmpeg

    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    clip = path.with_name("clip.mp4")
    noise = ("-f", "lavfi", "-i", "testsrc2=s=1280x720:d=2,noise=alls=100:allf=t")
    encoded = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-pix_fmt", "yuv420p")
    subprocess.run([*ffmpeg, *noise, *encoded, str(clip)], check=True, stdin=subprocess.DEVNULL)
    looped = ("-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-fs", str(FILM_SIZE))
    subprocess.run([*ffmpeg, *looped, str(path)], check=True, stdin=subprocess.DEVNULL)
    clip.unlink()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("service", ["aiohttp"], indirect=True)  # the client is killed
def test_a_film_killed_twice(client: Client, proxy: ApiProxy, service: Service, tmp_path: Path) -> None:
    """Killed after as many recorded parts as the seed says, and again, and then it goes to its end."""
    path = film(tmp_path / "film.mp4")
    digest = sha256(path)
    arguments = ("upload", path, "--service", client.url, "--concurrency", "2")
    kills = sorted(random.Random(3).sample(range(AHEAD, 50), 2))
    for parts in kills:
        with client.place.start(*arguments, "--progress", "none", environment=client.environment()) as process:
            until(lambda parts=parts: client.recorded() >= parts, process)
            process.kill()
    ended = client(*arguments, "--json", "--require-proof", "full-object")
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    assert ended.result["resumed_parts"] >= kills[-1]
    assert object_sha256(ended.result["url"]) == digest
    assert proxy.calls.count("create") == 1
    path.unlink()

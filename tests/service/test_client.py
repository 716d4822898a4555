"""The real command through the real service into SeaweedFS: interrupted, revoked, refused, its answers lost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import bigupload
from bigupload import errors, events
from bigupload.service.handles import Handles
from bigupload.service.keys import load_secret
from tests.crash.running import REPOSITORY, Ended, Place, until
from tests.tools.api_proxy import ApiProxy, api_proxy
from tests.tools.media import sample
from tests.tools.service import Service

MIB = 1024 * 1024
PART = 5 * MIB
PARTS = 12
"""Of `movie`: more than are signed at create."""
AHEAD = 8


@pytest.fixture
def proxy(service: Service) -> Iterator[ApiProxy]:
    with api_proxy(service.url) as running:
        yield running


@pytest.fixture(scope="module")
def movie_bytes() -> bytes:
    return sample("mp4") + random.Random(7).randbytes((PARTS - 1) * PART + 1000)


@pytest.fixture
def movie(tmp_path: Path, movie_bytes: bytes) -> Path:
    path = tmp_path / "movie.mp4"
    path.write_bytes(movie_bytes)
    return path


class Client:
    """The command on a machine of its own, which has an API key and nothing of AWS."""

    def __init__(self, directory: Path, url: str, key: str) -> None:
        self.place = Place(directory)
        self.url = url
        self.key = key

    def environment(self, key: str | None = None) -> dict[str, str]:
        found = {n: v for n, v in self.place.environment().items() if not n.startswith("AWS_")}
        return found | {"BIGUPLOAD_API_KEY": self.key if key is None else key}

    def upload(self, path: Path, *more: str, key: str | None = None) -> Ended:
        return self("upload", path, "--service", self.url, "--part-size", "5MiB", *more, key=key)

    def start(self, path: Path, *more: str) -> subprocess.Popen[str]:
        arguments = ("upload", path, "--service", self.url, "--part-size", "5MiB", "--progress", "none", *more)
        return self.place.start(*arguments, environment=self.environment())

    def __call__(self, *arguments: str | Path, key: str | None = None) -> Ended:
        return self.place.run(*arguments, environment=self.environment(key))

    def killed(self, path: Path, *, parts: int) -> None:
        """Upload, and kill -9 once so many parts are recorded."""
        with self.start(path) as process:
            until(lambda: self.recorded() >= parts, process)
            process.kill()

    def recorded(self) -> int:
        """Parts in the manifest, right now; 0 while there is none."""
        paths = list(self.place.state.glob("*.manifest.jsonl"))
        return paths[0].read_bytes().count(b'\n{"type":"part",') if paths else 0


@pytest.fixture
def client(tmp_path: Path, proxy: ApiProxy, service: Service) -> Client:
    return Client(tmp_path, proxy.url, service.key)


@pytest.fixture
def half(client: Client, proxy: ApiProxy, movie: Path) -> Client:
    """Of `movie`, the parts that create signed are recorded; then the command was killed."""
    release = proxy.hold("sign")
    client.killed(movie, parts=AHEAD)
    del proxy.before["sign"]
    release.set()
    proxy.calls.clear()
    return client


def object_sha256(url: str) -> str:
    """Of what everyone gets under a publicUrl."""
    digest = hashlib.sha256()
    with httpx.stream("GET", url, trust_env=False, timeout=60) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_bytes(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stopped(ended: Ended, code: int, *says: str) -> None:
    assert ended.code == code, ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("bigupload: ")
    for words in says:
        assert words in last
    assert "Traceback" not in ended.err


# -- as it should be


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


def test_a_small_upload_is_two_round_trips(client: Client, proxy: ApiProxy, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4") + bytes(2 * PART))
    assert client.upload(path, "--require-proof", "full-object").code == 0
    assert proxy.calls == ["create", "complete"]


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


def test_the_service_of_the_environment(client: Client, movie: Path) -> None:
    environment = client.environment() | {"BIGUPLOAD_SERVICE": client.url + "/"}
    ended = client.place.run("upload", movie, environment=environment)
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
    """Nor pydantic: the client needs neither, and both are slow to load."""
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
    assert {"aiohttp", "bigupload"} <= loaded
    assert not {"boto3", "botocore", "pydantic", "itsdangerous"} & loaded


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
            await bigupload.upload(path, **target)


# -- interrupted


def test_killed_and_resumed(half: Client, proxy: ApiProxy, movie: Path) -> None:
    ended = half.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert (ended.result["verified"], ended.result["resumed_parts"]) == ("full-object", AHEAD)
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert "create" not in proxy.calls


def test_resumed_by_its_manifest_after_a_move(half: Client, proxy: ApiProxy, movie: Path) -> None:
    moved = movie.rename(movie.with_name("film.mp4"))
    ended = half("resume", half.place.manifest_path(), "--source", moved, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] == AHEAD
    assert object_sha256(ended.result["url"]) == sha256(moved)
    assert "create" not in proxy.calls


def test_status_and_abort(half: Client, proxy: ApiProxy, service: Service) -> None:
    manifest = half.place.manifest()
    shown = half("status")
    assert f"→ {half.url}#{manifest.target.key}" in shown.out
    assert service.call("GET", "/v1/media/multipart", params={"upload": manifest.upload_id}).json()["status"] == "open"
    assert half("abort", half.place.manifest_path()).code == 0
    assert service.call("GET", "/v1/media/multipart", params={"upload": manifest.upload_id}).json()["status"] == "gone"
    assert half.place.manifest().aborted


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


# -- keys


def test_a_key_that_is_revoked_half_way(client: Client, proxy: ApiProxy, service: Service, movie: Path) -> None:
    client.key = service.new_key("press")

    def revoke() -> None:
        del proxy.before["sign"]
        service.revoke(client.key)

    proxy.before["sign"] = revoke
    stopped(
        client.upload(movie), 75, "does not accept this API key", "set BIGUPLOAD_API_KEY", "run the same command again"
    )
    done = client.recorded()
    ended = client.upload(movie, "--json", key=service.new_key("press"))
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] >= done  # more where the store had what no record told of yet
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1


def test_another_owners_key(half: Client, service: Service, movie: Path) -> None:
    stopped(half.upload(movie, key=service.new_key("stranger")), 75, "another owner's API key", "--no-resume")
    assert half.upload(movie).code == 0


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
        stopped(client.upload(path), 1, "first bytes")
    stopped(client("resume", client.place.manifest_path()), 1, "first bytes")
    assert proxy.calls.count("create") == 1
    assert proxy.calls.count("complete") == 1
    assert client("abort", client.place.manifest_path()).code == 0


def test_a_name_that_is_no_media(client: Client, proxy: ApiProxy, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"text")
    stopped(client.upload(path), 1, "the file name has to end in one of")
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"")
    stopped(client.upload(path), 1, "the file is empty")
    assert proxy.calls == ["create"]


def test_what_is_no_service(client: Client, service: Service, weed: Any, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sample("mp4"))
    for url in (weed.endpoint_url, service.url + "/elsewhere"):
        ended = client("upload", path, "--service", url)
        assert ended.code == 1
        assert "media service" in ended.err


# -- lost


@pytest.mark.parametrize("twice", [False, True])
def test_a_complete_whose_answer_is_lost(client: Client, proxy: ApiProxy, movie: Path, twice: bool) -> None:
    """The service is asked what became of it; it is never begun anew."""
    proxy.lose += ["complete"] + ["status"] * twice
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert [name for name in proxy.calls if name != "sign"] == ["create", "complete"] + ["status"] * (1 + twice)


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


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ("create", 429, "rate_limited"), ("create", 503, "credentials_expiring"), ("create", 502, "<html>"),
        ("sign", 429, "rate_limited"), ("sign", 500, "internal"), ("complete", 503, "store_unavailable"),
        ("complete", 409, "part_not_stored"), ("complete", 504, "<html>"),
    ],
)  # fmt: skip
def test_what_passes(client: Client, proxy: ApiProxy, movie: Path, call: str, status: int, code: str) -> None:
    proxy.instead.append((call, status, code))
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 1 + (call == "create")
    assert proxy.instead == []


def test_an_upload_that_vanishes_while_parts_are_signed(client: Client, proxy: ApiProxy, movie: Path) -> None:
    proxy.instead.append(("sign", 404, "upload_gone"))
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert "starting again" in ended.err
    assert object_sha256(ended.result["url"]) == sha256(movie)
    assert proxy.calls.count("create") == 2


def test_a_service_whose_store_knows_no_checksums(client: Client, proxy: ApiProxy, movie: Path) -> None:
    proxy.instead.append(("create", 422, "unsupported_checksum"))
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert "proved by MD5 instead" in ended.err
    assert ended.result["verified"] == "composite-etag"
    assert object_sha256(ended.result["url"]) == sha256(movie)


def test_the_operator_has_to_look(client: Client, proxy: ApiProxy, movie: Path) -> None:
    """And once he has, the same command goes on."""
    proxy.instead.append(("complete", 502, "store_refused"))
    stopped(client.upload(movie), 75, "refused to complete the upload: store_refused")
    ended = client.upload(movie, "--json")
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] == PARTS
    assert proxy.calls.count("create") == 1


# -- expired


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


def test_a_handle_that_expires_half_way(
    client: Client, proxy: ApiProxy, movie: Path, expire: Callable[[str], str]
) -> None:
    proxy.change["sign"] = lambda body: body.update(upload=expire(body["upload"]))
    stopped(client.upload(movie), 75, "has expired", "run the same command again")


# -- a real film


FILM_SIZE = 1050 * MIB


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


def test_a_film_of_a_gigabyte(client: Client, proxy: ApiProxy, service: Service, tmp_path: Path) -> None:
    """Killed after as many recorded parts as the seed says, and again, and then it goes to its end."""
    path = film(tmp_path / "film.mp4")
    assert path.stat().st_size >= 10**9
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

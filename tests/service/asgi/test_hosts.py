"""The service inside applications of FastAPI, Starlette and Django, and by itself, as uvicorn runs them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import bigupload
from bigupload.stores.local_store import LocalStore
from tests.service.asgi.hosts import PREFIXES
from tests.service.posts.support import CREATED
from tests.service.test_attacks import PHOTO, refusal
from tests.service.test_multipart import PART, film, upload
from tests.tools.buckets import options_for
from tests.tools.http_stub import HttpStub
from tests.tools.media import sample


class Host:
    """One that runs, and somebody who signed in there."""

    def __init__(self, url: str, kind: str, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = url + PREFIXES[kind]
        self.client = httpx.Client(trust_env=False, timeout=60)
        self.nobody = httpx.Client(trust_env=False, timeout=60)

    def sign_in(self, url: str, kind: str) -> None:
        if kind == "alone":
            self.client.headers["X-User"] = "ada"
        else:
            assert self.client.get(f"{url}/login", params={"user": "ada"}).text.strip('"') == "hello"

    def call(self, method: str, path: str, *, key: str | None = None, **arguments: Any) -> httpx.Response:
        return self.client.request(method, self.url + path, **arguments)

    def resident(self) -> int:
        """The most bytes of memory that it has had so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


@contextlib.contextmanager
def running(kind: str, weed: LocalStore, bucket: str, log: Path, posts: str = "") -> Iterator[Host]:
    s3 = options_for(weed)
    store = {name: getattr(s3, name) for name in ("endpoint_url", "region", "access_key", "secret_key")}
    settings = json.dumps({"bucket": bucket, "s3": store, "posts": posts})
    command = [sys.executable, "-m", "tests.service.asgi.hosts", kind, settings]
    with log.open("w") as written:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=written, text=True)
    try:
        port = process.stdout.readline().strip()
        assert port, log.read_text()
        host = Host(f"http://127.0.0.1:{port}", kind, process)
        with host.client, host.nobody:
            host.sign_in(f"http://127.0.0.1:{port}", kind)
            yield host
    finally:
        process.terminate()
        status = process.wait(60)
        process.stdout.close()
    assert status in ((1,) if sys.platform == "win32" else (0, -15))
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.startswith('{"time": ')] == []  # no warning of the server or of Python
    assert {json.loads(line)["event"] for line in lines} == {"request"}


@pytest.mark.parametrize("kind", list(PREFIXES))
@pytest.mark.exhaustive
def test_everything_that_a_user_does(
    kind: str, weed: LocalStore, ready: str, posts_api: HttpStub, tmp_path: Path
) -> None:
    posts_api.responses["/v1/posts"] = CREATED
    with running(kind, weed, ready, tmp_path / "log", f"{posts_api.url}/v1/posts") as host:
        made = host.call("POST", "/v1/media/presign", json=PHOTO).json()
        assert made["key"].startswith("media/ada/")
        put = httpx.put(
            made["uploadUrl"], content=sample("jpg"), headers={"Content-Type": "image/jpeg"}, trust_env=False
        )
        assert put.status_code == 200
        _, parts = upload(host, film(2 * PART + 17))
        completed = host.call("POST", "/v1/media/multipart/complete", json=parts).json()
        assert completed["size"] == 2 * PART + 17
        posted = {"content": "x", "mediaItems": [{"type": "image", "url": made["publicUrl"]}]}
        response = host.call("POST", "/v1/posts", json=posted)
        assert (response.status_code, response.content) == (201, CREATED.body), response.text

        def listed() -> set[str]:
            return {file["key"] for file in host.call("GET", "/v1/media").json()["media"]}

        assert {made["key"], completed["key"]} < listed()
        for key in (made["key"], made["key"], completed["key"].replace("/", "%2F")):
            assert host.call("DELETE", f"/v1/media/{key}").status_code == 204
        assert not {made["key"], completed["key"]} & listed()

        assert host.call("GET", "/openapi.json").json().get("servers", [{"url": ""}]) == [{"url": PREFIXES[kind]}]
        page = host.call("GET", "/")
        assert 'src="page/app.js"' in page.text
        assert host.call("GET", "/page/app.js").headers["Content-Type"].startswith("text/javascript")
        assert host.call("GET", "/readyz").json() == {"status": "ok"}
        assert refusal(host.call("GET", "/nothing")) == (404, "not_found")
        nobody = host.nobody.post(f"{host.url}/v1/media/presign", json=PHOTO)
        assert refusal(nobody) == (401, "missing_key")
        if PREFIXES[kind]:
            bare = host.nobody.get(host.url, follow_redirects=True)
            assert str(bare.url) == f"{host.url}/"
            assert bare.text == page.text


@pytest.mark.slow
async def test_the_library_uploads_with_a_token(weed: LocalStore, ready: str, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(film(3 * PART + 17))
    with running("fastapi", weed, ready, tmp_path / "log") as host:
        token = host.call("POST", "/v1/media/tokens", json={"uploads": 1, "maxSize": 4 * PART}).json()["token"]
        done = await bigupload.upload(tmp_path / "film.mp4", service=host.url, api_key=token)
        assert httpx.get(done.url, trust_env=False).content == film(3 * PART + 17)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fastapi", "django"])
def test_a_large_body_is_not_held(kind: str, weed: LocalStore, ready: str, tmp_path: Path) -> None:
    """Neither where it is refused by its declared length, nor where it comes in chunks."""
    size = 300_000_000
    with running(kind, weed, ready, tmp_path / "log") as host:
        host.call("POST", "/v1/media/presign", json=PHOTO)
        before = host.resident()

        def pieces() -> Iterator[bytes]:
            for _ in range(size // 100_000):
                yield bytes(100_000)

        for more in ({}, {"Content-Length": str(size)}):
            headers = {"Content-Type": "application/json"} | more
            response = host.call("POST", "/v1/media/presign", content=pieces(), headers=headers)
            assert refusal(response) == (413, "body_too_large")
        assert host.resident() - before < 20_000_000
        assert host.call("POST", "/v1/media/presign", json=PHOTO).status_code == 200

"""A page of another origin uploads with a token of a FastAPI application that mounts the service; its webhook tells."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from bigupload.service.uploads.bucket_rules import set_up
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.app_site import HTML
from tests.tools.browser import SENT, Profile, UploadPage
from tests.tools.buckets import Meddled, fresh_name, options_for
from tests.tools.http_stub import HttpStub, Response, http_stub
from tests.tools.page import PART

pytestmark = pytest.mark.slow

PAGE = """<!doctype html><title>App</title><link rel=icon href=data:,><input id=files type=file>
<script type=module>
  import { upload } from "APP/media/v1/client.js";
  const token = async () => (await fetch("APP/upload-token", { method: "POST" })).json();
  window.start = () => upload(document.getElementById("files").files[0], { endpoint: "APP/media/", token });
</script>"""


@pytest.fixture
def site() -> Iterator[HttpStub]:
    """The page's: another port is another origin."""
    with http_stub() as running:
        yield running


@pytest.fixture
def proxy(weed: LocalStore) -> Iterator[FaultProxy]:
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as running:
        yield running


@pytest.fixture
def app(weed: LocalStore, site: HttpStub, proxy: FaultProxy, tmp_path: Path) -> Iterator[str]:
    """The application's URL."""
    name, s3 = fresh_name(weed), options_for(weed)

    async def make() -> None:
        bucket = Meddled(name, s3)
        await set_up(bucket)
        await bucket.aclose()

    thread = threading.Thread(target=asyncio.run, args=(make(),))  # this one has Playwright's loop
    thread.start()
    thread.join()
    store = {each: getattr(s3, each) for each in ("endpoint_url", "region", "access_key", "secret_key")}
    settings = {"bucket": name, "s3": store, "signing_endpoint": proxy.url, "site": site.url}
    command = [sys.executable, "-m", "tests.service.browser.fastapi_host", json.dumps(settings)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        port = process.stdout.readline().strip()
        assert port, (tmp_path / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def begin(tab: UploadPage, site: HttpStub, file: Path) -> Any:
    tab.page.goto(site.url)
    tab.page.wait_for_function("() => window.start !== undefined")
    tab.page.set_input_files("#files", file)
    return tab.page.evaluate_handle("start()")


def test_a_video_with_a_token_closed_half_way_and_resumed(
    profile: Profile, app: str, site: HttpStub, proxy: FaultProxy, video: Path
) -> None:
    site.responses["/"] = Response(headers={"Content-Type": HTML}, body=PAGE.replace("APP", app).encode())
    parts = -(-video.stat().st_size // PART)
    half = threading.Event()

    def cut() -> None:
        proxy.cut(refuse=True)
        half.set()

    proxy.on_acknowledged(parts // 2 * PART, cut)
    with profile.page() as tab:
        begin(tab, site, video)
        assert half.wait(SENT / 1000)
    before = {number: traffic.attempts for (_, _, number), traffic in proxy.parts.items() if traffic.acknowledged}
    assert parts // 2 <= len(before) < parts
    assert httpx.get(f"{app}/told", trust_env=False).json() == []

    proxy.restore()
    with profile.page() as tab:
        finished = begin(tab, site, video)
        result = finished.evaluate("async (handle) => (await handle.finished).publicUrl")
        assert finished.evaluate("(handle) => handle.progress.found") >= len(before)
    after = {number: traffic.attempts for (_, _, number), traffic in proxy.parts.items()}
    assert len({upload for _, upload, _ in proxy.parts}) == 1
    assert set(after) == set(range(1, parts + 1))
    assert {number: after[number] for number in before} == before, "a part that the store had was sent again"
    with httpx.stream("GET", result, trust_env=False, timeout=60) as response:
        assert b"".join(response.iter_bytes()) == video.read_bytes()

    told: list[Any] = []
    deadline = time.monotonic() + 60
    while not told:
        assert time.monotonic() < deadline
        told = httpx.get(f"{app}/told", trust_env=False).json()
    [(_, event)] = told
    assert event["type"] == "media.completed"
    assert event["data"]["publicUrl"] == result
    assert event["data"]["size"] == video.stat().st_size

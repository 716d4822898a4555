"""The form of docs/examples/django_media.py in a real Chromium: chosen, uploaded to the store, sent, believed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Playwright, expect, sync_playwright

from bigupload.stores.local_store import LocalStore
from tests.tools.browser import CHROMIUM, SENT, launch, window
from tests.tools.page import clip

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "django_media.py"


@pytest.fixture
def playwright() -> Iterator[Playwright]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: install one that is called `chromium`")
    with sync_playwright() as running:
        yield running


@pytest.fixture
def project(weed: LocalStore, tmp_path: Path) -> Iterator[str]:
    """The project's URL."""
    pytest.importorskip("storages")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(weed.data_dir),
        "BIGUPLOAD_STATE_DIR": str(tmp_path / "state"),
    }
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, PROGRAM, str(port)], env=environment)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(url, trust_env=False, timeout=60).is_success
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < until
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_a_person_sends_a_film(playwright: Playwright, project: str, tmp_path: Path) -> None:
    film = clip(tmp_path)
    with launch(playwright) as browser, window(browser) as tab:
        page = tab.page
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page.goto(project)
        page.get_by_label("Title").fill("Clip")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("heading", name="Films")).to_be_visible()  # the browser asks for the film first
        page.get_by_label("Choose a file or drop it here").set_input_files(film)
        expect(page.get_by_role("link", name="clip.mp4")).to_be_visible(timeout=SENT)
        to_store = [each for each in tab.requests if each.method == "PUT"]
        page.get_by_label("Title").evaluate("element => { element.required = false; element.value = '' }")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_text("Uploaded before. Choose a file to replace it.")).to_be_visible()
        page.get_by_label("Title").fill("Clip")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("body")).to_contain_text(f"{film.stat().st_size:,} bytes")
        body = page.locator("body").inner_text()
        assert re.fullmatch(rf"media/films/~ada/[0-9a-f]{{40}}\.mp4 has {film.stat().st_size:,} bytes, .*", body)
    assert to_store, "the bytes did not go to the store"
    assert not any(each.url.startswith(project) for each in to_store), "the bytes went through Django"
    complaints = [each for each in tab.complaints if "422" not in each]
    assert complaints == []

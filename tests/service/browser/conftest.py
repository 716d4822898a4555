"""One service and one browser for all tests of the page, and for each a private window of its own.

Playwright is imported by the fixtures that need it: every worker imports this file.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import imageio_ffmpeg
import pytest

from bigupload.service.http.handling import policy_module
from bigupload.service.media.policy import PUBLISHED_POLICY
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.app_site import App, app_site
from tests.tools.directories import session_directory
from tests.tools.node import BROWSER, Call, node_modules
from tests.tools.page import Stage
from tests.tools.service import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

    from tests.tools.browser import Profile, UploadPage


@pytest.fixture(scope="package")
def stage(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    with session_directory(tmp_path_factory, "page") as home, FaultProxy("127.0.0.1", port) as proxy:
        options = ("--client-endpoint-url", proxy.url, "--requests", "10000", "--sweep-every", "0")
        with serving(weed, home, *options) as service:
            yield Stage(service, proxy)


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    from tests.tools.browser import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium: install one that is called `chromium`")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def browsers(playwright: Playwright) -> Iterator[list[Browser]]:
    """Those that were started: one, unless it crashed."""
    started: list[Browser] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture
def browser(playwright: Playwright, browsers: list[Browser]) -> Browser:
    """The one that runs. The test that crashes it fails, and the next one starts another."""
    from tests.tools.browser import launch

    if not browsers or not browsers[-1].is_connected():
        browsers.append(launch(playwright))
    return browsers[-1]


@pytest.fixture
def profile(playwright: Playwright, tmp_path: Path) -> Profile:
    from tests.tools.browser import Profile

    return Profile(playwright, tmp_path / "profile")


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[UploadPage]:
    """The page in a private window, opened, with a key."""
    from tests.tools.browser import window

    with window(browser) as page:
        page.open(stage.service.url, stage.service.key)
        yield page


@pytest.fixture(scope="package")
def app(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app's site, whose pages upload with tokens."""
    with session_directory(tmp_path_factory, "app") as home, app_site(weed, home) as running:
        yield running


@pytest.fixture(scope="package")
def video(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real MP4 of about 150 MB: seconds of one, over and over."""
    with session_directory(tmp_path_factory, "video") as folder:
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
        source = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-t", "4", "-c:v", "mpeg4", "-q:v", "1"]
        subprocess.run([*ffmpeg, *source, folder / "short.mp4"], check=True)
        loop = ["-stream_loop", "-1", "-i", folder / "short.mp4", "-c", "copy", "-fs", "150M"]
        subprocess.run([*ffmpeg, *loop, folder / "holiday.mp4"], check=True)
        film = folder / "holiday.mp4"
        assert film.stat().st_size > 2 * 64 * 2**20  # half of it is more than the page begins before the first response
        assert film.read_bytes()[4:8] == b"ftyp"
        yield film


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """The value of a function's body, which finds the module in `m` and what it is about in `x`. It runs in Node."""
    with session_directory(tmp_path_factory, "modules") as home:
        modules = Path(shutil.copytree(BROWSER, home / "browser"))
        modules.joinpath("page", "policy.js").write_text(policy_module(PUBLISHED_POLICY))
        with node_modules(modules) as call:
            yield call

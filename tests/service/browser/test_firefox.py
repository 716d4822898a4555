"""The client, its web component and the upload page in Firefox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.browser.test_client import PAGE as CLIENT_PAGE
from tests.service.browser.test_element import PAGE as ELEMENT_PAGE
from tests.tools.app_site import HTML, App
from tests.tools.firefox import Firefox, firefox
from tests.tools.page import PART, clip

pytestmark = pytest.mark.slow

INPUT = "document.getElementById('files')"
IN_ELEMENT = "document.querySelector('big-upload').shadowRoot.querySelector('input')"
FINISHED = "Promise.all(handles.map(({ finished }) => finished)).then((all) => all.map(({ publicUrl }) => publicUrl))"


@pytest.fixture
def fox(tmp_path: Path) -> Iterator[Firefox]:
    with firefox(tmp_path / "firefox") as running:
        yield running


def test_a_video_goes_on_after_a_reload(fox: Firefox, app: App, video: Path) -> None:
    app.serve("/client", HTML, CLIENT_PAGE)
    app.new_token()
    parts = -(-video.stat().st_size // PART)
    half = app.stage.proxy.bytes_acknowledged + parts // 2 * PART
    app.stage.proxy.on_acknowledged(half, lambda: app.stage.proxy.cut(refuse=True))
    fox.goto(f"{app.site.url}/client")
    fox.until("window.start")
    fox.choose(INPUT, video)
    fox.evaluate("void (window.handles = start())")
    fox.until("handles[0].note !== null")
    stored = app.acknowledged()
    before = {number: traffic.attempts for number, traffic in app.stage.newest().items()}
    assert parts // 2 <= len(stored) < parts
    app.stage.proxy.restore()

    fox.goto(f"{app.site.url}/client")
    fox.until("window.start")
    fox.choose(INPUT, video)
    fox.evaluate("void (window.handles = start())")
    [url] = fox.evaluate(FINISHED)
    assert fox.evaluate("handles[0].progress.found") >= len(stored)
    after = app.stage.attempts(url)
    assert {number: after[number] for number in stored} == {number: before[number] for number in stored}
    assert app.stage.has(url, video)


def test_the_component_in_a_form(fox: Firefox, app: App, tmp_path: Path) -> None:
    app.serve("/form", HTML, ELEMENT_PAGE)
    app.new_token()
    fox.goto(f"{app.site.url}/form")
    fox.until("document.querySelector('big-upload')?.shadowRoot && window.log")
    valid = "document.querySelector('form').checkValidity()"
    assert fox.evaluate(valid) is False
    file = clip(tmp_path)
    fox.choose(IN_ELEMENT, file)
    fox.until(valid)
    [url] = fox.evaluate("new FormData(document.querySelector('form')).getAll('media')")
    assert app.stage.has(url, file)

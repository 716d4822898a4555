"""Two people in one browser: neither sees or continues what the other one uploads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.service.browser.test_client import FINISHED, PAGE
from tests.service.browser.test_element import PAGE as ELEMENT_PAGE
from tests.service.browser.test_element import choose, opened, row
from tests.tools.app_site import HTML, App
from tests.tools.browser import SENT, Profile, UploadPage, window
from tests.tools.firefox import firefox
from tests.tools.page import PART, Held, Stage, clip

pytestmark = pytest.mark.slow

INPUT = "document.getElementById('files')"
UNFINISHED = """(async () => (await new client.Client({ endpoint: "https://media.example.com/", token: window.token })
  .unfinished()).map(({ name }) => name))()"""


def signed_in(app: App, user: str) -> None:
    """The app's token is this user's, of the app's one owner."""
    limits = {"expiresIn": 600, "metadata": {"user": user}}
    token = app.stage.service.call("POST", "/v1/media/tokens", json=limits).json()["token"]
    app.serve("/upload-token", "application/json", json.dumps({"token": token}))


def unfinished(app: App) -> str:
    return UNFINISHED.replace("https://media.example.com/", app.stage.service.url + "/")


def upload_at(tab: UploadPage, app: App, file: Path) -> Any:
    """Open the page and choose the file."""
    tab.page.goto(f"{app.site.url}/client")
    tab.page.wait_for_function("window.start")
    tab.page.set_input_files("#files", [file])
    return tab.page.evaluate_handle("() => (window.handles = start())")


def test_a_second_user_begins_anew_and_the_first_one_goes_on(browser: Browser, app: App, tmp_path: Path) -> None:
    app.serve("/client", HTML, PAGE)
    file = clip(tmp_path, 4 * PART)
    with window(browser) as tab:
        signed_in(app, "u-1")
        held = Held(tab, app.stage, after=3)
        upload_at(tab, app, file)
        tab.page.wait_for_function("handles[0].progress.partsStored >= 2", timeout=SENT)
        first = {number: traffic.attempts for number, traffic in app.stage.newest().items() if traffic.acknowledged}
        signed_in(app, "u-2")
        tab.page.goto(f"{app.site.url}/client")
        held.let_go()  # not before: what is held would go on
        tab.page.wait_for_function("window.start")
        assert tab.page.evaluate(unfinished(app)) == []
        handles = upload_at(tab, app, file)
        [second] = handles.evaluate(FINISHED)
        assert handles.evaluate("([{ progress }]) => progress.found") == 0, "the first user's parts were taken"
        assert set(app.stage.attempts(second)) == {1, 2, 3, 4}

        signed_in(app, "u-1")
        handles = upload_at(tab, app, file)
        [url] = handles.evaluate(FINISHED)
        assert url != second
        assert handles.evaluate("([{ progress }]) => progress.found") >= 2
        assert {number: app.stage.attempts(url)[number] for number in first} == first


def test_in_firefox_too(app: App, tmp_path: Path) -> None:
    app.serve("/client", HTML, PAGE)
    file = clip(tmp_path, 4 * PART)
    signed_in(app, "u-1")
    with firefox(tmp_path / "firefox") as fox:
        app.stage.proxy.on_acknowledged(
            app.stage.proxy.bytes_acknowledged + 2 * PART, lambda: app.stage.proxy.cut(refuse=True)
        )
        fox.goto(f"{app.site.url}/client")
        fox.until("window.start")
        fox.choose(INPUT, file)
        fox.evaluate("void (window.handles = start())")
        fox.until("handles[0].note !== null")
        app.stage.proxy.restore()
        signed_in(app, "u-2")
        fox.goto(f"{app.site.url}/client")
        fox.until("window.start")
        assert fox.evaluate(unfinished(app)) == []
        signed_in(app, "u-1")
        fox.goto(f"{app.site.url}/client")
        fox.until("window.start")
        assert fox.evaluate(unfinished(app)) == ["clip.mp4"]


def test_the_element_lists_what_its_user_left(browser: Browser, app: App, tmp_path: Path) -> None:
    app.serve("/form", HTML, ELEMENT_PAGE)
    signed_in(app, "u-1")
    with window(browser) as tab:
        opened(tab, app)
        Held(tab, app.stage)
        choose(tab.page, clip(tmp_path))
        expect(row(tab.page, "clip.mp4")).to_contain_text("Uploading")
        opened(tab, app)
        expect(row(tab.page, "clip.mp4")).to_contain_text("Not finished")
        # Another user signs in, without a reload.
        signed_in(app, "u-2")
        tab.page.evaluate("const element = document.querySelector('big-upload'); element.token = element.token")
        expect(row(tab.page, "clip.mp4")).to_have_count(0)


def test_the_page_shows_each_owner_its_own(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    other = stage.service.new_key("another-owner")
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=1)
        page.choose(clip(tmp_path))
        page.expect_stored(PART)
        second = page.new_tab()
        second.open(stage.service.url, other)
        expect(second.page.locator("#key-hint")).to_contain_text("another-owner")
        expect(second.page.locator(".row")).to_have_count(0)
    with profile.page() as page:
        page.open(stage.service.url, other)
        expect(page.page.locator("#key-hint")).to_contain_text("another-owner")
        expect(page.page.locator(".row")).to_have_count(0)
        page.open(stage.service.url, stage.service.key)
        page.expect_state("remembered")

"""<big-upload> in two tabs, and twice on one page: an upload is one's alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.service.browser.test_element import PAGE, choose, opened, row
from tests.tools.app_site import HTML, App
from tests.tools.browser import window
from tests.tools.firefox import firefox
from tests.tools.page import Held, clip

pytestmark = pytest.mark.slow

SECOND = """(() => {
  const { endpoint, token } = document.querySelector("big-upload");
  window.second = Object.assign(document.createElement("big-upload"), { endpoint, token });
  document.body.append(second);
})()"""
UNFINISHED = """(async () => {
  const { endpoint, token } = document.querySelector("big-upload");
  const { Client } = await import(`${endpoint}v1/client.js`);
  return (await new Client({ endpoint, token }).unfinished()).length;
})()"""


def test_another_tab_does_not_offer_what_one_uploads(browser: Browser, app: App, tmp_path: Path) -> None:
    app.serve("/form", HTML, PAGE)
    app.new_token()
    file = clip(tmp_path)
    with window(browser) as tab:
        opened(tab, app)
        held = Held(tab, app.stage)
        choose(tab.page, file)
        expect(row(tab.page, "clip.mp4")).to_contain_text("Uploading")
        second = tab.new_tab()
        opened(second, app)
        assert second.page.evaluate(UNFINISHED) == 0
        expect(row(second.page, "clip.mp4")).to_have_count(0)
        tab.page.get_by_role("button", name="Pause: clip.mp4").click()
        third = tab.new_tab()
        opened(third, app)
        assert third.page.evaluate(UNFINISHED) == 0
        expect(row(third.page, "clip.mp4")).to_have_count(0)
        # The file chosen there is not sent by both.
        choose(third.page, file)
        expect(third.page.get_by_role("alert")).to_contain_text("in another tab")
        third.page.close()

        held.let_go()
        tab.page.close()
        expect(row(second.page, "clip.mp4")).to_contain_text("Not finished")
        fourth = tab.new_tab()
        opened(fourth, app)
        expect(row(fourth.page, "clip.mp4")).to_contain_text("Not finished")
        Held(second, app.stage)
        choose(second.page, file)
        expect(row(second.page, "clip.mp4")).to_contain_text("Uploading")
        expect(row(fourth.page, "clip.mp4")).to_have_count(0)
        assert not tab.calls("DELETE", "/v1/media/multipart")


def test_a_second_element_does_not_offer_what_the_first_uploads(app: App, tmp_path: Path) -> None:
    """In Firefox. The second one is made when the first one has begun."""
    app.serve("/form", HTML, PAGE)
    app.new_token()
    with firefox(tmp_path / "firefox") as fox:
        fox.goto(f"{app.site.url}/form")
        fox.until("document.querySelector('big-upload')?.shadowRoot && window.log")
        app.stage.proxy.cut(refuse=True)
        fox.choose("document.querySelector('big-upload').shadowRoot.querySelector('input')", clip(tmp_path))
        fox.until("document.querySelector('big-upload').uploads[0].record")
        fox.evaluate(SECOND)
        assert fox.evaluate(UNFINISHED) == 0
        app.stage.proxy.restore()
        fox.evaluate("document.querySelector('big-upload').remove()")
        fox.until("second.uploads.length === 1")
        assert fox.evaluate("second.uploads[0].state") == "remembered"

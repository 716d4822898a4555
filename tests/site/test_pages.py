"""The pages of the site in a browser: nothing is wider than a phone, and nothing is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.tools import site
from tests.tools.browser import CHROMIUM, Profile

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]

WITHOUT_SEARCH = "window.Worker = class extends EventTarget { postMessage() {} }"
"""A page's only worker makes the index of the whole site: half of the time of most pages, and alike in all of them."""


def test_no_page_is_wider_than_a_phone_or_complains(built: Path, tmp_path: Path) -> None:
    with (
        site.served(built) as url,
        sync_playwright() as playwright,
        Profile(playwright, tmp_path / "profile", phone=True).page() as browser,
    ):
        browser.page.set_viewport_size({"width": 390, "height": 844})
        too_wide, escaped = {}, []
        first, *others = site.pages(built)
        assert "how-to/film/" in others
        for name in [first, *others]:
            if name == others[0]:
                browser.page.add_init_script(WITHOUT_SEARCH)
            browser.page.goto(url + name)
            width = browser.page.evaluate("document.documentElement.scrollWidth")
            if width > 390:
                too_wide[name] = width
            if any("\\|" in cell for cell in browser.page.locator("td").all_inner_texts()):
                escaped.append(name)
        assert too_wide == {}
        assert escaped == [], "the backslash before | in a table is for GitHub"
        assert browser.complaints == []
        assert browser.hosts() == {url.rstrip("/")}  # nothing is loaded from elsewhere

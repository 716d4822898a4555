"""The pages of the site in a browser: nothing is wider than a phone, and nothing is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.tools import site
from tests.tools.browser import CHROMIUM, launch, window

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]

WITHOUT_SEARCH = "window.Worker = class extends EventTarget { postMessage() {} }"
"""A page's only worker makes the index of the whole site: half of the time of most pages, and alike in all of them."""
LOOK = r"""() => [
  document.documentElement.scrollWidth,
  [...document.querySelectorAll("td")].some((cell) => cell.textContent.includes("\\|")),
]"""
"""The page's width, and whether a cell shows the backslash before |. Texts that a locator returns take longer."""


def test_no_page_is_wider_than_a_phone_or_complains(built: Path) -> None:
    with (
        site.served(built) as url,
        sync_playwright() as playwright,
        launch(playwright) as browser,
        window(browser, phone=True) as tab,
    ):
        tab.page.set_viewport_size({"width": 390, "height": 844})
        too_wide, escaped = {}, []
        first, *others = site.pages(built)
        assert "how-to/film/" in others
        for name in [first, *others]:
            if name == others[0]:
                tab.page.add_init_script(WITHOUT_SEARCH)
            tab.page.goto(url + name)
            width, has_backslash = tab.page.evaluate(LOOK)
            if width > 390:
                too_wide[name] = width
            if has_backslash:
                escaped.append(name)
        assert too_wide == {}
        assert escaped == [], "the backslash before | in a table is for GitHub"
        assert tab.complaints == []
        assert tab.hosts() == {url.rstrip("/")}  # nothing is loaded from elsewhere

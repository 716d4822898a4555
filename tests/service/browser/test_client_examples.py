"""The examples in docs/examples/browser, with what npm installs: typed, built, and used on a page of another origin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.tools import npm
from tests.tools.app_site import CSS, HTML, SCRIPT, App, has_checksum
from tests.tools.browser import SENT, window
from tests.tools.directories import session_directory
from tests.tools.page import PART, clip, quiet

pytestmark = pytest.mark.slow

PAGE = """<!doctype html><title>App</title><link rel=stylesheet href=NAME.css>
<div id=root></div><script type=module src=NAME.js></script>"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with session_directory(tmp_path_factory, "npm") as folder:
        yield npm.install(folder)


@pytest.fixture(scope="module")
def built(installed: Path) -> Path:
    npm.run("run", "build", folder=installed)
    return installed / "built"


def built_page(app: App, built: Path, name: str) -> str:
    """The address of a page with this built example."""
    app.serve(f"/{name}", HTML, PAGE.replace("NAME", name))
    for kind, suffix in ((SCRIPT, ".js"), (CSS, ".css")):
        file = built / f"{name}{suffix}"
        app.serve(f"/{name}{suffix}", kind, file.read_text() if file.is_file() else "")
    return f"{app.site.url}/{name}"


def test_the_types_hold_under_strict_rules(installed: Path) -> None:
    assert "tsc" in npm.run("run", "types", folder=installed)  # which fails with what the compiler says


def paused_at(page: Page, app: App, parts: int) -> set[int]:
    """Wait until so many parts are stored, press Pause, and say which are stored."""
    with page.expect_response(lambda _: len(app.acknowledged()) >= parts, timeout=SENT):
        pass
    page.get_by_role("button", name=re.compile("^Pause")).last.click()
    expect(page.get_by_role("button", name=re.compile("^Resume")).last).to_be_visible()
    page.wait_for_load_state("networkidle")
    return app.acknowledged()


def test_uppys_dashboard_pauses_reloads_and_resumes(browser: Browser, app: App, built: Path, tmp_path: Path) -> None:
    parts = 62  # so many that some are still to come when the press of Pause arrives
    video = clip(tmp_path, parts * PART)
    with window(browser) as tab:
        tab.page.goto(built_page(app, built, "uppy"))
        tab.page.locator(".uppy-Dashboard-input").first.set_input_files(video)
        tab.page.get_by_role("button", name="Upload 1 file").click()
        stored = paused_at(tab.page, app, parts // 3)
        before = {number: traffic.attempts for number, traffic in app.stage.newest().items()}
        assert parts // 3 <= len(stored) < parts

        tab.page.reload()
        tab.page.get_by_role("button", name="Re-select").click()  # Golden Retriever keeps no large file, but shows it
        tab.page.locator(".uppy-Dashboard-input").first.set_input_files(video)
        tab.page.get_by_role("button", name="Upload 1 file").click()
        expect(tab.page.get_by_text("Complete", exact=True)).to_be_visible(timeout=SENT)
        link = tab.page.locator(".uppy-Dashboard-Item-previewLink").get_attribute("href") or ""
        assert has_checksum(tab)
        quiet(tab, lost=True)
    after = app.stage.attempts(link)
    assert {number: after[number] for number in stored} == {number: before[number] for number in stored}
    assert set(after) == set(range(1, parts + 1))
    assert app.stage.has(link, video)


def test_uppys_dashboard_retries_and_cancels(browser: Browser, app: App, built: Path, tmp_path: Path) -> None:
    file = clip(tmp_path, 8 * PART)
    app.serve("/upload-token", "application/json", "{}")  # as where nobody is signed in: a retry asks again
    with window(browser) as tab:
        tab.page.goto(built_page(app, built, "uppy"))
        tab.page.locator(".uppy-Dashboard-input").first.set_input_files(file)
        tab.page.get_by_role("button", name="Upload 1 file").click()
        expect(tab.page.get_by_text("Upload failed").first).to_be_visible()
        app.new_token()
        tab.page.route(
            app.stage.proxy.url + "/**", lambda r: None if "partNumber=8&" in r.request.url else r.continue_()
        )
        with tab.page.expect_response(lambda _: len(app.acknowledged()) == 7, timeout=SENT):
            tab.page.get_by_role("button", name="Retry").last.click()
        with tab.page.expect_response(lambda r: r.request.method == "DELETE" and r.status == 204):
            tab.page.get_by_role("button", name="Cancel").last.click()
        expect(tab.page.get_by_text("clip.mp4")).to_have_count(0)


def test_react_shows_and_links(browser: Browser, app: App, built: Path, tmp_path: Path) -> None:
    file = clip(tmp_path, 8 * PART)
    with window(browser) as tab:
        tab.page.goto(built_page(app, built, "react"))
        tab.page.get_by_label("Files").set_input_files(file)
        link = tab.page.get_by_role("link", name="clip.mp4")
        expect(link).to_be_visible(timeout=SENT)
        assert app.stage.has(link.get_attribute("href") or "", file)
        assert has_checksum(tab)
        quiet(tab)


def test_plain_html_with_the_client_of_the_service(browser: Browser, app: App, tmp_path: Path) -> None:
    file = clip(tmp_path)
    app.serve("/plain", HTML, (npm.EXAMPLES / "plain.html").read_text())
    with window(browser) as tab:
        tab.page.goto(f"{app.site.url}/plain")
        tab.page.get_by_label("File").set_input_files(file)
        link = tab.page.get_by_role("link", name="done")
        expect(link).to_be_visible(timeout=SENT)
        assert app.stage.has(link.get_attribute("href") or "", file)
        assert has_checksum(tab)
        tab.page.get_by_label("File").set_input_files([])  # the choice is cleared
        expect(tab.page.get_by_text("Choose a file.")).to_be_visible()
        expect(tab.page.get_by_text("done")).to_have_count(0)
        quiet(tab)

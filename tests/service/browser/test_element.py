"""<big-upload> in a form of an app's page: as a person uses it by mouse, keyboard and screen reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

from tests.service.browser.test_intake import HANDLES, STORED
from tests.tools.app_site import HTML, App
from tests.tools.browser import SENT, UploadPage, window
from tests.tools.media import sample
from tests.tools.page import MIB, PART, Held, clip, quiet

pytestmark = pytest.mark.slow
UNVERIFIED: Any = {"verify_signature": False}

PAGE = """<!doctype html><html lang=en><title>App</title>
<script type=module src="https://media.example.com/v1/client/element.js"></script>
<form><big-upload name=media receipt-name=receipt multiple required>
  <b slot=hint>Up to 5 GB</b></big-upload><button>Post</button></form>
<script type=module>
  const element = document.querySelector("big-upload");
  window.log = [];
  for (const type of ["upload-done", "upload-error", "change"]) {
    document.addEventListener(type, ({ detail }) => log.push([type, detail?.upload.name ?? null]));
  }
  document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    window.sent = new FormData(event.target).getAll("media");
    window.receipts = new FormData(event.target).getAll("receipt");
  });
  element.endpoint = "https://media.example.com/";
  element.token = async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token;
</script>"""


@pytest.fixture
def tab(browser: Browser, app: App) -> Iterator[UploadPage]:
    app.serve("/form", HTML, PAGE)
    with window(browser) as tab:
        opened(tab, app)
        yield tab


def opened(tab: UploadPage, app: App) -> None:
    tab.page.goto(f"{app.site.url}/form")
    tab.page.wait_for_function("document.querySelector('big-upload').token")


def choose(page: Page, *files: Path) -> None:
    page.get_by_label("Choose files or drop them here").set_input_files(list(files))


def row(page: Page, name: str) -> Locator:
    return page.locator("big-upload").get_by_role("listitem").filter(has_text=name)


def valid(page: Page) -> bool:
    return bool(page.evaluate("document.querySelector('form').checkValidity()"))


def test_a_form_gets_the_urls(tab: UploadPage, app: App, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(sample("jpg"))
    files = [photo, clip(tmp_path)]
    held = Held(tab, app.stage)
    assert not valid(tab.page)
    choose(tab.page, *files)
    expect(row(tab.page, "clip.mp4")).to_contain_text("Uploading")
    assert not valid(tab.page), "the form could be sent before the files were"
    tab.page.get_by_role("button", name="Post").click()
    assert tab.page.evaluate("window.sent") is None
    held.let_go()
    for file in files:
        expect(tab.page.get_by_role("link", name=file.name)).to_be_visible(timeout=SENT)
    assert valid(tab.page)
    tab.page.get_by_role("button", name="Post").click()
    urls = tab.page.evaluate("window.sent")
    for url, file in zip(urls, files, strict=True):
        assert app.stage.has(url, file)
    receipts = [jwt.decode(each, options=UNVERIFIED) for each in tab.page.evaluate("window.receipts")]
    assert [each["publicUrl"] for each in receipts] == urls
    log = tab.page.evaluate("log")
    assert sorted(name for type_, name in log if type_ == "upload-done") == ["clip.mp4", "photo.jpg"]
    assert [type_ for type_, _ in log].count("change") == 2
    quiet(tab)


def test_after_a_reload_it_asks_for_the_file(tab: UploadPage, app: App, tmp_path: Path) -> None:
    file = clip(tmp_path, 6 * PART)
    held = Held(tab, app.stage, after=5)
    with tab.page.expect_response(lambda _: len(app.acknowledged()) == 5, timeout=SENT):
        choose(tab.page, file)
    opened(tab, app)
    held.let_go()  # not before: what is held would go on
    expect(row(tab.page, "clip.mp4")).to_contain_text("Choose the same file again")
    choose(tab.page, file)
    link = tab.page.get_by_role("link", name="clip.mp4")
    expect(link).to_be_visible(timeout=SENT)
    assert {app.stage.attempts(link.get_attribute("href") or "")[n] for n in range(1, 6)} == {1}


def test_what_is_refused_is_told(tab: UploadPage, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"no film" * 1000)
    choose(tab.page, file)
    expect(tab.page.get_by_role("alert")).to_be_visible()
    expect(row(tab.page, "clip.mp4")).to_contain_text("Not accepted")
    expect(tab.page.get_by_role("button", name=re.compile("^Resume"))).to_have_count(0)
    missing = tab.page.evaluate("document.querySelector('big-upload').validity.valueMissing")
    assert missing, "what is refused is no value, and nothing to wait for"
    tab.page.get_by_role("button", name="Remove: clip.mp4").click()
    expect(row(tab.page, "clip.mp4")).to_have_count(0)
    assert ["upload-error", "clip.mp4"] in tab.page.evaluate("log")


def test_a_dropped_folder(tab: UploadPage) -> None:
    zone = 'querySelector("big-upload").shadowRoot.querySelector("label")'
    tab.page.evaluate(HANDLES.replace('querySelector("h1")', zone), [list(sample("jpg"))])
    done = tab.page.locator("big-upload li[data-state=done]")
    expect(done).to_have_count(3, timeout=SENT)
    expect(row(tab.page, "b.jpg").locator("[part~=folder]")).to_have_text("Holiday/Lake")
    expect(row(tab.page, "single.jpg").locator("[part~=folder]")).to_be_hidden()
    expect(row(tab.page, "b.jpg").locator("[part~=thumb] canvas")).to_be_visible()
    expect(row(tab.page, "notes.txt")).to_contain_text("Not accepted")
    expect(tab.page.locator("big-upload [part~=notice]")).to_contain_text("has no files: Empty")
    expect(tab.page.locator("big-upload [part~=total]")).to_contain_text("3 of 3 files")


def test_after_a_reload_one_choice_goes_on_with_all(tab: UploadPage, app: App, tmp_path: Path) -> None:
    """Who leaves while files are sent is warned."""
    held = Held(tab, app.stage)
    files = [clip(tmp_path, name=f"{take}.mp4") for take in (1, 2, 10)]
    tab.page.keyboard.press("Tab")
    # By a key: nobody who never touched the page is warned.
    tab.chooser(lambda: tab.page.keyboard.press("Space")).set_files(files)
    expect(row(tab.page, "10.mp4")).to_contain_text("Waiting")
    tab.page.wait_for_function(STORED, arg=3)
    left: list[str] = []

    def leave(dialog: Dialog) -> None:
        left.append(dialog.type)
        dialog.accept()

    tab.page.on("dialog", leave)
    opened(tab, app)
    assert left == ["beforeunload"]
    expect(tab.page.locator("big-upload [part~=left]")).to_contain_text("3 files are not finished")
    held.let_go()
    with tab.page.expect_file_chooser() as chooser:
        tab.page.get_by_role("button", name="Choose the files again").click()
    chooser.value.set_files(files)
    expect(tab.page.locator("big-upload li[data-state=done]")).to_have_count(3, timeout=SENT)
    expect(tab.page.locator("big-upload li")).to_have_count(3)
    expect(tab.page.locator("big-upload [part~=left]")).to_be_hidden()


def test_a_name_is_no_markup(tab: UploadPage, app: App, tmp_path: Path) -> None:
    """In the element and on the page."""
    file = clip(tmp_path, MIB, '"><img src=x onerror=ran=1>&lt;b&gt;.mp4')
    choose(tab.page, file)
    expect(tab.page.get_by_role("link", name=file.name, exact=True)).to_be_visible(timeout=SENT)
    assert tab.page.evaluate("window.ran") is None
    quiet(tab)
    page = tab.new_tab()
    page.open(app.stage.service.url, app.stage.service.key)
    page.choose(file)
    page.expect_done()
    expect(page.row.locator(".name")).to_have_text(file.name)
    assert page.page.evaluate("window.ran") is None
    quiet(page)

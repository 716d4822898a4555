"""<big-upload> keeps the contract of <input type=file>, and speaks to people."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.service.browser.test_element import PAGE, opened, row, valid
from tests.tools.app_site import HTML, App
from tests.tools.browser import SENT, UploadPage, window
from tests.tools.firefox import firefox
from tests.tools.media import sample
from tests.tools.page import clip

pytestmark = pytest.mark.slow

INPUT = "big-upload input[type=file]"
ELEMENT = "document.querySelector('big-upload')"
DROP = """([name, type, bytes]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
  const zone = document.querySelector("big-upload").shadowRoot.querySelector("label");
  zone.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.jpg"
    file.write_bytes(sample("jpg"))
    return file


def opened_with(tab: UploadPage, app: App, page: str) -> None:
    app.serve("/form", HTML, page)
    app.new_token()
    opened(tab, app)


def value(tab: UploadPage) -> list[str]:
    found: list[str] = tab.page.evaluate(f"{ELEMENT}.value")
    return found


def test_without_multiple_another_choice_replaces_the_first(
    browser: Browser, app: App, photo: Path, tmp_path: Path
) -> None:
    (other := tmp_path / "other.jpg").write_bytes(sample("jpg"))
    with window(browser) as tab:
        opened_with(tab, app, PAGE.replace(" multiple", ""))
        for file in (photo, other):
            tab.page.set_input_files(INPUT, file)
            expect(tab.page.get_by_role("link", name=file.name)).to_be_visible(timeout=SENT)
        [url] = value(tab)
        assert app.stage.has(url, other)
        expect(tab.page.get_by_role("listitem")).to_have_count(1)
        assert [type_ for type_, _ in tab.page.evaluate("log")].count("change") == 2
        # The same file again is no second upload.
        tab.page.set_input_files(INPUT, other)
        expect(tab.page.get_by_role("alert")).to_contain_text("Already in the list: other.jpg")
        assert value(tab) == [url]


def test_accept_counts_for_what_is_dropped(browser: Browser, app: App) -> None:
    with window(browser) as tab:
        opened_with(tab, app, PAGE.replace(" multiple", ' multiple accept="image/*,.MOV"'))
        tab.page.evaluate(DROP, ["clip.mp4", "video/mp4", [1]])
        expect(tab.page.get_by_role("alert")).to_contain_text("not accepted: clip.mp4")
        expect(tab.page.get_by_role("alert")).to_contain_text("Accepted here: pictures and MOV.")
        expect(tab.page.get_by_role("listitem")).to_have_count(0)
        tab.page.evaluate(DROP, ["photo.jpg", "image/jpeg", list(sample("jpg"))])
        expect(tab.page.get_by_role("link", name="photo.jpg")).to_be_visible(timeout=SENT)
        expect(tab.page.get_by_role("alert")).to_have_count(0)


def test_a_chosen_file_of_another_type_is_told_what_the_field_accepts(
    browser: Browser, app: App, tmp_path: Path
) -> None:
    """A browser's dialog lets people choose any file, and the service would name all the types that it takes."""
    (letter := tmp_path / "letter.txt").write_text("Dear Ada")
    with window(browser) as tab:
        opened_with(tab, app, PAGE.replace(" multiple", ' multiple accept="video/*"'))
        tab.page.set_input_files(INPUT, letter)
        expect(row(tab.page, "letter.txt")).to_contain_text("This type of file is not accepted. Accepted here: videos.")
        expect(row(tab.page, "letter.txt")).not_to_contain_text("image/jpeg")
        tab.page.evaluate(f"{ELEMENT}.texts = {{ problem_unsupported_media: 'Films, please.' }}")
        expect(row(tab.page, "letter.txt")).to_contain_text("Films, please.")


LEAVING = PAGE.replace("event.preventDefault();", "").replace("<form>", "<form action=/elsewhere method=post>")


def test_back_brings_the_value_back(browser: Browser, app: App, photo: Path) -> None:
    app.serve("/elsewhere", HTML, "<!doctype html><title>Elsewhere</title><h1>Thanks</h1>")
    with window(browser) as tab:
        opened_with(tab, app, LEAVING)
        tab.page.set_input_files(INPUT, photo)
        expect(tab.page.get_by_role("link", name="photo.jpg")).to_be_visible(timeout=SENT)
        before = value(tab)
        tab.page.get_by_role("button", name="Post").click()
        expect(tab.page.get_by_role("heading", name="Thanks")).to_be_visible()
        tab.page.go_back()
        expect(tab.page.get_by_role("link", name="photo.jpg")).to_be_visible()
        assert value(tab) == before
        assert valid(tab.page)


def test_what_cannot_be_sent_does_not_block_a_form(browser: Browser, app: App, photo: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty.jpg").write_bytes(b"")
    with window(browser) as tab:
        opened_with(tab, app, PAGE)
        tab.page.set_input_files(INPUT, [photo, empty])
        expect(tab.page.get_by_role("link", name="photo.jpg")).to_be_visible(timeout=SENT)
        expect(row(tab.page, "empty.jpg")).to_contain_text("The file is empty.")
        assert valid(tab.page)
        # What may still be sent is said to be, and what to do.
        app.serve("/upload-token", "application/json", "{}")
        tab.page.evaluate(f"{ELEMENT}.token = {ELEMENT}.token")
        tab.page.set_input_files(INPUT, clip(tmp_path))
        expect(row(tab.page, "clip.mp4")).to_contain_text("may not upload now")
        assert not valid(tab.page)
        assert "Try again, or remove" in tab.page.evaluate(f"{ELEMENT}.validationMessage")
        app.new_token()
        tab.page.get_by_role("button", name="Try again: clip.mp4").click()
        expect(tab.page.get_by_role("link", name="clip.mp4")).to_be_visible(timeout=SENT)
        assert valid(tab.page)


def test_it_speaks_the_language_of_its_page(browser: Browser, app: App, tmp_path: Path) -> None:
    with window(browser) as tab:
        opened_with(tab, app, PAGE.replace("lang=en", "lang=de-CH"))
        expect(tab.page.get_by_text("Dateien auswählen oder hierher ziehen")).to_be_visible()
        app.serve("/upload-token", "application/json", "{}")
        tab.page.set_input_files(INPUT, clip(tmp_path))
        expect(row(tab.page, "clip.mp4")).to_contain_text("Diese Seite darf gerade nichts hochladen")
        tab.page.evaluate(f"{ELEMENT}.texts = {{ problem_missing_key: 'Ask Ada.', choose: 'Files, please' }}")
        expect(row(tab.page, "clip.mp4")).to_contain_text("Ask Ada.")
        expect(tab.page.get_by_text("Files, please")).to_be_visible()
        tab.page.evaluate("document.documentElement.lang = 'fr'")
        tab.page.evaluate(f"{ELEMENT}.texts = {{}}")
        expect(tab.page.get_by_role("button", name="Réessayer: clip.mp4")).to_be_visible()


def test_removed_and_added_again_it_goes_on(app: App, tmp_path: Path) -> None:
    """In Firefox."""
    app.serve("/form", HTML, PAGE)
    app.new_token()
    with firefox(tmp_path / "firefox") as fox:
        fox.goto(f"{app.site.url}/form")
        fox.until("document.querySelector('big-upload')?.shadowRoot && window.log")
        app.stage.proxy.cut(refuse=True)
        fox.evaluate(f"void (window.element = {ELEMENT})")
        fox.choose("element.shadowRoot.querySelector('input')", clip(tmp_path))
        fox.until("element.uploads[0].state === 'uploading'")
        fox.evaluate("void (window.form = element.form, element.remove())")
        fox.until("element.uploads[0].state === 'paused'")
        app.stage.proxy.restore()
        fox.evaluate("form.prepend(element)")
        fox.until("element.value.length === 1")
        assert fox.evaluate("element.uploads[0].state") == "done"

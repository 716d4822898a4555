"""https://github.com/dequelabs/axe-core finds nothing in any state of the page and of the element."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.tools import element_states, npm, page_states
from tests.tools.app_site import App
from tests.tools.browser import SENT, UploadPage, window
from tests.tools.directories import session_directory
from tests.tools.looks import wrong
from tests.tools.page import Held, Stage, clip, quiet

pytestmark = pytest.mark.slow

VERSION = "4.14.1"
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
FOUND = """async () => {
  const { violations, passes } = await axe.run();
  if (passes.length < 15) throw new Error(`only ${passes.length} rules had anything to look at`);
  return violations.map(({ id, help, nodes }) => [id, help, ...nodes.map(({ html }) => html)]);
}"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The library's source."""
    with session_directory(tmp_path_factory, "axe") as folder:
        npm.install_package(f"axe-core@{VERSION}", folder=folder)
        yield folder.joinpath("node_modules", "axe-core", "axe.min.js").read_text()


def found(page: UploadPage, axe: str) -> Any:
    page.page.evaluate(axe)  # the page's policy allows no script of others in the document
    return page.page.evaluate(FOUND)


@pytest.mark.parametrize("state", page_states.STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing(browser: Browser, stage: Stage, tmp_path: Path, axe: str, state: page_states.State) -> None:
    with window(browser) as page:
        page.page.emulate_media(reduced_motion="reduce")
        state(page, stage, tmp_path)
        for width, scheme in LOOKS:
            page.page.set_viewport_size({"width": width, "height": 800})
            page.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert found(page, axe) == [], (width, scheme)
            assert wrong(page) == [], width


LANGUAGES = {"en": "ltr", "de": "ltr", "fr": "ltr", "en-x-rtl": "rtl"}
# Where the last letter of a sentence begins, and its full stop; where the sentence ends, and the room for it.
SENTENCE = """() => {
  const row = document.querySelector("big-upload").shadowRoot.querySelector("li[data-state=remembered]");
  const status = row.querySelector("[part~=status]");
  const text = status.firstChild;
  const box = (from, to) => {
    const range = document.createRange();
    range.setStart(text, from);
    range.setEnd(text, to);
    return range.getBoundingClientRect();
  };
  const { length } = text;
  return [box(length - 2, length - 1).left, box(length - 1, length).left, box(0, length).right,
    status.getBoundingClientRect().right];
}"""
SPEAK = """([language, direction]) => {
  Object.assign(document.documentElement, { lang: language, dir: direction });
  document.querySelector("big-upload").texts = {};
}"""


@pytest.mark.parametrize("state", element_states.STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing_in_the_element(
    browser: Browser, app: App, tmp_path: Path, axe: str, state: element_states.State
) -> None:
    """In its languages and from right to left; nor is a text cut, or under a button."""
    element_states.serve(app)
    with window(browser) as tab:
        tab.page.emulate_media(reduced_motion="reduce")
        state(tab, app, tmp_path)
        tab.page.bring_to_front()
        for (language, direction), (width, scheme) in zip(LANGUAGES.items(), LOOKS, strict=True):
            tab.page.evaluate(SPEAK, [language, direction])
            tab.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            for each in (width, 1670 - width):
                tab.page.set_viewport_size({"width": each, "height": 800})
                assert wrong(tab) == [], (language, each)
            assert found(tab, axe) == [], (language, scheme)
        if state is element_states.done:
            tail = element_states.rows(tab).locator("a .tail")
            expect(tail).to_have_css("text-decoration-line", "underline")  # a cut name is a link like any other
        if state is element_states.remembered:
            letter, full_stop, end, right = tab.page.evaluate(SENTENCE)
            assert letter < full_stop, "an English sentence was written as if it were Arabic"
            assert abs(end - right) <= 1, "and it stands on the other side of its picture"
    app.new_token()


@pytest.mark.parametrize("language", ["de", "fr"])
def test_the_page_fits_in_other_languages(
    browser: Browser, stage: Stage, tmp_path: Path, axe: str, language: str
) -> None:
    for state in (page_states.stopped, page_states.remembered):
        (folder := tmp_path / state.__name__).mkdir()
        with window(browser, language=language) as page:
            page.page.emulate_media(reduced_motion="reduce")
            state(page, stage, folder)
            expect(page.page.locator("html")).to_have_attribute("lang", language)
            for width, direction in ((1280, "ltr"), (390, "ltr"), (390, "rtl")):
                page.page.set_viewport_size({"width": width, "height": 800})
                page.page.evaluate("direction => { document.documentElement.dir = direction }", direction)
                assert wrong(page) == [], (state, width, direction)
            assert found(page, axe) == [], state


SIZES = """() => [...document.querySelector("big-upload").shadowRoot.querySelectorAll("[part~=left], li")].map((row) =>
  [...row.querySelectorAll("button")].filter((each) => each.checkVisibility()).map((each) =>
    [each.getBoundingClientRect().width, each.getBoundingClientRect().height])).filter((row) => row.length)"""


def test_the_element_on_a_phone(browser: Browser, app: App, tmp_path: Path) -> None:
    """Nobody drops a file there; buttons are equally wide, and large enough for a thumb."""
    element_states.serve(app)
    with window(browser, phone=True) as tab:
        tab.page.set_viewport_size({"width": 390, "height": 844})
        element_states.remembered(tab, app, tmp_path)
        expect(tab.page.get_by_text("Choose files", exact=True)).to_be_visible()
        assert wrong(tab) == []
        sizes = tab.page.evaluate(SIZES)
        tab.page.set_input_files(element_states.INPUT, tmp_path / element_states.LONG)
        expect(element_states.rows(tab, "uploading").get_by_role("button")).to_have_count(2)
        sizes += tab.page.evaluate(SIZES)
        assert {len(row) for row in sizes} == {1, 2}
        for row in sizes:
            assert max(width for width, _ in row) - min(width for width, _ in row) <= 1
            assert all(height >= 44 for _, height in row)


# What a screen reader says of the element while a film is uploaded, paused, uploaded and removed.
WORDS = {
    "en": ("Choose files or drop them here", "Uploading", "Pause", "Paused", "Resume", "Cancel", "Uploaded", "Remove"),
    "de": (
        "Dateien auswählen oder hierher ziehen",
        *("Lädt hoch", "Anhalten", "Angehalten", "Fortsetzen", "Verwerfen", "Hochgeladen", "Entfernen"),
    ),
    "fr": (
        "Choisissez des fichiers ou déposez-les ici",
        *("Envoi", "Pause", "En pause", "Reprendre", "Annuler", "Envoyé", "Retirer"),
    ),
}


@pytest.mark.parametrize("language", WORDS)
def test_by_keyboard_and_by_ear(browser: Browser, app: App, tmp_path: Path, language: str) -> None:
    """Nothing but keys, and names by which a screen reader finds everything."""
    choose, uploading, pause, paused, resume, cancel, done, remove = WORDS[language]
    element_states.serve(app, language)
    file = clip(tmp_path)
    with window(browser) as tab:
        element_states.empty(tab, app, tmp_path)
        by_role, press = tab.page.get_by_role, tab.page.keyboard.press
        held = Held(tab, app.stage)
        press("Tab")
        expect(tab.page.get_by_label(choose)).to_be_focused()
        tab.chooser(lambda: press("Space")).set_files(file)
        status = by_role("status")
        expect(status).to_have_text(f"clip.mp4: {uploading}")
        expect(by_role("progressbar", name="clip.mp4", exact=True)).to_be_visible()
        expect(by_role("list").get_by_role("listitem")).to_have_count(1)
        expect(by_role("button", name=f"{cancel}: clip.mp4", exact=True)).to_be_visible()
        press("Tab")
        expect(by_role("button", name=f"{pause}: clip.mp4", exact=True)).to_be_focused()
        press("Enter")
        expect(by_role("button", name=f"{resume}: clip.mp4", exact=True)).to_be_focused()
        expect(status).to_have_text(f"clip.mp4: {paused}")
        held.let_go()
        press("Enter")
        expect(status).to_have_text(f"clip.mp4: {done}", timeout=SENT)
        link = by_role("link", name="clip.mp4", exact=True)
        assert app.stage.has(link.get_attribute("href") or "", file)
        removing = by_role("button", name=f"{remove}: clip.mp4", exact=True)
        for _ in range(8):
            if removing.evaluate("element => element.getRootNode().activeElement === element"):
                break
            press("Tab")
        expect(removing).to_be_focused()
        press("Enter")
        expect(element_states.rows(tab)).to_have_count(0)
        expect(tab.page.get_by_label(choose)).to_be_focused()
        quiet(tab, lost=True)

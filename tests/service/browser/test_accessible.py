"""https://github.com/dequelabs/axe-core finds nothing in any state of the page and of the element."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.tools import npm
from tests.tools.app_site import HTML, App
from tests.tools.browser import Profile, UploadPage
from tests.tools.directories import session_directory
from tests.tools.page import Stage, clip
from tests.tools.page_states import STATES, State, photos

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


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing(profile: Profile, stage: Stage, tmp_path: Path, axe: str, state: State) -> None:
    with profile.page() as page:
        page.page.emulate_media(reduced_motion="reduce")
        state(page, stage, tmp_path)
        for width, scheme in LOOKS:
            page.page.set_viewport_size({"width": width, "height": 800})
            page.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert found(page, axe) == [], (width, scheme)


FORM = """<!doctype html><html lang=LANGUAGE><title>App</title>
<style>:root { color-scheme: light dark; } body { font: 16px system-ui; }</style>
<main><h1>A post</h1><form><big-upload name=media multiple required><span slot=hint>Up to 5 GB</span></big-upload>
<button>Post</button></form></main>
<script type=module src="https://media.example.com/v1/client/element.js"></script>
<script type=module>
  const element = document.querySelector("big-upload");
  element.endpoint = "https://media.example.com/";
  element.token = async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token;
</script>"""


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_axe_finds_nothing_in_the_element(profile: Profile, app: App, tmp_path: Path, axe: str, language: str) -> None:
    """Empty, at work, with files that were refused, and after a reload."""
    app.serve("/axe", HTML, FORM.replace("LANGUAGE", language))
    app.new_token()
    (empty := tmp_path / "empty.jpg").write_bytes(b"")
    with profile.page() as tab:
        tab.page.goto(f"{app.site.url}/axe")
        tab.page.wait_for_function("document.querySelector('big-upload').token")
        assert found(tab, axe) == []
        tab.page.set_input_files("big-upload input", photos(tmp_path, 1))
        expect(tab.page.get_by_role("link")).to_have_count(1)
        tab.page.route(app.stage.proxy.url + "/**", lambda route: None)
        films = [clip(tmp_path, name=f"interview-with-the-mayor-{take}.mp4") for take in (1, 2)]
        tab.page.set_input_files("big-upload input", [*films, empty])
        expect(tab.page.locator("big-upload li[data-state=uploading]")).to_have_count(1)
        expect(tab.page.locator("big-upload li[data-state=failed]")).to_have_count(1)
        for width, scheme in LOOKS:
            tab.page.set_viewport_size({"width": width, "height": 800})
            tab.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert found(tab, axe) == [], (width, scheme)
        tab.page.goto(f"{app.site.url}/axe")
        expect(tab.page.locator("big-upload li[data-state=remembered]")).to_have_count(2)
        assert found(tab, axe) == []

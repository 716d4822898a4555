"""The states that `<big-upload>` can be in, each set up as a person meets it: for pictures and for axe-core.

They find what they use by parts and types, so that they work in every language of the element.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Route, expect

from tests.tools.app_site import HTML, App
from tests.tools.browser import SENT, UploadPage
from tests.tools.page import MIB, PART, Held, clip
from tests.tools.page_states import photos

State = Callable[[UploadPage, App, Path], None]

INPUT = "big-upload input"
LONG = "Interview mit der Bürgermeisterin über die neue Brücke, Schnittfassung 12, Farbkorrektur, 3840x2160.mp4"
FORM = """<!doctype html><html lang=LANGUAGE dir=DIRECTION><title>App</title><link rel=icon href=data:,>
<meta name=viewport content="width=device-width">
<style>:root { color-scheme: light dark; } body { font: 16px system-ui; max-width: 45rem; margin: 1rem auto;
  padding: 0 1rem; }</style>
<main><h1>A post</h1><form><big-upload name=media multiple required><span slot=hint>5 GB</span></big-upload>
<p><button>Post</button></form></main>
<script type=module src="https://media.example.com/v1/client/element.js"></script>
<script type=module>
  const element = document.querySelector("big-upload");
  element.endpoint = "https://media.example.com/";
  element.token = async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token;
</script>"""


def serve(app: App, language: str = "en", direction: str = "ltr") -> None:
    """The form, and a token that is valid."""
    app.serve("/states", HTML, FORM.replace("LANGUAGE", language).replace("DIRECTION", direction))
    app.new_token()


def rows(tab: UploadPage, state: str = "") -> Locator:
    """The element's uploads that are in a state."""
    return tab.page.locator("big-upload li" + (f"[data-state={state}]" if state else ""))


def empty(tab: UploadPage, app: App, folder: Path) -> None:
    tab.page.goto(f"{app.site.url}/states")
    tab.page.wait_for_function("document.querySelector('big-upload').token")


def sending(tab: UploadPage, app: App, folder: Path) -> None:
    """A film on its way, one that waits, and a photo that is done."""
    empty(tab, app, folder)
    tab.page.set_input_files(INPUT, photos(folder, 1))
    expect(rows(tab, "done")).to_have_count(1, timeout=SENT)
    Held(tab, app.stage, after=2)
    tab.page.set_input_files(INPUT, [clip(folder, 5 * PART, LONG), clip(folder, 4 * PART, "drone.mov")])
    expect(rows(tab, "uploading")).to_have_count(1)
    tab.page.wait_for_function("document.querySelector('big-upload').uploads[1].progress.stored", timeout=SENT)


def stopped(tab: UploadPage, app: App, folder: Path) -> None:
    sending(tab, app, folder)
    rows(tab, "uploading").locator('[part~="pause"]').click()
    expect(rows(tab, "paused")).to_have_count(1)


def remembered(tab: UploadPage, app: App, folder: Path) -> None:
    sending(tab, app, folder)
    tab.page.once("dialog", lambda dialog: dialog.accept())
    empty(tab, app, folder)
    expect(rows(tab, "remembered")).to_have_count(2)


def other_tab(tab: UploadPage, app: App, folder: Path) -> None:
    """The file is chosen in a tab while another one uploads it."""
    first = tab.new_tab()
    sending(first, app, folder)
    empty(tab, app, folder)
    tab.page.set_input_files(INPUT, folder / LONG)
    expect(rows(tab, "failed")).to_have_count(1)


def refused(tab: UploadPage, app: App, folder: Path) -> None:
    """By the service, by the element, and what is in the list already."""
    empty(tab, app, folder)
    (disguised := folder / LONG).write_bytes(b"MZ" + bytes(MIB))
    (nothing := folder / "nothing.jpg").write_bytes(b"")
    [photo] = photos(folder, 1)
    tab.page.set_input_files(INPUT, [disguised, nothing, photo])
    expect(rows(tab, "failed")).to_have_count(2, timeout=SENT)
    expect(rows(tab, "done")).to_have_count(1, timeout=SENT)
    tab.page.set_input_files(INPUT, photo)
    expect(tab.page.locator('big-upload [part~="notice"]')).to_be_visible()


def failed(tab: UploadPage, app: App, folder: Path) -> None:
    """Without room for one, and without a token for another."""

    def no_room(route: Route) -> None:
        route.fulfill(status=403, json={"error": {"code": "quota_exceeded", "message": "…", "requestId": "r"}})

    empty(tab, app, folder)
    tab.page.route("**/v1/media/multipart", no_room)
    tab.page.set_input_files(INPUT, clip(folder, 2 * PART, LONG))
    expect(rows(tab, "failed")).to_have_count(1)
    app.serve("/upload-token", "application/json", "{}")
    tab.page.evaluate("void (element => { element.token = element.token })(document.querySelector('big-upload'))")
    tab.page.set_input_files(INPUT, clip(folder, 2 * PART, "drone.mov"))
    expect(rows(tab, "unauthorized")).to_have_count(1)


def done(tab: UploadPage, app: App, folder: Path) -> None:
    empty(tab, app, folder)
    tab.page.set_input_files(INPUT, [*photos(folder, 2), clip(folder, 2 * PART, LONG)])
    expect(rows(tab, "done")).to_have_count(3, timeout=SENT)


STATES: tuple[State, ...] = (empty, sending, stopped, remembered, other_tab, refused, failed, done)

"""The client on a page of another origin: what it asks for, in which order, and what it does about trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from bigupload.testing.faults import Call
from tests.tools.app_site import HTML, App, has_checksum
from tests.tools.browser import SENT, UploadPage, window
from tests.tools.media import sample
from tests.tools.page import PART, Held, clip, quiet

pytestmark = pytest.mark.slow

PAGE = """<!doctype html><title>App</title><input id=files type=file multiple><output></output>
<script type=module>
  import * as client from "https://media.example.com/v1/client.js";
  window.client = client;
  window.log = [];
  window.token = async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token;
  window.start = (options) => [...document.getElementById("files").files].map((file) =>
    client.upload(file, { endpoint: "https://media.example.com/", token, ...options,
      onState: (state, { name }) => log.push([name, state]) }));
</script>"""
FINISHED = (
    "async (handles) => (await Promise.all(handles.map(({ finished }) => finished))).map(({ publicUrl }) => publicUrl)"
)


@pytest.fixture
def tab(browser: Browser, app: App) -> Iterator[UploadPage]:
    app.serve("/client", HTML, PAGE)
    app.new_token()
    with window(browser) as tab:
        tab.page.goto(f"{app.site.url}/client")
        tab.page.wait_for_function("window.start")
        yield tab


def send(tab: UploadPage, *files: Path, before: str = "") -> Any:
    """Begin to upload; a handle of the list of uploads. `before` is run first."""
    tab.page.set_input_files("#files", list(files))
    return tab.page.evaluate_handle(f"() => {{ {before}; return start(); }}")


def test_a_small_file_takes_three_requests(tab: UploadPage, app: App, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(sample("jpg"))
    [url] = send(tab, photo).evaluate(FINISHED)
    assert app.stage.has(url, photo)
    calls = [(r.method, r.url.partition("?")[0].rpartition("/")[2]) for r in tab.requests if "/v1/media" in r.url]
    assert calls == [("POST", "multipart"), ("POST", "complete")]
    assert has_checksum(tab)
    quiet(tab)


def test_small_files_pass_a_large_one(tab: UploadPage, app: App, tmp_path: Path) -> None:
    large = clip(tmp_path, 12 * PART, "large.mp4")
    small = [clip(tmp_path, PART // 2 + n, f"{n}.mp4") for n in range(8)]
    let_go = threading.Event()
    app.stage.proxy.script("UploadPart", Call(lambda _: let_go.wait()), part_number=12)
    handles = send(tab, large, *small)
    tab.page.wait_for_function("log.filter(([, state]) => state === 'done').length === 8", timeout=SENT)
    let_go.set()
    urls = handles.evaluate(FINISHED)
    for url, file in zip(urls, [large, *small], strict=True):
        assert app.stage.has(url, file)
    begun = [name for name, state in tab.page.evaluate("log") if state == "starting"]
    assert begun == ["large.mp4", *(file.name for file in small)]
    quiet(tab)


def test_a_part_that_lags_is_sent_twice(tab: UploadPage, app: App, tmp_path: Path) -> None:
    file = clip(tmp_path, 8 * PART)
    let_go = threading.Event()
    app.stage.proxy.script("UploadPart", Call(lambda _: let_go.wait()), part_number=8)
    [url] = send(tab, file).evaluate(FINISHED)
    assert app.stage.has(url, file)
    lagging, *others = [r for r in tab.requests if r.method == "PUT" and "partNumber=8&" in r.url]
    assert others
    assert lagging.failure is not None, "the PUT that lagged was not aborted"
    let_go.set()
    quiet(tab)


def test_an_expired_token_is_renewed_once_for_all(tab: UploadPage, app: App, tmp_path: Path) -> None:
    files = [clip(tmp_path, PART // 2, f"{n}.mp4") for n in range(4)]
    stale = "const good = token; window.asked = 0; window.token = () => (window.asked += 1) === 1 ? 'eyJ' : good();"
    for url, file in zip(send(tab, *files, before=stale).evaluate(FINISHED), files, strict=True):
        assert app.stage.has(url, file)
    assert tab.page.evaluate("asked") == 2
    assert not [state for _, state in tab.page.evaluate("log") if state == "unauthorized"]
    quiet(tab, lost=True)


def test_a_token_that_stays_refused_ends_the_attempt(tab: UploadPage, app: App, tmp_path: Path) -> None:
    handles = send(tab, clip(tmp_path), before="window.token = async () => 'eyJ'")
    told = handles.evaluate("async ([h]) => h.finished.catch(({ name, kind, code }) => [name, kind, code, h.state])")
    assert told == ["Problem", "key", "invalid_key", "unauthorized"]


def test_after_a_reload_the_same_file_is_resumed_and_another_is_not(tab: UploadPage, app: App, tmp_path: Path) -> None:
    file = clip(tmp_path, 8 * PART)
    held = Held(tab, app.stage, after=6)
    with tab.page.expect_response(lambda _: len(app.acknowledged()) == 6, timeout=SENT):
        send(tab, file)
    tab.page.reload()
    held.let_go()  # not before: what is held would go on
    tab.page.wait_for_function("window.start")
    other = clip(tmp_path, 8 * PART, "other.mp4")
    handles = send(tab, file, other)
    urls = handles.evaluate(FINISHED)
    assert handles.evaluate("(all) => all.map(({ progress }) => progress.found)") == [6, 0]
    for url, each in zip(urls, [file, other], strict=True):
        assert app.stage.has(url, each)
    quiet(tab, lost=True)


def test_cancelling_deletes_the_parts(tab: UploadPage, app: App, tmp_path: Path) -> None:
    Held(tab, app.stage)
    handles = send(tab, clip(tmp_path))
    tab.page.wait_for_function("log.some(([, state]) => state === 'uploading')", timeout=SENT)
    assert handles.evaluate("async ([handle]) => [await handle.cancel(), handle.state]") == [True, "cancelled"]
    assert handles.evaluate("async ([{ finished }]) => finished.catch(({ kind }) => kind)") == "cancelled"
    assert tab.calls("DELETE", "/v1/media/multipart")
    names = tab.page.evaluate("async () => (await new client.Client({ endpoint: 'x' }).unfinished()).length")
    assert names == 0
    expect(tab.page.locator("output")).to_be_empty()

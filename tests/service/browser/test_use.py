"""The page as people use it: mouse, keyboard, screen reader, phone; and what it asks and tells."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, Dialog, Locator, Route, expect

from tests.tools.browser import SENT, UploadPage, window
from tests.tools.page import MIB, MP4, PART, Held, Stage, clip, numbers, quiet

pytestmark = pytest.mark.slow


def test_several_files_one_after_another(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    files = [clip(tmp_path, PART + 1, f"{number}.mp4") for number in range(3)]
    page.choose(*files)
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(3, timeout=SENT)
    links = page.page.locator(".row").get_by_role("link").all()
    for link, file in zip(links, files, strict=True):
        assert stage.has(link.get_attribute("href") or "", file)
    quiet(page)


DROP = """async ([name, head, size]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(head), new Uint8Array(size - head.length)], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    document.querySelector("h1").dispatchEvent(
      new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }),
    );
  }
}"""


def test_a_file_may_be_dropped_anywhere(page: UploadPage, tmp_path: Path) -> None:
    page.page.evaluate(DROP, ["dropped.mp4", list(MP4), MIB])
    size = httpx.head(page.expect_done(), trust_env=False).headers["Content-Length"]
    assert int(size) == MIB
    expect(page.page.locator("body.dragging")).to_have_count(0)
    quiet(page)


# --- before anything is sent


def test_what_the_service_would_not_take_is_told_before(page: UploadPage, tmp_path: Path) -> None:
    (notes := tmp_path / "notes.txt").write_text("x")
    (empty := tmp_path / "empty.mp4").touch()
    huge = clip(tmp_path, MIB, "huge.mp4")
    with huge.open("r+b") as out:
        out.truncate(5_100_000_000)
    page.choose(notes, empty, huge)
    told = page.page.locator("#refused p")
    expect(told).to_have_count(3)
    assert "empty" in told.nth(0).inner_text()
    assert "5.1 GB. The limit is 5 GB" in told.nth(1).inner_text().replace("\xa0", " ")
    assert "TXT isn't supported. Choose JPEG, PNG" in told.nth(2).inner_text()
    expect(page.page.locator(".row")).to_have_count(0)
    assert page.calls("POST", "/multipart") == []
    quiet(page)


def test_what_only_looks_like_a_video_is_refused_by_its_first_bytes(page: UploadPage, tmp_path: Path) -> None:
    (disguised := tmp_path / "program.mp4").write_bytes(b"MZ" + bytes(3 * MIB))
    page.choose(disguised)
    page.expect_state("failed")
    expect(page.remark).to_contain_text("The content is not what the name says")
    expect(page.button("Remove")).to_be_visible()
    assert page.calls("PUT", "") == []
    quiet(page, lost=True)


def test_without_a_key_it_asks_for_one(browser: Browser, stage: Stage, tmp_path: Path) -> None:
    with window(browser) as page:
        page.open(stage.service.url)
        page.choose(clip(tmp_path, MIB))
        page.expect_state("unauthorized")
        field = page.page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill("sk_of_nobody")
        field.press("Enter")
        expect(page.page.locator("#key-error")).to_contain_text("unknown")
        field.fill(stage.service.key)
        field.press("Enter")
        page.expect_done()


# --- by the person's word


def test_pause_and_continue(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path, 5 * PART)
    held = Held(page, stage, after=2)
    page.choose(file)
    page.expect_stored(2 * PART)
    page.button("Pause").click()
    page.expect_state("paused")
    expect(page.button("Continue")).to_be_focused()
    held.let_go()
    page.button("Continue").click()
    url = page.expect_done()
    assert stage.attempts(url) == dict.fromkeys(range(1, 6), 1)
    assert stage.has(url, file)


def _press(page: UploadPage, button: Locator) -> None:
    box = button.bounding_box()
    assert box
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.mouse.down()


def _release(page: UploadPage) -> None:
    """After half a second of the page's time, in which its own timers fall due."""
    for _ in range(5):
        page.page.clock.run_for(100)
    page.page.mouse.up()


def test_a_press_that_leaves_the_field_of_the_key_is_a_click(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """The form folds away when nobody is at it any more: after the click, not under it."""
    page.page.clock.install()
    page.open(stage.service.url, stage.service.key)
    held = Held(page, stage, after=1)
    page.choose(clip(tmp_path))
    page.expect_stored(PART)
    expect(page.page.get_by_label("API key")).to_be_focused()
    _press(page, page.button("Pause"))
    _release(page)
    page.expect_state("paused")
    expect(page.page.locator("#key-form")).to_be_hidden()
    held.let_go()


def test_a_row_does_not_move_under_a_press(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """The upload above it ends meanwhile, which moves that one below."""
    page.page.clock.install()
    page.open(stage.service.url, stage.service.key)
    waiting: list[Route] = []
    page.page.route(stage.proxy.url + "/**", lambda route: waiting.append(route))
    with page.page.expect_request(stage.proxy.url + "/**"):
        page.choose(clip(tmp_path, MIB, "first.mp4"))
    page.choose(clip(tmp_path))
    pause = page.page.get_by_role("button", name="Pause: clip.mp4")
    page.page.get_by_label("API key").press("Enter")
    expect(page.page.locator("#key-form")).to_be_hidden()
    _press(page, pause)
    with page.page.expect_response("**/v1/media/multipart/complete"):
        waiting[0].continue_()
    _release(page)
    expect(page.page.locator('.row[data-state="done"]')).to_contain_text("first.mp4")
    expect(page.page.locator('.row[data-state="paused"]')).to_contain_text("clip.mp4")
    page.page.unroute(stage.proxy.url + "/**")


def test_cancel_asks_and_then_throws_away_what_was_sent(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    Held(page, stage, after=1)
    with page.page.expect_response("**/v1/media/multipart") as created:
        page.choose(clip(tmp_path))
    handle = created.value.json()["upload"]
    page.expect_stored(PART)
    page.button("Cancel").click()
    page.page.get_by_role("button", name="Keep it").click()
    page.expect_state("uploading")
    page.button("Cancel").click()
    with page.page.expect_response(lambda response: response.request.method == "DELETE") as aborted:
        page.page.get_by_role("button", name="Cancel the upload").click()
    assert aborted.value.status == 204
    page.expect_state("cancelled")
    status = stage.service.call("GET", "/v1/media/multipart", params={"upload": handle})
    assert status.json()["status"] == "gone"
    page.page.reload()
    expect(page.page.locator("html[data-ready]")).to_be_attached()
    expect(page.page.locator(".row")).to_have_count(0)


def test_leaving_while_it_sends_is_warned_of(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    Held(page, stage)
    page.page.get_by_role("button", name="Show").click()  # no warning for whoever never touched the page
    page.choose(clip(tmp_path))
    page.expect_state("uploading")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.page.on("dialog", stay)
    with page.page.expect_event("dialog"):
        page.page.close(run_before_unload=True)
    assert asked == ["beforeunload"]


def tab_to(page: UploadPage, wanted: Locator) -> None:
    for _ in range(12):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.page.keyboard.press("Tab")
    expect(wanted).to_be_focused()


def test_with_the_keyboard_alone(browser: Browser, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    with window(browser) as page:
        # Its dialogue is the system's, out of reach; without it the page falls back on the input's own.
        page.page.add_init_script("delete window.showOpenFilePicker")
        page.open(stage.service.url)
        press = page.page.keyboard.press
        press("Tab")
        expect(page.page.get_by_label("API key")).to_be_focused()
        page.page.keyboard.type(stage.service.key)
        press("Tab")
        expect(page.page.get_by_role("button", name="Show")).to_be_focused()
        press("Enter")
        assert page.page.get_by_label("API key").get_attribute("type") == "text"
        press("Tab")
        expect(page.page.get_by_label("Choose files")).to_be_focused()
        held = Held(page, stage)
        page.chooser(lambda: press("Space")).set_files(file)
        page.expect_state("uploading")
        tab_to(page, page.button("Pause"))
        press("Enter")
        expect(page.button("Continue")).to_be_focused()
        held.let_go()
        press("Enter")
        page.expect_done()
        copy = page.button("Copy link")
        tab_to(page, copy)
        press("Enter")
        expect(page.page.get_by_role("status")).to_have_text(re.compile("Link copied|The link is selected"))


# --- for everyone


LABELS = """() => [...document.querySelectorAll("input, button, progress, a[href], dialog")]
  .filter((each) => each.tagName === "DIALOG" || each.offsetParent !== null)
  .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()
    || each.getAttribute("aria-labelledby")))
  .map((each) => each.outerHTML)"""
SMALL = """() => [...document.querySelectorAll("button, .button, #key")]
  .filter((each) => each.offsetParent !== null)
  .filter((each) => each.getBoundingClientRect().height < 44)
  .map((each) => each.outerHTML)"""


# Each text's colour against the nearest background that is not transparent: WCAG 2.2, 1.4.3.
FAINT = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3)
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 && element.parentElement ? ground(element.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility()
    && [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  return texts.map((each) => {
    const [a, b] = [light(getComputedStyle(each).color), light(ground(each))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), each.outerHTML];
  }).filter(([contrast]) => contrast < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: UploadPage, tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    (notes := tmp_path / "notes.txt").write_text("x")
    (disguised := tmp_path / "program.mp4").write_bytes(b"MZ" + bytes(MIB))
    page.choose(clip(tmp_path, MIB))
    page.expect_done()
    page.choose(disguised)
    page.expect_state("failed")
    page.choose(notes)
    expect(page.page.locator("#refused p")).to_be_visible()
    assert page.page.evaluate(FAINT) == []


@pytest.mark.parametrize("width", [320, 375, 1440])
def test_everything_is_labelled_large_enough_and_fits(
    page: UploadPage, stage: Stage, tmp_path: Path, width: int
) -> None:
    Held(page, stage, after=1)
    page.page.set_viewport_size({"width": width, "height": 800})
    page.choose(clip(tmp_path, 3 * PART, "a_very_long_name_that_has_no_spaces_in_it_at_all_and_goes_on.mp4"))
    expect(page.page.get_by_role("status")).to_have_text(re.compile("Uploading|25% uploaded"))
    page.expect_stored(PART)
    assert page.page.evaluate(LABELS) == []
    assert page.page.evaluate(SMALL) == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.page.get_by_role("progressbar", name=re.compile("a_very_long_name"))).to_be_visible()


def test_over_plain_http_it_says_why_it_can_not(browser: Browser, stage: Stage) -> None:
    """What a browser offers there is like this: no `crypto.subtle`."""
    with window(browser) as page:
        page.page.add_init_script("delete Crypto.prototype.subtle")
        page.page.goto(stage.service.url)
        expect(page.page.locator("#unfit")).to_contain_text("https")
        quiet(page)


TWO_TOO_MANY = """
const parts = [], { begin } = Flight.prototype;
let postponed = false;
Flight.prototype.begin = function (size, now) {
  parts.push(begin.call(this, size, now));
  return parts.at(-1);
};
Flight.prototype.limit = () => (postponed ? 1 : 6);
Flight.prototype.surplus = () => {
  if (postponed || parts.length < 3) return [];
  postponed = true;
  return parts.slice(0, 2);
};
"""


def test_postponed_parts_are_sent_later(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """As on a slow link, where a few parts are finished sooner than many."""

    def bounded(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text() + TWO_TOO_MANY)

    page.page.route("**/flight.js", bounded)
    page.open(stage.service.url, stage.service.key)
    page.page.unroute("**/flight.js")
    held = Held(page, stage)
    file = clip(tmp_path)
    failed = itertools.count(1)
    with page.page.expect_event("requestfailed", lambda _: next(failed) == 2, timeout=SENT):
        page.choose(file)
    held.let_go()
    url = page.expect_done()
    assert stage.has(url, file)
    assert len([request for request in page.requests if request.method == "PUT"]) == 5
    signed = [number for call in page.calls("POST", "/parts") for number in numbers(call.post_data_json)]
    assert sorted(signed) == [1, 2, 3], "once, as their URLs are still valid"
    quiet(page, lost=True)

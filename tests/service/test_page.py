"""The upload page in a real browser, against the real service and a real store. Between browser and store a proxy
counts what passes, so that "not sent again" is what the network says and not what the page claims."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from bigupload.local_store import LocalStore
from tests.tools.proxy import CountingProxy, PartTraffic
from tests.tools.service import Service, serving

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
pytest.importorskip("playwright")

from playwright.sync_api import Dialog, Playwright, Route, expect, sync_playwright  # noqa: E402

from tests.tools.browser import CHROMIUM, SENT, Profile, UploadPage  # noqa: E402

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install one that is called `chromium`")

MIB = 1024 * 1024
PART = 16 * MIB
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00\x00\x00\x08free"
NETWORK = re.compile("Failed to load resource|ERR_")
"""What the browser itself writes to the console of a request that failed."""


@dataclass
class Stage:
    """A service whose URLs lead through a proxy, and the proxy."""

    service: Service
    proxy: CountingProxy

    def attempts(self, url: str) -> dict[int, int]:
        """By part number: how often its PUT began to pass, for the object that is at `url`."""
        path = unquote(urlsplit(url).path)
        return {number: traffic.attempts for (at, _, number), traffic in self.proxy.parts.items() if at == path}

    def newest(self) -> dict[int, PartTraffic]:
        """By part number: what passed of the upload that was begun last."""
        parts = self.proxy.parts
        path, upload_id, _ = list(parts)[-1]
        return {number: traffic for (*of, number), traffic in parts.items() if of == [path, upload_id]}

    def has(self, url: str, file: Path) -> bool:
        """Does the store hold, for everyone, the file's bytes?"""
        there = hashlib.sha256()
        with httpx.stream("GET", url, timeout=60, trust_env=False) as answer:
            assert answer.status_code == 200
            for chunk in answer.iter_bytes(MIB):
                there.update(chunk)
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").digest() == there.digest()


@pytest.fixture(scope="module")
def stage(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    home = tmp_path_factory.mktemp("page")
    with CountingProxy("127.0.0.1", port) as proxy:
        options = ("--client-endpoint-url", proxy.url, "--requests", "10000", "--sweep-every", "0")
        with serving(weed, home, *options) as service:
            yield Stage(service, proxy)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def profile(playwright: Playwright, tmp_path: Path) -> Profile:
    return Profile(playwright, tmp_path / "profile")


@pytest.fixture
def page(profile: Profile, stage: Stage) -> Iterator[UploadPage]:
    """The page, opened, with a key."""
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        yield page


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real MP4 of more than 300 MB: seconds of one, over and over."""
    folder = tmp_path_factory.mktemp("video")
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
    source = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30", "-t", "4", "-c:v", "mpeg4", "-q:v", "1"]
    subprocess.run([*ffmpeg, *source, folder / "short.mp4"], check=True)
    loop = ["-stream_loop", "-1", "-i", folder / "short.mp4", "-c", "copy", "-fs", "320M"]
    subprocess.run([*ffmpeg, *loop, folder / "holiday.mp4"], check=True)
    film = folder / "holiday.mp4"
    assert film.stat().st_size > 300_000_000
    assert film.read_bytes()[4:8] == b"ftyp"
    return film


def clip(folder: Path, size: int = 3 * PART, name: str = "clip.mp4") -> Path:
    """Begins as an MP4 does; the rest is a hole, with a mark in each MiB so that no two parts are the same."""
    file = folder / name
    with file.open("wb") as out:
        out.write(MP4)
        out.truncate(size)
        for at in range(MIB, size, MIB):
            out.seek(at)
            out.write(at.to_bytes(8, "big"))
    return file


class Held:
    """PUTs that wait in the browser until they are let go."""

    def __init__(self, page: UploadPage, stage: Stage, *, after: int = 0) -> None:
        """`after`: so many pass before."""
        self._page, self._url, self._after = page, stage.proxy.url + "/**", after
        self._waiting: list[Route] = []
        page.page.route(self._url, self._on_request)

    def _on_request(self, route: Route) -> None:
        if route.request.method == "PUT" and self._after > 0:
            self._after -= 1
            route.continue_()
        else:
            self._waiting.append(route)

    def let_go(self) -> None:
        self._after = 1 << 30
        for route in self._waiting:
            route.continue_()
        self._waiting.clear()

    def drop(self) -> None:
        """They were aborted by the page meanwhile."""
        self._page.page.unroute(self._url)


def quiet(page: UploadPage, *, lost: bool = False) -> None:
    """Nothing on the console; `lost`: but for the requests that the test made fail."""
    assert [text for text in page.complaints if not (lost and NETWORK.search(text))] == []


# --- the whole way


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_video_goes_on_after_the_browser_was(how: str, profile: Profile, stage: Stage, video: Path) -> None:
    parts = -(-video.stat().st_size // PART)
    half = stage.proxy.bytes_acknowledged + parts // 2 * PART
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        if how == "killed":
            stage.proxy.on_acknowledged(half, profile.kill)
            with page.page.context.expect_event("close", timeout=SENT):
                page.choose(video)
        else:
            stage.proxy.on_acknowledged(half, lambda: stage.proxy.cut(refuse=True))
            page.choose(video)
            expect(page.card.get_by_text("The store does not answer right now")).to_be_visible(timeout=SENT)
    stage.proxy.restore()
    before = stage.newest()
    recorded = {number for number, traffic in before.items() if traffic.acknowledged}
    assert parts // 2 <= len(recorded) < parts

    with profile.page() as page:
        page.open(stage.service.url)
        page.expect_phase("remembered")
        expect(page.card).to_contain_text("Choose or drop the same file again")
        assert page.page.get_by_label("API key").input_value() == ""  # the tab's, and gone with it
        page.page.get_by_label("API key").fill(stage.service.key)
        page.choose(video)
        url = page.expect_done()
        told = re.search(r"(\d+) parts already there", page.card.inner_text())
        quiet(page)
    after = stage.attempts(url)
    assert set(after) == set(range(1, parts + 1))
    again = {number for number in after if number not in before or after[number] > before[number].attempts}
    assert not again & recorded, "a part that the store had acknowledged was sent again"
    # The store may have had more: parts whose answers were lost with the connection. Their bytes were compared.
    assert told is not None
    assert int(told[1]) == parts - len(again) >= len(recorded)
    assert stage.has(url, video)


def test_an_upload_keeps_to_itself(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """The page asks nobody but service and store, and the policy has nothing to forbid."""
    file = clip(tmp_path)
    page.choose(file)
    url = page.expect_done()
    assert stage.has(url, file)
    assert page.hosts() == {stage.service.url, stage.proxy.url}
    policy = httpx.get(stage.service.url, trust_env=False).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    quiet(page)


def test_several_files_one_after_another(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    files = [clip(tmp_path, PART + 1, f"{number}.mp4") for number in range(3)]
    page.choose(*files)
    expect(page.page.locator('.card[data-phase="done"]')).to_have_count(3, timeout=SENT)
    links = page.page.locator(".card").get_by_role("link").all()
    for link, file in zip(links, reversed(files), strict=True):
        assert stage.has(link.get_attribute("href") or "", file)
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
    assert "none of JPEG, PNG" in told.nth(0).inner_text()
    assert "empty" in told.nth(1).inner_text()
    assert "5.10 GB; at most 5.00 GB" in told.nth(2).inner_text()
    expect(page.page.locator(".card")).to_have_count(0)
    assert page.calls("POST", "/multipart") == []
    quiet(page)


def test_what_only_looks_like_a_video_is_refused_by_its_first_bytes(page: UploadPage, tmp_path: Path) -> None:
    (disguised := tmp_path / "program.mp4").write_bytes(b"MZ" + bytes(3 * MIB))
    page.choose(disguised)
    page.expect_phase("failed")
    expect(page.card.get_by_role("alert")).not_to_be_empty()
    expect(page.button("Remove")).to_be_visible()
    assert page.calls("PUT", "") == []
    quiet(page, lost=True)


def test_without_a_key_it_asks_for_one(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    with profile.page() as page:
        page.open(stage.service.url)
        page.choose(clip(tmp_path, MIB))
        page.expect_phase("key")
        field = page.page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill("sk_of_nobody")
        field.press("Enter")
        expect(page.page.locator("#key-error")).to_contain_text("not known")
        field.fill(stage.service.key)
        field.press("Enter")
        page.expect_done()


# --- by the person's word


def test_pause_and_continue(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path, 5 * PART)
    held = Held(page, stage, after=2)
    page.choose(file)
    expect(page.card).to_contain_text("2 of 5 parts")
    page.button("Pause").click()
    page.expect_phase("paused")
    expect(page.button("Continue")).to_be_focused()
    held.drop()
    page.button("Continue").click()
    url = page.expect_done()
    assert stage.attempts(url) == dict.fromkeys(range(1, 6), 1)
    assert stage.has(url, file)


def test_cancel_asks_and_then_throws_away_what_was_sent(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    Held(page, stage, after=1)
    with page.page.expect_response("**/v1/media/multipart") as created:
        page.choose(clip(tmp_path))
    handle = created.value.json()["upload"]
    expect(page.card).to_contain_text("1 of 3 parts")
    page.button("Cancel").click()
    page.page.get_by_role("button", name="Keep it").click()
    page.expect_phase("uploading")
    page.button("Cancel").click()
    with page.page.expect_response(lambda answer: answer.request.method == "DELETE") as aborted:
        page.page.get_by_role("button", name="Cancel the upload").click()
    assert aborted.value.status == 204
    page.expect_phase("cancelled")
    status = stage.service.call("GET", "/v1/media/multipart", params={"upload": handle})
    assert status.json()["status"] == "gone"
    page.page.reload()
    expect(page.page.locator("html[data-ready]")).to_be_attached()
    expect(page.page.locator(".card")).to_have_count(0)


def test_leaving_while_it_sends_is_warned_of(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    Held(page, stage)
    page.page.get_by_role("button", name="Show").click()  # no warning for whoever never touched the page
    page.choose(clip(tmp_path))
    page.expect_phase("uploading")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.page.on("dialog", stay)
    with page.page.expect_event("dialog"):
        page.page.close(run_before_unload=True)
    assert asked == ["beforeunload"]


def test_with_the_keyboard_alone(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    with profile.page() as page:
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
        with page.page.expect_file_chooser() as chooser:
            press("Space")
        chooser.value.set_files(file)
        page.expect_phase("uploading")
        press("Tab")
        expect(page.button("Pause")).to_be_focused()
        press("Enter")
        expect(page.button("Continue")).to_be_focused()
        held.drop()
        press("Enter")
        page.expect_done()
        copy = page.button("Copy link")
        for _ in range(2):  # Pause, which had the focus, is gone: it is on the button already, or on the file's name
            if not copy.evaluate("element => element === document.activeElement"):
                press("Tab")
        expect(copy).to_be_focused()
        press("Enter")
        expect(page.page.get_by_role("status")).to_have_text(re.compile("Link copied|The link is selected"))


# --- taken up again


FROM_PRIVATE_FILES = """
  window.showOpenFilePicker = async () => {
    const folder = await navigator.storage.getDirectory();
    const handle = await folder.getFileHandle("clip.mp4", { create: true });
    const out = await handle.createWritable();
    await out.write(new Uint8Array(BYTES));
    await out.truncate(SIZE);
    await out.close();
    return [handle];
  };
"""


def test_with_a_file_handle_one_click_goes_on(profile: Profile, stage: Stage) -> None:
    """The picker's dialogue is out of reach: the origin's private files have handles of the same kind."""
    picker = FROM_PRIVATE_FILES.replace("BYTES", str(list(MP4))).replace("SIZE", str(3 * PART))
    with profile.page() as page:
        page.page.add_init_script(picker)
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=1)
        page.page.get_by_text("Choose files").click()
        expect(page.card).to_contain_text("1 of 3 parts")
    before = {number: traffic.attempts for number, traffic in stage.newest().items() if traffic.acknowledged}
    assert len(before) == 1
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        page.expect_phase("remembered")
        page.button("Continue").click()
        url = page.expect_done()
        expect(page.card).to_contain_text("1 part already there")
        quiet(page)
    assert {number: stage.attempts(url)[number] for number in before} == before


def test_another_file_of_that_name_is_told_apart(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=1)
        page.choose(clip(tmp_path))
        expect(page.card).to_contain_text("1 of 3 parts")
    other = clip(tmp_path, PART + 17)
    with profile.page() as page:
        page.page.add_init_script("delete window.showOpenFilePicker")
        page.open(stage.service.url, stage.service.key)
        with page.page.expect_file_chooser() as chooser:
            page.button("Choose the file again").click()
        chooser.value.set_files(other)
        expect(page.card).to_contain_text("That is another file")
        page.expect_phase("remembered")
        page.choose(other)
        url = page.expect_done()
        expect(page.card).to_contain_text("this is a new one")
        expect(page.page.locator('.card[data-phase="remembered"]')).to_have_count(1)
    assert stage.has(url, other)


def test_a_file_of_another_date_is_compared_byte_by_byte(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    """Some phones make a new copy of a video at each choice. Here the first part has also changed."""
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=2)
        page.choose(clip(tmp_path))
        expect(page.card).to_contain_text("2 of 3 parts")
    before = {number: traffic.attempts for number, traffic in stage.newest().items() if traffic.acknowledged}
    changed, same = sorted(before)
    file = clip(tmp_path)
    with file.open("r+b") as out:
        out.seek((changed - 1) * PART + 100)
        out.write(b"changed")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    with profile.page() as page:
        page.page.add_init_script("delete window.showOpenFilePicker")
        page.open(stage.service.url, stage.service.key)
        with page.page.expect_file_chooser() as chooser:
            page.button("Choose the file again").click()
        chooser.value.set_files(file)
        url = page.expect_done()
        expect(page.card).to_contain_text("date has changed")
    after = stage.attempts(url)
    assert (after[changed], after[same]) == (before[changed] + 1, before[same])
    assert stage.has(url, file)


def test_an_upload_that_is_gone_is_said_to_be_and_begun_anew(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    with page.page.expect_response("**/v1/media/multipart") as created:
        page.choose(file)
    expect(page.card).to_contain_text("1 of 3 parts")
    page.button("Pause").click()
    page.expect_phase("paused")
    held.drop()
    handle = created.value.json()["upload"]
    assert stage.service.call("DELETE", "/v1/media/multipart", params={"upload": handle}).status_code == 204
    page.button("Continue").click()
    page.expect_phase("failed")
    expect(page.card.get_by_role("alert")).to_contain_text("nothing of this upload")
    page.button("Start anew").click()
    assert stage.has(page.expect_done(), file)


def test_a_second_tab_leaves_the_first_alone(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    expect(page.card).to_contain_text("1 of 3 parts")
    second = UploadPage(page.page.context.new_page())
    second.open(stage.service.url, stage.service.key)
    second.choose(file)
    second.expect_phase("failed")
    expect(second.card.get_by_role("alert")).to_contain_text("Another tab")
    held.let_go()
    assert stage.has(page.expect_done(), file)


# --- what goes wrong on the way


def test_a_key_revoked_half_way_is_asked_for_and_it_goes_on(page: UploadPage, stage: Stage, video: Path) -> None:
    key = stage.service.new_key("local")
    page.page.get_by_label("API key").fill(key)
    held = Held(page, stage, after=1)
    page.choose(video)
    expect(page.card).to_contain_text(re.compile("1 of .. parts"))
    stage.service.revoke(key)
    held.let_go()
    page.expect_phase("key", within=SENT)
    field = page.page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(page.page.locator("#key-error")).to_contain_text("revoked")
    field.fill(stage.service.key)
    field.press("Enter")
    url = page.expect_done()
    assert set(stage.attempts(url).values()) == {1}, "what was under way when the key was revoked was thrown away"
    assert stage.has(url, video)
    quiet(page, lost=True)


def test_a_complete_whose_answer_is_lost_is_asked_after(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    def lose(route: Route) -> None:
        assert route.fetch().status == 200
        route.abort()

    file = clip(tmp_path)
    page.page.route("**/v1/media/multipart/complete", lose)
    page.choose(file)
    assert stage.has(page.expect_done(), file)
    assert len(page.calls("POST", "/v1/media/multipart")) == 1
    assert len(page.calls("POST", "/complete")) == 1
    quiet(page, lost=True)


@pytest.mark.parametrize(("status", "signed_again"), [(503, False), (403, True)])
def test_a_part_that_the_store_refuses_once(
    page: UploadPage, stage: Stage, tmp_path: Path, status: int, signed_again: bool
) -> None:
    refused = []

    def refuse_once(route: Route) -> None:
        if route.request.method == "PUT" and "partNumber=2" in route.request.url and not refused:
            refused.append(route.request.url)
            route.fulfill(status=status, headers={"Access-Control-Allow-Origin": "*"}, body="<Error/>")
        else:
            route.continue_()

    file = clip(tmp_path)
    page.page.route(stage.proxy.url + "/**", refuse_once)
    page.choose(file)
    assert stage.has(page.expect_done(), file)
    assert refused
    asked = [number for call in page.calls("POST", "/parts") for number in numbers(call.post_data_json)]
    assert asked.count(2) == 1 + signed_again
    quiet(page, lost=True)


@pytest.mark.parametrize(
    ("minutes", "signed_again"),
    [pytest.param(1, False, id="a minute"), pytest.param(59.5, True, id="nearly an hour, which URLs live")],
)
def test_a_part_that_stalls_is_sent_again(
    page: UploadPage, stage: Stage, tmp_path: Path, minutes: float, signed_again: bool
) -> None:
    page.page.clock.install()
    page.open(stage.service.url, stage.service.key)
    file = clip(tmp_path)
    sent: list[Route] = []

    def hold_the_first_three(route: Route) -> None:
        sent.append(route)
        if len(sent) > 3:
            route.continue_()

    page.page.route(stage.proxy.url + "/**", hold_the_first_three)
    with page.page.expect_request(lambda _: len(page.calls("PUT", "")) == 3):
        page.choose(file)
    page.page.clock.fast_forward(round(minutes * 60_000))
    assert stage.has(page.expect_done(), file)
    assert len(sent) == 6
    asked = [number for call in page.calls("POST", "/parts") for number in numbers(call.post_data_json)]
    assert sorted(asked) == sorted([1, 2, 3] * (1 + signed_again))


def numbers(body: object) -> list[int]:
    assert isinstance(body, dict)
    return [part["partNumber"] for part in body["parts"]]


def test_without_a_network_it_waits_and_goes_on_by_itself(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    expect(page.card).to_contain_text("1 of 3 parts")
    page.page.context.set_offline(True)
    held.let_go()
    expect(page.card).to_contain_text("No connection")
    page.page.context.set_offline(False)
    assert stage.has(page.expect_done(), file)
    quiet(page, lost=True)


def test_a_file_that_changes_under_way_is_noticed(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    expect(page.card).to_contain_text("1 of 3 parts")
    with file.open("ab") as out:
        out.write(b"more")
    page.button("Pause").click()
    held.drop()
    page.button("Continue").click()
    page.expect_phase("failed")
    expect(page.card.get_by_role("alert")).to_contain_text("changed")
    expect(page.button("Choose the file again")).to_be_visible()


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


@pytest.mark.parametrize("width", [320, 375, 1440])
def test_everything_is_labelled_large_enough_and_fits(
    page: UploadPage, stage: Stage, tmp_path: Path, width: int
) -> None:
    Held(page, stage, after=1)
    page.page.set_viewport_size({"width": width, "height": 800})
    page.choose(clip(tmp_path, 3 * PART, "a_very_long_name_that_has_no_spaces_in_it_at_all_and_goes_on.mp4"))
    expect(page.card).to_contain_text("1 of 3 parts")
    assert page.page.evaluate(LABELS) == []
    assert page.page.evaluate(SMALL) == []
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.page.get_by_role("progressbar", name=re.compile("a_very_long_name"))).to_be_visible()
    expect(page.page.get_by_role("status")).to_have_text(re.compile("Uploading"))


def test_over_plain_http_it_says_why_it_can_not(profile: Profile, stage: Stage) -> None:
    """What a browser offers there is like this: no `crypto.subtle`."""
    with profile.page() as page:
        page.page.add_init_script("delete Crypto.prototype.subtle")
        page.page.goto(stage.service.url)
        expect(page.page.locator("#unfit")).to_contain_text("https")
        quiet(page)

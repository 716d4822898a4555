"""The browser is closed or killed and opened again: the upload resumes, or says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.tools.browser import SENT, Profile, UploadPage
from tests.tools.page import MP4, PART, Held, Stage, clip, quiet

pytestmark = pytest.mark.slow


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
            expect(page.banner).to_contain_text("The store does not respond", timeout=SENT)
    stage.proxy.restore()
    before = stage.newest()
    recorded = {number for number, traffic in before.items() if traffic.acknowledged}
    assert parts // 2 <= len(recorded) < parts

    with profile.page() as page:
        page.open(stage.service.url)
        assert page.page.get_by_label("API key").input_value() == ""  # the tab's, and gone with it
        expect(page.page.locator(".row")).to_have_count(0)  # nobody knows yet whose it is
        page.page.get_by_label("API key").fill(stage.service.key)
        page.expect_state("remembered")
        expect(page.row).to_contain_text("Choose or drop the same file")
        page.choose(video)
        url = page.expect_done()
        quiet(page)
    after = stage.attempts(url)
    assert set(after) == set(range(1, parts + 1))
    again = {number for number in after if number not in before or after[number] > before[number].attempts}
    assert not again & recorded, "a part that the store had acknowledged was sent again"
    assert stage.has(url, video)


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
        page.expect_stored(PART)
    before = {number: traffic.attempts for number, traffic in stage.newest().items() if traffic.acknowledged}
    assert len(before) == 1
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        page.expect_state("remembered")
        page.button("Continue").click()
        url = page.expect_done()
        quiet(page)
    assert {number: stage.attempts(url)[number] for number in before} == before


def test_another_file_of_that_name_is_told_apart(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=1)
        page.choose(clip(tmp_path))
        page.expect_stored(PART)
    other = clip(tmp_path, PART + 17)
    with profile.page() as page:
        page.page.add_init_script("delete window.showOpenFilePicker")
        page.open(stage.service.url, stage.service.key)
        with page.page.expect_file_chooser() as chooser:
            page.button("Choose the file").click()
        chooser.value.set_files(other)
        expect(page.row).to_contain_text("That is another file")
        page.expect_state("remembered")
        page.choose(other)
        url = page.expect_done()
        expect(page.page.locator(".row").last).to_contain_text("a new upload starts")
        expect(page.page.locator('.row[data-state="remembered"]')).to_have_count(1)
    assert stage.has(url, other)


def test_a_file_of_another_date_is_compared_byte_by_byte(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    """Some phones make a new copy of a video at each choice. Here the first part has also changed."""
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=2)
        page.choose(clip(tmp_path))
        page.expect_stored(2 * PART)
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
            page.button("Choose the file").click()
        chooser.value.set_files(file)
        url = page.expect_done()
        expect(page.row).to_contain_text("date has changed")
    after = stage.attempts(url)
    assert (after[changed], after[same]) == (before[changed] + 1, before[same])
    assert stage.has(url, file)


def test_bytes_that_changed_while_the_date_did_not(profile: Profile, stage: Stage, tmp_path: Path) -> None:
    """The object is the file as it is now, and not a mixture of both versions."""
    file = clip(tmp_path)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        Held(page, stage, after=2)
        page.choose(file)
        page.expect_stored(2 * PART)
    before = {number: traffic.attempts for number, traffic in stage.newest().items() if traffic.acknowledged}
    changed, same = sorted(before)
    with file.open("r+b") as out:
        out.seek((changed - 1) * PART + 100)
        out.write(b"changed")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    with profile.page() as page:
        page.open(stage.service.url, stage.service.key)
        page.expect_state("remembered")
        page.choose(file)
        url = page.expect_done()
    after = stage.attempts(url)
    assert (after[changed], after[same]) == (before[changed] + 1, before[same])
    assert stage.has(url, file)


def test_an_upload_that_is_gone_is_said_to_be_and_begun_anew(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    with page.page.expect_response("**/v1/media/multipart") as created:
        page.choose(file)
    page.expect_stored(PART)
    page.button("Pause").click()
    page.expect_state("paused")
    held.let_go()
    handle = created.value.json()["upload"]
    assert stage.service.call("DELETE", "/v1/media/multipart", params={"upload": handle}).status_code == 204
    page.button("Continue").click()
    page.expect_state("failed")
    expect(page.remark).to_contain_text("is deleted. Upload it again")
    page.button("Start again").click()
    assert stage.has(page.expect_done(), file)


def test_a_second_tab_shows_what_the_first_does(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    page.expect_stored(PART)
    second = page.new_tab()
    second.open(stage.service.url, stage.service.key)
    expect(second.row).to_contain_text("In another tab")
    second.choose(file)
    expect(second.page.locator("#refused")).to_contain_text("being uploaded in another tab")
    expect(second.page.locator(".row")).to_have_count(1)
    held.let_go()
    url = page.expect_done()
    assert stage.has(url, file)
    assert second.expect_done() == url
    page.button("Remove").click()
    expect(second.page.locator(".row")).to_have_count(0)
    quiet(second)


def test_a_tab_goes_on_with_what_another_one_left(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """The upload began after the second tab was opened, and the first tab is closed in the midst of it."""
    second = page.new_tab()
    second.open(stage.service.url, stage.service.key)
    file = clip(tmp_path)
    held = Held(page, stage, after=1)
    page.choose(file)
    page.expect_stored(PART)
    expect(second.row).to_contain_text("In another tab")
    page.page.close()
    second.expect_state("remembered")
    held.let_go()
    before = {number: traffic.attempts for number, traffic in stage.newest().items() if traffic.acknowledged}
    assert len(before) == 1
    second.choose(file)
    url = second.expect_done()
    assert stage.has(url, file)
    assert {number: stage.attempts(url)[number] for number in before} == before

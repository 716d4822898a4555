"""What the page takes besides chosen files: folders, pasted files, links, photos of a phone; and long lists."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.tools.browser import SENT, UploadPage, window
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.node import Call
from tests.tools.page import MIB, PART, Held, Stage, clip, quiet
from tests.tools.page_states import links, photos

pytestmark = pytest.mark.slow

HANDLES = """async ([jpeg]) => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("Holiday", { create: true });
  const below = await folder.getDirectoryHandle("Lake", { create: true });
  const write = async (directory, name, bytes) => {
    const out = await (await directory.getFileHandle(name, { create: true })).createWritable();
    await out.write(new Uint8Array(bytes));
    await out.close();
  };
  await write(folder, "a.jpg", jpeg);
  await write(below, "b.jpg", jpeg);
  await write(below, ".DS_Store", [1]);
  await write(below, "notes.txt", [1]);
  await root.getDirectoryHandle("Empty", { create: true });
  const single = new File([new Uint8Array(jpeg)], "single.jpg");
  const item = (handle, file = null) => (
    { kind: "file", getAsFile: () => file, webkitGetAsEntry: () => null, getAsFileSystemHandle: async () => handle });
  const event = new DragEvent("drop", { bubbles: true, cancelable: true });
  const items = [item(folder), item(await root.getDirectoryHandle("Empty")), item(null, single)];
  Object.defineProperty(event, "dataTransfer", { value: { items } });
  document.querySelector("h1").dispatchEvent(event);
}"""


def test_folders_dropped_with_a_file(page: UploadPage) -> None:
    """The handles are real ones, of the origin's private files: a drop of a test has none."""
    page.page.evaluate(HANDLES, [list(sample("jpg"))])
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(3, timeout=SENT)
    assert sorted(page.page.locator(".name").all_inner_texts()) == ["a.jpg", "b.jpg", "single.jpg"]
    refused = page.page.locator("#refused p")
    assert "Empty was not added. This folder has no photos" in refused.nth(0).inner_text()
    assert "Holiday/Lake/notes.txt was not added. TXT isn't supported" in refused.nth(1).inner_text()
    expect(refused).to_have_count(2)
    quiet(page)


def test_a_chosen_folder(page: UploadPage, tmp_path: Path) -> None:
    (folder := tmp_path / "Holiday" / "Lake").mkdir(parents=True)
    photos(folder, 2)
    (folder / "Thumbs.db").write_bytes(b"x")
    page.page.set_input_files("#folder", tmp_path / "Holiday")
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(2, timeout=SENT)
    expect(page.page.locator("#refused p")).to_have_count(0)
    expect(page.row.locator(".name")).to_have_attribute("title", re.compile("Holiday/Lake/IMG_2041.jpg"))
    expect(page.row.locator(".folder")).to_have_text("Holiday/Lake")
    expect(page.row.locator(".thumb canvas")).to_be_visible()


PASTE = """([jpeg, text]) => {
  const clipboardData = new DataTransfer();
  if (jpeg) clipboardData.items.add(new File([new Uint8Array(jpeg)], "image.jpg", { type: "image/jpeg" }));
  if (text) clipboardData.setData("text/plain", text);
  document.querySelector("h1").dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""


def test_a_pasted_picture_and_pasted_links(page: UploadPage) -> None:
    page.page.route("**/v1/media/check", lambda route: route.fulfill(json={"usable": True, "url": "", "size": 5}))
    page.page.evaluate(PASTE, [list(sample("jpg")), None])
    page.expect_done()
    expect(page.row.locator("canvas")).to_be_visible()
    page.page.evaluate(PASTE, [None, "see https://cdn.example.com/a.jpg and\nhttps://cdn.example.com/b.mp4"])
    expect(page.page.locator('.row[data-state="usable"]')).to_have_count(2)
    quiet(page)


def test_a_link_is_checked_and_never_fetched(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    links(page, stage, tmp_path)
    expect(page.remark).to_contain_text("Download it and upload it here")
    usable = page.page.locator('.row[data-state="usable"]').get_by_role("link")
    expect(usable).to_have_attribute("href", "https://cdn.example.com/2026/launch.mp4")
    assert page.hosts() == {stage.service.url}
    field = page.page.get_by_label("Link to a photo")
    for text, told in (("nonsense", "not a web address"), ("https://cdn.example.com/2026/launch.mp4", "already")):
        field.fill(text)
        field.press("Enter")
        expect(page.page.locator("#link-error")).to_contain_text(told)


def test_a_link_that_the_service_itself_refuses(page: UploadPage) -> None:
    page.page.get_by_role("button", name="Add a link").click()
    page.page.get_by_label("Link to a photo").fill("http://127.0.0.1:1/a.jpg")
    page.page.get_by_role("button", name="Check").click()
    page.expect_state("failed")
    expect(page.remark).to_contain_text("not on the public internet")


def test_a_phone_offers_its_camera(browser: Browser, stage: Stage, tmp_path: Path) -> None:
    with window(browser, phone=True) as page:
        page.open(stage.service.url, stage.service.key)
        expect(page.page.get_by_text("Use the camera")).to_be_visible()
        expect(page.page.get_by_text("Choose a folder")).to_be_hidden()
        page.page.set_input_files("#camera", photos(tmp_path, 1))
        page.expect_done()


def test_a_thousand_photos_behind_a_film(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """What moves is on top and in sight, and so is what can be done to all; rows out of sight cost nothing."""
    page.page.set_viewport_size({"width": 1280, "height": 800})
    held = Held(page, stage)
    page.choose(clip(tmp_path, 5 * PART, "film.mp4"), *photos(tmp_path, 1000))
    expect(page.page.locator(".row")).to_have_count(1001)
    expect(page.page.locator('.row:not([data-state="waiting"])')).to_have_count(6)  # five small files beside the film
    states: list[str] = page.page.evaluate("[...document.querySelectorAll('.row')].map((row) => row.dataset.state)")
    assert "waiting" not in states[:6]
    for shown in (page.row, page.page.get_by_role("button", name="Pause all"), page.page.locator("#total-bar")):
        expect(shown).to_be_in_viewport()
    last = page.page.locator(".row").last
    assert last.evaluate("row => row.firstElementChild.checkVisibility({ contentVisibilityAuto: true })") is False
    assert last.locator("canvas").count() == 0
    page.page.mouse.wheel(0, 100_000)
    expect(last).to_be_in_viewport()
    expect(last.locator("canvas")).to_be_visible()
    expect(page.page.get_by_role("button", name="Pause all")).to_be_in_viewport()
    page.page.get_by_role("button", name="Pause all").click()
    expect(page.page.locator('.row[data-state="paused"]')).to_have_count(1001)
    held.let_go()


def test_what_is_finished_is_cleared_at_once(page: UploadPage, tmp_path: Path) -> None:
    (disguised := tmp_path / "program.mp4").write_bytes(b"MZ" + bytes(MIB))
    page.choose(*photos(tmp_path, 3), disguised)
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(3, timeout=SENT)
    expect(page.page.locator('.row[data-state="failed"]')).to_have_count(1)
    page.page.get_by_role("button", name="Clear finished").click()
    expect(page.page.locator(".row")).to_have_count(0)
    expect(page.page.locator("#files")).to_be_focused()


def reload(page: UploadPage, stage: Stage) -> None:
    page.page.once("dialog", lambda dialog: dialog.accept())
    page.open(stage.service.url)


def test_after_a_reload_one_choice_goes_on_with_all(page: UploadPage, stage: Stage, tmp_path: Path) -> None:
    """Also with those that only waited. Each file finds its upload by name and size."""
    page.page.add_init_script("delete window.showOpenFilePicker")
    held = Held(page, stage)
    files = [clip(tmp_path, 2 * PART, "film.mp4"), *photos(tmp_path, 12)]
    page.choose(*files)
    expect(page.page.locator('.row[data-state="waiting"]')).to_have_count(7)
    expect(page.page.locator('.row[data-state="waiting"] .state').first).to_have_text("Waiting")
    page.page.wait_for_function(STORED, arg=13)
    reload(page, stage)
    expect(page.page.locator('.row[data-state="remembered"]')).to_have_count(13)
    expect(page.page.locator(".row").filter(has_text="Not begun")).not_to_have_count(0)
    expect(page.page.locator("#left")).to_contain_text("13 files are not finished")
    expect(page.page.locator(".remark:visible")).to_have_count(0)  # it is said once
    for file in files:
        os.utime(file, (1_700_000_000, 1_700_000_000))  # some phones make new copies
    held.let_go()
    with page.page.expect_file_chooser() as chooser:
        page.page.get_by_role("button", name="Choose the files again").click()
    chooser.value.set_files(files)
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(13, timeout=SENT)
    expect(page.page.locator(".row")).to_have_count(13)
    expect(page.page.locator("#left")).to_be_hidden()
    page.page.wait_for_function(STORED, arg=0)


STORED = """async (count) => {
  const [database] = await indexedDB.databases();
  return database !== undefined && new Promise((resolve) => {
    const request = indexedDB.open(database.name);
    request.onsuccess = () => {
      const { result } = request;
      const asked = result.transaction("uploads").objectStore("uploads").count();
      asked.onsuccess = () => { result.close(); resolve(asked.result === count); };
    };
  });
}"""
"""Whether the browser remembers so many uploads."""


def test_after_a_reload_a_dropped_folder_is_opened_again(page: UploadPage, stage: Stage) -> None:
    held = Held(page, stage)
    page.page.evaluate(HANDLES, [list(sample("jpg"))])
    expect(page.page.locator('.row[data-state="uploading"]')).to_have_count(3)
    page.page.evaluate(
        "for (const row of [...document.querySelectorAll('.row')]) "
        "if (row.textContent.includes('single.jpg')) row.querySelector('.cancel').click()"
    )
    page.page.get_by_role("button", name="Cancel the upload").click()
    expect(page.page.locator('.row[data-state="cancelled"]')).to_have_count(1)
    reload(page, stage)
    expect(page.page.locator('.row[data-state="remembered"]')).to_have_count(2)
    expect(page.row.locator(".name")).to_have_attribute("title", re.compile("Holiday/"))
    held.let_go()
    page.page.locator("#left").get_by_role("button", name="Continue all").click()
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(2, timeout=SENT)


def test_a_finished_file_that_is_chosen_again_asks(page: UploadPage, tmp_path: Path) -> None:
    first, second = photos(tmp_path, 2)
    page.choose(first)
    page.expect_done()
    page.choose(first, second)
    asked = page.page.get_by_role("dialog", name="Upload again?")
    expect(asked).to_contain_text("IMG_2041.jpg is uploaded already")
    asked.get_by_role("button", name="Skip").click()
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(2, timeout=SENT)
    page.choose(first)
    asked.get_by_role("button", name="Upload again").click()
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(3, timeout=SENT)


def test_one_problem_of_many_is_said_once(page: UploadPage, tmp_path: Path) -> None:
    disguised = [tmp_path / f"program-{number}.mp4" for number in range(4)]
    for file in disguised:
        file.write_bytes(b"MZ" + bytes(MIB))
    page.choose(*disguised)
    expect(page.page.locator('.row[data-state="failed"]')).to_have_count(4)
    expect(page.page.locator("#problems")).to_contain_text("4 files: The content is not what the name says")
    expect(page.page.locator(".remark:visible")).to_have_count(0)
    page.button("Remove").click()
    page.button("Remove").click()
    expect(page.page.locator("#problems")).to_be_hidden()
    expect(page.page.locator(".remark:visible")).to_have_count(2)


def test_names_are_in_the_order_of_a_person(run: Call) -> None:
    source = "return m.inOrder(x.map((name) => ({ file: { name } }))).map(({ file }) => file.name);"
    names = ["photo 10.jpg", "photo 2.jpg", "photo 1.jpg"]
    assert run("client/intake", source, names) == ["photo 1.jpg", "photo 2.jpg", "photo 10.jpg"]


@each_case(
    ("accept", "name", "type_", "taken"),
    [
        ("", "a", "", True),
        ("image/*", "a.jpg", "image/jpeg", True),
        ("image/*", "a.mp4", "video/mp4", False),
        (".JPG, video/mp4", "A.jpg", "", True),
        (".jpg, video/mp4", "a", "video/mp4", True),
        ("image/png", "a.jpg", "image/jpeg", False),
    ],
)
def test_what_an_input_takes(run: Call, accept: str, name: str, type_: str, taken: bool) -> None:
    assert run("client/intake", "return m.accepts(x[0], { name: x[1], type: x[2] });", [accept, name, type_]) is taken

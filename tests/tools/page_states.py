"""The states that the upload page can be in, each set up as a person meets it: for pictures and for axe-core.

They find what they use by ids and classes, so that they work in every language of the page.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from playwright.sync_api import Route, expect

from tests.tools.browser import UploadPage
from tests.tools.page import MIB, PART, Held, Stage, clip

State = Callable[[UploadPage, Stage, Path], None]


@functools.cache
def _picture(seed: int) -> bytes:
    """A JPEG of colours of its own."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    source = f"gradients=size=640x480:seed={seed + 1}:n=4:x0=0:y0=0:x1=640:y1=480"
    made = subprocess.run([*command, source, "-frames:v", "1", "-f", "mjpeg", "-"], check=True, capture_output=True)
    return made.stdout


def photos(folder: Path, count: int) -> list[Path]:
    """Pictures of a few kilobytes."""
    files = [folder / f"IMG_{2041 + number}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(_picture(number % 8))
    return files


def _ready(page: UploadPage) -> None:
    """The key was checked, and its form is folded away."""
    page.page.locator("#key").press("Enter")
    expect(page.page.locator("#account")).to_be_visible()


def no_key(page: UploadPage, stage: Stage, folder: Path) -> None:
    page.open(stage.service.url)


def wrong_key(page: UploadPage, stage: Stage, folder: Path) -> None:
    page.open(stage.service.url, "sk_of_nobody")
    expect(page.page.locator("#key-error")).to_be_visible()


def empty(page: UploadPage, stage: Stage, folder: Path) -> None:
    page.open(stage.service.url, stage.service.key)
    _ready(page)


def uploading(page: UploadPage, stage: Stage, folder: Path) -> None:
    """A film on its way, a photo that waits for the store, and some that are done."""
    empty(page, stage, folder)
    page.choose(*photos(folder, 3))
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(3)
    Held(page, stage, after=2)
    page.choose(clip(folder, 5 * PART, "interview-take-3.mp4"))
    # Both parts that pass are this film's. A busy machine may send the second again, after one that is held.
    expect(page.row).to_have_attribute("data-stored", re.compile(f"^({PART}|{2 * PART})$"))
    page.choose(clip(folder, 4 * PART, "drone-over-the-lake.mov"))


def offline(page: UploadPage, stage: Stage, folder: Path) -> None:
    uploading(page, stage, folder)
    page.page.context.set_offline(True)
    stage.proxy.cut()  # else it notices after half a minute in which nothing moves
    expect(page.page.locator("#banner")).to_be_visible()


def stopped(page: UploadPage, stage: Stage, folder: Path) -> None:
    """Paused, refused by the service, not even tried."""
    uploading(page, stage, folder)
    page.page.locator("#pause-all").click()
    (disguised := folder / "program.mp4").write_bytes(b"MZ" + bytes(MIB))
    (heic := folder / "IMG_3000.heic").write_bytes(b"x")
    notes = [folder / f"notes-{number}.txt" for number in range(7)]
    for file in notes:
        file.write_text("x")
    page.choose(disguised, heic, *notes)
    expect(page.page.locator('.row[data-state="failed"]')).to_have_count(1)


def remembered(page: UploadPage, stage: Stage, folder: Path) -> None:
    uploading(page, stage, folder)
    page.page.once("dialog", lambda dialog: dialog.accept())
    page.open(stage.service.url)
    page.expect_state("remembered")


def unauthorized(page: UploadPage, stage: Stage, folder: Path) -> None:
    page.open(stage.service.url, "sk_of_nobody")
    page.choose(*photos(folder, 2))
    expect(page.page.locator('.row[data-state="unauthorized"]')).to_have_count(2)


def question(page: UploadPage, stage: Stage, folder: Path) -> None:
    uploading(page, stage, folder)
    page.row.locator("button.cancel").click()
    expect(page.page.get_by_role("dialog")).to_be_visible()


def done(page: UploadPage, stage: Stage, folder: Path) -> None:
    empty(page, stage, folder)
    page.choose(*photos(folder, 2), clip(folder, MIB, "concert.mp4"))
    expect(page.page.locator('.row[data-state="done"]')).to_have_count(3)


def links(page: UploadPage, stage: Stage, folder: Path) -> None:
    """One that a post can use, and one that only looks like it. Hosts on the internet are out of a test's reach."""

    def answer(route: Route) -> None:
        usable = "cdn" in route.request.post_data_json["url"]
        body: dict[str, Any] = {"usable": usable, "url": "", "size": 48_120_000 if usable else None, "error": None}
        if not usable:
            body["error"] = {"code": "sharing_link", "message": "…"}
        route.fulfill(json=body)

    empty(page, stage, folder)
    page.page.route("**/v1/media/check", answer)
    page.page.locator("#link-open").click()
    for url in ("https://cdn.example.com/2026/launch.mp4", "https://drive.google.com/file/d/1a2b3c/view"):
        page.page.locator("#link").fill(url)
        page.page.locator("#link-form button").click()
    expect(page.page.locator('.row[data-state="failed"]')).to_have_count(1)


def many(page: UploadPage, stage: Stage, folder: Path) -> None:
    """A hundred photos behind a film."""
    empty(page, stage, folder)
    Held(page, stage, after=12)
    page.choose(clip(folder, 5 * PART, "interview-take-3.mp4"), *photos(folder, 100))
    expect(page.page.locator("#total-text")).to_contain_text(re.compile("[1-9] .* 101 "))


def another_tab(page: UploadPage, stage: Stage, folder: Path) -> None:
    """The page is the second tab; the first one uploads."""
    first = page.new_tab()
    uploading(first, stage, folder)
    page.open(stage.service.url, stage.service.key)
    expect(page.page.locator(".row")).to_have_count(5)


STATES: tuple[State, ...] = (
    no_key,
    wrong_key,
    empty,
    uploading,
    offline,
    stopped,
    remembered,
    unauthorized,
    question,
    done,
    links,
    many,
    another_tab,
)

"""A Chromium, and the upload page in it as a person uses it.

Most tests need a private window of a browser that runs: to start one takes most of a CPU second. What is to outlive its
browser needs a `Profile`.

Playwright's sync API turns an event loop of its own in this thread: tests that use it are plain functions.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    FileChooser,
    Locator,
    Page,
    Playwright,
    Request,
    ViewportSize,
    expect,
)
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

CHROMIUM = os.environ.get("PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH") or shutil.which("chromium")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_VIEWPORT: ViewportSize = {"width": 1100, "height": 900}
SOON = 60_000.0
"""Milliseconds that the page may take for what needs no transfer, on a busy machine."""
SENT = 180_000.0
"""Milliseconds for some hundred megabytes."""
expect.set_options(timeout=SOON)


@dataclass
class UploadPage:
    """The page, and what it did."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings on the console, errors that nobody caught; violations of the Content-Security-Policy are
    among them."""
    requests: list[Request] = field(default_factory=list)
    after_close: list[Callable[[], object]] = field(default_factory=list)
    """Called when the browser or its window has closed. The tabs share them."""

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        # Playwright wants a place to note a wrapper at, which a bound built-in has not.
        self.page.on("request", lambda request: self.requests.append(request))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str, key: str | None = None) -> None:
        """Go there, wait until it is wired, and type the key in."""
        self.page.goto(url)
        expect(self.page.locator("html[data-ready]")).to_be_attached(timeout=SOON)
        if key is not None:
            if self.page.evaluate("sessionStorage.getItem('bigupload key')"):  # the tab has one already
                self.page.locator("#key-change").click()
            self.page.locator("#key").fill(key)

    def new_tab(self) -> UploadPage:
        """Another tab of the same browser."""
        return UploadPage(self.page.context.new_page(), after_close=self.after_close)

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#files", list(files))

    def chooser(self, act: Callable[[], object]) -> FileChooser:
        """Return the dialogue that an act opens.

        Chromium opens none if more than five seconds are between a key's down and its up, as on a very busy machine:
        https://html.spec.whatwg.org/multipage/interaction.html#transient-activation-duration
        Then it says so on the console, and the act is repeated. If it does not say so, no dialogue is a failure.
        """
        for _ in range(5):
            with contextlib.suppress(PlaywrightTimeoutError):
                with self.page.expect_file_chooser() as opened:
                    self.page.evaluate("0")  # once this returns, the browser hands its dialogues to Playwright
                    act()
                return opened.value
            others = [text for text in self.complaints if "user activation" not in text]
            assert others != self.complaints, "no dialogue"
            self.complaints[:] = others
        raise AssertionError("no dialogue")

    @property
    def row(self) -> Locator:
        """The first upload of the list: what moves is above what waits, and that above what is done."""
        return self.page.locator(".row").first

    @property
    def banner(self) -> Locator:
        """What concerns all uploads."""
        return self.page.locator("#banner")

    @property
    def remark(self) -> Locator:
        """The sentence below the first upload."""
        return self.row.locator(".remark")

    def button(self, name: str) -> Locator:
        """Of the first upload, by what it begins with."""
        return self.row.get_by_role("button", name=re.compile(f"^{name}"))

    def expect_state(self, state: str, *, within: float = SOON) -> None:
        expect(self.row).to_have_attribute("data-state", state, timeout=within)

    def expect_stored(self, count: int) -> None:
        """The store has so many bytes of the first upload, and the page knows."""
        expect(self.row).to_have_attribute("data-stored", str(count), timeout=SOON)

    def expect_done(self) -> str:
        """The public URL of the first upload that is done."""
        done = self.page.locator('.row[data-state="done"]').first
        expect(done).to_be_visible(timeout=SENT)
        url = done.get_by_role("link").get_attribute("href")
        assert url
        return url

    def hosts(self) -> set[str]:
        """All that were asked for anything over the network."""
        found = (urlsplit(request.url) for request in self.requests)
        return {f"{url.scheme}://{url.netloc}" for url in found if url.scheme not in ("data", "blob")}

    def calls(self, method: str, ends: str) -> list[Request]:
        """Requests by method and the end of the path."""
        return [r for r in self.requests if r.method == method and urlsplit(r.url).path.endswith(ends)]


def launch(playwright: Playwright) -> Browser:
    """Start a browser for any number of private windows. Close it, or leave it as a context manager."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)


@contextlib.contextmanager
def window(browser: Browser, *, phone: bool = False, language: str = "en-US") -> Iterator[UploadPage]:
    """The first tab of a private window: it has nothing of other windows, and nothing of it is kept.

    Args:
        phone: whether it has a touch screen and no mouse.
        language: what it asks pages for.
    """
    context = browser.new_context(viewport=_VIEWPORT, has_touch=phone, is_mobile=phone, locale=language)
    with _first_tab(context) as page:
        yield page


@contextlib.contextmanager
def _first_tab(context: BrowserContext) -> Iterator[UploadPage]:
    with contextlib.ExitStack() as closing:
        try:
            context.set_default_timeout(SOON)
            page = UploadPage(context.pages[0] if context.pages else context.new_page())
            closing.callback(lambda: [each() for each in page.after_close])
            yield page
        finally:
            with contextlib.suppress(Error):  # the browser may have been killed
                context.close()


@dataclass
class Profile:
    """A directory of one person's browser. One browser at a time may run in it."""

    playwright: Playwright
    directory: Path

    @contextlib.contextmanager
    def page(self) -> Iterator[UploadPage]:
        """The first tab of a browser."""
        context = self.playwright.chromium.launch_persistent_context(
            self.directory, executable_path=CHROMIUM, args=_QUIET, viewport=_VIEWPORT, locale="en-US"
        )
        with _first_tab(context) as page:
            yield page

    def kill(self) -> None:
        """SIGKILL to the browser's main process: the one with this profile that no other browser process started."""
        wanted = f"--user-data-dir={self.directory}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                if wanted in arguments and not any(each.startswith(b"--type=") for each in arguments):
                    found.append(int(process.name))
        assert found, "no browser runs with this profile"
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

"""Pictures of the upload page and of `<big-upload>`. `python -m tests.tools.page_pictures` renews the one of the
documentation; `python -m tests.tools.page_pictures FOLDER` writes all states, at two widths, light and dark."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Playwright, sync_playwright

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools import element_states, page_states
from tests.tools.app_site import App, app_site
from tests.tools.browser import UploadPage, launch, window
from tests.tools.page import Stage
from tests.tools.service import serving

DOCUMENTED = Path(__file__).parents[2] / "docs" / "images" / "page.png"
_SIZES = {1280: 800, 390: 844}
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SetUp = Callable[[UploadPage, Path], None]


def picture(
    playwright: Playwright,
    set_up: SetUp,
    target: Path,
    *,
    scheme: Literal["light", "dark"] = "light",
    width: int = 1280,
    height: int = 800,
    language: str = "en",
    direction: str = "ltr",
    whole: bool = True,
) -> None:
    """Set up a state in a browser of its own, and write what is to be seen of it; `whole`: also what a window hides."""
    with (
        tempfile.TemporaryDirectory() as folder,
        launch(playwright) as browser,
        window(browser, phone=width < 600, language=language) as page,
    ):
        page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.page.set_viewport_size({"width": width, "height": height})
        set_up(page, Path(folder))
        page.page.evaluate("direction => { document.documentElement.dir = direction }", direction)
        _settle(page)
        page.page.screenshot(path=target, full_page=whole)


def _settle(page: UploadPage) -> None:
    """Thumbnails are there, and the rate of a transfer that stands still is gone."""
    page.page.bring_to_front()
    page.page.wait_for_timeout(500)


def main() -> None:
    """Start a store, a service and a browser, and write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.page_pictures", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where to write all states")
    parser.add_argument("states", nargs="*", help="only these, as page-done or element-done")
    parser.add_argument("--language", choices=("en", "de", "fr"), default="en")
    parser.add_argument("--direction", choices=("ltr", "rtl"), default="ltr")
    parser.add_argument("--scheme", choices=_SCHEMES, help="only this one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        try:
            weed = local_store.start(Path(home, "store"))
            if arguments.folder is None:
                _documented(weed, Path(home), playwright)
            else:
                arguments.folder.mkdir(parents=True, exist_ok=True)
                _all(weed, Path(home), playwright, arguments)
        finally:
            local_store.stop(Path(home, "store"))


def _documented(weed: LocalStore, home: Path, playwright: Playwright) -> None:
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as proxy:
        options = ("--client-endpoint-url", proxy.url, "--requests", "10000", "--sweep-every", "0")
        with serving(weed, home / "service", *options) as service:
            stage = Stage(service, proxy)
            set_up = partial(_of_page, page_states.uploading, stage)
            picture(playwright, set_up, DOCUMENTED, width=900, height=640, whole=False)


def _of_page(state: page_states.State, stage: Stage, page: UploadPage, folder: Path) -> None:
    state(page, stage, folder)


def _of_element(
    state: element_states.State, app: App, language: str, direction: str, page: UploadPage, folder: Path
) -> None:
    element_states.serve(app, language, direction)
    state(page, app, folder)


def _all(weed: LocalStore, home: Path, playwright: Playwright, arguments: argparse.Namespace) -> None:
    language, direction = arguments.language, arguments.direction
    with app_site(weed, home / "service") as app:
        states: dict[str, SetUp] = {}
        for of_page in page_states.STATES:
            states[f"page-{of_page.__name__}"] = partial(_of_page, of_page, app.stage)
        for of_element in element_states.STATES:
            states[f"element-{of_element.__name__}"] = partial(_of_element, of_element, app, language, direction)
        schemes = (arguments.scheme,) if arguments.scheme else _SCHEMES
        for name, width, scheme in itertools.product(arguments.states or states, _SIZES, schemes):
            target = arguments.folder / f"{name}-{language}-{direction}-{width}-{scheme}.png"
            look: dict[str, str] = {"language": language, "direction": direction}
            picture(playwright, states[name], target, scheme=scheme, width=width, height=_SIZES[width], **look)
            print(target, flush=True)


if __name__ == "__main__":
    main()

"""Pictures of the upload page. `python -m tests.tools.page_pictures` renews the one of the documentation;
`python -m tests.tools.page_pictures FOLDER` writes all states, at two widths, light and dark."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Playwright, sync_playwright

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.browser import Profile, UploadPage
from tests.tools.page import Stage
from tests.tools.page_states import STATES, State, uploading
from tests.tools.service import serving

DOCUMENTED = Path(__file__).parents[2] / "docs" / "images" / "page.png"
_SIZES = {1280: 800, 390: 844}


def picture(
    playwright: Playwright,
    stage: Stage,
    state: State,
    target: Path,
    *,
    scheme: Literal["light", "dark"] = "light",
    width: int = 1280,
    height: int = 800,
) -> None:
    """Set up a state in a browser of its own, and write what a window shows of it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Profile(playwright, Path(folder, "profile"), phone=width < 600).page() as page,
    ):
        page.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.page.set_viewport_size({"width": width, "height": height})
        state(page, stage, Path(folder))
        _settle(page)
        page.page.screenshot(path=target)


def _settle(page: UploadPage) -> None:
    """Thumbnails are there, and the rate of a transfer that stands still is gone."""
    page.page.bring_to_front()
    page.page.wait_for_timeout(500)


def main() -> None:
    """Start a store, a service and a browser, and write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.page_pictures", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where to write all states")
    parser.add_argument("states", nargs="*", help="only these")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        try:
            _make(local_store.start(Path(home, "store")), Path(home, "service"), arguments.folder, arguments.states)
        finally:
            local_store.stop(Path(home, "store"))


def _make(weed: LocalStore, home: Path, folder: Path | None, states: list[str]) -> None:
    port = urlsplit(weed.endpoint_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port) as proxy, sync_playwright() as playwright:
        options = ("--client-endpoint-url", proxy.url, "--requests", "10000", "--sweep-every", "0")
        with serving(weed, home, *options) as service:
            stage = Stage(service, proxy)
            if folder is None:
                picture(playwright, stage, uploading, DOCUMENTED, width=900, height=640)
            else:
                _all(playwright, stage, folder, states)


def _all(playwright: Playwright, stage: Stage, folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for state in STATES:
        for width, height in _SIZES.items():
            for scheme in schemes:
                if names and state.__name__ not in names:
                    continue
                target = folder / f"{state.__name__}-{width}-{scheme}.png"
                picture(playwright, stage, state, target, scheme=scheme, width=width, height=height)
                print(target)


if __name__ == "__main__":
    main()

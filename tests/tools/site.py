"""The site, built and served. `python -m tests.tools.site FOLDER [PAGE…]` writes pictures of its pages."""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.tools.browser import launch, window

ROOT = Path(__file__).parents[2]
WIDTHS = {1280: 800, 390: 844}
"""Of a window, and its height: of a laptop and of a phone."""


def build(folder: Path) -> None:
    """Build the site into `folder`. A warning, as for a dead link, is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(folder)]
    built = subprocess.run(
        [*command, "-f", str(ROOT / "docs" / "site" / "mkdocs.yml")],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr


def pages(folder: Path) -> list[str]:
    """Return the paths of the pages of a site."""
    found = (page.parent.relative_to(folder).as_posix() for page in folder.rglob("index.html"))
    return sorted("" if path == "." else f"{path}/" for path in found)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a site on 127.0.0.1. Yields its URL, with the last slash."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


def main() -> None:
    """Write a picture of each page, or of those that are named, at both widths, light and dark."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.site", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    parser.add_argument("pages", nargs="*", help="only these, like how-to/film/")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        site = Path(home, "site")
        build(site)
        for width, height in WIDTHS.items():
            with served(site) as url, launch(playwright) as browser, window(browser, phone=width < 600) as tab:
                tab.page.emulate_media(color_scheme=arguments.scheme, reduced_motion="reduce")
                tab.page.set_viewport_size({"width": width, "height": height})
                for page in arguments.pages or pages(site):
                    tab.page.goto(url + page)
                    name = f"{page.replace('/', '-') or 'index-'}{width}-{arguments.scheme}.png"
                    tab.page.screenshot(path=arguments.folder / name, full_page=True)
                    print(arguments.folder / name)


if __name__ == "__main__":
    main()

"""https://github.com/dequelabs/axe-core finds nothing in any state of the page, at two widths, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools import npm
from tests.tools.browser import Profile, UploadPage
from tests.tools.directories import session_directory
from tests.tools.page import Stage
from tests.tools.page_states import STATES, State

pytestmark = pytest.mark.slow

VERSION = "4.14.1"
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
FOUND = """async () => {
  const { violations, passes } = await axe.run();
  if (passes.length < 15) throw new Error(`only ${passes.length} rules had anything to look at`);
  return violations.map(({ id, help, nodes }) => [id, help, ...nodes.map(({ html }) => html)]);
}"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The library's source."""
    with session_directory(tmp_path_factory, "axe") as folder:
        npm.install_package(f"axe-core@{VERSION}", folder=folder)
        yield folder.joinpath("node_modules", "axe-core", "axe.min.js").read_text()


def found(page: UploadPage, axe: str) -> Any:
    page.page.evaluate(axe)  # the page's policy allows no script of others in the document
    return page.page.evaluate(FOUND)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_nothing(profile: Profile, stage: Stage, tmp_path: Path, axe: str, state: State) -> None:
    with profile.page() as page:
        page.page.emulate_media(reduced_motion="reduce")
        state(page, stage, tmp_path)
        for width, scheme in LOOKS:
            page.page.set_viewport_size({"width": width, "height": 800})
            page.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert found(page, axe) == [], (width, scheme)

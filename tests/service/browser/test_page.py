"""The page in a browser, in the fast suite: one upload. The files that import Playwright are slow as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.tools.page import Stage, clip, quiet

if TYPE_CHECKING:
    from tests.tools.browser import UploadPage


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

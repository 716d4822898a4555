"""What the page asks for in a browser: an upload reaches the service and the store, and nobody else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.tools.browser import UploadPage
from tests.tools.page import Stage, clip, quiet

pytestmark = pytest.mark.slow


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

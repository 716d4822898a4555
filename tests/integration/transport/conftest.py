"""Every way that the bytes of a part can go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.http import part_body
from tests.integration.transport.support import Bench, bench
from tests.tools.other_systems import OtherOs

PATHS = ["http", "http-uncached", "http-copied", "https"]
"""Ways that the bytes go: by sendfile in the event loop, by sendfile in a thread, through the reused buffer in the
clear, through a thread's buffer into TLS."""


@pytest.fixture(params=PATHS)
def any_path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    if request.param == "http-uncached":
        monkeypatch.setattr(part_body, "is_cached", lambda *_: False, raising=False)
    if request.param == "http-copied":
        monkeypatch.setattr(part_body, "os", OtherOs("sendfile"))
    with bench(tmp_path, tls=request.param == "https") as made:
        yield made

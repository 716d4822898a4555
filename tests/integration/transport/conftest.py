"""Every way that the bytes of a part can go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.http import kernel_tls, part_body
from tests.integration.transport.support import WITHOUT_KERNEL_TLS, Bench, bench
from tests.tools.other_systems import OtherOs

PATHS = ["http", "http-uncached", "http-copied", "https", "https-by-kernel"]
"""Ways that the bytes go: by sendfile in the event loop, by sendfile in a thread, through the reused buffer in the
clear, through a thread's buffer into TLS, by sendfile in a thread and encrypted by the kernel."""


@pytest.fixture(params=PATHS)
def any_path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    if request.param == "http-uncached":
        monkeypatch.setattr(part_body, "is_cached", lambda *_: False, raising=False)
    if request.param == "http-copied":
        monkeypatch.setattr(part_body, "os", OtherOs("sendfile"))
    if request.param == "https":
        monkeypatch.setattr(kernel_tls, "is_offered", lambda: False)
    if request.param == "https-by-kernel" and not kernel_tls.is_offered():
        pytest.skip(WITHOUT_KERNEL_TLS)
    with bench(tmp_path, tls=request.param.startswith("https")) as made:
        yield made

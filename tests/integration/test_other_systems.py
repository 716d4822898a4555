"""Whole uploads where the system has none of what Windows lacks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from typing import Any

import filelock
import pytest

from bigupload.http import part_body
from bigupload.manifests import journal
from bigupload.sources import part_pool
from bigupload.support import pages
from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import BUCKET, World, content
from tests.tools.other_systems import LoopOfWindows, OtherOs, translate_line_ends

OF_OS = (
    "sendfile", "preadv", "pread", "pwritev", "pwrite", "killpg", "geteuid", "getuid", "fchmod", "statvfs", "nice",
    "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "RWF_NOWAIT",
)  # fmt: skip
MODULES = ("fcntl", "termios", "resource")
SIZE = 300_000


class Missing:
    """Finds none of `MODULES`, and counts how often they are searched for."""

    def __init__(self) -> None:
        self.searched: Counter[str] = Counter()

    def find_spec(self, name: str, *_: object) -> None:
        if name in MODULES:
            self.searched[name] += 1
            raise ModuleNotFoundError(name=name)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Missing:
    """Take from bigupload's modules what Windows lacks. Other libraries bring what they do there."""
    assert filelock.FileLock is not filelock.SoftFileLock  # that was decided when it was imported
    translate_line_ends(monkeypatch)
    assert all(each.os is os for each in (part_body, journal, part_pool)), "they are imported"
    for name, module in list(sys.modules.items()):
        if name.startswith("bigupload.") and ".testing" not in name and vars(module).get("os") is os:
            monkeypatch.setattr(module, "os", OtherOs(*OF_OS))
        if name.startswith("bigupload.") and "_HAS_FCNTL" in vars(module):
            monkeypatch.setattr(module, "_HAS_FCNTL", False)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    missing = Missing()
    monkeypatch.setattr(sys, "meta_path", [missing, *sys.meta_path])
    monkeypatch.setattr(pages, "_NOWAIT", None)
    return missing


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["file", "stream", "file by TLS"])
def test_an_upload(world: World, s3_tls: StrictS3, windows: Missing, kind: str) -> None:
    source: Any = world.file(SIZE)
    if kind == "stream":
        source = [content(SIZE)[at : at + 1000] for at in range(0, SIZE, 1000)]
    elif kind == "file by TLS":
        world.s3 = s3_tls
    with asyncio.Runner(loop_factory=LoopOfWindows) as runner:
        runner.run(world.upload(source))
    assert world.s3.objects[BUCKET]["key"].body == content(SIZE)
    assert world.s3.count("UploadPart") > 1
    assert max(windows.searched.values(), default=0) <= 1, "each search looks into every directory"

"""What the operating system tells of a directory, by the real watchfiles."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest

from bigupload.batch.watching import file_events


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are always text")
async def test_a_name_that_is_not_utf_8_does_not_end_it(tmp_path: Path) -> None:
    """watchfiles raises, and is called again; what changed meanwhile is unknown, so that a listing is asked for."""
    told: asyncio.Queue[set[str]] = asyncio.Queue()
    failures: list[str] = []
    async with asyncio.timeout(60), file_events(str(tmp_path), told.put_nowait, failures.append):
        assert await told.get() == set(), "it has begun"
        for number in range(2):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff%d" % number)).touch()
            assert await told.get() == set(), "it has begun again"
            (tmp_path / f"plain {number}").touch()
            assert str(tmp_path / f"plain {number}") in await told.get()
    assert failures == []


async def test_no_thread_is_left_to_listen_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is then listed in turns."""
    failures: list[str] = []

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        async with file_events(str(tmp_path), lambda _: None, failures.append):
            (failure,) = failures
    assert "ulimit -u" in failure

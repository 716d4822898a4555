"""Opening a file on a file system that hangs: the event loop turns, and a cancelled caller does not wait."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.sources.file import FileSource, open_file
from tests.tools.waiting import until


class HangingOpen:
    """`os.open` waits until `release`. `closed` are the descriptors that were closed since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opening = threading.Event()
        self.opened: list[int] = []
        self.closed: list[int] = []
        self._released = threading.Event()
        real_open, real_close = os.open, os.close

        def hang(*arguments: Any, **named: Any) -> int:
            if Path(arguments[0]).name != "file":  # pytest's own, while it tells of a failure
                return real_open(*arguments, **named)
            self.opening.set()
            assert self._released.wait(10)
            self.opened.append(real_open(*arguments, **named))
            return self.opened[-1]

        def close(fd: int) -> None:
            self.closed.append(fd)
            real_close(fd)

        monkeypatch.setattr(os, "open", hang)
        monkeypatch.setattr(os, "close", close)

    async def reached(self) -> None:
        """Return once an open hangs. It can't return while the open blocks the event loop."""
        assert await asyncio.to_thread(self.opening.wait, 10)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingOpen]:
    made = HangingOpen(monkeypatch)
    yield made
    made.release()


async def test_the_event_loop_turns_while_a_file_is_opened(tmp_path: Path, hanging: HangingOpen) -> None:
    (tmp_path / "file").write_bytes(b"data")
    opening = asyncio.create_task(open_file(tmp_path / "file"))
    await hanging.reached()
    assert not opening.done()
    hanging.release()
    with await opening as source:
        assert source.fingerprint.size == 4


async def test_a_cancel_does_not_wait_and_leaves_nothing_open(tmp_path: Path, hanging: HangingOpen) -> None:
    (tmp_path / "file").write_bytes(b"data")
    opening = asyncio.create_task(open_file(tmp_path / "file"))
    await hanging.reached()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    hanging.release()
    await until(lambda: hanging.opened != [] and hanging.closed == hanging.opened)


async def test_a_file_that_was_opened_when_the_caller_is_cancelled_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has done its work, and the event loop has not yet heard of it."""
    (tmp_path / "file").write_bytes(b"data")
    opened: list[FileSource] = []
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe

    def before_the_result(*arguments: Any, **named: Any) -> Any:
        real(opening.cancel)
        return real(*arguments, **named)

    def noted(self: FileSource, *arguments: Any) -> None:
        opened.append(self)
        init(self, *arguments)

    init = FileSource.__init__
    monkeypatch.setattr(FileSource, "__init__", noted)
    monkeypatch.setattr(loop, "call_soon_threadsafe", before_the_result)
    opening = asyncio.create_task(open_file(tmp_path / "file"))
    with pytest.raises(asyncio.CancelledError):
        await opening
    (source,) = opened
    with pytest.raises(errors.SourceUnreadable, match="closed"):
        source.read_into(memoryview(bytearray(1)), 0)


async def test_what_can_not_be_opened_is_raised(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceNotFound):
        await open_file(tmp_path / "none")

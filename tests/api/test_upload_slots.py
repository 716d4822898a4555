"""Which uploads are open at once, and that the others hold nothing meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.api import sources
from bigupload.api.upload_slots import SMALL, UNKNOWN, UploadSlots
from tests.tools.waiting import until

GB = 10**9


class Crowd:
    """Uploads by name that end when the test says so; `open` are those that have a slot, in the order of that."""

    def __init__(self, slots: UploadSlots) -> None:
        self.slots = slots
        self.open: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def add(self, name: str, size: int | Callable[[], int], priority: int = 0) -> None:
        end = self._ends[name] = asyncio.Event()
        before = len(self.open) + self.waiting()

        def find_size() -> int:
            return size() if callable(size) else size

        async def work() -> None:
            async with self.slots.slot(name, find_size, priority):
                self.open.append(name)
                await end.wait()
                self.open.remove(name)

        self.tasks[name] = asyncio.create_task(work())
        await until(lambda: len(self.open) + self.waiting() != before)

    def waiting(self) -> int:
        return sum(len(queue._waiters) for each in (self.slots._all, self.slots._for_big) for queue in each._waiting)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await self.settle()


async def test_the_smallest_of_those_that_wait_is_next(caplog: pytest.LogCaptureFixture) -> None:
    crowd = Crowd(UploadSlots(1))
    caplog.set_level(logging.INFO, "bigupload")
    await crowd.add("first", 5 * GB)
    assert not caplog.records
    for name, size in {"big": 5 * GB, "small": 100, "medium": 20 * SMALL}.items():
        await crowd.add(name, size)
    await crowd.add("urgent", 9 * GB, 1)
    order = []
    for _ in range(5):
        order += crowd.open
        await crowd.end(crowd.open[0])
    assert order == ["first", "urgent", "small", "medium", "big"]
    assert [record.message for record in caplog.records] == [
        f"{name}: waits until another upload ends" for name in ("big", "small", "medium", "urgent")
    ]


async def test_big_ones_leave_slots_for_small_and_urgent_ones() -> None:
    """They may take hours."""
    crowd = Crowd(UploadSlots(8))
    for number in range(8):
        await crowd.add(f"big {number}", SMALL + 1)
    assert len(crowd.open) == 6
    await crowd.add("urgent", GB, 1)
    await crowd.add("small", SMALL)
    await crowd.add("late", SMALL)
    assert crowd.open[6:] == ["urgent", "small"]
    await crowd.end("small")
    assert crowd.open[6:] == ["urgent", "late"]
    await crowd.end("big 0")
    assert crowd.open[-1] == "big 6"
    for name in [*crowd.open, "big 7"]:
        await crowd.end(name)


async def test_small_ones_may_take_all_slots() -> None:
    crowd = Crowd(UploadSlots(4))
    for number in range(6):
        await crowd.add(str(number), 1)
    assert crowd.open == ["0", "1", "2", "3"]
    for number in range(6):
        await crowd.end(str(number))


async def test_one_that_is_cancelled_or_fails_gives_its_slot_back() -> None:
    crowd = Crowd(UploadSlots(1))
    for name in ("runs", "waits", "last"):
        await crowd.add(name, GB)
    for name in ("waits", "runs"):
        crowd.tasks[name].cancel()
        await crowd.settle()
    assert crowd.open == ["runs", "last"]  # which was cancelled at its work's await
    await crowd.end("last")

    with pytest.raises(errors.StoreRefused):
        async with crowd.slots.slot("fails", lambda: GB, 0):
            raise errors.StoreRefused("no")
    await crowd.add("next", GB)
    assert "next" in crowd.open
    await crowd.end("next")


@pytest.mark.parametrize("error", [FileNotFoundError(2, "x"), ValueError("a NUL"), errors.ManifestNotFound("x")])
async def test_what_has_no_size_because_it_fails_does_not_wait_to_fail(error: Exception) -> None:
    crowd = Crowd(UploadSlots(1))
    await crowd.add("runs", GB)

    def fail() -> int:
        raise error

    await crowd.add("fails", fail)
    assert crowd.open == ["runs", "fails"]
    await crowd.end("fails")
    await crowd.end("runs")


async def test_a_file_system_that_hangs_holds_up_nobody() -> None:
    crowd = Crowd(UploadSlots(2, look_for=0.01))
    before = threading.active_count()
    release = threading.Event()

    def hang() -> int:
        release.wait()
        return 1

    try:
        for _ in range(20):
            async with crowd.slots.slot("hangs", hang, 0):
                pass
        async with crowd.slots.slot("another", lambda: 1, 0):
            pass
        assert threading.active_count() <= before + 8
    finally:
        release.set()


async def test_a_size_is_waited_for_while_others_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands that begin at once take longer than a second, although no file system hangs."""
    slots = UploadSlots(1)
    release = threading.Event()
    waits = 0

    async def wait(futures: Any, *, timeout: float) -> None:
        nonlocal waits
        waits += 1
        if waits < 10:
            slots._looked += 1

    monkeypatch.setattr("bigupload.api.upload_slots.asyncio.wait", wait)
    try:
        assert await slots.find(lambda: release.wait() or 1) == UNKNOWN
        assert waits == 10
    finally:
        release.set()


def test_sizes(tmp_path: Path) -> None:
    import io

    path = tmp_path / "file"
    path.write_bytes(b"1234")
    with path.open("rb") as opened:
        given: list[Any] = [path, str(path), b"1234", bytearray(4), memoryview(b"1234"), io.BytesIO(b"1234"), opened]
        assert [sources.size_of(each) for each in given] == [4] * 7

    class NoFile:
        def read(self, size: int = -1) -> bytes:
            return b""

    class Strange(NoFile):
        def fileno(self) -> str:
            return "no number"

    unknown: list[Any] = [NoFile(), Strange(), 7, None]
    assert [sources.size_of(each) for each in unknown] == [UNKNOWN] * 4
    with pytest.raises(FileNotFoundError):
        sources.size_of(tmp_path / "none")

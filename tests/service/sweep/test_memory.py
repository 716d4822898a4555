"""What sweeps remember: each version is looked at once, an interrupted sweep continues, and it is only a cache."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.call import AccessLog
from bigupload.service.http import serving
from bigupload.service.uploads.sweep import RULES, Sweep, SweepLock, SweepMemory, SweepReport, mark_of
from tests.service.sweep.support import EXE, Clock, keys, made, put
from tests.tools.buckets import Meddled, Next
from tests.tools.waiting import until

MANY = 200_500


@pytest.mark.slow
def test_a_memory_of_more_objects_than_fit_in_one_statement(tmp_path: Path) -> None:
    """And than the 200,000 that a sweep once remembered."""
    memory = SweepMemory(tmp_path / "state" / "sweep.sqlite3")
    marks = [mark_of("key", str(number)) for number in range(MANY)]
    assert memory.known(marks) == set()
    memory.page_done("a", marks)
    memory.all_done()
    memory.close()
    again = SweepMemory(tmp_path / "state" / "sweep.sqlite3")
    assert again.known([*marks, mark_of("another")]) == set(marks)
    again.page_done("b", marks[:10])
    again.all_done()  # what this sweep did not meet is gone, and is forgotten
    assert again.known(marks) == set(marks[:10])
    again.close()
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state" / "sweep.sqlite3").stat().st_mode & 0o077 == 0


def test_what_was_found_under_other_rules_is_forgotten(tmp_path: Path) -> None:
    for rules, known in (("old", set()), ("old", {1, 2}), (RULES, set()), (RULES, {1, 2}), ("old", set())):
        memory = SweepMemory(tmp_path / "sweep.sqlite3", rules=rules)
        assert memory.known([1, 2, 3]) == known
        assert memory.position() == ("a" if known else "")
        memory.page_done("a", [1, 2])
        memory.close()


def test_a_file_that_names_no_rules_is_forgotten(tmp_path: Path) -> None:
    """As the first release wrote it."""
    memory = SweepMemory(tmp_path / "sweep.sqlite3")
    memory.page_done("a", [1])
    memory.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep.sqlite3")) as database:
        database.execute("DROP TABLE rules")
    memory = SweepMemory(tmp_path / "sweep.sqlite3")
    assert memory.known([1]) == set()
    memory.close()


def test_the_rules_are_those_of_the_release() -> None:
    """Else objects that a new release would refuse stayed for as long as an earlier sweep's word counts."""
    assert bigupload.__version__ in RULES


def test_one_process_has_the_file(tmp_path: Path) -> None:
    file = tmp_path / "state" / "sweep.sqlite3"
    one, other = SweepLock(file), SweepLock(file)
    assert one.take()
    assert not other.take()
    assert SweepLock(tmp_path / "state" / "another.sqlite3").take()
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    one.release()
    assert other.take()
    other.release()


def test_where_there_can_be_no_file_nothing_is_shared(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (None, tmp_path / "file" / "sweep.sqlite3"):
        locks = [SweepLock(path), SweepLock(path)]
        assert all(lock.take() for lock in locks)


async def test_a_sweeper_waits_for_the_one_before_it(tmp_path: Path) -> None:
    lines: list[str] = []
    log = AccessLog(write=lines.append)
    one, other = SweepLock(tmp_path / "sweep.sqlite3"), SweepLock(tmp_path / "sweep.sqlite3")
    assert one.take()
    waiting = asyncio.create_task(serving._until_alone(other, 0.0, log))
    await until(lambda: lines != [])
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    one.release()
    await asyncio.wait_for(waiting, 60)
    (line,) = lines
    assert "another process of this machine" in json.loads(line)["waits_for"]
    assert not one.take()
    other.release()


async def test_an_interrupted_sweep_continues_in_another_process(bucket: Meddled, clock: Clock, tmp_path: Path) -> None:
    names = sorted(made(f"{number}.jpg") for number in range(6))
    for name in names:
        await put(bucket, name)
    listed: list[Mapping[str, Any]] = []

    async def unreachable_after_two_pages(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        if arguments["Prefix"] == "media/":
            listed.append(arguments)
            if len(listed) == 3:
                raise Fault(FaultKind.UNREACHABLE, "nothing answers")
        return await proceed()

    bucket.meddle["ListObjectsV2"] = unreachable_after_two_pages
    file = tmp_path / "sweep.sqlite3"
    first = SweepMemory(file)
    with pytest.raises(errors.StoreUnreachable):
        await Sweep(bucket, now=clock, page_size=2, memory=first).run()
    first.close()
    assert bucket.calls.count("GetObject") == 4

    second = SweepMemory(file)
    sweep = Sweep(bucket, now=clock, page_size=2, memory=second)
    assert await sweep.run() == SweepReport(looked_at=2)
    assert listed[3]["StartAfter"] == names[3]
    assert bucket.calls.count("GetObject") == 6
    assert await sweep.run() == SweepReport(looked_at=6)  # the next one begins at the beginning
    assert bucket.calls.count("GetObject") == 6
    second.close()


async def test_a_version_that_replaced_one_that_was_media_is_looked_at(
    bucket: Meddled, clock: Clock, tmp_path: Path
) -> None:
    await put(bucket, made("a.jpg"))
    for expected in (0, 1):
        memory = SweepMemory(tmp_path / "sweep.sqlite3")
        assert (await Sweep(bucket, now=clock, memory=memory).run()).not_media == expected
        memory.close()
        await put(bucket, made("a.jpg"), EXE)


@pytest.mark.parametrize("damage", ["no database", "another layout", "a directory"])
async def test_a_file_that_is_none_costs_nothing_but_looks(
    bucket: Meddled, clock: Clock, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "sweep.sqlite3"
    if damage == "no database":
        file.write_bytes(b"no database" * 1000)
    elif damage == "a directory":
        file.mkdir()
    else:
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE judged (mark TEXT)")
        database.close()
    await put(bucket, made("a.jpg"))
    memory = SweepMemory(file)
    sweep = Sweep(bucket, now=clock, memory=memory)
    for _ in range(2):
        assert await sweep.run() == SweepReport(looked_at=1)
    assert bucket.calls.count("GetObject") == 1
    assert await keys(bucket) == {made("a.jpg")}
    memory.close()


def test_a_full_disk_costs_nothing_but_looks(small_disk: Path) -> None:
    memory = SweepMemory(small_disk / "sweep.sqlite3")
    marks = [mark_of(str(number)) for number in range(20_000)]
    memory.page_done("a", marks)  # more than the disk holds
    memory.page_done("b", marks)
    assert memory.known(marks) == set(marks)
    assert memory.position() == "b"
    memory.close()

"""What is written to a manifest's file is what is read, once it is synced."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path

import pytest

from bigupload.core.manifest import PartDropped
from bigupload.manifests.clean_up import is_finished
from bigupload.manifests.journal import FileJournal, read_manifest
from bigupload.manifests.manifest_index import manifest_of_entry
from tests.core.samples import header, lines, part
from tests.tools.other_systems import translate_line_ends
from tests.tools.waiting import until


async def test_what_is_written_is_what_is_read(path: Path, begun: FileJournal) -> None:
    assert await begun.append(part(1), part(3, 5)) is begun.manifest
    await begun.append(PartDropped(1, "why"))
    assert path.read_bytes() == lines(header(), part(1), part(3, 5), PartDropped(1, "why"))
    found = read_manifest(path)
    assert found.damage is None
    assert vars(found.manifest) == vars(begun.manifest)
    assert set(begun.manifest.parts) == {3}


async def test_going_on_in_another_process(path: Path) -> None:
    with FileJournal(path) as first:
        first.begin(header())
        await first.append(part(1))
    with FileJournal(path) as second:
        assert second.exists
        assert set(second.manifest.parts) == {1}
        await second.append(part(2))
    assert path.read_bytes() == lines(header(), part(1), part(2))


async def test_bytes_are_those_that_were_written_where_text_is_translated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows does that to files that `os.open` opened. An index entry is named by a hash."""
    index = path.parent.parent / "elsewhere" / "index"
    with monkeypatch.context() as patch:
        translate_line_ends(patch)
        with FileJournal(path, index=index) as first:
            first.begin(header())
            await first.append(part(1))
        (entry,) = index.iterdir()
        led_to, is_done = manifest_of_entry(entry), is_finished(path)
        with FileJournal(path) as second:
            assert (set(second.manifest.parts), second.warning) == ({1}, None)
    assert path.read_bytes() == lines(header(), part(1))
    assert entry.read_bytes() == os.fsencode(path) + b"\n"
    assert (led_to, is_done) == (path, False)


async def test_a_write_is_waited_for_when_the_loop_ends(begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` then cancels every task, shielded ones too. The file would be closed under the thread."""
    entered, release, fsync = threading.Event(), threading.Event(), os.fsync

    def late(fd: int) -> None:
        entered.set()
        release.wait(60)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", late)
    others = asyncio.all_tasks()
    appending = asyncio.create_task(begun.append(part(1)))
    await until(entered.is_set)
    for each in asyncio.all_tasks() - others:
        each.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    has_ended = appending.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await appending
    assert not has_ended


def test_before_the_first_record(path: Path, journal: FileJournal) -> None:
    assert not journal.exists
    assert not path.exists()
    with pytest.raises(LookupError):
        _ = journal.manifest


async def test_many_appends_share_a_few_syncs(path: Path, begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = header(size=1000, part_size=10)
    begun.set_aside()
    begun.begin(plan)
    syncs: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: syncs.append(fd) or real(fd))
    await asyncio.gather(*(begun.append(part(number)) for number in range(1, 101)))
    assert len(syncs) == 2  # the first alone, and all that came meanwhile
    assert set(begun.manifest.parts) == set(range(1, 101))
    assert set(read_manifest(path).manifest.parts) == set(range(1, 101))


async def test_a_record_counts_only_after_its_sync(begun: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    counted_at_sync: list[set[int]] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: counted_at_sync.append(set(begun.manifest.parts)) or real(fd))
    await begun.append(part(1))
    assert counted_at_sync == [set()]
    assert set(begun.manifest.parts) == {1}


async def test_a_cancelled_append_is_seen_through(path: Path, begun: FileJournal) -> None:
    task = asyncio.create_task(begun.append(part(1), part(2)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(begun.manifest.parts) == {1, 2}
    assert path.read_bytes() == lines(header(), part(1), part(2))


def test_only_the_owner_may_look(path: Path, begun: FileJournal) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(f"{path}.lock").stat().st_mode) == 0o600


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with FileJournal(tmp_path / "m") as journal:
        journal.begin(header())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


async def test_no_name_is_left_beside(path: Path, begun: FileJournal) -> None:
    await begun.append(part(1))
    begun.close()
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}

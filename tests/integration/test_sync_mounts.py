"""`sync --delete` where a file system below the directory is away: its files are out of sight, and not deleted."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bigupload import Selection, SyncStep, errors
from bigupload.api.sync import Leftovers
from bigupload.api.types import SyncOutcome
from bigupload.batch.inventory import ListedObject, MountPoints
from bigupload.manifests.job_record import known_jobs
from bigupload.manifests.state_directory import state_dir
from bigupload.testing.faults import Status
from tests.tools.mounts import mounted

from .support import World
from .syncing import counts, grow, objects, synced

ON_DISK = {f"{at}.jpg": b"1" for at in range(10)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = grow(tmp_path / "tree", {"a": b"a", "old": b"o"})
    (root / "sub" / "disk").mkdir(parents=True)
    return root


async def deleted(world: World, tree: Path, **more: Any) -> list[str]:
    """Sync with `delete`, which keeps what is below the directories that it names. Returns them."""
    told: list[SyncOutcome] = []
    before = objects(world)
    result = await synced(world, tree, delete=True, told=told, **more)
    steps = [each for each in told if isinstance(each, SyncStep)]
    away = [each.key for each in steps if each.error is not None]
    gone = {each.key for each in steps if each.error is None}
    for each in steps:
        if each.error is not None:
            assert isinstance(each.error, errors.DirectoryGone)
            assert each.error.exit_code == 75
            for text in ("nothing was deleted below it", "mount it", "`allow_empty=True`"):
                assert text in str(each.error)
    assert (result.deleted, result.failed) == (len(gone), len(away))
    assert (result.not_deleted is None) == (not away)
    assert gone.isdisjoint(key for key in before if key.startswith(tuple(away)))
    assert before.keys() - objects(world).keys() == (set() if more.get("dry_run") else gone)
    return away


@pytest.mark.parametrize("absent", [False, True])
async def test_what_was_on_it_stays_until_it_is_back(world: World, tree: Path, absent: bool) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        assert counts(await synced(world, tree)) == (12, 0, 0, 0)
    if absent:
        disk.rmdir()
    (tree / "old").unlink()
    assert counts(await synced(world, tree, delete=True, dry_run=True)) == (0, 1, 1, 1)
    for resume in (True, False):
        assert await deleted(world, tree, dry_run=True, resume=resume) == ["p/sub/disk/"]
    assert await deleted(world, tree) == ["p/sub/disk/"]
    assert "p/old" not in objects(world)
    assert counts(await synced(world, tree)) == (0, 1, 0, 0), "it is asked about deletions alone"
    assert await deleted(world, tree) == ["p/sub/disk/"]
    assert await deleted(world, tree, resume=False) == ["p/sub/disk/"]
    assert await deleted(world, tree, size_only=True) == ["p/sub/disk/"]
    disk.mkdir(exist_ok=True)
    grow(disk, {"NOT MOUNTED": b""})  # a file that some have below a mount point
    assert counts(await synced(world, tree)) == (1, 1, 0, 0)
    assert await deleted(world, tree) == ["p/sub/disk/"]
    with mounted(disk):
        grow(disk, dict(list(ON_DISK.items())[1:]))
        result = await synced(world, tree, delete=True)
        assert (result.deleted, result.failed) == (2, 0), "one of the disk, and what is below it"
    assert await deleted(world, tree) == ["p/sub/disk/"]


async def test_the_directory_itself_is_one(world: World, tree: Path) -> None:
    """A stray file below its mount point keeps it from being an empty directory."""
    root = tree / "sub" / "disk"
    with mounted(root):
        grow(root, {**ON_DISK, "in/1": b"1"})
        await synced(world, root)
    grow(root, {"stray": b""})
    assert await deleted(world, root) == ["p/"]
    with mounted(root):
        grow(root, dict(list(ON_DISK.items())[1:]))
        assert (await synced(world, root, delete=True)).failed == 0
    assert "p/1.jpg" in objects(world)


async def test_all_else_is_deleted(world: World, tree: Path) -> None:
    """Of two that are away, and names that only begin as theirs, on more than one page of objects."""
    disk, other = tree / "sub" / "disk", tree / "other"
    other.mkdir()
    beside = {"sub/disk.txt": b"", "sub/dis/k": b"", "sub/disk2/x": b"", "sub/x": b"", "othe": b"", "other.d/x": b""}
    grow(tree, beside)
    many = {f"many/{at}": b"" for at in range(1001)}
    grow(tree, many)
    with mounted(disk), mounted(other):
        grow(disk, {**ON_DISK, "in/1": b"1"})
        grow(other, {"1": b"1"})
        await synced(world, tree)
    for name in (*beside, *many, "old"):
        (tree / name).unlink()
    assert await deleted(world, tree) == ["p/other/", "p/sub/disk/"]
    on_disk = {f"p/sub/disk/{name}" for name in (*ON_DISK, "in/1")}
    assert objects(world).keys() == {"p/a", "p/other/1", *on_disk}


async def test_what_is_unmounted_between_two_pages(tree: Path) -> None:
    disk = tree / "sub" / "disk"
    listed = [ListedObject("p/sub/disk/1", 1, "e"), ListedObject("p/old2", 1, "e")]
    leftovers = Leftovers(str(tree), "p/", Selection().scope(), MountPoints(str(tree), {"sub/disk/"}))
    with mounted(disk):
        grow(disk, {"2": b""})
        assert leftovers.of(listed) == listed
    assert leftovers.of(listed) == listed[1:]
    assert [*leftovers.unmounted] == ["sub/disk/"]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_record_that_can_not_be_read(world: World, tree: Path, dry_run: bool) -> None:
    """Which file systems it had noted is not known, so that any may be away."""
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        await synced(world, tree)
    (job,) = known_jobs(state_dir())
    before = objects(world)
    job.record.write_bytes(b"x" * 1000)
    says = re.escape(f"can't read the record {job.record}: file is not a database") + ".*`allow_empty=True`"
    for _ in range(2):
        with pytest.raises(errors.ManifestCorrupt, match=says):
            await synced(world, tree, delete=True, resume=False, dry_run=dry_run)
    assert objects(world) == before
    result = await synced(world, tree, delete=True, resume=False, allow_empty=True, dry_run=dry_run)
    assert (result.deleted, result.failed) == (10, 0)


async def test_the_way_out_for_a_record_that_can_not_be_read(world: World, tree: Path) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        await synced(world, tree)
        (job,) = known_jobs(state_dir())
        job.record.write_bytes(b"x" * 1000)
        with pytest.raises(errors.ManifestCorrupt, match="`resume=False` and without `delete`"):
            await synced(world, tree, delete=True, resume=False)
        assert counts(await synced(world, tree, resume=False)) == (0, 12, 0, 0)
    assert await deleted(world, tree) == ["p/sub/disk/"]


@pytest.mark.parametrize("state", ["none", "empty"])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_without_a_record_nothing_was_mounted(world: World, tree: Path, state: str, dry_run: bool) -> None:
    """The first sync from here; an empty one is left by earlier versions on a full disk."""
    await synced(world, tree)
    (job,) = known_jobs(state_dir())
    job.record.unlink()
    if state == "empty":
        job.record.touch(mode=0o600)
    (tree / "old").unlink()
    assert counts(await synced(world, tree, delete=True, resume=False, dry_run=dry_run)) == (0, 1, 1, 0)


async def test_allow_empty_deletes_them(world: World, tree: Path) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        await synced(world, tree)
    assert await deleted(world, tree) == ["p/sub/disk/"]
    result = await synced(world, tree, delete=True, allow_empty=True)
    assert (result.deleted, result.failed, result.not_deleted) == (10, 0, None)
    grow(disk, {"1.jpg": b""})
    await synced(world, tree)
    (disk / "1.jpg").unlink()
    assert counts(await synced(world, tree, delete=True)) == (0, 2, 1, 0), "it is a directory now as any other"


async def test_files_that_are_deleted_on_a_mounted_one_are_deleted(world: World, tree: Path) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, {**ON_DISK, "empty/1": b""})
        await synced(world, tree)
        for name in (*ON_DISK, "empty/1"):
            (disk / name).unlink()
        assert counts(await synced(world, tree, delete=True)) == (0, 2, 11, 0), "a directory is there still"


async def test_an_empty_one_in_its_place(world: World, tree: Path) -> None:
    """As an empty directory at the top: it may be another disk, whose device has the number of the first one."""
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        await synced(world, tree)
        with mounted(disk):
            assert await deleted(world, tree) == ["p/sub/disk/"]
            (disk / "lost+found").mkdir()
            assert await deleted(world, tree) == ["p/sub/disk/"]
    assert (await synced(world, tree, delete=True, allow_empty=True)).deleted == 10
    grow(disk, ON_DISK)
    await synced(world, tree)
    with mounted(disk):  # over files of the file system above
        assert await deleted(world, tree) == ["p/sub/disk/"]


async def test_nested_ones(world: World, tree: Path) -> None:
    outer, inner = tree / "sub" / "disk", tree / "sub" / "disk" / "in" / "ner"
    with mounted(outer):
        inner.mkdir(parents=True)
        with mounted(inner):
            grow(inner, ON_DISK)
            await synced(world, tree)
        assert await deleted(world, tree) == ["p/sub/disk/in/ner/"]
        grow(outer, {"1": b"1"})
        assert await deleted(world, tree) == ["p/sub/disk/in/ner/"]
    assert await deleted(world, tree) == ["p/sub/disk/"], "the inner one is below it"


async def test_one_of_which_patterns_select_a_part(world: World, tree: Path) -> None:
    disk, jpg, rest = tree / "sub" / "disk", Selection(include=["*.jpg"]), Selection(exclude=["disk/"])
    with mounted(disk):
        grow(disk, {**ON_DISK, "1.log": b""})
        await synced(world, tree, selection=jpg)
        (disk / "1.jpg").unlink()
        assert counts(await synced(world, tree, delete=True, selection=jpg)) == (0, 9, 1, 0)
    assert await deleted(world, tree, selection=rest) == [], "its objects are none of this sync"
    grow(tree, {"1.jpg": b""})
    assert counts(await synced(world, tree, selection=jpg)) == (1, 0, 0, 0)
    assert await deleted(world, tree, selection=jpg) == ["p/sub/disk/"]


async def test_a_selection_that_leaves_its_files_out_does_not_forget_it(world: World, tree: Path) -> None:
    disk, jpg, raw = tree / "sub" / "disk", Selection(include=["*.jpg"]), Selection(include=["*.raw"])
    with mounted(disk):
        grow(disk, {"1.raw": b"1", "2.raw": b"2"})
        await synced(world, tree)
    grow(disk, {"stray.jpg": b""})
    grow(tree, {"x.raw": b""})
    assert await deleted(world, tree, selection=jpg) == []
    assert await deleted(world, tree, selection=raw) == ["p/sub/disk/"]


async def test_what_became_part_of_the_file_system_above(world: World, tree: Path) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        await synced(world, tree)
    grow(disk, ON_DISK)
    assert await deleted(world, tree) == []
    (disk / "1.jpg").unlink()
    assert counts(await synced(world, tree, delete=True))[2:] == (1, 0)


async def test_a_sync_that_failed_has_noted_it(world: World, tree: Path) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/a", repeat=True)
        assert counts(await synced(world, tree)) == (11, 0, 0, 1)
    world.s3.clear()
    assert await deleted(world, tree) == ["p/sub/disk/"]


async def test_a_record_of_an_earlier_version_gains_it(world: World, tree: Path) -> None:
    disk = tree / "sub" / "disk"
    with mounted(disk):
        grow(disk, ON_DISK)
        await synced(world, tree)
        (job,) = known_jobs(state_dir())
        with contextlib.closing(sqlite3.connect(job.record)) as opened:
            opened.execute("DROP TABLE mount")
            opened.commit()
        assert counts(await synced(world, tree, delete=True, dry_run=True)) == (0, 12, 0, 0)
        assert counts(await synced(world, tree)) == (0, 12, 0, 0)
        (disk / "1.jpg").unlink()
        assert counts(await synced(world, tree, delete=True)) == (0, 11, 1, 0)
    assert await deleted(world, tree) == ["p/sub/disk/"]

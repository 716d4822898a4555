"""A sync compares files while the bucket is listed, and an object counts as missing only at the end of the list."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import bigupload
from bigupload import UploadResult, errors
from bigupload.api.types import SyncOutcome
from bigupload.batch import listing
from bigupload.testing.faults import Call, Status
from bigupload.testing.strict_s3 import StrictS3

from .support import FAST, World
from .syncing import TO, asked, counts, files, grow, objects, synced

NAMES = [f"{number:02}" for number in range(12)]
LONG = 60.0


@pytest.fixture
async def tree(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All of it is in the store, which lists four objects a page. As many files are compared together."""
    world.s3.knobs.page_size = 4
    monkeypatch.setattr(listing, "_MOST", 4)
    tree = grow(tmp_path / "tree", {name: name.encode() for name in NAMES})
    assert counts(await synced(world, tree)) == (12, 0, 0, 0)
    return tree


@pytest.mark.parametrize("resume", [True, False])
async def test_files_are_compared_before_the_list_ends(world: World, tree: Path, resume: bool) -> None:
    """By the record, or by their checksums."""
    told, second_page = threading.Event(), []

    def hold(_: StrictS3) -> None:
        second_page.append(told.wait(LONG))

    outcomes: list[SyncOutcome] = []

    def on_outcome(outcome: SyncOutcome) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 4:
            told.set()

    first = len(world.s3.requests)
    world.s3.script("ListObjectsV2", Call(lambda _: None))
    world.s3.script("ListObjectsV2", Call(hold))
    result = await bigupload.sync(
        tree, to=TO, s3=world.options(), on_outcome=on_outcome, resume=resume, uploader=bigupload.Uploader(retry=FAST)
    )
    assert counts(result) == (0, 12, 0, 0)
    assert second_page == [True]
    assert asked(world, first).count("ListObjectsV2") == 3
    assert all(isinstance(each, UploadResult) and each.skipped for each in outcomes)


async def test_what_is_missing_is_sent_when_the_list_has_ended(world: World, tree: Path) -> None:
    """A new file may be one that the store lists later."""
    grow(tree, {"00a": b"new", "05": b"changed"})
    first = len(world.s3.requests)
    assert counts(await synced(world, tree)) == (2, 11, 0, 0)
    assert objects(world) == files(tree)
    requests = [each for each in world.s3.requests[first:] if each.op in ("ListObjectsV2", "PutObject")]
    new = next(number for number, each in enumerate(requests) if each.op == "PutObject" and each.key == "p/00a")
    assert [each.op for each in requests[:new]].count("ListObjectsV2") == 3


async def test_a_list_that_fails_ends_the_whole(world: World, tree: Path) -> None:
    """Not one file after another: each of them waits for it."""
    for path in tree.iterdir():
        path.unlink()
    grow(tree, {f"{name}x": b"x" for name in NAMES})
    world.s3.script("ListObjectsV2", Call(lambda _: None))
    world.s3.script("ListObjectsV2", Status(403, "AccessDenied"), repeat=True)
    told: list[SyncOutcome] = []
    with pytest.raises(errors.AccessDenied):
        await synced(world, tree, told=told, delete=True)
    assert told == []
    assert {*objects(world)} == {f"p/{name}" for name in NAMES}
    world.s3.clear()
    assert counts(await synced(world, tree, delete=True)) == (12, 0, 12, 0)

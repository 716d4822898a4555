"""`sync --delete`: what has no file is deleted, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Selection, SyncStep, UploadFailed, UploadResult, errors
from bigupload.api.many_items import is_gone
from bigupload.api.types import SyncOutcome
from bigupload.manifests.job_record import known_jobs
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.testing.faults import Status

from .support import BUCKET, FAST, World
from .syncing import FILES, TO, asked, counts, files, grow, objects, synced


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grow(tmp_path / "tree", FILES)


async def test_where_a_store_makes_slashes_of_backslashes_their_objects_stay(world: World, tree: Path) -> None:
    grow(tree, {"back\\slash": b"1"})
    await synced(world, tree)
    stored = world.s3.objects[BUCKET]
    stored["p/back/slash"] = stored["p/other/slash"] = stored.pop("p/back\\slash")
    assert counts(await synced(world, tree, delete=True)) == (1, 4, 1, 0)
    assert "p/back/slash" in stored
    assert "p/other/slash" not in stored


async def test_what_is_gone_is_deleted_and_only_that(world: World, tree: Path) -> None:
    grow(tree, {"keep.log": b"1", "large": b"22222", "logs/x.log": b"3", "was a dir/f": b"", "now a dir": b""})
    (tree / "link").symlink_to("a")
    await synced(world, tree)
    foreign = {
        "p/folder/": b"",
        "p//odd": b"",
        "p/../up": b"",
        "q/other": b"",
        "pp": b"",
        "p/link": b"",
        "p/o.log": b"",
    }
    stored = world.s3.objects[BUCKET]
    stored.update(dict.fromkeys(foreign, stored["p/a"]))
    for name in ("b.bin", "logs/x.log", "now a dir"):
        (tree / name).unlink()
    shutil.rmtree(tree / "was a dir")
    grow(tree, {"was a dir": b"", "now a dir/f": b""})
    chosen = Selection(exclude=["*.log"], max_size=4)
    told: list[SyncOutcome] = []
    dry = await synced(world, tree, delete=True, dry_run=True, selection=chosen, told=told)
    assert counts(dry) == (2, 3, 3, 0)
    steps = {(each.action, each.key, each.done) for each in told if isinstance(each, SyncStep)}
    assert steps == {
        ("upload", "p/was a dir", False), ("upload", "p/now a dir/f", False), ("delete", "p/b.bin", False),
        ("delete", "p/was a dir/f", False), ("delete", "p/now a dir", False),
    }  # fmt: skip
    before = set(stored)
    assert counts(await synced(world, tree, delete=True, selection=chosen)) == (2, 3, 3, 0)
    assert before - set(stored) == {"p/b.bin", "p/was a dir/f", "p/now a dir"}
    assert {*foreign, "p/keep.log", "p/logs/x.log", "p/large"} <= set(stored)
    assert {each.url for each in told if isinstance(each, SyncStep)} >= {f"{TO}b.bin"}


async def test_what_a_link_that_is_left_out_led_to_stays(world: World, tree: Path, tmp_path: Path) -> None:
    archive = grow(tmp_path / "archive", {"deep/x": b"1", "y": b"2"})
    (tree / "link").symlink_to(archive)
    follow = Selection(follow_symlinks=True)
    assert counts(await synced(world, tree, selection=follow)) == (6, 0, 0, 0)
    (archive / "y").unlink()
    assert counts(await synced(world, tree, delete=True)) == (0, 4, 0, 0)
    archive.rename(tmp_path / "unmounted")
    assert counts(await synced(world, tree, delete=True)) == (0, 4, 0, 0)
    (tmp_path / "unmounted").rename(archive)
    assert counts(await synced(world, tree, delete=True, selection=follow)) == (0, 5, 1, 0)
    assert {"p/link/deep/x"} == {key for key in objects(world) if "link" in key}


async def test_without_delete_nothing_is_deleted(world: World, tree: Path) -> None:
    await synced(world, tree)
    (tree / "a").unlink()
    before = len(world.s3.requests)
    assert counts(await synced(world, tree)) == (0, 3, 0, 0)
    assert asked(world, before) == ["ListObjectsV2"]
    (job,) = known_jobs(tree.parent / "state")
    assert job.files == 3, "what is gone is forgotten"


async def test_one_failure_stops_no_other_file_but_every_deletion(world: World, tree: Path) -> None:
    await synced(world, tree)
    (tree / "a").unlink()
    grow(tree, {"new": b"1", "refused": b"2"})
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/refused", repeat=True)
    told: list[SyncOutcome] = []
    result = await synced(world, tree, delete=True, told=told)
    assert (counts(result), result.not_deleted) == ((1, 3, 0, 1), "1 file failed")
    (failed,) = [each for each in told if isinstance(each, UploadFailed)]
    assert (failed.key, type(failed.error)) == ("p/refused", errors.AccessDenied)
    assert {"p/a", "p/new"} <= set(objects(world))
    assert known_jobs(tree.parent / "state")[0].status == "unfinished"
    world.s3.clear()
    assert counts(await synced(world, tree, delete=True)) == (1, 4, 1, 0)
    assert objects(world) == files(tree)


@pytest.mark.slow
async def test_what_can_not_be_listed_stops_every_deletion(world: World, tree: Path, monkeypatch: Any) -> None:
    await synced(world, tree)
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (tree / "a").unlink()
    result = await synced(world, tree, delete=True)
    assert (counts(result), result.not_deleted) == ((0, 2, 0, 1), "1 file failed")
    assert "p/a" in objects(world)


async def test_an_empty_directory_deletes_nothing_unless_told(world: World, tree: Path) -> None:
    await synced(world, tree)
    for path in tree.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(errors.UsageError, match=r"has no file\. If that is right: `allow_empty=True`"):
        await synced(world, tree, delete=True)
    with pytest.raises(errors.UsageError, match="has no file that the selection selects"):
        await synced(world, tree, selection=Selection(include=["x"]))
    with pytest.raises(errors.UsageError, match="has no file that the selection selects"):
        await synced(world, tree, selection=Selection(max_size=0))
    result = await synced(world, tree, delete=True, selection=Selection(newer_than="1d"))
    assert (counts(result), result.not_deleted) == ((0, 0, 0, 0), "no file was found")
    assert len(objects(world)) == 4
    assert counts(await synced(world, tree, delete=True, allow_empty=True)) == (0, 0, 4, 0)


def replace(tree: Path) -> None:
    tree.rename(tree.with_name("elsewhere"))
    tree.mkdir()


def vanish(tree: Path) -> None:
    tree.rename(tree.with_name("elsewhere"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("meddle", [replace, vanish])
async def test_a_directory_that_is_another_one_now_deletes_nothing(
    world: World, tree: Path, meddle: Callable[[Path], None]
) -> None:
    await synced(world, tree)
    (tree / "a").unlink()
    grow(tree, {"new": b"1"})

    def on_outcome(outcome: SyncOutcome) -> None:
        if isinstance(outcome, UploadResult) and not outcome.skipped:
            meddle(tree)

    options = world.options()
    with pytest.raises(errors.DirectoryGone, match="Nothing more was deleted"):
        await bigupload.sync(
            tree, to=TO, s3=options, delete=True, on_outcome=on_outcome, uploader=bigupload.Uploader(retry=FAST)
        )
    assert "p/a" in objects(world)


async def test_what_the_store_does_not_delete_is_a_failure(world: World, tree: Path) -> None:
    grow(tree, {"busy": b"", "locked": b"", "gone": b""})
    await synced(world, tree)
    for name in ("busy", "locked", "gone"):
        (tree / name).unlink()
    world.s3.knobs.undeletable = {"p/busy": "SlowDown", "p/locked": "AccessDenied"}
    told: list[SyncOutcome] = []
    assert counts(await synced(world, tree, delete=True, told=told)) == (0, 4, 2, 1)
    (failed,) = [each for each in told if isinstance(each, SyncStep) and not each.done]
    assert (failed.key, type(failed.error)) == ("p/locked", errors.AccessDenied)
    assert world.s3.count("DeleteObject") == 1, "what may pass is tried again"
    assert objects(world).keys() - files(tree).keys() == {"p/locked"}


async def test_a_key_that_xml_can_not_hold_is_deleted_alone(world: World, tree: Path) -> None:
    await synced(world, tree)
    stored = world.s3.objects[BUCKET]
    stored.update({"p/\x01": stored["p/a"], "p/new\nline": stored["p/a"], "p/\x85\r&": stored["p/a"]})
    assert counts(await synced(world, tree, delete=True)) == (0, 4, 3, 0)
    assert objects(world) == files(tree)


async def test_a_file_that_an_interrupted_move_set_aside_keeps_its_object(world: World, tree: Path) -> None:
    """Its name does not say which object is its own, nor whether the file is selected."""
    await synced(world, tree)
    (tree / "a").rename(tree / ".bigupload-moved-0")
    for chosen in (Selection(), Selection(include=["a", "b.bin", "sub/"]), Selection(exclude=[".*"])):
        assert counts(await synced(world, tree, delete=True, selection=chosen)) == (0, 3, 0, 1)
        assert "p/a" in objects(world)


@pytest.mark.exhaustive
@pytest.mark.parametrize("status", [Status(200), Status(501, "NotImplemented"), Status(400, "MalformedXML")])
async def test_a_store_without_delete_objects_gets_single_requests(world: World, tree: Path, status: Status) -> None:
    """Or one that says nothing of what it deleted: a connection that is cut says nothing, either."""
    await synced(world, tree)
    (tree / "a").unlink()
    world.s3.script("DeleteObjects", status, repeat=True)
    world.s3.script("DeleteObject", Status(403, "AccessDenied"), key="p/b.bin", repeat=True)
    (tree / "b.bin").unlink()
    assert counts(await synced(world, tree, delete=True)) == (0, 2, 1, 1)


@pytest.mark.parametrize("deletes_many", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_an_object_that_was_replaced_meanwhile_is_left(world: World, tree: Path, deletes_many: bool) -> None:
    grow(tree, {"replaced": b"1", "gone": b"2"})
    await synced(world, tree)
    for name in ("replaced", "gone", "a"):
        (tree / name).unlink()
    grow(tree, {"new": b"3"})
    if not deletes_many:
        world.s3.script("DeleteObjects", Status(501, "NotImplemented"), repeat=True)
    stored, told = world.s3.objects[BUCKET], []

    def on_outcome(outcome: SyncOutcome) -> None:
        told.append(outcome)
        if isinstance(outcome, UploadResult) and not outcome.skipped:
            stored["p/replaced"] = stored["p/b.bin"]
            del stored["p/gone"]

    result = await bigupload.sync(
        tree, to=TO, s3=world.options(), delete=True, on_outcome=on_outcome, uploader=bigupload.Uploader(retry=FAST)
    )
    assert counts(result) == (1, 3, 2, 1)
    (failed,) = [each for each in told if isinstance(each, SyncStep) and each.error is not None]
    assert (failed.key, type(failed.error)) == ("p/replaced", errors.TargetReplaced)
    assert stored.keys() - files(tree).keys() == {"p/replaced"}


@pytest.mark.slow
async def test_who_may_not_delete_is_told_for_each_object(world: World, tree: Path) -> None:
    await synced(world, tree)
    (tree / "a").unlink()
    world.s3.script("DeleteObjects", Status(403, "AccessDenied"), repeat=True)
    assert counts(await synced(world, tree, delete=True)) == (0, 3, 0, 1)


async def test_a_list_of_other_objects_is_not_believed(
    world: World, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await synced(world, tree)
    stored = world.s3.objects[BUCKET]
    stored["q/other"] = stored["p/a"]

    call = S3Bucket.call

    async def without_prefix(bucket: S3Bucket, what: str, method: str, **arguments: Any) -> Any:
        return await call(
            bucket, what, method, **{name: value for name, value in arguments.items() if name != "Prefix"}
        )

    monkeypatch.setattr(S3Bucket, "call", without_prefix)
    with pytest.raises(errors.StoreRefused, match="do not begin with 'p/'"):
        await synced(world, tree, delete=True)
    assert "q/other" in stored


@pytest.mark.slow
async def test_a_broken_list_deletes_nothing(world: World, tree: Path) -> None:
    await synced(world, tree)
    (tree / "a").unlink()
    world.s3.knobs.page_size = 2
    world.s3.script("ListObjectsV2", Status(200, "x"), Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.BigUploadError):
        await synced(world, tree, delete=True)
    assert "p/a" in objects(world)


def test_what_can_not_be_looked_at_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert [is_gone(f"{tmp_path}/{name}") for name in ("file", "no", "file/x", "x" * 300, "a\0b")] == [
        False, True, True, True, True,
    ]  # fmt: skip

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:  # `tmp_path` is removed before the fixture undoes it
        patched.setattr(os, "lstat", refuse)
        assert not is_gone(str(tmp_path / "no"))

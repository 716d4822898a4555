"""A file that does not hold still: resumable, and no object that is not the file."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.sources.file import FileSource

from .support import BUCKET, FAST, PART, World, content, of_function, write


def change_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * PART + 3)
        file.write(b"changed")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def rename_over(path: Path) -> None:
    other = path.with_name("other")
    write(other, path.stat().st_size, seed=5)
    other.rename(path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("checksum", ["auto", "md5", "none"])
@pytest.mark.parametrize("change", [change_in_place, append, truncate, rename_over])
async def test_a_file_that_changes_meanwhile_makes_no_object(
    world: World, change: Callable[[Path], None], checksum: str
) -> None:
    path = world.file(4 * PART)
    world.s3.hold("UploadPart")
    task = asyncio.create_task(world.upload(path, concurrency=1, checksum=checksum))
    await world.s3.wait_for_async("UploadPart")
    change(path)
    world.s3.release()
    with pytest.raises(errors.SourceChanged) as caught:
        await task
    assert caught.value.resumable == (change not in (append, truncate))
    assert not world.object()
    assert world.s3.count("CompleteMultipartUpload") == 0
    assert world.manifest.status == "uploading"


async def test_a_file_that_changes_before_complete_makes_no_object(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart", acted=True)
    task = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("UploadPart", 2)
    change_in_place(path)
    world.s3.release()
    with pytest.raises(errors.SourceChanged):
        await task
    assert world.s3.count("CompleteMultipartUpload") == 0


async def uploaded_while(world: World, change: Callable[[Path], None], **more: Any) -> tuple[Path, list[str]]:
    """Upload a file of three parts, with `change` after part 1. The parts that are hashed again, and why."""
    path = world.file(3 * PART)

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if isinstance(event, events.PartUploaded) and event.number == 1:
            change(path)

    await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        on_event=on_event,
        **of_function({"retry": FAST, "concurrency": 1} | more),
    )
    return path, [event.reason for event in world.told(events.Hashing)]


def new_mode(path: Path) -> None:
    path.chmod(0o600)


def rename_and_back(path: Path) -> None:
    path.rename(path.with_name("elsewhere")).rename(path)


def new_atime(path: Path) -> None:
    os.utime(path, ns=(10**18, path.stat().st_mtime_ns))


@pytest.mark.parametrize("change", [new_mode, rename_and_back, new_atime])
async def test_new_metadata_is_no_change_and_the_file_is_hashed_once_more(
    world: World, change: Callable[[Path], None]
) -> None:
    path, hashing = await uploaded_while(world, change)
    assert world.holds(path)
    assert hashing == ["the file's metadata changed: it is hashed once more"]
    assert world.manifest.source.ctime_ns == path.stat().st_ctime_ns


def rename_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [rename_away, remove])
async def test_a_file_that_is_moved_or_deleted_is_uploaded_all_the_same(
    world: World, change: Callable[[Path], None]
) -> None:
    path, hashing = await uploaded_while(world, change)
    assert world.object().body == content(3 * PART)
    assert hashing == ["the file's metadata changed: it is hashed once more"]
    assert world.warnings() == f"{path} was moved or deleted: the object is the file that was opened"


async def test_metadata_that_keeps_changing_does_not_keep_the_upload_from_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, modes = FileSource.check, itertools.cycle((0o600, 0o640))

    def changed(self: FileSource) -> None:
        Path(self.path).chmod(next(modes))
        check(self)

    monkeypatch.setattr(FileSource, "check", changed)
    result = await world.upload(world.file(2 * PART))
    assert result.verified is Verified.FULL_OBJECT
    assert len(world.told(events.Hashing)) == 2


async def test_a_new_mode_does_not_hide_other_bytes(world: World) -> None:
    def change(path: Path) -> None:
        before = path.stat()
        with path.open("r+b") as file:
            file.write(b"changed")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        path.chmod(0o600)

    with pytest.raises(errors.SourceChanged, match="part 1 "):
        await uploaded_while(world, change)
    assert not world.object()


async def test_verify_source_finds_what_the_times_hide(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a write through a mapping that was dirty already: the bytes change, neither mtime nor ctime do."""
    path = world.file(3 * PART)
    monkeypatch.setattr("bigupload.sources.file.FileSource.check", lambda self: None)

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if len(world.told(events.PartUploaded)) == 3:
            with path.open("r+b") as file:
                file.write(b"changed")

    with pytest.raises(errors.SourceChanged, match="part 1 "):
        await bigupload.upload(
            path,
            to=f"s3://{BUCKET}/key",
            s3=world.options(),
            manifest=world.manifest_path,
            verify_source=True,
            on_event=on_event,
            uploader=bigupload.Uploader(retry=FAST, concurrency=1),
        )
    assert not world.object()


async def test_verify_source_of_a_file_that_held_still(world: World) -> None:
    path = world.file(3 * PART)
    result = await world.upload(path, verify_source=True)
    assert result.verified is Verified.FULL_OBJECT
    assert [event.parts for event in world.told(events.Hashing)] == [3]

"""`on_change="restart"`: a file that changed is uploaded as it is now. Nothing of what it was stays in the store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events

from .support import BUCKET, FAST, PART, World, content, of_function, write


def grow(path: Path) -> None:
    write(path, 7 * PART + 5, seed=8)


def shrink(path: Path) -> None:
    write(path, 2 * PART - 1, seed=9)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def touch(path: Path) -> None:
    path.touch()


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(PART + 3)
        file.write(b"changed")


def rename_over(path: Path) -> None:
    write(path.with_name("other"), path.stat().st_size, seed=5).rename(path)


SIZES: list[Callable[[Path], None]] = [grow, shrink, empty]
CHANGES: list[Callable[[Path], None]] = [*SIZES, touch, edit, rename_over]


def holds_nothing_else(world: World, path: Path) -> bool:
    """Whether the object is the file, and no upload is left open."""
    return world.holds(path) and not world.s3.uploads


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", SIZES)
async def test_another_size_the_next_night(stopped: World, change: Callable[[Path], None]) -> None:
    path, before = stopped.directory / "file.bin", stopped.manifest.upload_id
    size = path.stat().st_size
    change(path)
    with pytest.raises(errors.SourceChanged, match=r"nothing was changed. To abort that.*`on_change='restart'`"):
        await stopped.upload(path)
    assert list(stopped.s3.uploads) == [before]
    result = await stopped.upload(path, on_change="restart")
    assert holds_nothing_else(stopped, path)
    assert (result.verified, result.resumed_parts) == (Verified.FULL_OBJECT, 0)
    assert [event.reason for event in stopped.told(events.Restarted)] == [
        f"the source has {path.stat().st_size:,} bytes, and had {size:,} when its upload began"
    ]
    aside = stopped.manifest_path.with_name(f"{stopped.manifest_path.name}.1")
    assert '"type":"aborted"' in aside.read_text()
    assert stopped.manifest.status == "completed"


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", SIZES)
async def test_another_size_for_resume(stopped: World, change: Callable[[Path], None]) -> None:
    path = stopped.directory / "file.bin"
    change(path)
    result = await stopped.resume(on_change="restart")
    assert holds_nothing_else(stopped, path)
    assert result.size == path.stat().st_size


async def test_a_new_upload_has_the_checksum_of_the_one_that_is_resumed(world: World) -> None:
    path = world.file(6 * PART)
    await world.interrupted(path, after=3, checksum="sha256")
    shrink(path)
    result = await world.resume(on_change="restart")
    assert result.verified is Verified.COMPOSITE_CHECKSUM


async def test_the_same_size_keeps_the_parts_that_are_the_same(stopped: World) -> None:
    """As without `on_change`: that is no reason to abort anything."""
    path, before = stopped.directory / "file.bin", stopped.manifest.upload_id
    edit(path)
    result = await stopped.upload(path, on_change="restart")
    assert holds_nothing_else(stopped, path)
    assert result.resumed_parts > 0
    assert stopped.manifest.upload_id == before


async def upload_while(
    world: World, changes: list[Callable[[Path], None]], path: Path | None = None, **more: Any
) -> bigupload.UploadResult:
    """Upload six parts, with one of `changes` after the first part of each run."""
    path = path or world.file(6 * PART)
    more.setdefault("on_change", "restart")

    begun = False

    def on_event(event: events.Event) -> None:
        nonlocal begun
        world.events.append(event)
        begun = begun or isinstance(event, events.UploadStarted)
        if begun and isinstance(event, events.PartUploaded) and changes:
            begun = False
            changes.pop(0)(path)

    return await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        on_event=on_event,
        **of_function({"retry": FAST, "concurrency": 1} | more),
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_during_the_upload(world: World, change: Callable[[Path], None]) -> None:
    result = await upload_while(world, [change])
    path = world.directory / "file.bin"
    assert holds_nothing_else(world, path)
    assert result.size == path.stat().st_size
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CompleteMultipartUpload") == 1
    assert result.bytes_sent >= path.stat().st_size
    assert ("as it is now" in world.warnings()) == (change not in SIZES)


async def test_a_new_upload_during_the_first_one_of_no_resume(stopped: World) -> None:
    """What `resume=False` set aside stays in the store, and what this call began does not."""
    path, before = stopped.directory / "file.bin", stopped.manifest.upload_id
    stopped.s3.clear()
    await upload_while(stopped, [grow], path, resume=False)
    assert stopped.holds(path)
    assert list(stopped.s3.uploads) == [before]


async def test_a_file_that_does_not_hold_still_is_not_followed_for_ever(world: World) -> None:
    changes: list[Callable[[Path], None]] = [grow, shrink, grow, shrink, grow]
    with pytest.raises(errors.SourceChanged, match=r"changed 4 times in this run: upload it when nothing") as caught:
        await upload_while(world, changes)
    assert len(changes) == 1
    assert caught.value.manifest == world.manifest_path
    assert len(world.s3.uploads) == 1, "the last one, which the manifest describes"
    assert not world.object()
    await world.upload(world.directory / "file.bin", on_change="restart")
    assert holds_nothing_else(world, world.directory / "file.bin")


async def test_a_file_that_is_gone_when_it_is_opened_again(world: World) -> None:
    def replace_and_remove(path: Path) -> None:
        rename_over(path)
        real, count = os.stat, 0

        def stat(name: Any, **more: Any) -> os.stat_result:
            nonlocal count
            if name == str(path):
                count += 1
                if count == 1:
                    found = real(name)
                    path.unlink()
                    return found
            return real(name, **more)

        patch.setattr(os, "stat", stat)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(errors.SourceNotFound) as caught:
        await upload_while(world, [replace_and_remove])
    assert caught.value.manifest == world.manifest_path


async def test_a_store_that_cannot_abort_is_not_left_with_the_parts(stopped: World) -> None:
    """Nothing new begins, so that nothing more has to be paid for. The same command tries again."""
    from bigupload.testing.faults import Status

    path, before = stopped.directory / "file.bin", stopped.manifest.upload_id
    grow(path)
    stopped.s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await stopped.upload(path, on_change="restart")
    assert caught.value.manifest == stopped.manifest_path
    assert list(stopped.s3.uploads) == [before]
    stopped.s3.clear("AbortMultipartUpload")
    await stopped.upload(path, on_change="restart")
    assert holds_nothing_else(stopped, path)


async def test_other_bytes_of_the_same_name(world: World) -> None:
    """What is no file is known by its name and target."""

    async def upload(size: int, **more: Any) -> bigupload.UploadResult:
        return await bigupload.upload(
            io.BytesIO(content(size)),
            to=f"s3://{BUCKET}/key",
            s3=world.options(),
            manifest=world.manifest_path,
            **of_function({"retry": FAST} | more),
        )

    from bigupload.testing.faults import Status

    world.s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied):
        await upload(3 * PART)
    world.s3.clear()
    with pytest.raises(errors.SourceChanged):
        await upload(4 * PART)
    result = await upload(4 * PART, on_change="restart")
    assert result.size == 4 * PART
    assert not world.s3.uploads


@pytest.mark.parametrize("wrong", ["", "Restart", True])
async def test_what_is_no_answer_to_a_change(world: World, wrong: Any) -> None:
    with pytest.raises(errors.UsageError, match="`on_change` is 'raise' or 'restart', not"):
        await world.upload(world.file(10), on_change=wrong)

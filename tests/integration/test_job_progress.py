"""What the events of a job say of all its files together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import FileEntry, JobProgress, Progress, UploadFailed, UploadIdentity, UploadResult, events, select_files
from bigupload.api.event_delivery import EventQueue
from bigupload.testing.faults import Status

from .support import BUCKET, FAST, PART, World, of_function

TO = f"s3://{BUCKET}/p/"
LARGE = 2 * PART + 1000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    for number in range(20):
        (root / "sub" / f"{number:02}").write_bytes(b"x" * 1000)
    (root / "large").write_bytes(b"x" * LARGE)
    return root


class Told:
    """The events of one call."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []

    @property
    def jobs(self) -> list[JobProgress]:
        return [event for event in self.events if isinstance(event, JobProgress)]

    def sums(self) -> dict[str, Any]:
        """What the last one says of files and bytes."""
        last = self.jobs[-1]
        names = ("files_uploaded", "files_skipped", "files_failed", "bytes_uploaded", "bytes_skipped", "bytes_failed")
        assert (last.is_listed, last.bytes_in_flight) == (True, 0)
        return {name: getattr(last, name) for name in names}


async def upload(world: World, sources: Any, **more: Any) -> tuple[Told, list[UploadResult | UploadFailed]]:
    told = Told()
    done = bigupload.upload_many(
        sources,
        to=TO,
        s3=world.options(),
        on_event=told.events.append,
        part_size=PART,
        **of_function({"retry": FAST} | more),
    )
    return told, [each async for each in done]


async def test_the_end_of_a_job_has_all_of_it(world: World, tree: Path) -> None:
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/sub/07", repeat=True)
    told, done = await upload(world, select_files(tree), job="nightly")
    last = told.jobs[-1]
    assert (last.files_found, last.bytes_found) == (21, LARGE + 20_000)
    assert told.sums() == {
        "files_uploaded": 20, "files_skipped": 0, "files_failed": 1,
        "bytes_uploaded": LARGE + 19_000, "bytes_skipped": 0, "bytes_failed": 1000,
    }  # fmt: skip
    assert told.events[-1] is last
    assert (last.upload.source, last.upload.target, last.upload.manifest) == ("", TO, None)
    assert sum(isinstance(each, UploadFailed) for each in done) == 1
    world.s3.clear()
    told, _ = await upload(world, select_files(tree), job="nightly")
    assert told.sums() == {
        "files_uploaded": 1, "files_skipped": 20, "files_failed": 0,
        "bytes_uploaded": 1000, "bytes_skipped": LARGE + 19_000, "bytes_failed": 0,
    }  # fmt: skip


async def test_parts_of_an_earlier_run_are_not_sent_bytes(world: World, tree: Path) -> None:
    world.s3.script("UploadPart", Status(403, "AccessDenied"), part_number=3, repeat=True)
    told, _ = await upload(world, [tree / "large"])
    assert told.sums()["bytes_failed"] == 0, "its size was not listed"
    assert told.sums()["files_failed"] == 1
    world.s3.clear()
    told, (result,) = await upload(world, [tree / "large"])
    assert isinstance(result, UploadResult)
    resumed = result.resumed_parts * PART
    assert resumed
    assert (told.sums()["bytes_uploaded"], told.sums()["bytes_skipped"]) == (LARGE - resumed, resumed)
    assert told.jobs[-1].bytes_found == LARGE


async def test_a_call_without_a_listing_counts_what_it_took(world: World, tree: Path) -> None:
    async def sources() -> Any:
        for path in sorted((tree / "sub").iterdir()):
            yield path

    told, _ = await upload(world, sources())
    last = told.jobs[-1]
    assert (last.files_found, last.bytes_found, last.files_uploaded) == (20, 20_000, 20)


async def test_a_sync(world: World, tree: Path) -> None:
    async def sync(**more: Any) -> Told:
        told = Told()
        await bigupload.sync(
            tree,
            to=TO,
            s3=world.options(),
            on_event=told.events.append,
            **of_function({"retry": FAST} | more),
        )
        return told

    told = await sync(dry_run=True)
    assert (told.sums()["files_uploaded"], told.sums()["bytes_uploaded"]) == (21, LARGE + 20_000)
    assert not world.s3.objects.get(BUCKET)
    await sync()
    (tree / "sub" / "03").unlink()
    told = await sync(delete=True)
    last = told.jobs[-1]
    assert (last.objects_listed, last.objects_deleted, last.files_found) == (21, 1, 20)
    assert (told.sums()["files_skipped"], told.sums()["bytes_skipped"]) == (20, LARGE + 19_000)


async def test_what_is_selected_may_be_handed_on_by_a_program(world: World, tree: Path) -> None:
    """Then its listing does not count."""

    async def only_some() -> Any:
        async for item in select_files(tree / "sub"):
            if isinstance(item, FileEntry) and item.key != "00":
                yield item

    told, _ = await upload(world, only_some())
    assert (told.jobs[-1].files_found, told.jobs[-1].bytes_found) == (19, 19_000)


def test_the_newest_progress_of_each_upload_waits() -> None:
    def progress(source: str, done: int) -> Progress:
        return Progress(
            upload=UploadIdentity(source=source, target="s3://b/k", id=source, manifest=None), bytes_uploaded=done,
            bytes_in_flight=0, size=9, parts_uploaded=0, parts=1, concurrency=1, retries=0,
        )  # fmt: skip

    queue = EventQueue()
    for source, done in (("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 3)):
        queue.put(progress(source, done))
    assert [queue.take(), queue.take(), queue.take()] == [progress("a", 2), progress("b", 3), None]
    queue.put(progress("a", 4))
    assert queue.take() == progress("a", 4)


async def test_small_files_in_flight_are_counted(world: World, tree: Path) -> None:
    """And the events of a large file name its manifest, although it was first looked at as if it were small."""
    world.s3.hold("PutObject")
    told, seen = Told(), list[JobProgress]()
    path = tree / "sub" / "00"

    def on_event(event: events.Event) -> None:
        told.events.append(event)
        if isinstance(event, JobProgress) and event.bytes_in_flight == 1000:
            seen.append(event)
            world.s3.release("PutObject")

    done = bigupload.upload_many(
        [path, tree / "large"], to=TO, s3=world.options(), on_event=on_event, part_size=PART, **of_function({})
    )
    assert len([each async for each in done]) == 2
    assert seen
    of_files = [event for event in told.events if not isinstance(event, JobProgress)]
    kinds = {type(event) for event in of_files if event.upload.source == str(path)}
    assert kinds == {events.UploadCompleted}
    assert all(event.upload.manifest is not None for event in of_files if event.upload.source == str(tree / "large"))

"""Files that are uploaded while something writes them. The writer acts whenever the upload waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.checksums import Hashed
from bigupload.core.part_plan import Part
from bigupload.engine.part_hashing import PartHasher
from bigupload.sources import file as growing
from bigupload.sources.file import GrowingFile
from tests.tools.waiting import until

from .stopped import edit
from .streams import hashed, whole
from .support import PART, World, content, no_leaks, of_function

DATA = content(5 * PART + 100, seed=4)
Step = Callable[[], Any]


class Recording:
    """What writes the file: one step whenever the upload waits, and nothing once they are all done."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.path = world.directory / "movie.mp4"
        self.path.touch()
        self.steps: list[Step] = []
        self.now = 0.0
        self.ticks = 0
        monkeypatch.setattr(growing, "open_growing", self._open)

    async def _open(self, path: Path, *, idle: float, allow_empty: bool) -> GrowingFile:
        source = GrowingFile(path, idle=idle, allow_empty=allow_empty, clock=lambda: self.now, sleep=self._sleep)
        await source.begin()
        return source

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds
        if self.steps:
            done = self.steps.pop(0)()
            if isinstance(done, Awaitable):
                await done

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def edit(self, part: int) -> None:
        """Rewrite some bytes of a part, and let the time show it: the clock of files is coarse."""
        edit(self.path, part)
        self.ticks += 1
        os.utime(self.path, ns=(self.ticks, self.path.stat().st_mtime_ns + self.ticks))

    async def until_uploaded(self, parts: int) -> None:
        await until(lambda: len(self.world.told(events.PartUploaded)) >= parts, within=60)

    def writes(self, *more: Step) -> None:
        """Write the whole file, each half part once the parts before it are in the store."""
        for at in range(0, len(DATA), PART // 2):
            self.steps.append(partial(self.until_uploaded, at // PART))
            self.steps.append(partial(self.append, DATA[at : at + PART // 2]))
        self.steps += more

    async def follow(self, **more: Any) -> bigupload.UploadResult:
        return await self.world.upload(self.path, follow=True, **more)

    def assert_stored(self, result: bigupload.UploadResult) -> None:
        assert result.verified is Verified.FULL_OBJECT
        assert whole(self.world.object()) == hashed(self.path.read_bytes())
        assert result.size == self.path.stat().st_size

    def hashings(self) -> int:
        return len(self.world.told(events.Hashing))


@pytest.fixture
def recorder(world: World, monkeypatch: pytest.MonkeyPatch) -> Recording:
    return Recording(world, monkeypatch)


def at(world: World, kind: type[events.Event], act: Step, *, nth: int = 1) -> Callable[[events.Event], None]:
    """Do something at the nth event of a kind."""
    seen = 0

    def on_event(event: events.Event) -> None:
        nonlocal seen
        world.events.append(event)
        if isinstance(event, kind):
            seen += 1
            if seen == nth:
                act()

    return on_event


async def test_a_recording_whose_header_comes_last(recorder: Recording, world: World) -> None:
    recorder.writes(partial(recorder.edit, 1), partial(recorder.edit, 3))
    async with no_leaks():
        result = await recorder.follow()
    recorder.assert_stored(result)
    assert (result.parts, result.path, result.guarded_by) == (6, recorder.path, "fingerprint")
    numbers = [event.number for event in world.told(events.PartUploaded)]
    assert sorted(numbers) == [1, 1, 2, 3, 3, 4, 5, 6]  # only what was rewritten is sent again
    assert recorder.hashings() == 1
    assert world.manifest.source.fingerprint.size == len(DATA)


async def test_a_file_that_is_whole_already(recorder: Recording) -> None:
    recorder.append(DATA)
    result = await recorder.follow(idle="3s")
    recorder.assert_stored(result)
    assert recorder.now == pytest.approx(3.0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("after", [1, 3, 5])
async def test_it_is_resumed_by_the_same_command(recorder: Recording, world: World, after: int) -> None:
    recorder.writes()

    def stop() -> None:
        task.cancel()

    more: dict[str, Any] = {"to": "s3://bucket/key", "s3": world.options(), "manifest": world.manifest_path}
    on_event = at(world, events.PartUploaded, stop, nth=after)
    task = asyncio.create_task(bigupload.upload(recorder.path, follow=True, on_event=on_event, **of_function(more)))
    with pytest.raises(asyncio.CancelledError):
        await task
    recorder.steps = [step for step in recorder.steps if step.func == recorder.append]  # type: ignore[attr-defined]  # each is a partial
    recorder.steps.append(partial(recorder.edit, 1))
    result = await recorder.follow()
    recorder.assert_stored(result)
    assert result.resumed_parts >= after
    assert result.bytes_sent <= len(DATA) + PART - after * PART + 2 * PART


async def test_it_grows_while_it_is_hashed(recorder: Recording, world: World) -> None:
    recorder.writes()

    def go_on() -> None:
        recorder.append(content(PART))
        recorder.edit(2)

    result = await world_upload(recorder, world, at(world, events.Hashing, go_on))
    recorder.assert_stored(result)
    assert recorder.hashings() == 2
    assert result.parts == 7


async def test_it_is_rewritten_while_parts_are_sent_again(recorder: Recording, world: World) -> None:
    recorder.writes(partial(recorder.edit, 1))
    result = await world_upload(recorder, world, at(world, events.PartUploaded, partial(recorder.edit, 4), nth=7))
    recorder.assert_stored(result)
    assert recorder.hashings() == 2


async def world_upload(
    recorder: Recording, world: World, on_event: Callable[[events.Event], None]
) -> bigupload.UploadResult:
    return await bigupload.upload(
        recorder.path, to="s3://bucket/key", s3=world.options(), follow=True, on_event=on_event,
        manifest=world.manifest_path,
    )  # fmt: skip


@pytest.mark.parametrize("part", [2, 6])
async def test_a_part_is_rewritten_between_its_hash_and_its_request(
    recorder: Recording, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """The store refuses it. It is sent once nothing writes to the file."""
    recorder.steps += [partial(recorder.append, DATA[: PART * 3]), partial(recorder.append, DATA[PART * 3 :])]
    hash_it = PartHasher.hash
    rewritten = False

    async def rewriting(self: PartHasher, of: Part, *, md5: bool = False) -> Hashed:
        nonlocal rewritten
        found = await hash_it(self, of, md5=md5)
        if of.number == part and not rewritten:
            rewritten = True
            recorder.edit(part)
        return found

    monkeypatch.setattr(PartHasher, "hash", rewriting)
    recorder.assert_stored(await recorder.follow())


async def test_the_store_loses_the_upload(recorder: Recording, world: World) -> None:
    def abort() -> None:
        upload_id = world.manifest.upload_id
        world.s3.client().abort_multipart_upload(Bucket="bucket", Key="key", UploadId=upload_id)

    recorder.writes()
    recorder.steps.insert(6, abort)
    recorder.assert_stored(await recorder.follow())
    assert len(world.told(events.Restarted)) == 1


# -- what ends it


async def test_it_is_truncated(recorder: Recording, world: World) -> None:
    recorder.writes(lambda: os.truncate(recorder.path, PART))
    with pytest.raises(errors.SourceChanged, match="was truncated while it was followed") as caught:
        await recorder.follow()
    assert caught.value.exit_code == 1
    assert world.object() is None
    with pytest.raises(errors.SourceChanged, match="an earlier run uploaded it up to byte") as caught:
        await recorder.follow()
    assert world.manifest.parts  # nothing was dropped
    recorder.assert_stored(await recorder.follow(resume=False))


async def test_it_is_replaced(recorder: Recording, world: World) -> None:
    def replace() -> None:
        other = recorder.path.with_suffix(".new")
        other.write_bytes(DATA[: 3 * PART] + content(3 * PART, seed=9))
        other.replace(recorder.path)

    recorder.writes(replace)
    with pytest.raises(errors.SourceChanged, match=r"was replaced by another file .* add `resume=False`") as caught:
        await recorder.follow()
    assert caught.value.exit_code == 75
    assert world.object() is None
    result = await recorder.follow()
    recorder.assert_stored(result)
    assert result.bytes_sent <= 3 * PART + 100


async def test_it_is_deleted(recorder: Recording, world: World) -> None:
    """What was recorded is not lost: the open file still has it."""
    recorder.writes(recorder.path.unlink)
    result = await recorder.follow()
    assert whole(world.object()) == hashed(DATA)
    assert result.verified is Verified.FULL_OBJECT
    assert any("moved or deleted" in warning.message for warning in world.told(events.Warned))


async def test_nothing_is_written(recorder: Recording, world: World) -> None:
    with pytest.raises(errors.StreamInterrupted, match="is empty"):
        await recorder.follow()
    assert not world.manifest_path.exists()
    result = await recorder.follow(allow_empty=True)
    assert (result.size, result.parts) == (0, 1)


# -- other runs


async def test_it_was_complete_before_that_was_recorded(recorder: Recording, world: World) -> None:
    recorder.append(DATA)
    await recorder.follow()
    lines = world.manifest_path.read_bytes().splitlines(keepends=True)
    assert b'"type":"completed"' in lines[-1]
    world.manifest_path.write_bytes(b"".join(lines[:-1]))
    recorder.now = 0.0
    result = await recorder.follow()
    assert (result.bytes_sent, recorder.now) == (0, 0.0)
    recorder.assert_stored(result)
    # The file went on after that.
    world.manifest_path.write_bytes(b"".join(lines[:-1]))
    recorder.append(DATA)
    recorder.assert_stored(await recorder.follow())


@pytest.mark.parametrize("followed", [False, True])
async def test_followed_before_or_after_a_plain_upload(recorder: Recording, world: World, followed: bool) -> None:
    recorder.append(DATA)
    await world.interrupted(recorder.path, after=3, follow=not followed)
    world.s3.clear("UploadPart")
    result = await world.upload(recorder.path, follow=followed)
    recorder.assert_stored(result)
    assert result.resumed_parts >= 3


async def test_a_plain_upload_of_a_file_that_was_followed_and_is_shorter_now(recorder: Recording, world: World) -> None:
    recorder.append(DATA)
    await world.interrupted(recorder.path, after=3, follow=True)
    os.truncate(recorder.path, PART)
    with pytest.raises(errors.SourceChanged, match="more bytes or other ones were uploaded"):
        await world.upload(recorder.path)
    world.s3.clear("UploadPart")
    recorder.assert_stored(await world.upload(recorder.path, resume=False))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"follow": True, "expected_size": 5}, "`expected_size` can't be used with `follow`"),
        ({"follow": True, "end_marker": "end"}, "`end_marker` can't be used"),
        ({"follow": True, "skip_existing": True}, "`skip_existing` can't be used"),
        ({"follow": True, "checksum": "none"}, "`checksum='none'` can't be used"),
        ({"follow": True, "on_change": "restart"}, "`on_change='restart'` can't be used"),
        ({"follow": True, "idle": 0.5}, "`idle` is 1 second at least"),
        ({"follow": True, "idle": float("nan")}, "`idle` is a number of seconds"),
        ({"idle": 5}, "add `follow=True`"),
    ],
)
async def test_what_can_not_be_followed(recorder: Recording, world: World, more: Any, message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        await world.upload(recorder.path, **more)
    with pytest.raises(errors.UsageError, match="name one by its path"):
        await bigupload.upload(b"bytes", to="s3://bucket/key", s3=world.options(), follow=True)


async def test_it_is_written_right_before_it_completes(
    recorder: Recording, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is proved to be the file as it was. The file as it is now follows."""
    is_settled = GrowingFile.is_settled
    written = False

    async def writing(self: GrowingFile) -> bool:
        nonlocal written
        settled = await is_settled(self)
        if settled and not written:
            written = True
            recorder.append(DATA)
        return settled

    monkeypatch.setattr(GrowingFile, "is_settled", writing)
    recorder.append(DATA)
    recorder.assert_stored(await recorder.follow())
    assert "changed since: uploading it again" in world.warnings()

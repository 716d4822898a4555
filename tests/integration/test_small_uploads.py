"""`upload` of a small file: one PUT with its proof, and a manifest only for what asks for one."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.api import small_files
from bigupload.api.upload_slots import MAX_UPLOADS
from bigupload.engine import context
from bigupload.sources.file import FileSource
from bigupload.sources.objects import SmallFile, SmallFileReader
from bigupload.testing.faults import LostResponse, Reset, Status
from tests.tools.waiting import until

from .support import BUCKET, FAST, KIB, PART, World, no_leaks, write

SIZE = PART // 2
TO = f"s3://{BUCKET}/key"


def ops(world: World, *, since: int = 0) -> list[str]:
    return [request.op for request in list(world.s3.requests)[since:]]


async def put(world: World, source: Any, **more: Any) -> bigupload.UploadResult:
    more.setdefault("manifest", None)
    return await world.upload(source, **more)


async def test_a_small_file_is_one_request(world: World) -> None:
    path = world.file(SIZE)
    result = await put(world, path)
    assert ops(world) == ["PutObject"]
    assert world.holds(path)
    assert (result.path, result.bucket, result.key, result.size) == (path, BUCKET, "key", SIZE)
    assert (result.verified, result.parts, result.resumed_parts) == (Verified.FULL_OBJECT, 1, 0)
    assert (result.bytes_sent, result.retries, result.guarded_by) == (SIZE, 0, "fingerprint")
    assert (result.checksum or "").startswith("crc64nvme:")
    assert result.url == f"{world.s3.url}/{BUCKET}/key"
    assert result.manifest is None


@pytest.mark.parametrize(
    "source", [b"x" * 100, bytearray(b"y" * 100), memoryview(b"z" * 100), b""], ids=["bytes", "array", "view", "empty"]
)
async def test_bytes_in_memory(world: World, source: Any) -> None:
    result = await put(world, source)
    assert ops(world) == ["PutObject"]
    assert world.object().body == bytes(source)
    assert (result.verified, result.guarded_by) == (Verified.FULL_OBJECT, "checksums")


async def test_a_file_that_is_read_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.sources.objects.MAX_SMALL_FILE", KIB)
    path = world.file(SIZE)
    await put(world, path)
    assert ops(world) == ["PutObject"]
    assert world.holds(path)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "more",
    [
        {"manifest": Path("own.jsonl")},
        {"part_size": KIB},
        {"delta": True},
        {"verify_source": True},
        {"checksum": "none", "options": {"object_lock_legal_hold": True}},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_what_one_put_can_t_do(world: World, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    monkeypatch.setattr("bigupload.sources.objects.MAX_SMALL_FILE", 0)  # else a file in memory has no bytes to verify
    if "manifest" in more:
        more = {"manifest": world.directory / more["manifest"]}
    if "options" in more:
        with pytest.raises(errors.UsageError, match="a locked object needs checksums"):
            await put(world, world.file(SIZE), **more | {"options": world.options(**more["options"])})
        return
    result = await put(world, world.file(SIZE), **more)
    assert "CompleteMultipartUpload" in ops(world)
    assert "PutObject" not in ops(world)
    assert result.manifest.exists()


async def test_a_larger_file_goes_in_parts(world: World) -> None:
    await put(world, world.file(PART + 1))
    assert "PutObject" not in ops(world)


async def test_a_part_size_that_no_store_takes(world: World) -> None:
    with pytest.raises(errors.UsageError):
        await put(world, world.file(SIZE), part_size=64 << 30)
    assert ops(world) == []


async def test_options_that_mean_nothing_are_refused(world: World) -> None:
    with pytest.raises(errors.UsageError, match="`idle` is for files that are followed"):
        await put(world, world.file(SIZE), idle=5)
    with pytest.raises(errors.UsageError, match="10 were expected"):
        await put(world, world.file(SIZE), expected_size=10)
    with pytest.raises(errors.UsageError, match="`skip_existing` is for files"):
        await put(world, b"x", skip_existing=True)
    assert ops(world) == []


async def test_properties_of_the_object(world: World) -> None:
    options = world.options(metadata={"who": "me"}, tags={"a": "b"}, cache_control="no-store", acl="private")
    await put(world, world.file(SIZE, name="page.html"), options=options)
    headers = world.object().headers
    assert headers["content-type"] == "text/html"
    assert headers["x-amz-meta-who"] == "me"
    assert headers["cache-control"] == "no-store"
    assert headers["x-amz-tagging"] == "a=b"


async def test_each_upload_has_its_own_properties(world: World) -> None:
    path = world.file(SIZE)
    async with bigupload.Uploader(retry=FAST) as uploader:
        await asyncio.gather(
            *(
                uploader.upload(path, to=f"s3://{BUCKET}/{n}", s3=world.options(metadata={"number": str(n)}))
                for n in range(20)
            )
        )
    assert [world.object(str(n)).headers["x-amz-meta-number"] for n in range(20)] == [str(n) for n in range(20)]
    assert set(ops(world)) == {"PutObject"}


async def test_a_crowd_shares_one_lane(world: World) -> None:
    paths = [world.file(100 + n, name=f"{n}.bin", seed=n) for n in range(40)]
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        results = await asyncio.gather(
            *(uploader.upload(path, to=f"s3://{BUCKET}/p/", s3=world.options()) for path in paths)
        )
        senders = uploader._resources.small._senders
        assert len(senders) == 1
        (sender,) = senders.values()
        await until(
            lambda: sender._watching is not None and sender._watching.done(), within=60
        )  # none is left: it ends
        await uploader.upload(paths[0], to=f"s3://{BUCKET}/p/", s3=world.options())
    assert ops(world) == ["PutObject"] * 41
    for path, result in zip(paths, results, strict=True):
        assert result.verified is Verified.FULL_OBJECT
        assert world.holds(path, f"p/{path.name}")


async def test_unused_senders_are_few(world: World) -> None:
    for n in range(12):
        world.s3.create_bucket(f"bucket-{n}")
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        for n in range(12):
            await uploader.upload(b"x", to=f"s3://bucket-{n}/key", s3=world.options())
        assert len(uploader._resources.small._senders) <= 8


# -- events


async def test_the_events_of_one_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "TICK", 600.0)  # a machine that stops for a moment would report progress before
    await put(world, world.file(SIZE))
    kinds = [type(event) for event in world.events]
    assert kinds == [events.UploadStarted, events.PartUploaded, events.Progress, events.UploadCompleted]
    started, part, progress, completed = world.events
    assert isinstance(started, events.UploadStarted)
    assert (started.size, started.parts, started.manifest, started.resumed_parts) == (SIZE, 1, None, 0)
    assert isinstance(part, events.PartUploaded)
    assert (part.number, part.size, part.attempt, part.proof) == (1, SIZE, 1, events.PartProof.CHECKSUM)
    assert isinstance(progress, events.Progress)
    assert (progress.bytes_uploaded, progress.size, progress.parts_uploaded, progress.parts) == (SIZE, SIZE, 1, 1)
    assert isinstance(completed, events.UploadCompleted)
    assert (completed.verified, completed.bytes_sent) == (Verified.FULL_OBJECT, SIZE)
    assert len({event.upload for event in world.events}) == 1
    assert completed.upload.manifest is None


async def test_progress_while_it_is_sent(world: World) -> None:
    world.s3.hold("PutObject")
    async with bigupload.Uploader(retry=FAST) as uploader:
        handle = uploader.start(world.file(SIZE), to=TO, s3=world.options())
        await until(lambda: handle.progress.bytes_in_flight == SIZE, within=60)
        assert handle.progress.bytes_uploaded == 0
        world.s3.release("PutObject")
        await handle
    assert handle.progress.bytes_uploaded == handle.progress.size == SIZE
    assert handle.manifest is None


# -- what fails


async def test_attempts_are_repeated_and_told(world: World) -> None:
    path = world.file(SIZE)
    world.s3.script("PutObject", Status(503, "SlowDown"), Reset(), LostResponse())
    result = await put(world, path)
    assert world.holds(path)
    assert result.retries == 3
    assert [event.attempt for event in world.told(events.PartUploaded)] == [4]
    assert len(world.told(events.Retrying)) == 3


async def test_a_failure_leaves_nothing_to_resume(world: World) -> None:
    world.s3.script("PutObject", Status(403, "AccessDenied"), repeat=True)
    path = world.file(SIZE)
    with pytest.raises(errors.AccessDenied) as failed:
        await put(world, path, state_dir=world.directory / "state")
    assert failed.value.manifest is None
    assert isinstance(world.events[-1], events.UploadStopped)
    assert not list((world.directory / "state").glob("*"))
    world.s3.clear()
    await put(world, path)
    assert world.holds(path)


async def test_a_cancel_leaves_nothing(world: World) -> None:
    world.s3.hold("PutObject")
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        handle = uploader.start(world.file(SIZE), to=TO, s3=world.options())
        await world.s3.wait_for_async("PutObject", 1)
        handle.cancel()
        with pytest.raises(errors.UploadCancelled) as cancelled:
            await handle
        assert cancelled.value.manifest is None
        world.s3.release("PutObject")


async def test_the_first_of_a_crowd_is_cancelled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others do not wait for ever for what it began, and go as they would have gone."""
    real, begun, go_on = small_files.connect, asyncio.Event(), asyncio.Event()

    async def connect(*arguments: Any, **more: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await real(*arguments, **more)

    monkeypatch.setattr(small_files, "connect", connect)
    async with no_leaks(), bigupload.Uploader(retry=FAST) as uploader:
        tasks = [
            asyncio.create_task(uploader.upload(b"x", to=f"s3://{BUCKET}/{n}", s3=world.options())) for n in range(5)
        ]
        await begun.wait()
        tasks[0].cancel()
        go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert ops(world) == ["PutObject"] * 4


async def test_a_bucket_in_another_region(world: World) -> None:
    """Nobody has named the region, and the store says which one it is."""
    world.s3.create_bucket("far", region="eu-west-9")
    options = dataclasses.replace(world.options(), region=None)
    result = await put(world, b"x", to="s3://far/key", options=options)
    assert result.verified is Verified.FULL_OBJECT
    assert "CreateMultipartUpload" not in ops(world)


async def test_what_the_first_of_a_crowd_can_t_open_the_others_say_too(world: World) -> None:
    options = world.options()
    async with bigupload.Uploader(retry=FAST) as uploader:
        found = await asyncio.gather(
            *(uploader.upload(b"x", to=f"s3://no-such-bucket/{n}", s3=options) for n in range(20)),
            return_exceptions=True,
        )
    assert {type(each) for each in found} == {errors.BucketNotFound}
    assert {str(each) for each in found} == {
        "there is no bucket 'no-such-bucket' at this store: create it, or check the name"
    }


@pytest.mark.parametrize("to", [TO, f"s3://{BUCKET}/folder/"])
async def test_a_file_that_is_not_there(world: World, to: str) -> None:
    with pytest.raises(errors.SourceNotFound, match="no such file"):
        await put(world, world.directory / "none", to=to)
    assert ops(world) == []


@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
async def test_a_file_that_changes_while_it_is_sent(world: World, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.sources.objects.MAX_SMALL_FILE", 0)
    path = world.file(SIZE)
    changes = 0

    def on_event(event: events.Event) -> None:
        nonlocal changes
        if isinstance(event, events.UploadStarted) and changes < 1:
            changes += 1
            path.write_bytes(b"other" * (size // 5) + b"x" * (size % 5))

    with pytest.raises(errors.SourceChanged, match="upload it again when nothing writes to it"):
        await bigupload.upload(
            path, to=TO, s3=world.options(), on_event=on_event, uploader=bigupload.Uploader(retry=FAST)
        )
    assert ops(world) == []
    changes = 0
    path.write_bytes(b"a" * SIZE)
    await bigupload.upload(
        path, to=TO, s3=world.options(), on_event=on_event, on_change="restart", uploader=bigupload.Uploader(retry=FAST)
    )
    assert world.holds(path)


# -- proof


async def test_where_nothing_proves_a_put_its_size_is_proved(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    result = await put(world, world.file(SIZE))
    assert ops(world) == ["PutObject"]
    assert (result.verified, result.checksum) == (Verified.SIZE, None)
    assert "only their sizes are proved (to require more: `require_proof`)" in world.warnings()


async def test_where_a_put_proves_too_little_it_goes_in_parts(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(SIZE)
    async with bigupload.Uploader(retry=FAST) as uploader:
        for number in range(2):
            with pytest.raises(errors.ProofTooWeak) as weak:  # nor do parts prove more in this store
                await uploader.upload(
                    path, to=f"s3://{BUCKET}/{number}", s3=world.options(), require_proof="full-object",
                    on_event=world.events.append,
                )  # fmt: skip
            assert weak.value.manifest is not None
    assert world.s3.count("PutObject") == 1  # the second one knows it
    assert world.s3.count("CompleteMultipartUpload") == 2
    assert len(world.told(events.Restarted)) == 1
    assert len({event.upload for event in world.events}) == 2


async def test_an_etag_proves_it(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    result = await put(world, world.file(SIZE))
    assert ops(world) == ["PutObject"]
    assert result.verified is Verified.COMPOSITE_ETAG


# -- what is there already


async def test_if_none_match(world: World) -> None:
    first, second = world.file(SIZE), world.file(SIZE, name="other", seed=1)
    await put(world, first, options=world.options(if_none_match=True))
    with pytest.raises(errors.TargetExists):
        await put(world, second, options=world.options(if_none_match=True))
    assert world.holds(first)
    assert world.s3.count("PutObject") == 1


async def test_if_none_match_does_not_take_another_upload_for_its_own(world: World) -> None:
    """Both uploads are of one Uploader and of one size, and the second one's first attempt is lost."""
    one, other = world.file(SIZE), world.file(SIZE, name="other", seed=1)
    async with bigupload.Uploader(retry=FAST) as uploader:
        options = world.options(if_none_match=True)
        world.s3.script("PutObject", Reset())

        async def second() -> bigupload.UploadResult:
            return await uploader.upload(other, to=TO, s3=options, on_event=after_retry)

        tasks: list[asyncio.Task[bigupload.UploadResult]] = []

        def after_retry(event: events.Event) -> None:
            if isinstance(event, events.Retrying):
                tasks.append(asyncio.create_task(uploader.upload(one, to=TO, s3=options)))

        results = await asyncio.gather(second(), return_exceptions=True)
        results += await asyncio.gather(*tasks, return_exceptions=True)
    done = [each for each in results if isinstance(each, bigupload.UploadResult)]
    assert len(done) == 1
    assert [type(each) for each in results if each not in done] == [errors.TargetExists]
    assert world.holds(done[0].path)


async def test_its_own_object_whose_response_was_lost_is_no_other(world: World) -> None:
    path = world.file(SIZE)
    world.s3.script("PutObject", LostResponse())
    result = await put(world, path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_skip_existing(world: World) -> None:
    path = world.file(SIZE)
    assert not (await put(world, path, skip_existing=True)).skipped
    result = await put(world, path, skip_existing=True)
    assert (result.skipped, result.verified, result.manifest) == (True, Verified.FULL_OBJECT, None)
    assert len(world.told(events.UploadSkipped)) == 1
    assert len(world.told(events.UploadCompleted)) == 1, "of the first"
    assert world.s3.count("PutObject") == 1
    assert world.s3.count("CreateMultipartUpload") == 0


async def test_if_none_match_accepts_an_equal_object_only_with_skip_existing(world: World) -> None:
    """As after a kill between the store's response and the end of the command."""
    path, other = world.file(SIZE), world.file(SIZE, name="other", seed=1)
    more: dict[str, Any] = {"options": world.options(if_none_match=True)}
    await put(world, path, **more)
    with pytest.raises(errors.TargetExists):
        await put(world, path, **more)
    assert (await put(world, path, skip_existing=True, **more)).skipped
    with pytest.raises(errors.TargetExists):
        await put(world, other, skip_existing=True, **more)
    assert world.s3.count("PutObject") == 1


async def test_an_unfinished_upload_is_resumed(world: World) -> None:
    """It began as one of parts: by an earlier version, or with another part size."""
    world.parts = 3
    path = world.file(2 * KIB + 100)
    state = world.directory / "state"
    await world.interrupted(path, after=2, part_size=KIB, manifest=None, state_dir=state)
    result = await put(world, path, state_dir=state)
    assert result.resumed_parts == 2
    assert world.s3.count("PutObject") == 0


async def test_a_manifest_of_a_complete_upload_is_set_aside(world: World) -> None:
    path, state = world.file(SIZE), world.directory / "state"
    await put(world, path, part_size=KIB, state_dir=state)
    (manifest,) = state.glob("*.manifest.jsonl")
    path = world.file(SIZE, seed=2)
    await put(world, path, state_dir=state)
    assert world.s3.count("PutObject") == 1
    assert world.holds(path)
    assert "was uploaded before: uploading it again, which replaces the object" in world.warnings()
    assert not manifest.exists()
    assert manifest.with_name(f"{manifest.name}.1").exists()
    world.events.clear()
    await put(world, path, state_dir=state)
    assert world.warnings() == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["uploader", "functions", "upload_many"])
async def test_files_that_the_page_cache_does_not_have_take_few_threads(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Each is opened and read in a thread, and a slow disk lets them wait there."""
    released, lock, open_it = threading.Event(), threading.Lock(), SmallFileReader._open
    inside: list[str] = []

    def slowly(self: SmallFileReader, path: str) -> SmallFile | FileSource:
        with lock:
            inside.append(path)
        assert released.wait(60)
        return open_it(self, path)

    def uncached(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(SmallFileReader, "_open", slowly)
    monkeypatch.setattr("bigupload.sources.objects.read_cached", uncached)
    paths = []
    for number in range(150):  # of the files of a directory, the first is opened alone
        (directory := world.directory / f"of {number}").mkdir()
        paths.append(write(directory / str(number), 10))
    calls: dict[str, Any] = {"to": f"s3://{BUCKET}/p/", "s3": world.options()}

    async def all_of_them(uploader: bigupload.Uploader) -> int:
        if how == "upload_many":
            return len([each async for each in uploader.upload_many(paths, **calls)])
        function = bigupload.upload if how == "functions" else uploader.upload
        return len(await asyncio.gather(*(function(path, **calls) for path in paths)))

    async with bigupload.Uploader() as uploader:
        working = asyncio.ensure_future(all_of_them(uploader))
        await until(lambda: len(inside) >= 8)
        for _ in range(1000):  # whoever would begin as well begins
            await asyncio.sleep(0)
        waiting = len(inside)
        released.set()
        assert await working == len(paths)
    assert waiting <= MAX_UPLOADS + 8

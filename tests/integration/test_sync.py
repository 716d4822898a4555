"""`sync`: what is not in the store is sent, and nothing else happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import SyncStep, UploadResult, Verified, errors
from bigupload.api import sync
from bigupload.api.types import SyncOutcome
from bigupload.events import Event, JobProgress
from bigupload.manifests.job_record import JOB_SUFFIX, known_jobs, open_database
from bigupload.stores.local_store import LocalStore
from bigupload.testing.strict_s3 import StoreResponse
from tests.tools.buckets import options_for
from tests.tools.receipts import rows_of
from tests.tools.weed import weed_client

from .support import BUCKET, FAST, PART, World, no_leaks, of_function
from .syncing import AWKWARD, FILES, TO, asked, counts, files, grow, objects, synced


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grow(tmp_path / "tree", FILES)


async def test_the_second_sync_only_lists(world: World, tree: Path) -> None:
    told: list[SyncOutcome] = []
    async with no_leaks():
        first = await synced(world, tree, told=told)
    assert (counts(first), first.size, first.not_deleted) == ((4, 0, 0, 0), 6, None)
    assert objects(world) == files(tree)
    assert {each.verified for each in told if isinstance(each, UploadResult)} == {Verified.FULL_OBJECT}
    before, told = len(world.s3.requests), []
    second = await synced(world, tree, told=told)
    assert counts(second) == (0, 4, 0, 0)
    assert asked(world, before) == ["ListObjectsV2"]
    assert all(isinstance(each, UploadResult) and each.skipped for each in told)
    (job,) = known_jobs(tree.parent / "state")
    assert (job.status, job.name, job.files, job.bytes) == ("finished", f"sync {tree}", 4, 6)
    assert job.target == f"{TO} at {world.s3.url}"


@pytest.mark.parametrize("size_only", [False, True])
async def test_what_is_there_is_counted_in_place_of_results(world: World, tree: Path, size_only: bool) -> None:
    await synced(world, tree)
    (tree / "a").write_bytes(b"longer")
    (tree / "new").write_bytes(b"new")
    counted: list[tuple[int, int]] = []
    told: list[SyncOutcome] = []
    receipt = tree.parent / "receipt.json"
    more = {"told": told, "receipt": receipt, "size_only": size_only}
    result = await synced(world, tree, on_same=lambda *same: counted.append(same), **more)
    assert counts(result) == (2, 3, 0, 0)
    assert [sum(each) for each in zip(*counted, strict=True)] == [3, 5]
    assert {each.key for each in told if isinstance(each, UploadResult)} == {"p/a", "p/new"}
    assert len(rows_of(receipt)) == 5
    progress: list[JobProgress] = []

    def on_event(event: Event) -> None:
        if isinstance(event, JobProgress):
            progress.append(event)

    assert counts(await bigupload.sync(tree, to=TO, s3=world.options(), on_event=on_event)) == (0, 5, 0, 0)
    assert (progress[-1].files_skipped, progress[-1].bytes_skipped) == (5, 14)


async def test_the_record_forgets_files_that_are_gone_and_looks_at_them_alone(
    world: World, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await synced(world, tree)
    (tree / "a").unlink()
    looked: list[str] = []

    def is_gone(path: str) -> bool:
        looked.append(path)
        return not Path(path).exists()

    monkeypatch.setattr(sync, "is_gone", is_gone)
    assert counts(await synced(world, tree)) == (0, 3, 0, 0)
    assert len(looked) == 4
    assert counts(await synced(world, tree)) == (0, 3, 0, 0)
    assert len(looked) == 4, "the listing has shown the files that are recorded"
    (job,) = known_jobs(tree.parent / "state")
    assert (job.status, job.files) == ("finished", 3)


async def test_what_is_recorded_with_less_proof_than_is_required_is_proved_again(world: World, tree: Path) -> None:
    await uploaded(world, tree)
    await synced(world, tree)
    for job in known_jobs(tree.parent / "state"):
        with contextlib.closing(open_database(job.record)) as opened:
            opened.execute("UPDATE file SET verified = 'size' WHERE key = 'a'")
    before = len(world.s3.requests)
    assert counts(await synced(world, tree)) == (0, 4, 0, 0)
    assert asked(world, before).count("HeadObject") == 0
    assert counts(await synced(world, tree, require_proof="full-object")) == (0, 4, 0, 0)
    assert asked(world, before).count("HeadObject") == 1


async def test_another_machine_proves_what_is_there_by_its_checksums(world: World, tree: Path, tmp_path: Path) -> None:
    large = world.file(3 * PART, "tree/large.bin")
    await synced(world, tree, part_size=PART)
    assert world.s3.count("CompleteMultipartUpload") == 1
    before = len(world.s3.requests)
    assert counts(await synced(world, tree, state_dir=tmp_path / "other")) == (0, 5, 0, 0)
    ops = asked(world, before)
    assert ops.count("HeadObject") == 5
    assert not {"PutObject", "UploadPart"} & set(ops)
    before = len(world.s3.requests)
    assert counts(await synced(world, tree, state_dir=tmp_path / "other")) == (0, 5, 0, 0)
    assert asked(world, before) == ["ListObjectsV2"], "what was proved is recorded"
    assert world.holds(large, "p/large.bin")


async def test_a_file_that_grew_since_its_upload_was_interrupted_is_sent_as_it_is(world: World, tree: Path) -> None:
    world.parts = 4
    path = world.file(4 * PART, "tree/large.bin")
    await world.interrupted(path, after=2, to=f"{TO}large.bin", manifest=None, part_size=PART)
    world.file(5 * PART, "tree/large.bin", seed=1)
    assert counts(await synced(world, tree, part_size=PART, on_change="raise")) == (4, 0, 0, 1)
    assert counts(await synced(world, tree, part_size=PART)) == (1, 4, 0, 0)
    assert world.holds(path, "p/large.bin")
    assert not world.s3.uploads


@pytest.mark.parametrize("becomes", ["nothing", "another object"])
async def test_a_large_file_whose_object_was_deleted_or_replaced_is_sent_again(
    world: World, tree: Path, becomes: str
) -> None:
    large = world.file(3 * PART, "tree/large.bin")
    await synced(world, tree, part_size=PART)
    stored = world.s3.objects[BUCKET]
    del stored["p/large.bin"]
    if becomes == "another object":
        other = world.file(3 * PART, "other", seed=2)
        await bigupload.upload(
            other, to=f"{TO}large.bin", s3=world.options(), part_size=PART, uploader=bigupload.Uploader(retry=FAST)
        )
    assert counts(await synced(world, tree, part_size=PART)) == (1, 4, 0, 0)
    assert world.holds(large, "p/large.bin")


async def test_a_sync_after_an_upload_of_the_directory_only_lists(world: World, tree: Path) -> None:
    world.file(3 * PART, "tree/large.bin")
    await uploaded(world, tree)
    before = len(world.s3.requests)
    assert counts(await synced(world, tree, dry_run=True)) == (0, 5, 0, 0)
    assert counts(await synced(world, tree)) == (0, 5, 0, 0)
    assert asked(world, before) == ["ListObjectsV2"] * 2
    (upload,) = [job for job in known_jobs(tree.parent / "state") if job.name == "upload"]
    assert (upload.status, upload.files) == ("finished", 5)
    upload.record.unlink()
    (tree / "a").write_bytes(b"A")
    before = len(world.s3.requests)
    assert counts(await synced(world, tree)) == (1, 4, 0, 0)
    ops = asked(world, before)
    assert (ops.count("HeadObject"), ops.count("PutObject")) == (1, 1), "the sync has recorded the others"


async def test_a_sync_that_forgets_its_record_asks_no_other_one(world: World, tree: Path) -> None:
    await uploaded(world, tree)
    before = len(world.s3.requests)
    assert counts(await synced(world, tree, resume=False)) == (0, 4, 0, 0)
    assert asked(world, before).count("HeadObject") == 4


async def uploaded(world: World, tree: Path) -> None:
    given: dict[str, Any] = {"to": TO, "s3": world.options(), "retry": FAST, "part_size": PART, "job": "upload"}
    async for outcome in bigupload.upload_many(bigupload.select_files(tree), **of_function(given)):
        assert isinstance(outcome, UploadResult)


async def test_only_what_changed_is_sent_and_times_do_not_hide_a_change(world: World, tree: Path) -> None:
    await synced(world, tree)
    status = (tree / "b.bin").stat()
    (tree / "b.bin").write_bytes(b"BB")
    os.utime(tree / "b.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tree / "a").write_bytes(b"longer")
    (tree / "new").write_bytes(b"new")
    os.utime(tree / "sub/c d")
    before = len(world.s3.requests)
    assert counts(await synced(world, tree)) == (3, 2, 0, 0)
    sent = {each.key for each in world.s3.requests[before:] if each.op == "PutObject"}
    assert sent == {"p/a", "p/b.bin", "p/new"}
    assert objects(world) == files(tree)


async def test_an_object_that_was_replaced_or_deleted_is_sent_again(world: World, tree: Path) -> None:
    await synced(world, tree)
    (tree / "other").write_bytes(b"xx")
    await bigupload.upload(
        tree / "other", to=f"{TO}b.bin", s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
    )  # of the same size
    (tree / "other").unlink()
    del world.s3.objects[BUCKET]["p/a"]
    assert counts(await synced(world, tree)) == (2, 2, 0, 0)
    assert objects(world) == files(tree)


async def test_where_lists_have_no_etags_each_object_is_proved_again(world: World, tree: Path) -> None:

    def without_etags(op: str, response: StoreResponse) -> StoreResponse:
        body = re.sub(rb"<ETag>.*?</ETag>", b"", response.body)
        return replace(response, body=body) if op == "ListObjectsV2" else response

    world.s3.knobs.respond = without_etags
    await synced(world, tree)
    (job,) = known_jobs(tree.parent / "state")
    with contextlib.closing(open_database(job.record)) as record:  # as if the responses to the PUTs had none, either
        record.execute("UPDATE file SET etag = ''")
    (tree / "other").write_bytes(b"xx")
    await bigupload.upload(
        tree / "other", to=f"{TO}b.bin", s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
    )  # of the same size
    (tree / "other").unlink()
    before = len(world.s3.requests)
    assert counts(await synced(world, tree)) == (1, 3, 0, 0)
    assert objects(world) == files(tree)
    assert asked(world, before).count("HeadObject") == 4


async def test_sizes_alone_prove_nothing_to_a_later_sync(world: World, tree: Path) -> None:
    await synced(world, tree)
    (tree / "b.bin").write_bytes(b"BB")
    told: list[SyncOutcome] = []
    assert counts(await synced(world, tree, size_only=True, told=told)) == (0, 4, 0, 0)
    assert {each.verified for each in told if isinstance(each, UploadResult)} == {Verified.SIZE}
    assert counts(await synced(world, tree)) == (1, 3, 0, 0)
    with pytest.raises(errors.UsageError, match="`size_only` compares sizes"):
        await synced(world, tree, size_only=True, require_proof="full-object")


async def test_a_dry_run_changes_nothing(world: World, tree: Path) -> None:
    told: list[SyncOutcome] = []
    result = await synced(world, tree, dry_run=True, delete=True, told=told)
    assert (counts(result), result.size) == ((4, 0, 0, 0), 6)
    assert {(each.source, each.url) for each in told if isinstance(each, SyncStep)} == {
        (str(tree / name), f"{TO}{name}") for name in ("a", "b.bin", "sub/c d", "sub/deep/e")
    }
    assert not list((tree.parent / "state").rglob("*"))
    assert not objects(world)
    await synced(world, tree)
    (record,) = (tree.parent / "state").glob(f"*{JOB_SUFFIX}")
    before = record.read_bytes(), len(world.s3.requests)
    assert counts(await synced(world, tree, dry_run=True)) == (0, 4, 0, 0)
    assert (record.read_bytes(), asked(world, before[1])) == (before[0], ["ListObjectsV2"])


async def test_pages_and_awkward_keys(world: World, tmp_path: Path) -> None:
    longest = "/".join(["x" * 200] * 5) + "/" + "é" * 8 + "x"
    names = [*AWKWARD, longest[: 1022 - len("é" * 8)] if len(f"p/{longest}".encode()) > 1024 else longest]
    root = grow(tmp_path / "awkward", {name: name.encode() for name in names})
    world.s3.knobs.page_size = 3
    assert counts(await synced(world, root)) == (len(names), 0, 0, 0)
    assert objects(world) == files(root)
    before = len(world.s3.requests)
    assert counts(await synced(world, root)) == (0, len(names), 0, 0)
    assert set(asked(world, before)) == {"ListObjectsV2"}
    assert len(asked(world, before)) == -(-len(names) // 3)
    for name in names[::2]:
        (root / name).unlink()
    assert counts(await synced(world, root, delete=True))[2:] == (len(names[::2]), 0)
    assert objects(world) == files(root)


@pytest.mark.slow
async def test_the_local_store_lists_in_another_order(weed: LocalStore, tmp_path: Path, world: World) -> None:
    client = weed_client(weed)
    client.create_bucket(Bucket="sync")
    options = options_for(weed)
    root = grow(tmp_path / "tree", {name: name.encode() for name in AWKWARD if "\\" not in name})
    where: dict[str, Any] = {"to": "s3://sync/p/", "s3": options}
    number = len(files(root))
    assert counts(await synced(world, root, **where)) == (number, 0, 0, 0)
    assert counts(await synced(world, root, **where)) == (0, number, 0, 0)
    assert counts(await synced(world, root, **where, state_dir=tmp_path / "other")) == (0, number, 0, 0)
    for name in ("a-b", "a/x", "%41", "\U0001f3ac film", "last\r"):
        (root / name).unlink()
    assert counts(await synced(world, root, **where, delete=True)) == (0, number - 5, 5, 0)
    rows = client.list_objects_v2(Bucket="sync", Prefix="p/")["Contents"]
    assert {row["Key"] for row in rows if not row["Key"].endswith("/")} == set(files(root))
    grow(root, {"back\\slash": b"its key becomes back/slash"})
    assert counts(await synced(world, root, **where, delete=True)) == (1, number - 5, 0, 0)
    assert counts(await synced(world, root, **where, delete=True)) == (1, number - 5, 0, 0)
    assert client.get_object(Bucket="sync", Key="p/back/slash")["Body"].read() == b"its key becomes back/slash"
    client.close()


async def test_a_cancelled_sync_goes_on(world: World, tree: Path) -> None:
    world.s3.hold("PutObject")
    running = asyncio.create_task(synced(world, tree, concurrency=1))
    await world.s3.wait_for_async("PutObject")
    with pytest.raises(errors.ManifestLocked, match="this job is running already"):
        await synced(world, tree)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    world.s3.release()
    await world.settled()
    result = await synced(world, tree)
    assert (result.uploaded + result.same, result.failed) == (4, 0)
    assert objects(world) == files(tree)


async def test_wrong_calls(world: World, tree: Path) -> None:
    with pytest.raises(errors.SourceNotFound, match="no such directory"):
        await synced(world, tree / "nowhere")
    with pytest.raises(errors.SourceUnsupported, match="is not a directory"):
        await synced(world, tree / "a")
    with pytest.raises(errors.UsageError, match="end the target with a slash"):
        await synced(world, tree, to=f"s3://{BUCKET}/p")
    with pytest.raises(errors.UsageError, match="leave out `if_none_match`"):
        await synced(world, tree, s3=world.options(if_none_match=True))
    with pytest.raises(errors.BucketNotFound):
        await synced(world, tree, to="s3://no-bucket/p/")
    with pytest.raises(TypeError, match="service"):
        await bigupload.sync(tree, service="http://127.0.0.1:9")  # type: ignore[call-arg]  # what is refused

"""Whole uploads, by the library's own surface, against the strict fake and against SeaweedFS."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import PartProof, RetryPolicy, Verified, errors, events
from bigupload.core.part_plan import MIB
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3 import bucket
from bigupload.stores.s3.access import Access
from bigupload.testing import faults as wire
from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for
from tests.tools.weed import fetch

from .support import BUCKET, FAST, KIB, LEVELS, LIMITS, PART, World, no_leaks, write

SIZES = {"empty": 0, "one byte": 1, "one part": PART, "one part and a byte": PART + 1, "several": 5 * PART + 17}

# --- every size, every checksum


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_each_size_ends_proved(world: World, size: int) -> None:
    path = world.file(size)
    began = time.monotonic()
    async with no_leaks():
        result = await world.upload(path)
    assert 0 < result.seconds < time.monotonic() - began
    assert world.holds(path)
    assert (result.verified, result.size, result.bytes_sent) == (Verified.FULL_OBJECT, size, size)
    assert (result.parts, result.resumed_parts, result.retries) == (max(1, -(-size // PART)), 0, 0)
    assert result.checksum == f"crc64nvme:{world.object().crc64nvme}"
    assert (result.bucket, result.key, result.path) == (BUCKET, "key", path)
    assert result.url == f"{world.s3.url}/{BUCKET}/key"
    assert world.manifest.status == "completed"
    assert not world.s3.uploads


@pytest.mark.parametrize("size", [0, 3 * PART + 1])
@pytest.mark.parametrize(("checksum", "level"), LEVELS.items())
async def test_each_checksum_gives_its_proof(world: World, checksum: str, level: Verified, size: int) -> None:
    path = world.file(size)
    result = await world.upload(path, checksum=checksum)
    assert world.holds(path)
    assert result.verified == level
    assert ("only its size" in world.warnings()) == (level is Verified.SIZE)
    assert (result.checksum is not None) == (level in (Verified.FULL_OBJECT, Verified.COMPOSITE_CHECKSUM))
    proofs = {event.proof for event in world.told(events.PartUploaded)}
    expected = {"md5": PartProof.ETAG, "none": PartProof.NONE}.get(checksum, PartProof.CHECKSUM)
    assert proofs == {expected}


async def test_over_https(s3_tls: StrictS3, tmp_path: Path, small_limits: None) -> None:
    world = World(s3_tls, tmp_path)
    path = world.file(3 * PART + 5)
    async with no_leaks():
        result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


@pytest.mark.slow
async def test_ten_thousand_parts(world: World) -> None:
    world.s3.knobs.min_part_size = 8
    path = world.file(10_000 * KIB - 5)
    limits = replace(LIMITS, max_parts=10_000, default_part_size=KIB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bigupload.stores.s3.multipart.S3Store.limits", limits)
        result = await world.upload(path)
    assert result.parts == 10_000
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert sorted(world.sent()) == list(range(1, 10_001))


@pytest.mark.parametrize("checksum", LEVELS)
@pytest.mark.parametrize("size", [16 * MIB + 3, 0, 1, 5 * MIB, 5 * MIB + 1])
@pytest.mark.exhaustive
async def test_into_seaweedfs(
    weed: LocalStore, tmp_path: Path, checksum: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size == 16 * MIB + 3 and checksum not in ("auto", "md5"):
        pytest.skip("several parts are tried with two checksums")
    path = write(tmp_path / "file", size)
    options = options_for(weed)
    result = await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/{checksum}/{size}",
        s3=options,
        part_size=5 * MIB,
        checksum=checksum,
        manifest=tmp_path / "m",
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert result.parts == max(1, -(-size // (5 * MIB)))
    assert fetch(weed, BUCKET, result.key) == path.read_bytes()
    # What this SeaweedFS echoes and what it keeps is its own matter; the level may be lower, never a failure.
    expected = {"auto": Verified.FULL_OBJECT, "crc64nvme": Verified.FULL_OBJECT}.get(checksum)
    assert expected in (None, result.verified)


# --- many uploads


async def test_two_uploads_of_the_same_file_and_key(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart")
    first = asyncio.create_task(world.upload(path))
    await world.s3.wait_for_async("UploadPart")
    with pytest.raises(errors.ManifestLocked, match=str(os.getpid())) as caught:
        await world.upload(path)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    world.s3.release()
    await first
    assert world.holds(path)
    assert world.s3.count("CreateMultipartUpload") == 1


async def test_the_same_file_to_the_same_key_finds_its_manifest_by_itself(world: World) -> None:
    path = world.file(2 * PART)
    world.s3.hold("UploadPart")
    first = asyncio.create_task(world.upload(path, manifest=None))
    await world.s3.wait_for_async("UploadPart")
    with pytest.raises(errors.ManifestLocked):
        await world.upload(path, manifest=None)
    other = asyncio.create_task(world.upload(path, manifest=None, to=f"s3://{BUCKET}/another"))
    await world.s3.wait_for_async("CreateMultipartUpload", 2)
    world.s3.release()
    results = [await first, await other]
    assert len({result.manifest for result in results}) == 2
    assert all(result.manifest.parent == world.directory / "state" for result in results)


async def test_many_uploads_share_one_uploader(world: World) -> None:
    paths = [world.file(n * PART // 2, f"file-{n}", seed=n) for n in range(6)]
    state = world.directory / "manifests"
    async with no_leaks(), bigupload.Uploader(concurrency=3, retry=FAST, state_dir=state) as uploader:
        results = await asyncio.gather(
            *(uploader.upload(path, to=f"s3://{BUCKET}/many/", s3=world.options()) for path in paths)
        )
    for path, result in zip(paths, results, strict=True):
        assert result.key == f"many/{path.name}"
        assert world.holds(path, result.key)
    in_parts = [
        path for path in paths if path.stat().st_size > PART
    ]  # one PUT sends the others, which have no manifest
    assert len(list((world.directory / "manifests").glob("*.jsonl"))) == len(in_parts) == 3


async def test_the_concurrency_is_shared_and_kept(world: World) -> None:
    world.s3.hold("UploadPart")
    paths = [world.file(4 * PART, f"file-{n}", seed=n) for n in range(2)]
    async with bigupload.Uploader(concurrency=2, retry=FAST, state_dir=world.directory) as uploader:
        tasks = [
            asyncio.create_task(uploader.upload(path, to=f"s3://{BUCKET}/many/", s3=world.options())) for path in paths
        ]
        await world.s3.wait_for_async("UploadPart", 2)
        await world.s3.wait_for_async("CreateMultipartUpload", 2, responded=True)
        for _ in range(20):
            await asyncio.sleep(0)
        assert world.s3.count("UploadPart") == 2
        world.s3.release()
        await asyncio.gather(*tasks)


async def test_one_that_fails_does_not_take_the_others_along(world: World) -> None:
    good, bad = world.file(3 * PART, "good"), world.file(3 * PART, "bad")
    world.s3.script("UploadPart", Status(405, "MethodNotAllowed"), key="bad", repeat=True)
    async with bigupload.Uploader(retry=FAST, state_dir=world.directory) as uploader:
        results = await asyncio.gather(
            *(uploader.upload(p, to=f"s3://{BUCKET}/", s3=world.options()) for p in (good, bad)), return_exceptions=True
        )
    assert isinstance(results[0], bigupload.UploadResult)
    assert isinstance(results[1], errors.StoreRefused)
    assert world.holds(good, "good")


# --- what is told


async def test_the_order_and_the_sums_of_events(world: World) -> None:
    path = world.file(6 * PART + 3)
    await world.upload(path, concurrency=2)
    kinds = [type(event) for event in world.events]
    assert kinds[0] is events.UploadStarted
    assert kinds[-1] is events.UploadCompleted
    assert (
        kinds.count(events.UploadStarted) == kinds.count(events.Completing) == kinds.count(events.UploadCompleted) == 1
    )
    completing = kinds.index(events.Completing)
    assert all(kinds.index(each) < completing for each in (events.PartUploaded, events.Progress))
    assert events.PartUploaded not in kinds[completing:]
    (started,) = world.told(events.UploadStarted)
    assert (started.size, started.parts, started.part_size) == (6 * PART + 3, 7, PART)
    assert (started.resumed_parts, started.manifest, started.path) == (0, world.manifest_path, path)
    parts = world.told(events.PartUploaded)
    assert sorted(event.number for event in parts) == list(range(1, 8))
    assert sum(event.size for event in parts) == 6 * PART + 3


async def test_progress_counts_what_is_recorded_and_what_is_out(world: World) -> None:
    path = world.file(8 * PART)
    world.s3.hold("UploadPart", acted=True)

    def on_event(event: events.Event) -> None:
        world.events.append(event)
        if isinstance(event, events.Progress) and event.bytes_in_flight == 2 * PART:
            world.s3.release()

    await bigupload.upload(
        path,
        to=f"s3://{BUCKET}/key",
        s3=world.options(),
        manifest=world.manifest_path,
        on_event=on_event,
        uploader=bigupload.Uploader(retry=FAST, concurrency=2),
    )
    told = world.told(events.Progress)
    assert told[-1].bytes_uploaded == told[-1].size == 8 * PART
    assert (told[-1].bytes_in_flight, told[-1].parts_uploaded, told[-1].parts) == (0, 8, 8)
    assert all(event.bytes_uploaded + event.bytes_in_flight <= event.size for event in told)
    uploaded = [event.bytes_uploaded for event in told]
    assert uploaded == sorted(uploaded)
    assert all(event.concurrency == 2 for event in told)


async def test_bytes_sent_counts_failed_attempts(world: World) -> None:
    world.s3.script("UploadPart", Status(500), part_number=1)
    result = await world.upload(world.file(2 * PART))
    assert result.bytes_sent == 3 * PART
    assert result.retries == 1


async def test_what_create_declares_arrives(world: World) -> None:
    path = world.file(PART, "movie.mp4")
    options = world.options(metadata={"owner": "me"}, tags={"a b": "c&d=e"}, storage_class="STANDARD_IA", sse="AES256")
    await world.upload(path, options=options)
    found = world.object()
    assert found.headers["content-type"] == "video/mp4"
    assert found.metadata["owner"] == "me"
    assert len(found.metadata["bigupload-token"]) == 32
    assert found.tagging == "a%20b=c%26d%3De"
    assert found.storage_class == "STANDARD_IA"
    assert found.headers["x-amz-server-side-encryption"] == "AES256"


async def test_a_kms_object_is_proved_by_its_checksum(world: World) -> None:
    """With SSE-KMS no ETag is an MD5: the checksum must do, and does."""
    path = world.file(2 * PART)
    result = await world.upload(path, options=world.options(sse="aws:kms", sse_kms_key_id="key-1"))
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_a_rate_limit_slows_and_still_proves(world: World) -> None:
    path = world.file(2 * PART)
    result = await world.upload(path, limit_rate=8 * MIB)
    assert world.holds(path)
    assert result.bytes_sent == 2 * PART


async def test_no_response_at_all_ends_within_a_few_attempts(world: World) -> None:
    options = world.options()
    world.s3.stop()
    with pytest.raises(errors.StoreUnreachable) as caught:
        await world.upload(world.file(1), options=options)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert len(world.told(events.Retrying)) == 3
    assert not world.manifest_path.exists()


async def test_an_outage_does_not_count_as_attempts(world: World, s3: StrictS3) -> None:
    """While nothing connects, the attempts are not counted; the give-up time ends it."""
    with FaultProxy("127.0.0.1", s3.port) as proxy:
        proxy.script("UploadPart", wire.Ok(), wire.NetworkOutage())
        options = replace(world.options(), endpoint_url=proxy.url)

        def on_event(event: events.Event) -> None:
            world.events.append(event)
            if isinstance(event, events.Progress) and event.retries >= 30:
                proxy.restore()

        path = world.file(3 * PART)
        result = await bigupload.upload(
            path,
            to=f"s3://{BUCKET}/key",
            s3=options,
            manifest=world.manifest_path,
            on_event=on_event,
            uploader=bigupload.Uploader(concurrency=1, retry=RetryPolicy(base_delay=0, max_delay=0, attempts=3)),
        )
    assert world.holds(path)
    assert result.retries >= 30
    assert [type(e) for e in world.events if isinstance(e, events.OutageStarted | events.OutageEnded)] == [
        events.OutageStarted,
        events.OutageEnded,
    ]


@pytest.mark.parametrize("variable", [{"AWS_UNKNOWN_SETTING": "1"}, {}], ids=["by boto3", "by plain rules"])
@pytest.mark.parametrize("local", [False, True])
async def test_uploads_to_one_bucket_find_out_once_how_it_is_reached(
    world: World, weed: LocalStore, local: bool, variable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 takes 20 ms of CPU for that: with one for each upload, small files are limited by it."""
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(weed.data_dir))
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    s3 = bigupload.S3Options(local=True) if local else world.options()
    found: list[str] = []
    real = bucket.find_access

    def counted(name: str, *arguments: Any, **more: Any) -> Access:
        found.append(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(bucket, "find_access", counted)
    async with (
        bigupload.Uploader(retry=FAST, state_dir=world.directory / "state") as uploader,
        asyncio.TaskGroup() as tasks,
    ):
        for n in range(5):
            path = world.file(100, f"{n}.bin", seed=n)
            tasks.create_task(uploader.upload(path, to=f"s3://{BUCKET}/", s3=s3))
    assert found == [BUCKET]
    assert local or set(world.s3.objects[BUCKET]) == {f"{n}.bin" for n in range(5)}

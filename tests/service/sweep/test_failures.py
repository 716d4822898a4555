"""What fails in a sweep does not stop it, but for a store that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.uploads.sweep import Sweep, SweepReport
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.service.sweep.support import EXE, JPG, SECOND, WEEK, Clock, keys, made, open_upload, put, stored
from tests.tools.buckets import Meddled, Next
from tests.tools.media import sample


async def two_old(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, JPG)
    await put(bucket, made("b.jpg"))
    clock.at += WEEK + 60 * SECOND


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
async def test_one_of_a_batch_that_is_refused(bucket: Meddled, clock: Clock, code: str) -> None:
    async def refused(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return {"Errors": [{"Key": JPG, "Code": code}]}

    await two_old(bucket, clock)
    bucket.meddle["DeleteObjects"] = refused
    report = await Sweep(bucket, now=clock).run()
    assert (report.expired, report.failed, report.bytes_freed) == (1, 1, len(sample("jpg")))


async def test_one_that_is_refused_where_there_are_no_batches(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    await two_old(strict, clock)
    s3.script("DeleteObject", Status(403, "AccessDenied"), key=JPG)
    report = await Sweep(strict, now=clock).run()
    assert (report.expired, report.failed) == (1, 1)
    assert stored(s3) == {JPG}


async def test_conditions_that_a_batch_does_not_know(bucket: Meddled, clock: Clock) -> None:
    async def refused(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return {"Errors": [{"Key": row["Key"], "Code": "NotImplemented"} for row in arguments["Delete"]["Objects"]]}

    await two_old(bucket, clock)
    bucket.meddle["DeleteObjects"] = refused
    assert (await Sweep(bucket, now=clock).run()).expired == 2
    assert await keys(bucket) == set()


async def test_a_busy_store_is_left_in_peace(bucket: Meddled, clock: Clock) -> None:
    async def busy(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.BUSY, "503 SlowDown", status=503)

    await two_old(bucket, clock)
    bucket.meddle["DeleteObjects"] = busy
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=2, failed=2)
    assert "DeleteObject" not in bucket.calls


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("op", "fault"),
    [
        ("GetObject", Status(500, "InternalError")),
        ("GetObject", Status(403, "AccessDenied")),
        ("HeadObject", Status(503)),
        ("DeleteObject", Status(403, "AccessDenied")),
    ],
)
async def test_one_object_that_fails_stops_nothing(
    strict: Meddled, s3: StrictS3, clock: Clock, op: str, fault: Status
) -> None:
    """And the next sweep tries again."""
    for name in ("a", "b", "c"):
        await put(strict, made(f"{name}.jpg"), EXE)
    s3.script(op, fault, key=made("b.jpg"))
    sweep = Sweep(strict, now=clock)
    report = await sweep.run()
    assert (report.not_media, report.failed) == (2, 1)
    assert stored(s3) == {made("b.jpg")}
    assert (await sweep.run()).not_media == 1


async def test_one_object_that_raises_what_nobody_foresaw_stops_nothing(strict: Meddled, clock: Clock) -> None:
    async def unforeseen(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        if arguments["Key"] == made("b.jpg"):
            raise KeyError("LastModified")
        return await proceed()

    for name in ("a", "b", "c"):
        await put(strict, made(f"{name}.jpg"), EXE)
    strict.meddle["GetObject"] = unforeseen
    report = await Sweep(strict, now=clock).run()
    assert (report.not_media, report.failed) == (2, 1)


async def test_an_upload_that_fails_stops_nothing(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        await open_upload(strict, made(f"{name}.mp4"))
    clock.at += WEEK + 60 * SECOND
    s3.script("AbortMultipartUpload", Status(404, "NoSuchUpload"), key=made("a.mp4"))
    s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), key=made("b.mp4"))
    assert await Sweep(strict, now=clock).run() == SweepReport(aborted_uploads=1, failed=1)


@pytest.mark.parametrize("op", ["ListObjectsV2", "ListMultipartUploads"])
async def test_a_bucket_that_cannot_be_listed(strict: Meddled, s3: StrictS3, clock: Clock, op: str) -> None:
    s3.script(op, Status(503, "SlowDown"), repeat=True)
    with pytest.raises(errors.StoreUnavailable):
        await Sweep(strict, now=clock).run()


@pytest.mark.parametrize("method", ["GetObject", "DeleteObject", "DeleteObjects", "AbortMultipartUpload"])
async def test_a_store_that_is_gone_ends_the_sweep(strict: Meddled, clock: Clock, method: str) -> None:
    """And not by a thousand timeouts."""

    async def gone(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.UNREACHABLE, "the store does not answer")

    for number in range(2):
        await put(strict, made(f"{number}.jpg"))
        await open_upload(strict, made(f"{number}.mp4"))
    clock.at += timedelta() if method == "GetObject" else WEEK + 60 * SECOND
    strict.meddle[method] = gone
    with pytest.raises(errors.StoreUnreachable):
        await Sweep(strict, now=clock).run()


async def test_a_sweep_may_be_cancelled(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    await put(strict, JPG, EXE)
    sweep = Sweep(strict, now=clock)
    s3.hold("GetObject")
    task = asyncio.create_task(sweep.run())
    await s3.wait_for_async("GetObject")
    task.cancel()
    s3.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stored(s3) == {JPG}
    assert (await sweep.run()).not_media == 1

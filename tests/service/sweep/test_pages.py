"""A sweep goes through a bucket in pages, and deletes in batches where the store knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.uploads.sweep import Sweep, SweepReport
from bigupload.testing.strict_s3 import StrictS3
from tests.service.sweep.support import JPG, SECOND, WEEK, Clock, keys, made, open_keys, open_upload, put, stored
from tests.tools.buckets import Meddled, Next


async def test_pages_are_followed(bucket: Meddled, clock: Clock) -> None:
    names = {made(f"{number}.jpg") for number in range(5)}
    for name in names:
        await put(bucket, name)
    sweep = Sweep(bucket, now=clock, page_size=2)
    assert await sweep.run() == SweepReport(looked_at=5)
    clock.at += WEEK + 60 * SECOND
    assert (await sweep.run()).expired == 5
    assert await keys(bucket) == set()


async def test_uploads_are_followed_over_pages(strict: Meddled, clock: Clock) -> None:
    for number in range(5):
        await open_upload(strict, made(f"{number}.mp4"))
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(strict, now=clock).run()).aborted_uploads == 5
    assert await open_keys(strict) == set()


async def test_uploads_are_followed_over_pages_of_seaweedfs(bucket: Meddled, clock: Clock) -> None:
    """It pages by upload ids alone, and in their order."""

    async def short(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return await Meddled.call(plain, "", "ListMultipartUploads", MaxUploads=2, **arguments)

    plain = Meddled(bucket.name, bucket.options)
    for number in range(5):
        await open_upload(bucket, made(f"{number}.mp4"))
    bucket.meddle["ListMultipartUploads"] = short
    try:
        assert await Sweep(bucket, now=clock).run() == SweepReport()
        pages = bucket.calls.count("ListMultipartUploads")
        clock.at += WEEK + 60 * SECOND
        assert (await Sweep(bucket, now=clock).run()).aborted_uploads == 5
        assert pages >= 3
    finally:
        await plain.aclose()


async def test_no_upload_is_aborted_before_the_last_page_was_read(strict: Meddled, clock: Clock) -> None:
    """Some stores lose their place when the uploads of a page are gone."""

    async def short(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return await Meddled.call(plain, "", "ListMultipartUploads", MaxUploads=2, **arguments)

    plain = Meddled(strict.name, strict.options)
    for number in range(5):
        await open_upload(strict, made(f"{number}.mp4"))
    strict.meddle["ListMultipartUploads"] = short
    clock.at += WEEK + 60 * SECOND
    strict.calls.clear()
    try:
        assert (await Sweep(strict, now=clock).run()).aborted_uploads == 5
    finally:
        await plain.aclose()
    calls = [call for call in strict.calls if call.endswith(("ListMultipartUploads", "AbortMultipartUpload"))]
    assert calls == ["ListMultipartUploads"] * 3 + ["AbortMultipartUpload"] * 5


async def test_a_page_goes_in_one_call(bucket: Meddled, clock: Clock) -> None:
    for number in range(3):
        await put(bucket, made(f"{number}.jpg"))
    clock.at += WEEK + 60 * SECOND
    await Sweep(bucket, now=clock).run()
    assert bucket.calls.count("DeleteObjects") == 1
    assert "DeleteObject" not in bucket.calls


async def test_a_store_without_batches_is_asked_once(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    for number in range(5):
        await put(strict, made(f"{number}.jpg"))
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(strict, now=clock).run()).expired == 5
    assert strict.calls.count("DeleteObjects") == 1
    assert not stored(s3)


async def test_a_batch_that_is_refused_as_a_whole(bucket: Meddled, clock: Clock) -> None:
    async def refused(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.FINAL, "400 MalformedXML", status=400)

    bucket.meddle["DeleteObjects"] = refused
    await put(bucket, made("b.jpg"))
    await put(bucket, JPG)
    clock.at += WEEK + 60 * SECOND
    sweep = Sweep(bucket, now=clock)
    assert (await sweep.run()).expired == 2
    assert await keys(bucket) == set()


async def test_a_store_without_conditions(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    async def conditional(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        if "IfMatch" in arguments:
            raise Fault(FaultKind.UNSUPPORTED, "501", status=501)
        return await proceed()

    await put(strict, JPG)
    strict.meddle["DeleteObject"] = conditional
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(strict, now=clock).run()).expired == 1
    assert not stored(s3)

"""What a sweep removes and when, and what stays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from bigupload import errors
from bigupload.service.media.object_keys import note_key
from bigupload.service.media.policy import Policy
from bigupload.service.media_objects import MediaBucket
from bigupload.service.uploads.sweep import Reason, Removal, Sweep, SweepReport
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.service.sweep.support import EXE, JPG, SECOND, WEEK, Clock, keys, made, open_keys, open_upload, put, stored
from tests.tools.buckets import Meddled, Next, client_of
from tests.tools.media import sample

# -- seven days


@pytest.mark.parametrize("key", [JPG, note_key(JPG)])
async def test_an_object_ends_at_seven_days_and_not_before(bucket: Meddled, clock: Clock, key: str) -> None:
    written = await put(bucket, key)
    sweep = Sweep(bucket, now=clock)
    clock.at = written + WEEK - SECOND
    assert await sweep.run() == SweepReport(looked_at=1)
    assert await keys(bucket, "") == {key}
    clock.at = written + WEEK
    size = len(sample("jpg"))
    assert await sweep.run() == SweepReport(looked_at=1, expired=1, bytes_freed=size)
    assert await keys(bucket) == set()


async def test_an_upload_ends_at_seven_days_and_not_before(bucket: Meddled, clock: Clock) -> None:
    initiated = await open_upload(bucket, made("open.mp4"))
    await open_upload(bucket, "other/open.mp4")
    sweep = Sweep(bucket, now=clock)
    clock.at = initiated + WEEK - SECOND
    assert await sweep.run() == SweepReport()
    assert await open_keys(bucket) == {made("open.mp4"), "other/open.mp4"}
    clock.at = initiated + WEEK
    assert await sweep.run() == SweepReport(aborted_uploads=1)
    assert await open_keys(bucket) == {"other/open.mp4"}


async def test_nothing_else_in_the_bucket_is_touched(bucket: Meddled, clock: Clock) -> None:
    """Nor an operator's own files, though they lie where the uploads do."""
    others = [
        *("other/old.exe", "old.exe", "mediaeval/old.exe", "media/logo.svg", "media/owner/logo.jpg", "refused/why.txt"),
        *(JPG.replace("owner", "Owner"), JPG.replace("owner/", "owner/x/"), "x/" + JPG, JPG.removesuffix(".jpg")),
    ]
    for key in others:
        await put(bucket, key, EXE)
        await open_upload(bucket, key)
    assert await Sweep(bucket, now=clock, policy=Policy(max_file_size=1)).run() == SweepReport()
    clock.at += 10 * WEEK
    assert await Sweep(bucket, now=clock).run() == SweepReport()
    assert await keys(bucket, "") == await open_keys(bucket) == set(others)


@pytest.mark.parametrize(("most", "code"), [(len(EXE), "not_media"), (len(EXE) - 1, "file_too_large")])
async def test_why_something_went_is_left_for_its_client(bucket: Meddled, clock: Clock, most: int, code: str) -> None:
    """Before it goes: whoever does not find it finds that."""
    noted: list[Mapping[str, str] | None] = []

    async def look(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        noted.append(await MediaBucket(bucket).note(note_key(JPG)))
        return await proceed()

    await put(bucket, JPG, EXE)
    bucket.meddle["DeleteObject"] = look
    sweep = Sweep(bucket, now=clock, policy=Policy(max_file_size=most))
    await sweep.run(dry_run=True)
    assert await keys(bucket, "") == {JPG}
    await sweep.run()
    assert noted == [{"code": code}]
    assert await keys(bucket, "") == {note_key(JPG)}


async def test_what_can_t_be_noted_stays(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    for name in ("big.jpg", "exe.mp4"):
        await put(strict, made(name), EXE + bytes(name == "big.jpg"))
        s3.script("PutObject", Status(403, "AccessDenied"), key=note_key(made(name)))
    sweep = Sweep(strict, now=clock, policy=Policy(max_file_size=len(EXE)))
    assert await sweep.run() == SweepReport(looked_at=2, failed=2)
    assert stored(s3) == {made("big.jpg"), made("exe.mp4")}
    report = await sweep.run()
    assert (report.too_large, report.not_media, stored(s3)) == (1, 1, set())


async def test_what_a_multipart_upload_made_ends_too(bucket: Meddled, clock: Clock) -> None:
    key = made("big.jpg")
    client, of_key = client_of(bucket), {"Bucket": bucket.name, "Key": key}
    upload = client.create_multipart_upload(**of_key, ContentType="image/jpeg")["UploadId"]
    part = client.upload_part(**of_key, UploadId=upload, PartNumber=1, Body=sample("jpg"))
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**of_key, UploadId=upload, MultipartUpload=parts)
    client.close()
    await put(bucket, JPG)  # so that they go in one batch
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(bucket, now=clock).run()).expired == 2
    assert await keys(bucket) == set()


# -- the limit


async def test_what_is_over_the_limit(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, JPG)
    size = len(sample("jpg"))
    assert await Sweep(bucket, now=clock, policy=Policy(max_file_size=size)).run() == SweepReport(looked_at=1)
    report = await Sweep(bucket, now=clock, policy=Policy(max_file_size=size - 1)).run()
    assert report == SweepReport(looked_at=1, too_large=1, bytes_freed=size)
    assert await keys(bucket) == set()


# -- what is not media

GOOD = [
    ("a.jpg", "image/jpeg", "jpg"),
    ("a.jpeg", "image/jpg", "jpg"),
    ("a.png", "image/png; charset=binary", "png"),
    ("a.gif", "image/gif", "animated.gif"),
    ("a.webp", "image/webp", "webp"),
    ("a.mp4", "video/mp4", "mp4"),
    ("a.mov", "video/quicktime", "mov"),
    ("a.webm", "video/webm", "webm"),
]


async def test_media_stay(bucket: Meddled, clock: Clock) -> None:
    for name, content_type, recipe in GOOD:
        await put(bucket, made(name), sample(recipe), content_type)
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=len(GOOD))
    assert len(await keys(bucket)) == len(GOOD)


BAD: dict[str, tuple[str, str, bytes | str]] = {
    "a renamed exe": ("a.mp4", "video/mp4", EXE),
    "empty": ("a.jpg", "image/jpeg", b""),
    "one byte": ("a.jpg", "image/jpeg", b"\xff"),
    "a page": ("a.jpg", "text/html", b"<html><script>alert(1)</script>"),
    "a picture served as a page": ("a.jpg", "text/html", "jpg"),
    "another medium than its name": ("a.jpg", "image/png", "png"),
    "another medium than its type": ("a.png", "image/jpeg", "png"),
    "not on the list": ("a.avi", "video/x-msvideo", "avi"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("which", BAD)
async def test_what_is_not_media_goes(bucket: Meddled, clock: Clock, which: str) -> None:
    name, content_type, recipe = BAD[which]
    body = sample(recipe) if isinstance(recipe, str) else recipe
    await put(bucket, made(name), body, content_type)
    await put(bucket, JPG.replace("owner", "other"))
    report = await Sweep(bucket, now=clock).run()
    assert report == SweepReport(looked_at=2, not_media=1, bytes_freed=len(body))
    assert await keys(bucket) == {JPG.replace("owner", "other")}


async def test_notes_of_refusals_are_not_looked_at(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, note_key(JPG), b"")
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=1)


async def test_each_object_is_looked_at_once(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, JPG)
    sweep = Sweep(bucket, now=clock)
    for _ in range(3):
        await sweep.run()
    assert bucket.calls.count("GetObject") == 1
    await put(bucket, JPG, EXE)  # and a new version again
    assert (await sweep.run()).not_media == 1


async def test_what_was_looked_at_is_remembered_over_a_sweep_that_broke_off(
    strict: Meddled, s3: StrictS3, clock: Clock
) -> None:
    await put(strict, JPG)
    s3.script("ListMultipartUploads", Status(503, "SlowDown"))
    sweep = Sweep(strict, now=clock)
    with pytest.raises(errors.StoreUnavailable):
        await sweep.run()
    await sweep.run()
    assert strict.calls.count("GetObject") == 1


# -- what changes meanwhile


async def test_an_object_that_is_replaced_after_the_look_stays(bucket: Meddled, clock: Clock) -> None:
    async def replaced(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        response = await proceed()
        del bucket.meddle["GetObject"]
        await put(bucket, JPG)
        return response

    await put(bucket, JPG, EXE)
    bucket.meddle["GetObject"] = replaced
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=1)
    assert "DeleteObject" not in bucket.calls
    assert await keys(bucket) == {JPG}


@pytest.mark.parametrize(
    ("body", "age", "method", "others"),
    [(EXE, 0 * WEEK, "DeleteObject", []), (None, WEEK, "DeleteObject", []), (None, WEEK, "DeleteObjects", ["b"])],
)
async def test_an_object_that_is_replaced_at_the_last_moment_stays(
    bucket: Meddled, clock: Clock, body: bytes | None, age: timedelta, method: str, others: list[str]
) -> None:
    """Where the store knows If-Match."""

    async def replaced(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        await put(bucket, JPG, sample("animated.gif"))
        return await proceed()

    for other in others:
        await put(bucket, made(f"{other}.jpg"))
    clock.at = await put(bucket, JPG, body) + age
    clock.at += SECOND  # for the others
    bucket.meddle[method] = replaced
    report = await Sweep(bucket, now=clock).run()
    assert (report.expired, report.not_media, report.failed) == (len(others), 0, 0)
    assert await keys(bucket) == {JPG}


@pytest.mark.parametrize("age", [timedelta(), WEEK])
async def test_an_object_that_another_sweep_deletes_is_no_failure(
    bucket: Meddled, clock: Clock, age: timedelta
) -> None:
    async def deleted(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        response = await proceed()
        if arguments["Prefix"] == "media/":
            await bucket.call("", "DeleteObject", Key=JPG)
        return response

    clock.at = await put(bucket, JPG) + age
    bucket.meddle["ListObjectsV2"] = deleted
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=1)


# -- trying it out


async def test_a_dry_run_says_all_and_deletes_nothing(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, made("big.jpg"), sample("jpg") + bytes(10_000))
    await put(bucket, made("exe.mp4"), EXE, "video/mp4")
    limit = len(sample("jpg")) + 9_999
    removals: list[Removal] = []
    sweep = Sweep(bucket, now=clock, policy=Policy(max_file_size=limit), on_removal=removals.append)
    report = await sweep.run(dry_run=True)
    assert (report.too_large, report.not_media) == (1, 1)
    assert {(removal.key, removal.reason) for removal in removals} == {
        (made("big.jpg"), Reason.TOO_LARGE),
        (made("exe.mp4"), Reason.NOT_MEDIA),
    }
    await open_upload(bucket, made("open.mp4"))
    clock.at += WEEK + 60 * SECOND
    old = await sweep.run(dry_run=True)
    assert (old.expired, old.aborted_uploads) == (2, 1)
    assert len(await keys(bucket)) == 2
    assert len(await open_keys(bucket)) == 1
    assert await sweep.run() == old

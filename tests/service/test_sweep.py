"""The sweep under a clock that tests set: what goes and when, what stays, and what fails without stopping it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bigupload import errors
from bigupload.cli import main
from bigupload.retry import Fault, FaultKind
from bigupload.service.object_keys import note_key
from bigupload.service.sweep import Reason, Removal, Sweep, SweepReport
from bigupload.stores.media import MediaBucket
from tests.tools.buckets import Meddled, Next, options_for
from tests.tools.media import sample
from tests.tools.strict_s3 import Status, StrictS3

WEEK = timedelta(days=7)
SECOND = timedelta(seconds=1)


def made(name: str) -> str:
    """A key as the service makes them: one for each name."""
    stem, _, extension = name.rpartition(".")
    return f"media/owner/{stem.encode().hex():0>32}.{extension}"


JPG = made("a.jpg")
EXE = b"MZ\x90\x00" + bytes(4096)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    """Knows no batches and no conditions of deleting."""
    with StrictS3(page_size=2) as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
async def strict(s3: StrictS3) -> AsyncIterator[Meddled]:
    found = Meddled("bucket", options_for(s3))
    yield found
    await found.aclose()


async def put(bucket: Meddled, key: str, body: bytes | None = None, content_type: str = "image/jpeg") -> datetime:
    """When it was written, by the store's clock. Without a body, a picture."""
    body = sample("jpg") if body is None else body
    await bucket.call("to put", "put_object", Key=key, Body=body, ContentType=content_type)
    answer = await bucket.call("to look", "head_object", Key=key)
    written: datetime = answer["LastModified"]
    return written


async def keys(bucket: Meddled, but: str = "refused/") -> set[str]:
    """Of all objects but notes."""
    rows = (await bucket.call("to list", "list_objects_v2")).get("Contents", ())
    return {row["Key"] for row in rows if not (but and row["Key"].startswith(but))}


def stored(s3: StrictS3) -> set[str]:
    """The same, by the store's own word."""
    return {key for key in s3.objects["bucket"] if not key.startswith("refused/")}


async def open_upload(bucket: Meddled, key: str) -> datetime:
    upload = await bucket.call("to start", "create_multipart_upload", Key=key)
    page = await bucket.call("to list", "list_multipart_uploads", Prefix=key)
    (initiated,) = (row["Initiated"] for row in page["Uploads"] if row["UploadId"] == upload["UploadId"])
    assert isinstance(initiated, datetime)
    return initiated


async def open_keys(bucket: Meddled) -> set[str]:
    return {row["Key"] for row in (await bucket.call("to list", "list_multipart_uploads")).get("Uploads", ())}


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
    assert await Sweep(bucket, now=clock, max_file_size=1).run() == SweepReport()
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
    bucket.meddle["delete_object"] = look
    sweep = Sweep(bucket, now=clock, max_file_size=most)
    await sweep.run(dry_run=True)
    assert await keys(bucket, "") == {JPG}
    await sweep.run()
    assert noted == [{"code": code}]
    assert await keys(bucket, "") == {note_key(JPG)}


async def test_what_can_t_be_noted_stays(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    for name in ("big.jpg", "exe.mp4"):
        await put(strict, made(name), EXE + bytes(name == "big.jpg"))
        s3.script("PutObject", Status(403, "AccessDenied"), key=note_key(made(name)))
    sweep = Sweep(strict, now=clock, max_file_size=len(EXE))
    assert await sweep.run() == SweepReport(looked_at=2, failed=2)
    assert stored(s3) == {made("big.jpg"), made("exe.mp4")}
    report = await sweep.run()
    assert (report.too_large, report.not_media, stored(s3)) == (1, 1, set())


async def test_what_a_multipart_upload_made_ends_too(bucket: Meddled, clock: Clock) -> None:
    key = made("big.jpg")
    upload = (await bucket.call("", "create_multipart_upload", Key=key, ContentType="image/jpeg"))["UploadId"]
    part = await bucket.call("", "upload_part", Key=key, UploadId=upload, PartNumber=1, Body=sample("jpg"))
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await bucket.call("", "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload=parts)
    await put(bucket, JPG)  # so that they go in one batch
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(bucket, now=clock).run()).expired == 2
    assert await keys(bucket) == set()


# -- the limit


async def test_what_is_over_the_limit(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, JPG)
    size = len(sample("jpg"))
    assert await Sweep(bucket, now=clock, max_file_size=size).run() == SweepReport(looked_at=1)
    report = await Sweep(bucket, now=clock, max_file_size=size - 1).run()
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
    assert bucket.calls.count("get_object") == 1
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
    assert strict.calls.count("get_object") == 1


async def test_the_memory_is_bounded_and_forgets_what_is_gone(
    bucket: Meddled, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigupload.service.sweep._MOST_REMEMBERED", 1)
    await put(bucket, made("a.jpg"))
    await put(bucket, made("b.jpg"))
    sweep = Sweep(bucket, now=clock, page_size=1)
    looks = []
    for run in range(4):
        if run == 2:
            await bucket.call("", "delete_object", Key=made("a.jpg"))
        before = bucket.calls.count("get_object")
        await sweep.run()
        looks.append(bucket.calls.count("get_object") - before)
    assert looks == [2, 1, 1, 0]


# -- what changes meanwhile


async def test_an_object_that_is_replaced_after_the_look_stays(bucket: Meddled, clock: Clock) -> None:
    async def replaced(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        answer = await proceed()
        del bucket.meddle["get_object"]
        await put(bucket, JPG)
        return answer

    await put(bucket, JPG, EXE)
    bucket.meddle["get_object"] = replaced
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=1)
    assert "delete_object" not in bucket.calls
    assert await keys(bucket) == {JPG}


@pytest.mark.parametrize(
    ("body", "age", "method", "others"),
    [(EXE, 0 * WEEK, "delete_object", []), (None, WEEK, "delete_object", []), (None, WEEK, "delete_objects", ["b"])],
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
        answer = await proceed()
        if arguments["Prefix"] == "media/":
            await bucket.call("", "delete_object", Key=JPG)
        return answer

    clock.at = await put(bucket, JPG) + age
    bucket.meddle["list_objects_v2"] = deleted
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=1)


# -- pages, batches


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
        return await Meddled.call(plain, "", "list_multipart_uploads", MaxUploads=2, **arguments)

    plain = Meddled(bucket.name, bucket.options)
    for number in range(5):
        await open_upload(bucket, made(f"{number}.mp4"))
    bucket.meddle["list_multipart_uploads"] = short
    try:
        assert await Sweep(bucket, now=clock).run() == SweepReport()
        pages = bucket.calls.count("list_multipart_uploads")
        clock.at += WEEK + 60 * SECOND
        assert (await Sweep(bucket, now=clock).run()).aborted_uploads == 5
        assert pages >= 3
    finally:
        await plain.aclose()


async def test_a_page_goes_in_one_call(bucket: Meddled, clock: Clock) -> None:
    for number in range(3):
        await put(bucket, made(f"{number}.jpg"))
    clock.at += WEEK + 60 * SECOND
    await Sweep(bucket, now=clock).run()
    assert bucket.calls.count("delete_objects") == 1
    assert "delete_object" not in bucket.calls


async def test_a_store_without_batches_is_asked_once(strict: Meddled, s3: StrictS3, clock: Clock) -> None:
    for number in range(5):
        await put(strict, made(f"{number}.jpg"))
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(strict, now=clock).run()).expired == 5
    assert strict.calls.count("delete_objects") == 1
    assert not stored(s3)


async def test_a_batch_that_is_refused_as_a_whole(bucket: Meddled, clock: Clock) -> None:
    async def refused(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.FINAL, "400 MalformedXML", status=400)

    bucket.meddle["delete_objects"] = refused
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
    strict.meddle["delete_object"] = conditional
    clock.at += WEEK + 60 * SECOND
    assert (await Sweep(strict, now=clock).run()).expired == 1
    assert not stored(s3)


# -- failures


async def two_old(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, JPG)
    await put(bucket, made("b.jpg"))
    clock.at += WEEK + 60 * SECOND


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
async def test_one_of_a_batch_that_is_refused(bucket: Meddled, clock: Clock, code: str) -> None:
    async def refused(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        return {"Errors": [{"Key": JPG, "Code": code}]}

    await two_old(bucket, clock)
    bucket.meddle["delete_objects"] = refused
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
    bucket.meddle["delete_objects"] = refused
    assert (await Sweep(bucket, now=clock).run()).expired == 2
    assert await keys(bucket) == set()


async def test_a_busy_store_is_left_in_peace(bucket: Meddled, clock: Clock) -> None:
    async def busy(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.BUSY, "503 SlowDown", status=503)

    await two_old(bucket, clock)
    bucket.meddle["delete_objects"] = busy
    assert await Sweep(bucket, now=clock).run() == SweepReport(looked_at=2, failed=2)
    assert "delete_object" not in bucket.calls


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


@pytest.mark.parametrize("method", ["get_object", "delete_object", "delete_objects", "abort_multipart_upload"])
async def test_a_store_that_is_gone_ends_the_sweep(strict: Meddled, clock: Clock, method: str) -> None:
    """And not by a thousand timeouts."""

    async def gone(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.UNREACHABLE, "the store does not answer")

    for number in range(2):
        await put(strict, made(f"{number}.jpg"))
        await open_upload(strict, made(f"{number}.mp4"))
    clock.at += timedelta() if method == "get_object" else WEEK + 60 * SECOND
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


# -- trying it out


async def test_a_dry_run_says_all_and_deletes_nothing(bucket: Meddled, clock: Clock) -> None:
    await put(bucket, made("big.jpg"), sample("jpg") + bytes(10_000))
    await put(bucket, made("exe.mp4"), EXE, "video/mp4")
    limit = len(sample("jpg")) + 9_999
    removals: list[Removal] = []
    sweep = Sweep(bucket, now=clock, max_file_size=limit, on_removal=removals.append)
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


# -- the command


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bucket", "sweep", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def filled(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> StrictS3:
    """With one object that is not media."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    client = s3.client()
    client.put_object(Bucket="bucket", Key=made("exe.mp4"), Body=EXE, ContentType="video/mp4")
    client.close()
    return s3


def test_the_command_tells_each_removal(filled: StrictS3, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("s3://bucket", "--endpoint-url", filled.url, "--dry-run") == 0
    told = capsys.readouterr()
    assert told.out.split() == ["not", "media", "4.0", "KiB", made("exe.mp4")]
    assert told.err == "would delete 1 of 1 objects (4.0 KiB) and 0 open uploads; 0 failed\n"
    assert filled.objects["bucket"]
    assert command("s3://bucket", "--endpoint-url", filled.url, "--json") == 0
    removal, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert removal == {"key": made("exe.mp4"), "reason": "not media", "size": len(EXE), "dry_run": False}
    assert (totals["not_media"], totals["looked_at"], totals["bytes_freed"]) == (1, 1, len(EXE))
    assert not stored(filled)


def test_the_command_fails_for_now_where_something_failed(filled: StrictS3, capsys: pytest.CaptureFixture[str]) -> None:
    filled.script("DeleteObject", Status(503, "SlowDown"))
    assert command("s3://bucket", "--endpoint-url", filled.url) == errors.EXIT_RESUMABLE
    assert capsys.readouterr().err.endswith("1 failed\n")


def test_the_command_on_a_bucket_that_is_not_there(filled: StrictS3, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("s3://nothing", "--endpoint-url", filled.url) == errors.EXIT_FAILED
    assert "there is no bucket 'nothing'" in capsys.readouterr().err

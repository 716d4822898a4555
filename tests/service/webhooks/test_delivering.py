"""Which events there are for each way into the store and out of it, and how they reach their receivers at last."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import httpx
import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.media.policy import STORED_FOR
from bigupload.service.problems import Problem, Refused
from bigupload.service.webhooks import telling
from bigupload.service.webhooks.hooks import HookFailed, Question, Sent
from bigupload.service.webhooks.telling import LEASE, RETRIED_FOR, WAITING, Note
from bigupload.service.webhooks.telling import event as event_of
from bigupload.testing.strict_s3 import StrictS3
from tests.service.test_races import DATA, PHOTO, sent
from tests.service.webhooks.support import SECRET, Clock, Replica, done, replica, told, waiting
from tests.tools.buckets import Meddled, Next, options_for
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.waiting import until

OK = Response(status=204)
EXE = b"MZ\x90\x00" + bytes(4096)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receiver(session_stub: HttpStub) -> HttpStub:
    session_stub.forget()
    session_stub.responses["/hook"] = OK
    return session_stub


@pytest.fixture
async def one(bucket: Meddled, receiver: HttpStub, clock: Clock) -> AsyncIterator[Replica]:
    async with replica(bucket, [f"{receiver.url}/hook"], clock) as made:
        yield made


async def put(url: str, content: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(url, content=content, headers={"Content-Type": "image/jpeg"})).status_code == 200


async def test_a_completed_upload_is_told_at_once(bucket: Meddled, one: Replica, receiver: HttpStub) -> None:
    """And once, however often complete and status are asked."""
    request = await sent(one.uploads)
    async with one.deliverer.running(every=600):
        done_ = await one.uploads.complete("me", request)
        await until(lambda: len(receiver.received) == 1)
        await one.uploads.complete("me", request)
        await one.uploads.status("me", request.upload)
        await one.uploads.finishing.postable("me", done_.key)
        while await waiting(bucket):
            await asyncio.sleep(0)
    ((_, event),) = told(receiver)
    assert event["type"] == "media.completed"
    assert event["data"] == {
        "key": done_.key, "publicUrl": done_.public_url, "owner": "me", "user": None, "size": len(DATA),
        "contentType": "video/mp4",
        "etag": done_.etag, "checksum": done_.checksum, "checksumAlgorithm": "crc64nvme", "metadata": {}, "tags": {},
        "filename": "a.mp4", "way": "multipart", "presignedKey": None,
    }  # fmt: skip
    assert len(await done(bucket)) == 1
    assert one.counted == ["delivered"]


async def test_uploads_that_begin_and_are_aborted_are_told_if_wanted(
    bucket: Meddled, one: Replica, receiver: HttpStub, clock: Clock
) -> None:
    request = c.CreateRequest(
        filename="Zürich.mp4", content_type="video/mp4", size=len(DATA), user="ann", metadata={"album": "a"}
    )
    made = await one.uploads.create("me", request)
    await one.uploads.abort("me", made.upload)
    assert await waiting(bucket) == [], "nobody asked for them"
    async with replica(bucket, [f"{receiver.url}/hook"], clock, uploads=True) as wanting:
        uploads = wanting.uploads
        async with wanting.deliverer.running(every=600):
            first, second, third = [await uploads.create("me", request) for _ in range(3)]
            for _ in range(2):
                await uploads.abort("me", first.upload)
            await uploads.abort_all("me", c.AbortRequest(key=second.key))
            completed = await sent(uploads)
            done_ = await uploads.complete("me", completed)
            await uploads.abort("me", completed.upload)  # which is complete
            await until(lambda: len(receiver.received) == 7)
        await wanting.sweep(later=8 * 86_400)
        await wanting.deliverer.look()
    events = [(event["type"], event["data"]["key"], event["data"].get("reason")) for _, event in told(receiver)]
    assert sorted(events, key=str) == sorted(
        [
            *(("upload.created", key, None) for key in (first.key, second.key, third.key, done_.key)),
            ("upload.aborted", first.key, "aborted"),
            ("upload.aborted", second.key, "aborted"),
            ("upload.aborted", third.key, "expired"),
            ("media.completed", done_.key, None),
        ],
        key=str,
    )
    assert next(event["data"] for _, event in told(receiver) if event["data"]["key"] == first.key) == {
        "key": first.key, "owner": "me", "user": "ann", "size": len(DATA), "contentType": "video/mp4",
        "metadata": {"album": "a"}, "filename": "Zürich.mp4",
    }  # fmt: skip


async def test_the_note_lies_in_the_store_before_the_answer(bucket: Meddled, one: Replica, receiver: HttpStub) -> None:
    """Another replica delivers it, with the same id, once the first one's time is over."""
    receiver.responses["/hook"] = None
    request = await sent(one.uploads)
    async with one.deliverer.running(every=600):
        await one.uploads.complete("me", request)
        assert any(name.startswith("evt_") for name in await waiting(bucket))
        await until(lambda: len(receiver.received) == 1)  # received, and never acknowledged: the replica ends here
    receiver.responses["/hook"] = OK
    later = Clock()
    async with replica(bucket, [f"{receiver.url}/hook"], later) as other:
        later.ahead = LEASE + 1
        for _ in range(
            10
        ):  # a last write of the first replica may come between its reading of the note and its taking it
            await other.deliverer.look()
    first, second = told(receiver)
    assert first == second
    assert await waiting(bucket) == []


async def test_a_replica_that_ends_between_complete_and_its_note(
    bucket: Meddled, one: Replica, receiver: HttpStub
) -> None:
    """The intent that it left is found. Until then nobody was told that the upload is complete."""
    request = await sent(one.uploads)

    async def killed(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        if "evt_" in arguments["Key"] or arguments["Key"].startswith("refused/passed"):
            raise asyncio.CancelledError
        return await proceed()

    bucket.meddle["PutObject"] = killed
    with contextlib.suppress(asyncio.CancelledError):
        await one.uploads.complete("me", request)
    bucket.meddle.clear()
    (intent,) = await waiting(bucket)
    assert intent.startswith("up-")
    later = Clock()
    async with replica(bucket, [f"{receiver.url}/hook"], later) as other:
        await other.deliverer.look()
        assert receiver.received == []  # it may still be at work
        later.ahead = LEASE + 1
        await other.deliverer.look()  # finds the intent and notes the event
        await other.deliverer.look()
    ((_, event),) = told(receiver)
    assert (event["type"], event["data"]["size"]) == ("media.completed", len(DATA))
    assert await waiting(bucket) == []
    async with one.deliverer.running(every=600):  # and the client, who never got an answer, repeats the complete
        await one.uploads.complete("me", request)
    assert len(receiver.received) == 1


async def test_an_upload_that_is_still_open_is_looked_at_again(
    bucket: Meddled, one: Replica, receiver: HttpStub, clock: Clock
) -> None:
    """A complete takes minutes, and the store goes on with it when the service is gone."""
    request = await sent(one.uploads)

    async def killed(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        raise asyncio.CancelledError

    bucket.meddle["CompleteMultipartUpload"] = killed
    with contextlib.suppress(asyncio.CancelledError):
        await one.uploads.complete("me", request)
    bucket.meddle.clear()
    clock.ahead = LEASE + 1
    await one.deliverer.look()
    assert len(await waiting(bucket)) == 1
    bucket.calls.clear()
    await one.deliverer.look()  # not due: only listed
    assert "PutObject" not in bucket.calls
    await one.uploads.complete("me", request)
    clock.ahead += 20
    await one.deliverer.look()
    await one.deliverer.look()
    assert [event["type"] for _, event in told(receiver)] == ["media.completed"]
    assert await waiting(bucket) == []


async def test_a_complete_that_fails_leaves_no_note(bucket: Meddled, one: Replica) -> None:
    request = await sent(one.uploads)
    wrong = request.model_copy(update={"parts": [request.parts[0].model_copy(update={"etag": '"' + "0" * 32 + '"'})]})
    with pytest.raises(Refused) as refused:
        await one.uploads.complete("me", wrong)
    assert refused.value.problem.status < 500
    assert await waiting(bucket) == []


async def test_a_refused_file_is_told_with_its_reason(bucket: Meddled, receiver: HttpStub, clock: Clock) -> None:
    async def hook(_: Question) -> str:
        return "infected"

    async with replica(bucket, [f"{receiver.url}/hook"], clock, hook) as one:
        request = await sent(one.uploads)
        for _ in range(2):
            with pytest.raises(Refused, match="infected"):
                await one.uploads.complete("me", request)
        await one.deliverer.look()
    ((_, event),) = told(receiver)
    assert (event["type"], event["data"]["owner"], event["data"]["size"]) == ("media.refused", "me", len(DATA))
    assert event["data"]["error"] == {"code": "file_refused", "message": "infected"}


async def test_a_hook_that_fails_tells_nothing_until_it_works(
    bucket: Meddled, receiver: HttpStub, clock: Clock
) -> None:
    """The client was told to come again. If it does not, the intent brings the file to the hook."""
    answers: list[Any] = [HookFailed("away"), None]

    async def hook(_: Question) -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return None

    async with replica(bucket, [f"{receiver.url}/hook"], clock, hook) as one:
        with pytest.raises(Refused) as refused:
            await one.uploads.complete("me", await sent(one.uploads))
        assert refused.value.problem is Problem.CHECK_FAILED
        clock.ahead = LEASE + 1
        await one.deliverer.look()
        await one.deliverer.look()
    assert [event["type"] for _, event in told(receiver)] == ["media.completed"]


async def test_one_put_is_told_by_a_post_and_not_again_by_the_sweep(
    bucket: Meddled, one: Replica, receiver: HttpStub
) -> None:
    """The event names the copy that the post is forwarded with, and the upload."""
    made = await one.uploads.presign("me", PHOTO)
    await put(made.upload_url, sample("jpg"))
    posted = await one.uploads.finishing.postable("me", made.key)
    await one.sweep()
    await one.deliverer.look()
    ((_, event),) = told(receiver)
    assert event["data"]["key"] == posted.key
    assert (event["data"]["presignedKey"], event["data"]["way"]) == (made.key, "put")
    assert event["data"]["publicUrl"] == bucket.url(posted.key)


async def test_what_was_told_to_be_complete_can_not_be_written_again(
    bucket: Meddled, one: Replica, receiver: HttpStub
) -> None:
    """The holder of a presigned URL sends another picture, and that is another file."""
    made = await one.uploads.presign("me", PHOTO)
    pictures = [sample("jpg"), sample("jpg")[:-2] + b"\x00\x00" + sample("jpg")[-2:]]
    for picture in pictures:
        await put(made.upload_url, picture)
        await one.sweep()
        await one.deliverer.look()
    events = [event["data"] for _, event in told(receiver)]
    assert len({event["key"] for event in events}) == 2
    for event, picture in zip(events, pictures, strict=True):
        assert event["presignedKey"] == made.key
        found = await bucket.call("to read", "GetObject", Key=event["key"], first=len(picture) + 1)
        assert found["Body"] == picture
        assert found["ETag"] == event["etag"]


@pytest.mark.slow
async def test_what_the_sweep_finds_and_deletes_is_told(
    bucket: Meddled, one: Replica, receiver: HttpStub, clock: Clock
) -> None:
    good, bad = await one.uploads.presign("me", PHOTO), await one.uploads.presign("me", PHOTO)
    await put(good.upload_url, sample("jpg"))
    await put(bad.upload_url, EXE)
    report = await one.sweep()
    assert (report.not_media, report.failed) == (1, 0)
    await one.sweep()
    await one.deliverer.look()
    events = {event["data"].get("presignedKey", event["data"]["key"]): event for _, event in told(receiver)}
    assert len(receiver.received) == 2
    assert events[good.key]["type"] == "media.completed"
    assert events[bad.key]["data"]["error"]["code"] == "not_media"
    receiver.received.clear()
    await one.sweep(later=STORED_FOR + 5)
    await one.deliverer.look()
    assert receiver.received == []  # only once the object is gone for certain
    clock.ahead = 60
    await one.deliverer.look()
    await one.deliverer.look()
    expired = [event["data"] for _, event in told(receiver) if event["type"] == "media.expired"]
    copy = events[good.key]["data"]["key"]
    of_me = {"owner": "me", "user": None, "size": len(sample("jpg"))}
    assert sorted(expired, key=str) == sorted(({"key": key, **of_me} for key in (good.key, copy)), key=str)
    assert await waiting(bucket) == []


@pytest.mark.slow
async def test_files_of_before_the_webhooks_are_not_told(bucket: Meddled, one: Replica) -> None:
    key = f"media/me/{'a' * 32}.jpg"
    await bucket.call("to put", "PutObject", Key=key, Body=sample("jpg"), headers={"content-type": "image/jpeg"})
    await one.sweep(later=timedelta(days=1, minutes=1).total_seconds())
    assert await waiting(bucket) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("answer", [Response(status=500), Response(status=302, headers={"Location": "/x"}), None])
async def test_an_event_that_nobody_takes_is_retried_for_a_day(
    bucket: Meddled, one: Replica, receiver: HttpStub, clock: Clock, answer: Response | None
) -> None:
    """Each attempt has the same id and body, and another time and signature. What was given up can be replayed."""
    receiver.responses["/hook"] = answer
    await one.uploads.complete("me", await sent(one.uploads))
    (name,) = await waiting(bucket)
    attempts = 0
    while name in await waiting(bucket):
        await one.deliverer.look()
        attempts += 1
        note = await one.telling.notes.read(WAITING + name)
        if note is not None:
            await one.deliverer.look()  # too early
            clock.ahead += note.next - clock() + 0.1
    assert len(receiver.received) == attempts == 10
    assert clock.ahead == pytest.approx(RETRIED_FOR, abs=120)
    got = receiver.received
    assert {(each.headers["webhook-id"], each.body) for each in got} == {(name, got[0].body)}
    assert len({each.headers["webhook-signature"] for each in got}) == 10
    assert one.counted == ["failed"] * 9 + ["gave up"]
    assert len(await done(bucket)) == 1


@pytest.mark.slow
async def test_two_receivers_have_each_their_own_answers(bucket: Meddled, receiver: HttpStub, clock: Clock) -> None:
    """One that took it is not told again. One that answers 410 gets nothing more, also no other event."""
    receiver.responses |= {"/b": Response(status=500), "/gone": Response(status=410)}
    urls = [f"{receiver.url}{path}" for path in ("/hook", "/b", "/gone")]
    async with replica(bucket, urls, clock) as one:
        await one.uploads.complete("me", await sent(one.uploads))
        await one.deliverer.look()
        assert sorted(each.path for each in receiver.received) == ["/b", "/gone", "/hook"]
        receiver.responses["/b"] = OK
        clock.ahead = 10
        await one.deliverer.look()
        assert sorted(each.path for each in receiver.received) == ["/b", "/b", "/gone", "/hook"]
        assert await waiting(bucket) == []
        receiver.received.clear()
        await one.uploads.complete("me", await sent(one.uploads))
        await one.deliverer.look()
        assert sorted(each.path for each in receiver.received) == ["/b", "/hook"]
    assert SECRET not in "".join(one.log)
    assert {line["host"] for line in one.results} == {"127.0.0.1"}


@pytest.mark.slow
async def test_of_replicas_that_look_at_once_one_delivers(bucket: Meddled, one: Replica, receiver: HttpStub) -> None:
    for _ in range(3):
        await one.uploads.complete("me", await sent(one.uploads))
    async with contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(replica(bucket, [f"{receiver.url}/hook"])) for _ in range(4)]
        await asyncio.gather(*(other.deliverer.look() for other in others))
    assert len(receiver.received) == len({each.headers["webhook-id"] for each in receiver.received}) == 3


async def test_a_store_without_conditions_delivers_too(s3: StrictS3, receiver: HttpStub, clock: Clock) -> None:
    """Perhaps twice, with the same id."""
    s3.create_bucket("bucket")
    bucket = Meddled("bucket", options_for(s3))

    async def ignores(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        arguments = {name: value for name, value in arguments.items() if name not in ("IfMatch", "IfNoneMatch")}
        return await super(Meddled, bucket).call("to put", "PutObject", **arguments)

    bucket.meddle["PutObject"] = ignores
    async with contextlib.aclosing(bucket), replica(bucket, [f"{receiver.url}/hook"], clock) as one:
        await one.uploads.complete("me", await sent(one.uploads))
        async with replica(bucket, [f"{receiver.url}/hook"], clock) as other:
            await asyncio.gather(one.deliverer.look(), other.deliverer.look())
    assert len({id_ for id_, _ in told(receiver)}) == 1


@pytest.mark.slow
async def test_a_look_at_many_notes_is_bounded(bucket: Meddled, one: Replica, clock: Clock) -> None:
    """What is not due is listed, and not read again."""
    notes = one.telling.notes
    for number in range(40):
        what = event_of("media.completed", str(number), {}, clock())
        await notes.add(Note(name=what.id, since=clock(), next=clock() + 500, event=what))
    await one.deliverer.look()
    bucket.calls.clear()
    await one.deliverer.look()
    assert bucket.calls == ["ListObjectsV2"]
    assert one.waiting == [40, 40]


@pytest.mark.slow
async def test_notes_are_no_media_and_are_swept_after_a_week(bucket: Meddled, one: Replica, receiver: HttpStub) -> None:
    """They are in no list of files, count in no quota, and are kept for a replay for seven days."""
    completed = await one.uploads.complete("me", await sent(one.uploads))
    await one.deliverer.look()
    files = await one.uploads.files.list("me", c.ListRequest())
    assert [file.key for file in files.media] == [completed.key]
    assert [size async for _, size in one.uploads.files.sizes("me")] == [len(DATA)]
    await one.sweep(later=STORED_FOR - 60)
    assert len(await done(bucket)) == 1
    report = await one.sweep(later=STORED_FOR + 60)
    assert report.not_media == report.failed == 0
    assert await done(bucket) == []


@pytest.mark.slow
async def test_a_receiver_that_is_away_does_not_hold_up_the_other_notes(
    bucket: Meddled, receiver: HttpStub, clock: Clock
) -> None:
    """Nor are its events read and written again and again: they are as they were."""
    receiver.responses["/away"] = None
    async with replica(bucket, [f"{receiver.url}/away"], clock) as one:
        for number in range(40):
            what = event_of("media.completed", str(number), {}, clock())
            await one.telling.notes.add(Note(name=what.id, since=clock(), event=what))
        await one.deliverer.look()
        tried = len(receiver.received)
        assert 1 <= tried <= 16
        bucket.calls.clear()
        await one.deliverer.look()
        assert (len(receiver.received), bucket.calls) == (tried, ["ListObjectsV2"])
        receiver.responses["/away"] = OK
        clock.ahead = 20
        await one.deliverer.look()
        assert await waiting(bucket) == []
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 40


async def test_what_is_owed_to_another_list_s_receiver_is_kept(
    bucket: Meddled, receiver: HttpStub, clock: Clock
) -> None:
    """As in a rolling deployment that adds a receiver: old replicas do not know it."""
    old, added = f"{receiver.url}/hook", f"{receiver.url}/added"
    receiver.responses["/added"] = Response(status=503)
    async with replica(bucket, [old, added], clock) as new, replica(bucket, [old], clock) as before:
        request = await sent(new.uploads)
        async with new.deliverer.running(every=600):
            await new.uploads.complete("me", request)
            await until(lambda: len(receiver.received) == 2)
            while not (await note_of(bucket)).get("next"):
                await asyncio.sleep(0)
        clock.ahead = 600
        for _ in range(3):
            await before.deliverer.look()
        assert [line["result"] for line in before.results] == ["kept"]
        receiver.responses["/added"] = OK
        await new.deliverer.look()
        assert sorted(one.path for one in receiver.received) == ["/added", "/added", "/hook"]
        assert len(await done(bucket)) == 1
        assert await waiting(bucket) == []


async def test_what_nobody_s_list_has_is_given_up_by_its_age(bucket: Meddled, receiver: HttpStub, clock: Clock) -> None:
    old, gone = f"{receiver.url}/hook", f"{receiver.url}/gone"
    async with replica(bucket, [old, gone], clock) as former, replica(bucket, [old], clock) as left:
        request = await sent(former.uploads)
        former.telling.receivers = tuple(former.deliverer._urls)
        await former.uploads.complete("me", request)
        await left.deliverer.look()
        assert [one.path for one in receiver.received] == ["/hook"]
        assert len(await waiting(bucket)) == 1
        clock.ahead = RETRIED_FOR + 5
        await left.deliverer.look()
        assert (await waiting(bucket), len(await done(bucket))) == ([], 1)
        assert [line["result"] for line in left.results] == ["delivered", "kept", "gave up"]


async def test_a_slow_receiver_does_not_hold_up_the_retries_of_another(
    bucket: Meddled, receiver: HttpStub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, tries = asyncio.Event(), 0

    async def scripted(_: object, url: str, *__: object, **___: object) -> Sent:
        nonlocal tries
        if url.endswith("/slow"):
            await second.wait()  # until the other one was tried again
            return Sent(result="delivered", said="204")
        tries += 1
        if tries == 1:
            return Sent(result="failed", said="503")
        second.set()
        return Sent(result="delivered", said="204")

    monkeypatch.setattr(telling, "send", scripted)
    monkeypatch.setattr(telling, "_PAUSES", (0.0,))
    async with replica(bucket, [f"{receiver.url}/slow", f"{receiver.url}/fast"], clock) as one:
        await one.uploads.complete("me", await sent(one.uploads))
        async with asyncio.timeout(30):
            await one.deliverer.look()
    assert (tries, await waiting(bucket)) == (2, [])


async def note_of(bucket: Meddled) -> Mapping[str, Any]:
    """The one event that waits."""
    (name,) = [name for name in await waiting(bucket) if name.startswith("evt_")]
    found: Mapping[str, Any] = json.loads((await bucket.call("", "GetObject", Key=WAITING + name, first=65536))["Body"])
    return found


async def test_a_file_that_is_deleted_is_told(bucket: Meddled, one: Replica, receiver: HttpStub, clock: Clock) -> None:
    """Once, after it is gone; and one that is there again is not told to be gone."""
    done_ = await one.uploads.complete("me", await sent(one.uploads))
    other = await one.uploads.complete("me", await sent(one.uploads))
    await one.deliverer.look()
    receiver.received.clear()

    async def lost(_: Next, __: Mapping[str, Any]) -> Any:
        raise Fault(FaultKind.FINAL, "no", status=403)

    bucket.meddle["DeleteObject"] = lost
    with pytest.raises(Fault):
        await one.uploads.delete_file("me", other.key)
    del bucket.meddle["DeleteObject"]
    for _ in range(2):
        await one.uploads.delete_file("me", done_.key)
    clock.ahead = 60
    await one.deliverer.look()
    await one.deliverer.look()
    ((_, event),) = told(receiver)
    assert event["type"] == "media.deleted"
    assert event["data"] == {"key": done_.key, "owner": "me", "user": None, "size": len(DATA)}

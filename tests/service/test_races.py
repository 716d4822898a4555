"""What comes between two calls of one request: another request, the sweep, a lost response, a store that stalls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio.to_thread
import httpx
import pytest

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media.object_keys import note_key
from bigupload.service.media.policy import STORED_FOR
from bigupload.service.media_objects import refusal_of
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.test_multipart import PART, described, film
from tests.tools.buckets import Meddled, Next
from tests.tools.media import sample

EXE = b"MZ\x90\x00" + bytes(4096)
PHOTO = c.PresignRequest(filename="a.jpg", content_type="image/jpeg")
DATA = film(PART)


@pytest.fixture
def uploads(bucket: Meddled) -> MediaUploads:
    return MediaUploads(bucket, Handles(["secret"], clock=time.time))


def creation(data: bytes, **more: Any) -> c.CreateRequest:
    body = {"filename": "a.mp4", "contentType": "video/mp4", "size": len(data), "partSize": PART}
    return c.CreateRequest.model_validate(body | more)


async def sent(uploads: MediaUploads, data: bytes = DATA, **more: Any) -> c.CompleteRequest:
    """An upload whose parts are all there."""
    first = described([data], Algorithm.CRC64NVME)
    made = await uploads.create("me", creation(data, firstParts=first, **more))
    (signed,) = made.signed
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.put(signed.url, headers=signed.headers, content=data)
    part = {"partNumber": 1, "etag": response.headers["ETag"], "checksum": first[0]["checksum"]}
    return c.CompleteRequest.model_validate({"upload": made.upload, "parts": [part]})


def once(bucket: Meddled, method: str, act: Callable[[], Awaitable[Any]], *, before: bool = True) -> None:
    """Let something come before (or after) the next call of `method`."""

    async def meddle(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        del bucket.meddle[method]
        if before:
            await act()
            return await proceed()
        response = await proceed()
        await act()
        return response

    bucket.meddle[method] = meddle


# -- complete, and who looks meanwhile


async def test_an_upload_that_completes_while_its_status_is_looked_up(bucket: Meddled, uploads: MediaUploads) -> None:
    request = await sent(uploads)
    once(bucket, "ListParts", lambda: uploads.complete("me", request))
    status = await uploads.status("me", request.upload)
    assert status.status is c.UploadStatus.COMPLETED
    assert status.completed == await uploads.complete("me", request)


async def test_an_upload_that_is_judged_while_its_status_is_looked_up(bucket: Meddled, uploads: MediaUploads) -> None:
    request = await sent(uploads, EXE)

    async def refused() -> None:
        with pytest.raises(Refused):
            await uploads.complete("me", request)

    once(bucket, "ListParts", refused)
    status = await uploads.status("me", request.upload)
    assert (status.status, status.error and status.error.code) == (c.UploadStatus.GONE, "not_media")


async def test_a_complete_that_another_one_overtakes(bucket: Meddled, uploads: MediaUploads) -> None:
    """The store calls the upload gone before the object can be seen."""
    request = await sent(uploads)

    async def gone(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        del bucket.meddle["CompleteMultipartUpload"]
        raise Fault(FaultKind.GONE, "404 NoSuchUpload", status=404)

    bucket.meddle["CompleteMultipartUpload"] = gone

    async def overtaken() -> None:
        await uploads.complete("me", request)

    once(bucket, "ListParts", overtaken)
    assert (await uploads.complete("me", request)).size == len(DATA)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.BROKEN,
        FaultKind.STALLED,
        FaultKind.SERVER,
        FaultKind.BUSY,
        FaultKind.UNREACHABLE,
        FaultKind.GONE,
    ],
)
async def test_a_response_of_the_store_that_is_lost(bucket: Meddled, uploads: MediaUploads, kind: FaultKind) -> None:
    request = await sent(uploads)

    async def lost(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        await proceed()
        raise Fault(kind, "the store's answer was lost")

    bucket.meddle["CompleteMultipartUpload"] = lost
    assert (await uploads.complete("me", request)).size == len(DATA)


async def test_a_create_whose_signing_fails_leaves_no_upload(
    bucket: Meddled, uploads: MediaUploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> list[str]:
        raise Fault(FaultKind.REFUSED, "no")

    monkeypatch.setattr(bucket, "presign", fails)
    with pytest.raises(Fault):
        await uploads.create("me", creation(DATA, firstParts=described([DATA], Algorithm.CRC64NVME)))
    assert bucket.calls.count("CreateMultipartUpload") == 1
    assert [row async for row in bucket.open_uploads("media/")] == []


# -- what is deleted is what was looked at


async def put(bucket: Meddled, key: str, body: bytes) -> None:
    await bucket.call("", "PutObject", Key=key, Body=body, headers={"content-type": "image/jpeg"})


@pytest.mark.parametrize("method", ["HeadObject", "DeleteObject"])
async def test_an_own_upload_that_is_replaced_while_it_is_checked_stays(
    bucket: Meddled, uploads: MediaUploads, method: str
) -> None:
    key = (await uploads.presign("me", PHOTO)).key
    await put(bucket, key, EXE)
    once(bucket, method, lambda: put(bucket, key, sample("jpg")))
    with pytest.raises(Refused) as refused:
        await uploads.finishing.postable("me", key)
    assert refused.value.problem is Problem.NOT_MEDIA
    assert (await uploads.finishing.postable("me", key)).kind.name == "JPEG"


async def test_an_object_that_is_replaced_while_it_is_judged_stays(bucket: Meddled, uploads: MediaUploads) -> None:
    request = await sent(uploads, EXE)
    handle = Handles(["secret"], clock=time.time).decode(request.upload, owner="me")
    once(bucket, "DeleteObject", lambda: put(bucket, handle.key, sample("jpg")))
    with pytest.raises(Refused):
        await uploads.complete("me", request)
    assert await bucket.call("", "HeadObject", Key=handle.key)
    assert await bucket.call("", "HeadObject", Key=note_key(handle.key))


async def test_an_own_upload_ends_at_seven_days_and_not_before(bucket: Meddled) -> None:
    now = 0.0
    uploads = MediaUploads(bucket, Handles(["secret"], clock=time.time), clock=lambda: now)
    key = (await uploads.presign("me", PHOTO)).key
    await put(bucket, key, sample("jpg"))
    written = (await bucket.call("", "HeadObject", Key=key))["LastModified"].timestamp()
    now = written + STORED_FOR - 1
    assert (await uploads.finishing.postable("me", key)).kind.name == "JPEG"
    now = written + STORED_FOR
    with pytest.raises(Refused) as refused:
        await uploads.finishing.postable("me", key)
    assert refused.value.problem is Problem.MEDIA_NOT_FOUND


# -- the store


async def test_signing_waits_for_no_call_in_flight(bucket: Meddled, uploads: MediaUploads) -> None:
    """All of the threads for calls are taken here, by calls that don't end before it is signed."""
    threads = anyio.to_thread.current_default_thread_limiter()
    free = int(threads.available_tokens)
    calls = [object() for _ in range(free)]
    for call in calls:
        threads.acquire_on_behalf_of_nowait(call)
    try:
        async with asyncio.timeout(30):
            assert (await uploads.presign("me", PHOTO)).upload_url
    finally:
        for call in calls:
            threads.release_on_behalf_of(call)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (errors.StoreUnavailable("later"), Problem.STORE_UNAVAILABLE),
        (errors.StoreUnreachable("later"), Problem.STORE_UNAVAILABLE),
        (errors.StoreRefused("never"), Problem.STORE_REFUSED),
    ],
)
def test_a_public_error_that_passes_is_told_as_one(error: errors.BigUploadError, problem: Problem) -> None:
    refused = refusal_of(error)
    assert (refused.problem, refused.retry_after is not None) == (problem, problem is Problem.STORE_UNAVAILABLE)

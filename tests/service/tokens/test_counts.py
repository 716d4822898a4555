"""How a token's uploads are counted: places in the store, and what goes wrong while one is taken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.access.upload_tokens import LONGEST_TOKEN, MadeBefore, TokenCounts, UploadToken
from bigupload.service.media.object_keys import TOKENS_PREFIX
from bigupload.service.media.policy import LONGEST_UPLOAD
from bigupload.service.media_objects import MediaBucket
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.sweep import Sweep
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.sweep.support import Clock, keys
from tests.service.test_multipart import PART
from tests.service.test_races import creation
from tests.tools.buckets import Meddled, Next

PHOTO = c.PresignRequest(filename="a.jpg", content_type="image/jpeg")


def token(uploads: int | None = 2, name: str = "t1") -> UploadToken:
    return UploadToken.model_construct(owner="me", id=name, expires=time.time() + 60, uploads=uploads, single_put=True)


@pytest.fixture
def counts(bucket: Meddled) -> TokenCounts:
    return TokenCounts(MediaBucket(bucket))


@pytest.fixture
def uploads(bucket: Meddled) -> MediaUploads:
    return MediaUploads(bucket, Handles(["secret"], clock=time.time))


async def taken(counts: TokenCounts, of: UploadToken, *, for_good: bool = True) -> bool:
    """Whether there was a place."""
    async with contextlib.AsyncExitStack() as undo:
        try:
            await counts.take(of, undo)
        except Refused as refused:
            assert refused.problem is Problem.TOKEN_USED_UP  # noqa: PT017 - either way is fine
            return False
        if for_good:
            undo.pop_all()
    return True


async def test_places(bucket: Meddled, counts: TokenCounts) -> None:
    assert await taken(counts, token())
    for _ in range(2):
        assert await taken(counts, token(), for_good=False)
    assert await taken(counts, token())
    assert not await taken(counts, token())
    assert await taken(counts, token(name="t2"))
    bucket.calls.clear()
    assert await taken(counts, token(None))
    assert bucket.calls == []


@pytest.mark.slow
async def test_many_at_once_get_no_more_than_there_are(bucket: Meddled) -> None:
    """Each from a replica of its own, which has not asked the store before."""

    tried = await asyncio.gather(*(taken(TokenCounts(MediaBucket(bucket)), token(5)) for _ in range(20)))
    assert tried.count(True) == 5
    folder = [key for key in await keys(bucket, "") if key.startswith(TOKENS_PREFIX) and "/00000" not in key]
    assert len({key for key in folder if "/" + "0" * 40 not in key}) == 5


async def test_a_store_that_ignores_the_condition_is_found_out(bucket: Meddled, counts: TokenCounts) -> None:
    async def unconditional(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        del bucket.meddle["PutObject"]
        plain = {name: value for name, value in arguments.items() if name != "IfNoneMatch"}
        try:
            return await bucket.call("", "PutObject", **plain)
        finally:
            bucket.meddle["PutObject"] = unconditional

    bucket.meddle["PutObject"] = unconditional
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await counts.take(token(), contextlib.AsyncExitStack())
        assert caught.value.problem is Problem.UPLOADS_NOT_COUNTED


async def test_a_place_whose_response_was_lost_is_taken(bucket: Meddled, counts: TokenCounts) -> None:
    await counts.check_store(token(1))

    async def lost(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        del bucket.meddle["PutObject"]
        await proceed()
        raise Fault(FaultKind.BROKEN, "lost")

    bucket.meddle["PutObject"] = lost
    assert await taken(counts, token(1))
    assert not await taken(counts, token(1))


async def test_a_place_that_another_one_is_taking(bucket: Meddled, counts: TokenCounts) -> None:
    await counts.check_store(token(1))
    conflicts = 2

    async def conflict(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        nonlocal conflicts
        if conflicts == 0:
            return await proceed()
        conflicts -= 1
        raise Fault(FaultKind.CONFLICT, "another one", status=409)

    bucket.meddle["PutObject"] = conflict
    assert await taken(counts, token(1))


async def test_what_did_not_begin_does_not_count(bucket: Meddled, uploads: MediaUploads) -> None:
    async def refuse(*_: object) -> Any:
        raise Fault(FaultKind.FINAL, "no", status=403)

    bucket.meddle["CreateMultipartUpload"] = refuse
    request = creation(bytes(PART), token="0" * 32)
    with pytest.raises(Fault):
        await uploads.create("me", request, token(1))
    del bucket.meddle["CreateMultipartUpload"]
    made = await uploads.create("me", request, token(1))
    assert (await uploads.create("me", request, token(1))).key == made.key
    with pytest.raises(Refused) as caught:
        await uploads.presign("me", PHOTO, token(1))
    assert caught.value.problem is Problem.TOKEN_USED_UP


async def test_a_note_that_says_nothing(bucket: Meddled, counts: TokenCounts) -> None:
    request = creation(bytes(PART), token="0" * 32)
    assert await counts.made_before(token(), request) is None
    await counts.remember(token(), request, MadeBefore("media/me/x.jpg", "u-1"))
    assert await counts.made_before(token(), request) == MadeBefore("media/me/x.jpg", "u-1")
    assert await counts.made_before(token(), creation(bytes(PART + 1), token="0" * 32)) is None
    assert await counts.made_before(token(name="t2"), request) is None
    (key,) = [key for key in await keys(bucket, "") if key.startswith(TOKENS_PREFIX)]
    await bucket.call("", "PutObject", Key=key, Body=b"")
    assert await counts.made_before(token(), request) is None


async def test_the_notes_are_swept_after_the_token_s_end(bucket: Meddled, counts: TokenCounts) -> None:
    assert LONGEST_TOKEN < LONGEST_UPLOAD
    assert await taken(counts, token())
    await counts.remember(token(), creation(bytes(PART), token="0" * 32), MadeBefore("k", "u"))
    clock = Clock()
    assert (await Sweep(bucket, now=clock).run()).looked_at == 3
    clock.at += timedelta(seconds=LONGEST_UPLOAD)
    assert (await Sweep(bucket, now=clock).run()).expired == 3
    assert await keys(bucket, "") == set()

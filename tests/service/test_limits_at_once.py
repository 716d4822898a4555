"""Fifty creates at the same moment at two replicas: no limit is exceeded, or by no more than is documented."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.quota import UploadLimits
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.stores.local_store import LocalStore
from bigupload.testing.strict_s3 import StrictS3
from tests.service.test_multipart import PART, create
from tests.service.test_users import token
from tests.tools.buckets import Meddled, Next, options_for
from tests.tools.service import Service, serving

FILM = c.CreateRequest(filename="a.mp4", content_type="video/mp4", size=PART)
AT_ONCE = 50


@pytest.fixture(scope="module")
def replicas(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    home = tmp_path_factory.mktemp("limits")
    few = ("--open-uploads", "5", "--user-open-uploads", "4", "--requests", "10000")
    with serving(weed, home, *few, "--sweep-every", "0") as one, serving(weed, home, *few, "--sweep-every", "0") as two:
        yield one, two


def at_once(replicas: tuple[Service, Service], key: str, **more: Any) -> list[httpx.Response]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda number: create(replicas[number % 2], PART, key=key, **more), range(AT_ONCE)))


def made(responses: list[httpx.Response], code: str) -> int:
    """How many succeeded. The others must have been refused for this."""
    refused = [response.json()["error"]["code"] for response in responses if response.status_code != 200]
    assert set(refused) <= {code}, set(refused)
    return len(responses) - len(refused)


def open_uploads(service: Service, key: str) -> int:
    return len(service.call("GET", "/v1/media/uploads", key=key, params={"limit": "1000"}).json()["uploads"])


@pytest.mark.slow
def test_open_uploads_of_an_owner_and_of_its_end_user(replicas: tuple[Service, Service]) -> None:
    one, _ = replicas
    for limit, named in ((5, {}), (4, {"user": "ann"})):
        key = one.new_key(f"crowd{limit}")
        found = made(at_once(replicas, key, **named), "too_many_uploads")
        assert 1 <= found <= limit
        assert open_uploads(one, key) == found, "those that were refused are aborted"
        assert (
            made([create(one, PART, key=key, **named) for _ in range(limit + 1)], "too_many_uploads") == limit - found
        )


@pytest.mark.slow
def test_uploads_of_a_token(replicas: tuple[Service, Service]) -> None:
    one, _ = replicas
    key = token(one, one.new_key("counted"), uploads=3)
    assert made(at_once(replicas, key), "token_used_up") == 3


@pytest.mark.slow
def test_files_of_an_end_user_are_promised_by_each_replica(
    weed: LocalStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By each process without an engine that they share, so by two at most twice; one by itself is exact."""
    home = tmp_path_factory.mktemp("files")
    few = ("--user-files", "6", "--requests", "10000", "--sweep-every", "0")
    with serving(weed, home, *few) as one, serving(weed, home, *few) as two:
        key = one.new_key("filer")
        assert made(at_once((one, one), key, user="ann"), "quota_exceeded") == 6
        assert 6 <= made(at_once((one, two), key, user="bob"), "quota_exceeded") <= 12


async def test_of_many_that_begin_at_once_no_more_stay_than_may(bucket: Meddled, weed: LocalStore) -> None:
    """All are open before the first one is counted, which is the worst that can come."""
    limit, ready = 3, asyncio.Barrier(12)

    class Waiting(Meddled):
        async def call(self, what: str, operation: str, **arguments: Any) -> Any:
            answer = await super().call(what, operation, **arguments)
            if operation == "CreateMultipartUpload":
                await ready.wait()
            return answer

    async def attempt(uploads: MediaUploads) -> bool:
        try:
            await uploads.create("me", FILM)
        except Refused as refused:
            assert refused.problem is Problem.TOO_MANY_UPLOADS  # noqa: PT017 - either way is fine
            return False
        return True

    buckets = [Waiting(bucket.name, options_for(weed)) for _ in range(2)]
    both = [
        MediaUploads(each, Handles(["secret"], clock=time.time), limits=UploadLimits(max_open_uploads=limit))
        for each in buckets
    ]
    stayed = await asyncio.gather(*(attempt(both[number % 2]) for number in range(12)))
    left = [row async for row in bucket.open_uploads("media/")]
    for each in buckets:
        await each.aclose()
    assert len(left) == stayed.count(True) <= limit


async def test_who_was_refused_begins_nothing_in_the_store_next_time(bucket: Meddled) -> None:
    uploads = MediaUploads(bucket, Handles(["secret"], clock=time.time), limits=UploadLimits(max_open_uploads=1))
    first = await uploads.create("me", FILM)
    for begins in (True, False):
        bucket.calls.clear()
        with pytest.raises(Refused):
            await uploads.create("me", FILM)
        assert ("CreateMultipartUpload" in bucket.calls, "AbortMultipartUpload" in bucket.calls) == (begins, begins)
    await uploads.abort("me", first.upload)
    assert await uploads.create("me", FILM)


# -- of how many open uploads a create reads


async def test_an_owners_create_does_not_read_the_open_uploads_of_all_end_users(
    s3: StrictS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3.knobs, "page_size", 5)
    bucket = Meddled("bucket", options_for(s3))
    await bucket.ensure()
    uploads = MediaUploads(bucket, Handles(["secret"], clock=time.time), limits=UploadLimits(max_open_uploads=3))

    async def reads(request: c.CreateRequest = FILM) -> int:
        bucket.calls.clear()
        await uploads.create("me", request)
        return bucket.calls.count("ListMultipartUploads")

    async with contextlib.aclosing(bucket):
        for number in range(20):
            await reads(FILM.model_copy(update={"user": f"u-{number}"}))
        assert [await reads() for _ in range(2)] == [1, 1]  # pages of five, and the owner's are the first

        async def in_another_order(proceed: Next, _: Mapping[str, Any]) -> Any:
            page = await proceed()
            return {**page, "Uploads": page["Uploads"][::-1]}

        bucket.meddle["ListMultipartUploads"] = in_another_order
        assert await reads() == 5, "of such a store, all are read"
        del bucket.meddle["ListMultipartUploads"]
        with pytest.raises(Refused) as refused:
            await reads()
        assert refused.value.problem is Problem.TOO_MANY_UPLOADS

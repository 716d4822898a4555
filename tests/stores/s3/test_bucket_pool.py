"""Connections to buckets that several uploads share: when they are the same, and when they are closed."""

from __future__ import annotations

import dataclasses
from typing import Any

import boto3
import pytest

from bigupload.options import S3Options
from bigupload.stores.s3.bucket import MAX_AGE, MOST_IDLE, BucketPool, S3Bucket
from bigupload.stores.s3.multipart import S3Store
from tests.tools.cases import each_case

OPTIONS = S3Options(endpoint_url="http://127.0.0.1:1", region="r", access_key="AK", secret_key="SK")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[S3Bucket]:
    """The connections that were closed."""
    found: list[S3Bucket] = []

    async def aclose(self: S3Bucket) -> None:
        found.append(self)

    monkeypatch.setattr(S3Bucket, "aclose", aclose)
    return found


async def test_uploads_to_one_bucket_share_a_connection(closed: list[S3Bucket]) -> None:
    pool = BucketPool()
    stores = [S3Store("bucket", key, OPTIONS, pool=pool) for key in "abc"]
    assert len({id(store._bucket) for store in stores}) == 1
    for store in stores:
        await store.aclose()
        await store.aclose()
    assert closed == []
    assert S3Store("bucket", "d", OPTIONS, pool=pool)._bucket is stores[0]._bucket, "also later ones"
    await pool.aclose()
    assert stores[0]._bucket in closed


@each_case(
    "change",
    [
        {"region": "other"}, {"access_key": "AK2"}, {"secret_key": "SK2"}, {"session_token": "T"},
        {"addressing": "path"},
        {"endpoint_url": "http://127.0.0.1:2"}, {"no_verify_ssl": True}, {"no_sign_request": True},
        {"access_key": None, "secret_key": None, "profile": "p"},
        {"expected_bucket_owner": "111122223333"}, {"request_payer": True},
        {"endpoint_url": "https://127.0.0.1:1", "sse_customer_key": bytes(32)},
        {"endpoint_url": None, "accelerate": True}, {"endpoint_url": None, "fips": True},
        {"access_key": None, "secret_key": None, "session": boto3.Session()},
        {"access_key": None, "secret_key": None, "credentials": lambda: None},
    ],
)  # fmt: skip
def test_what_is_reached_otherwise_has_its_own(change: dict[str, Any]) -> None:
    pool = BucketPool()
    one = pool.lease("bucket", OPTIONS)
    assert pool.lease("bucket", dataclasses.replace(OPTIONS, **change)) is not one
    assert pool.lease("other", OPTIONS) is not one
    assert pool.lease("bucket", dataclasses.replace(OPTIONS, content_type="a/b", metadata={"a": "b"})) is one


def test_another_environment_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = BucketPool()
    one = pool.lease("bucket", S3Options())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert pool.lease("bucket", S3Options()) is not one


async def test_an_old_connection_is_not_given_out_again(closed: list[S3Bucket]) -> None:
    """Its credentials may have been replaced in their file. It is closed when its last upload ends, or at the next."""
    now = 0.0
    pool = BucketPool(clock=lambda: now)
    first, second = pool.lease("bucket", OPTIONS), pool.lease("bucket", OPTIONS)
    now = MAX_AGE + 1
    third = pool.lease("bucket", OPTIONS)
    assert first is second is not third
    for released, so_far in ((first, []), (second, [first]), (third, [first])):
        await pool.release(released)
        assert closed == so_far
    now *= 2
    fourth = pool.lease("bucket", OPTIONS)
    await pool.release(fourth)
    assert closed == [first, third]
    await pool.aclose()
    assert closed == [first, third, fourth]


async def test_connections_that_nobody_uses_do_not_pile_up(closed: list[S3Bucket]) -> None:
    """As for a service whose users each have a bucket. Those that were used last are kept."""
    pool = BucketPool()
    used = pool.lease("used", OPTIONS)
    buckets = [pool.lease(str(number), OPTIONS) for number in range(MOST_IDLE + 2)]
    assert closed == []
    for bucket in [*buckets[1:], buckets[0]]:
        await pool.release(bucket)
    assert closed == buckets[1:3]
    assert pool.lease("0", OPTIONS) is buckets[0]
    assert pool.lease("1", OPTIONS) is not buckets[1]
    assert pool.lease("used", OPTIONS) is used

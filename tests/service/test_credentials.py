"""A URL that is said to live for an hour does: temporary credentials are refreshed before they would cut it short."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials

from bigupload.core.retry_policy import Fault
from bigupload.options import S3Options
from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media_objects import StoreHealth
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.renewal import CREDENTIALS_EXPIRING

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
REQUEST = c.PresignRequest(filename="a.jpg", content_type="image/jpeg")


def role(number: int, minutes: float) -> dict[str, Any]:
    """Temporary credentials that end in so many minutes."""
    return {
        "access_key": f"ROLE{number}",
        "secret_key": "secret",
        "token": "token",
        "expiry_time": (NOW + datetime.timedelta(minutes=minutes)).isoformat(),
    }


@pytest.fixture
def bucket_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., S3Bucket]:
    """A bucket whose credentials end in `first` minutes, and in `then` minutes once they were refreshed."""

    def make(first: float, then: float, *, urls_hold: bool = True) -> S3Bucket:
        credentials = RefreshableCredentials(
            **{k: v for k, v in role(1, first).items() if k != "expiry_time"},
            expiry_time=NOW + datetime.timedelta(minutes=first),
            refresh_using=lambda: role(2, then),
            method="test",
            time_fetcher=lambda: NOW,
        )
        monkeypatch.setattr("botocore.session.Session.get_credentials", lambda self: credentials)
        return S3Bucket("media", S3Options(endpoint_url="http://127.0.0.1:1", region="us-east-1"), urls_hold=urls_hold)

    return make


async def signer_of(bucket: S3Bucket) -> str:
    (url,) = await bucket.presign("PutObject", [{"Key": "k"}])
    await bucket.aclose()
    return url.partition("X-Amz-Credential=")[2].partition("%2F")[0]


@pytest.mark.parametrize(
    ("first", "signer"), [(61, "ROLE1"), (60, "ROLE1"), (59.9, "ROLE2"), (30, "ROLE2"), (1, "ROLE2")]
)
async def test_credentials_that_end_within_the_hour_are_refreshed(
    bucket_with: Callable[..., S3Bucket], first: float, signer: str
) -> None:
    assert await signer_of(bucket_with(first, 120)) == signer


async def test_a_client_with_its_own_credentials_can_sign_again_and_does_not_mind(
    bucket_with: Callable[..., S3Bucket],
) -> None:
    assert await signer_of(bucket_with(30, 120, urls_hold=False)) == "ROLE1"


async def test_credentials_that_stay_short_sign_nothing(bucket_with: Callable[..., S3Bucket]) -> None:
    bucket = bucket_with(30, 45)
    with pytest.raises(Fault) as refused:
        await bucket.presign("PutObject", [{"Key": "k"}])
    assert refused.value.code == CREDENTIALS_EXPIRING

    uploads = MediaUploads(bucket, Handles(["s" * 32], clock=lambda: 0.0))
    with pytest.raises(Refused) as responded:
        await StoreHealth(bucket.prepare).while_responding(uploads.presign("me", REQUEST))
    assert (responded.value.problem, responded.value.problem.status) == (Problem.CREDENTIALS_EXPIRING, 503)
    assert responded.value.retry_after is not None
    await bucket.aclose()

"""Canaries: each private attribute that `bigupload.stores.s3._compat` uses is there and does what it is used for.

Where one of these fails, botocore has changed. Mend `_compat`: without it, a hostile store's response is parsed without
bounds, URLs outlive their credentials, or new buckets' URLs are redirected.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from typing import Any

import botocore.awsrequest
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import Credentials, DeferredRefreshableCredentials, RefreshableCredentials

from bigupload.stores.s3 import _compat


@pytest.fixture
def client() -> Iterator[Any]:
    made = botocore.session.Session().create_client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}),
    )  # fmt: skip
    yield made
    made.close()


def test_every_request_of_a_client_goes_through_the_wrapped_send(client: Any) -> None:
    seen: list[str] = []

    def wrapper(send: _compat.Send, request: Any) -> Any:
        seen.append(request.method)
        assert callable(send)
        assert hasattr(request, "stream_output")
        response = botocore.awsrequest.AWSResponse(request.url, 200, {}, io.BytesIO(b"not this"))
        _compat.set_body(response, b"<ListBucketResult><Name>that</Name></ListBucketResult>")
        return response

    _compat.wrap_send(client, wrapper)
    assert client.list_objects_v2(Bucket="bucket")["Name"] == "that"
    assert seen == ["GET"]


def test_credentials_are_refreshed_early() -> None:
    refreshed: list[str] = []
    now = datetime.datetime.now(datetime.UTC)

    def keys(name: str, minutes: float) -> dict[str, str]:
        until = (now + datetime.timedelta(minutes=minutes)).isoformat()
        return {"access_key": name, "secret_key": "s", "token": "t", "expiry_time": until}

    def refresh() -> dict[str, str]:
        refreshed.append("")
        return keys("new", 120)

    credentials: Any = RefreshableCredentials.create_from_metadata(keys("old", 30), refresh, "test")
    assert credentials.get_frozen_credentials().access_key == "old", "30 minutes are enough for botocore"
    window = credentials._advisory_refresh_timeout
    assert credentials.refresh_needed(refresh_in=3600)
    _compat.refresh_early(credentials, 3600)
    assert credentials.get_frozen_credentials().access_key == "new"
    assert len(refreshed) == 1
    assert credentials._advisory_refresh_timeout == window


def test_the_seconds_that_credentials_are_valid() -> None:
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1000)
    made: Any = RefreshableCredentials("a", "b", "c", ends, dict, "test")
    left = _compat.seconds_left(made)
    assert left is not None
    assert 990 < left <= 1000
    assert _compat.seconds_left(DeferredRefreshableCredentials(dict, "test")) is None, "not fetched yet"
    assert _compat.seconds_left(Credentials("a", "b")) is None
    assert _compat.seconds_left(None) is None


def test_presigned_urls_name_the_region() -> None:
    made: Any = botocore.session.Session().create_client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(signature_version="s3v4", s3={"addressing_style": "auto"}),
    )  # fmt: skip
    try:
        _compat.use_virtual_addressing(made)
        url = made.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
        assert url.startswith("https://bucket.s3.eu-west-1.amazonaws.com/key?")
    finally:
        made.close()

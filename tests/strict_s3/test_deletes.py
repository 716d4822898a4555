"""DeleteObjects and ListObjectsV2 of StrictS3, as AWS has them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from bigupload.testing.strict_s3 import StrictS3

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it


def refused(client: Any, keys: list[str]) -> str:
    with pytest.raises(ClientError) as caught:
        client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": key} for key in keys]})
    return str(caught.value.response["Error"]["Code"])


def test_objects_are_listed_by_pages_and_deleted_by_batches(s3: StrictS3, client: Any) -> None:
    keys = ["a", "a b+%", "new\nline", "\x01", "\r&"]
    for key in keys:
        client.put_object(Bucket="bucket", Key=key, Body=b"x")
    s3.knobs.page_size = 2
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    assert [row["Key"] for page in pages for row in page["Contents"]] == sorted(keys)
    s3.knobs.undeletable = {"a": "AccessDenied"}
    given = [{"Key": key} for key in ("a", "a b+%", "new\nline", "\r&", "not there")]
    response = client.delete_objects(Bucket="bucket", Delete={"Objects": given})
    assert [row["Key"] for row in response["Deleted"]] == ["a b+%", "new\nline", "\r&", "not there"]
    assert [(row["Key"], row["Code"]) for row in response["Errors"]] == [("a", "AccessDenied")]
    quiet = client.delete_objects(Bucket="bucket", Delete={"Objects": given, "Quiet": True})
    assert "Deleted" not in quiet
    assert set(s3.objects["bucket"]) == {"a", "\x01"}
    assert refused(client, ["\x01"]) == "MalformedXML"
    assert refused(client, [str(number) for number in range(1001)]) == "MalformedXML"

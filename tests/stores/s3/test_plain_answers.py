"""HeadObject and ListObjectsV2 without botocore: what it would return of the same response."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.client import S3Bucket
from bigupload.stores.s3.plain_access import plain_access
from bigupload.stores.s3.plain_answers import head_answer, list_answer
from bigupload.stores.s3.plain_calls import PlainCalls
from bigupload.stores.s3.plain_signing import PlainSigner
from bigupload.testing.strict_s3 import StrictS3
from tests.tools import awkward_tree
from tests.tools.buckets import options_for
from tests.tools.weed import weed_client

HEAD, LIST = "head_object", "list_objects_v2"
KEYS = [f"p/{name}" for name in (*awkward_tree.AWKWARD, "a+b c%20", "été/ä", "z&<>'\"")]

ALGORITHMS = ("CRC32", "SHA1", "CRC32C", "SHA256")


def plain(options: S3Options, bucket: str = "bucket") -> PlainCalls:
    access = plain_access(bucket, options, options.region)
    assert access is not None
    return PlainCalls(bucket, PlainSigner(access, {}, 60), None)


def answer(calls: PlainCalls, method: str, **arguments: Any) -> dict[str, Any]:
    request = calls.request(method, arguments)
    assert request is not None
    found = calls.call("to look", request, 10.0)
    assert found is not None
    return found


def assert_read_alike(options: S3Options, bucket: str, theirs: Any, keys: list[str]) -> None:
    calls = plain(options, bucket)
    pages, start = [], {}
    for _ in keys:
        page = answer(calls, LIST, Prefix="p/", MaxKeys=3, **start)
        pages.append(page)
        if not page["IsTruncated"]:
            break
        start = {"ContinuationToken": page["NextContinuationToken"]}
    rows = [row for page in pages for row in page["Contents"]]
    listed = [
        row for page in theirs.get_paginator(LIST).paginate(Bucket=bucket, Prefix="p/") for row in page["Contents"]
    ]
    assert rows == [{name: row[name] for name in ("Key", "ETag", "Size", "LastModified")} for row in listed]
    assert {row["Key"] for row in rows} == set(keys)
    for key in keys:
        mine = answer(calls, HEAD, Key=key, ChecksumMode="ENABLED")
        headers = mine.pop("ResponseMetadata")["HTTPHeaders"]
        known = theirs.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        assert mine.items() <= known.items()
        assert headers.keys() == known["ResponseMetadata"]["HTTPHeaders"].keys()
        assert {"ETag", "ContentLength", "ContentType", "LastModified", "Metadata"} <= mine.keys()
    calls.close()


def test_a_strict_store_s(s3: StrictS3) -> None:
    options = options_for(s3)
    client: Any = S3Bucket("bucket", options)._make_client(10.0)
    for number, key in enumerate(KEYS):
        more = (
            {"ChecksumAlgorithm": ALGORITHMS[number % 8 // 2]}
            if number % 2
            else {"ContentEncoding": "gzip", "Metadata": {"a": "b c"}}
        )
        client.put_object(Bucket="bucket", Key=key, Body=b"x" * number, **more)
    assert_read_alike(options, "bucket", client, KEYS)
    client.close()


def test_seaweedfs_s(weed: LocalStore) -> None:
    client = weed_client(weed)
    client.create_bucket(Bucket="plain-answers")
    keys = [key for key in KEYS if "\\" not in key]  # it takes that for a slash
    for number, key in enumerate(keys):
        client.put_object(Bucket="plain-answers", Key=key, Body=b"x" * number)
    options = S3Options(
        endpoint_url=weed.endpoint_url, region="us-east-1", access_key=weed.access_key, secret_key=weed.secret_key
    )
    assert_read_alike(options, "plain-answers", client, keys)


def test_refusals(s3: StrictS3) -> None:
    calls, nowhere = plain(options_for(s3)), plain(options_for(s3), "none")
    with pytest.raises(Fault) as missing:
        answer(calls, HEAD, Key="none")
    assert missing.value.status == 404
    with pytest.raises(errors.BucketNotFound):
        answer(nowhere, LIST, Prefix="")
    assert answer(calls, LIST, Prefix="") == {"IsTruncated": False}
    calls.close()
    nowhere.close()


def listed(inner: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<ListBucketResult>{inner}</ListBucketResult>")


def test_what_no_store_sends() -> None:
    for read, given in (
        (list_answer, listed("<Contents><Key>a</Key><Size>b</Size></Contents>")),
        (list_answer, listed("<EncodingType>url</EncodingType><Contents><Key>%ff</Key></Contents>")),
        (head_answer, {"content-length": "b"}),
    ):
        with pytest.raises(Fault) as caught:
            read(given)
        assert caught.value.kind is FaultKind.BROKEN


def test_keys_are_decoded_only_if_the_store_has_encoded_them() -> None:
    row = "<Contents><Key>a%20b+c</Key></Contents>"
    assert list_answer(listed(row))["Contents"] == [{"Key": "a%20b+c"}]
    assert list_answer(listed(f"<EncodingType>url</EncodingType>{row}"))["Contents"] == [{"Key": "a b c"}]


def test_a_page_of_something_else_is_no_empty_list(s3: StrictS3) -> None:
    calls = plain(options_for(s3))
    with pytest.raises(Fault, match="no list of objects"):
        calls._judged(LIST, "to look", _Page(), b"<html><body/></html>")  # type: ignore[arg-type]  # all that is read


class _Page:
    status = 200

    def getheaders(self) -> list[tuple[str, str]]:
        return []

"""Access points in place of a bucket's name. `test_access` has their addresses."""

from __future__ import annotations

from typing import Any

import pytest

from bigupload.errors import UsageError
from bigupload.options import S3Options
from bigupload.stores.s3.access import region_of
from bigupload.stores.targets import connect, parse_s3_url

ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/films"


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        (f"s3://{ARN}/raw/a.mov", ARN, "raw/a.mov"),
        (f"s3://{ARN}/raw/", ARN, "raw/file"),
        (f"s3://{ARN}/", ARN, "file"),
        (f"s3://{ARN}", ARN, "file"),
        (f"s3://{ARN.replace('/', ':')}/raw/a:b", ARN.replace("/", ":"), "raw/a:b"),
        ("s3://arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/films/k",
         "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/films", "k"),
        ("s3://films-abcdef-s3alias/k", "films-abcdef-s3alias", "k"),
        ("s3://bucket/arn:aws:s3", "bucket", "arn:aws:s3"),
    ],
)  # fmt: skip
def test_targets(url: str, bucket: str, key: str) -> None:
    assert parse_s3_url(url, "file") == (bucket, key)
    assert parse_s3_url(f"s3://{bucket}/{key}") == (bucket, key), "as a manifest's target is shown"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/films/k", "S3 on Outposts is not"),
        ("films-abcdef--op-s3/k", "S3 on Outposts is not supported"),
        ("arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint/films/k", "an Object Lambda access point"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap/k", "Multi-Region Access Points are not supported"),
        ("arn:aws:s3::123456789012:accesspoint:films/k", "Multi-Region Access Points are not supported"),
        *((f"arn:{rest}", "not an access point") for rest in (
            "aws:s3:::bucket/k", "aws:s3:eu-west-1:123:accesspoint/films/k", "aws:iam::123456789012:role/films/k", "",
            "aws:s3:eu-west-1:123456789012:accesspoint", "aws:s3:eu-west-1:123456789012:accesspoint/FILMS/k",
            "aws:s3:eu-west-1:123456789012:accesspoint/films:k",
        )),
    ],
)  # fmt: skip
def test_other_arns_are_refused(target: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_s3_url(f"s3://{target}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bucket", "more", "says"),
    [
        (ARN, {"region": "us-east-1"}, "the access point is in region eu-west-1, and us-east-1 is asked for"),
        (ARN, {"accelerate": True}, "accelerate can't be used with an access point"),
        ("films.example", {"accelerate": True}, "accelerate can't be used with a bucket whose name has dots"),
    ],
)
async def test_what_an_access_point_excludes(bucket: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        await connect(bucket, "key", S3Options(access_key="AK", secret_key="SK", **more))
    assert region_of(bucket) == ("eu-west-1" if bucket == ARN else None)

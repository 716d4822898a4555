"""The strict fake's UploadPartCopy refuses what AWS refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bigupload.testing.strict_s3 import StrictS3

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it

SOURCE = "a key/ü?+.bin"
BODY = bytes(range(256)) * 32


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=1024) as server:
        server.create_bucket("bucket")
        yield server


def begin(client: Any, **more: Any) -> dict[str, Any]:
    client.put_object(Bucket="bucket", Key=SOURCE, Body=BODY)
    made = client.create_multipart_upload(Bucket="bucket", Key="target", ChecksumAlgorithm="CRC64NVME", **more)
    return {"Bucket": "bucket", "Key": "target", "UploadId": made["UploadId"], "PartNumber": 1}


def refused(client: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        client.upload_part_copy(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_range_is_copied_and_its_checksum_told(s3: StrictS3) -> None:
    client = s3.client()
    part = begin(client)
    source = {"Bucket": "bucket", "Key": SOURCE}
    told = client.upload_part_copy(**part, CopySource=source, CopySourceRange="bytes=256-1279")["CopyPartResult"]
    (upload,) = s3.uploads.values()
    assert upload.parts[1].body == BODY[256:1280]
    row = {"PartNumber": 1, "ETag": told["ETag"], "ChecksumCRC64NVME": told["ChecksumCRC64NVME"]}
    del part["PartNumber"]
    client.complete_multipart_upload(**part, MultipartUpload={"Parts": [row]}, ChecksumType="FULL_OBJECT")
    assert s3.objects["bucket"]["target"].body == BODY[256:1280]


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("bytes=0-8192", (400, "InvalidArgument")),
        ("bytes=9-8", (400, "InvalidArgument")),
        ("bytes=0-", (400, "InvalidArgument")),
        ("0-1023", (400, "InvalidArgument")),
    ],
)
def test_ranges_that_are_refused(s3: StrictS3, given: str, answer: tuple[int, str]) -> None:
    client = s3.client()
    part = begin(client)
    assert refused(client, **part, CopySource={"Bucket": "bucket", "Key": SOURCE}, CopySourceRange=given) == answer


def test_no_range_of_a_small_object_and_no_part_above_5_gib(s3: StrictS3) -> None:
    client = s3.client()
    part = begin(client)
    s3.knobs.min_part_size = len(BODY)
    source = {"Bucket": "bucket", "Key": SOURCE}
    assert refused(client, **part, CopySource=source, CopySourceRange="bytes=0-8190") == (400, "InvalidRequest")
    client.upload_part_copy(**part, CopySource=source)
    s3.knobs.min_part_size = 1024
    s3.objects["bucket"][SOURCE].parts[0].size = (5 << 30) + 1
    assert refused(client, **part, CopySource=source) == (400, "InvalidRequest")


def test_conditions_sources_and_owners(s3: StrictS3) -> None:
    client = s3.client()
    part, source = begin(client), {"Bucket": "bucket", "Key": SOURCE}
    etag = s3.objects["bucket"][SOURCE].etag
    client.upload_part_copy(**part, CopySource=source, CopySourceIfMatch=etag)
    assert refused(client, **part, CopySource=source, CopySourceIfMatch='"x"') == (412, "PreconditionFailed")
    assert refused(client, **part, CopySource=source, CopySourceIfNoneMatch=etag) == (412, "PreconditionFailed")
    assert refused(client, **part, CopySource={**source, "Key": "nope"}) == (404, "NoSuchKey")
    assert refused(client, **part, CopySource={**source, "VersionId": "v"}) == (404, "NoSuchVersion")
    assert refused(client, **part, CopySource={**source, "Bucket": "nope"}) == (404, "NoSuchBucket")
    assert refused(client, **part, CopySource="bucket") == (400, "InvalidArgument")
    owner = {"ExpectedSourceBucketOwner": "999999999999"}
    assert refused(client, **part, CopySource=source, **owner) == (403, "AccessDenied")
    assert refused(client, **{**part, "UploadId": "u"}, CopySource=source) == (404, "NoSuchUpload")
    s3.objects["bucket"][SOURCE].headers["x-amz-storage-class"] = "GLACIER"
    assert refused(client, **part, CopySource=source) == (403, "ObjectNotInActiveTierError")

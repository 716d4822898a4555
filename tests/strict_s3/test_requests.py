"""StrictS3 takes no request but with the right signature, and no body but the one that was promised."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bigupload.testing.strict_s3 import StrictS3
from tests.strict_s3.support import BUCKET, KEY, PARTS, code, crc64, create, presign, put, send

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


# -- signatures


@pytest.fixture
def signed(s3: StrictS3, client: Any) -> tuple[str, dict[str, str]]:
    return presign(client, create(client), PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}


def test_what_was_signed_is_what_must_come(s3: StrictS3, signed: tuple[str, dict[str, str]]) -> None:
    url, headers = signed
    data = PARTS[0]
    denied, mismatch = (403, "AccessDenied"), (403, "SignatureDoesNotMatch")
    assert put(url[:-1] + ("0" if url[-1] != "0" else "1"), data, headers)[:2] == mismatch
    assert put(url.replace("partNumber=1", "partNumber=2"), data, headers)[:2] == mismatch
    assert put(url.replace("some/big", "some/bad"), data, headers)[:2] == mismatch
    assert put(url, data, {"x-amz-checksum-crc64nvme": crc64(b"other")})[:2] == mismatch
    assert put(url, data, {})[:2] == mismatch
    assert put(url, data + b"more", headers)[:2] == mismatch  # Content-Length is signed
    assert put(url, data, {**headers, "x-amz-meta-new": "unsigned"})[:2] == denied
    assert put(url.partition("?")[0] + "?partNumber=1&uploadId=x", data, {})[:2] == denied  # anonymous
    assert put(url, data, {**headers, "Authorization": "Basic eDp5"})[:2] == (400, "InvalidArgument")
    assert s3.objects[BUCKET] == {}
    assert put(url, data, headers)[0] == 200


def test_times(s3: StrictS3, client: Any, signed: tuple[str, dict[str, str]]) -> None:
    url, headers = signed
    s3.clock = lambda: time.time() + 61
    assert put(url, PARTS[0], headers)[:2] == (403, "AccessDenied")
    s3.clock = lambda: time.time() - 16 * 60
    assert put(url, PARTS[0], headers)[:2] == (403, "AccessDenied")
    with pytest.raises(ClientError) as error:
        client.list_parts(Bucket=BUCKET, Key=KEY, UploadId="x")
    assert code(error) == (403, "RequestTimeTooSkewed")


def test_who_signs(s3: StrictS3) -> None:
    for keys in ({"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "AKIAUNKNOWN"}):
        other = s3.client(**keys)
        with pytest.raises(ClientError) as error:
            create(other)
        assert code(error)[0] == 403
        other.close()


def test_session_tokens(s3: StrictS3) -> None:
    session = s3.issue_session(seconds=100)
    client = s3.client(session)
    url = presign(client, create(client), PARTS[0], seconds=1000)
    headers = {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
    assert put(url, PARTS[0], headers)[0] == 200
    assert put(re.sub(r"&X-Amz-Security-Token=[^&]+", "", url), PARTS[0], headers)[0] == 403
    s3.clock = lambda: time.time() + 100
    assert put(url, PARTS[0], headers)[:2] == (400, "ExpiredToken")
    client.close()


def test_another_region(s3: StrictS3, client: Any) -> None:
    s3.create_bucket("far", region="eu-west-1")
    url = client.generate_presigned_url("put_object", {"Bucket": "far", "Key": "k"})
    status, error, headers = put(url, b"", {})
    assert (status, error, headers["x-amz-bucket-region"]) == (301, "PermanentRedirect", "eu-west-1")


# -- bodies


def test_a_body_must_be_what_its_checksums_say(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    for changed, expected in (
        ({"ChecksumCRC64NVME": crc64(b"other")}, "BadDigest"),
        ({"ChecksumCRC64NVME": "AAAA"}, "InvalidRequest"),
        ({"ChecksumCRC64NVME": crc64(PARTS[0]), "ContentMD5": md5(b"other")}, "BadDigest"),
        ({"ChecksumCRC64NVME": crc64(PARTS[0]), "ContentMD5": "bm90IG1kNQ=="}, "InvalidDigest"),
        ({"ChecksumAlgorithm": "CRC32"}, "InvalidRequest"),
    ):
        with pytest.raises(ClientError) as error:
            client.upload_part(**upload, PartNumber=1, Body=PARTS[0], **changed)
        assert code(error) == (400, expected)
    assert "Parts" not in client.list_parts(**upload)


def test_a_declared_checksum_must_come_as_a_header(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    url = client.generate_presigned_url("upload_part", {**upload, "PartNumber": 1})
    assert put(url, PARTS[0], {})[:2] == (400, "InvalidRequest")
    assert put(f"{url}&x-amz-checksum-crc64nvme=x", PARTS[0], {})[:2] == (403, "SignatureDoesNotMatch")


def test_an_undeclared_checksum_is_refused(s3: StrictS3, client: Any) -> None:
    response = client.create_multipart_upload(Bucket=BUCKET, Key=KEY)
    upload = {"Bucket": BUCKET, "Key": KEY, "UploadId": response["UploadId"]}
    with pytest.raises(ClientError) as error:
        send(client, upload, 1, PARTS[0])
    assert code(error) == (400, "InvalidRequest")
    url = client.generate_presigned_url("upload_part", {**upload, "PartNumber": 1})
    assert put(url, PARTS[0], {"Content-MD5": md5(b"other")})[:2] == (400, "BadDigest")
    assert put(url, PARTS[0], {"Content-MD5": md5(PARTS[0])})[0] == 200


def test_a_body_without_a_length_is_refused(s3: StrictS3, client: Any) -> None:
    checksum = crc64(PARTS[0])
    params = {**create(client), "PartNumber": 1, "ChecksumCRC64NVME": checksum}
    url = client.generate_presigned_url("upload_part", params)
    assert put(url, iter([PARTS[0]]), {"x-amz-checksum-crc64nvme": checksum})[:2] == (411, "MissingContentLength")


def test_limits(client: Any) -> None:
    upload = create(client)
    for number in (0, 10_001):
        with pytest.raises(ClientError) as error:
            send(client, upload, number, PARTS[0])
        assert code(error) == (400, "InvalidArgument")
    send(client, upload, 10_000, PARTS[0])

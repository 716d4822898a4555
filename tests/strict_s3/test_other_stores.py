"""StrictS3 in the place of a store that is laxer than AWS, or lies."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bigupload.testing.strict_s3 import Exchange, S3Error, StrictS3
from tests.strict_s3.support import BODY, BUCKET, KEY, PART, PARTS, code, complete, crc64, create, send, send_all

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it


def test_a_store_that_ignores_checksums(s3: StrictS3, client: Any) -> None:
    s3.knobs.echo_checksums = False
    upload = create(client)
    response = client.upload_part(**upload, PartNumber=1, Body=BODY, ChecksumCRC64NVME=crc64(b"other"))
    assert "ChecksumCRC64NVME" not in response
    assert "ChecksumCRC64NVME" not in client.list_parts(**upload)["Parts"][0]
    done = complete(client, upload, [{"PartNumber": 1, "ETag": response["ETag"]}], ChecksumCRC64NVME=crc64(b"other"))
    assert "ChecksumType" not in done
    assert "ChecksumType" not in client.head_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")


@pytest.mark.parametrize(("refuse", "expected"), [(True, (400, "InvalidRequest")), (501, (501, "NotImplemented"))])
def test_a_store_that_refuses_checksums(
    s3: StrictS3, client: Any, refuse: bool | int, expected: tuple[int, str]
) -> None:
    s3.knobs.refuse_checksum_algorithm = refuse
    with pytest.raises(ClientError) as error:
        create(client)
    assert code(error) == expected


def test_stores_that_lie(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    row = send(client, upload, 1, PARTS[0])
    s3.knobs.lie_checksum = s3.knobs.lie_complete = True
    assert send(client, upload, 1, PARTS[0])["ChecksumCRC64NVME"] != crc64(PARTS[0])
    assert complete(client, upload, [row])["ChecksumCRC64NVME"] != crc64(PARTS[0])


@pytest.mark.parametrize("kms", [False, True])
def test_opaque_etags(s3: StrictS3, client: Any, kms: bool) -> None:
    s3.knobs.etags = "md5" if kms else "opaque"
    upload = create(client, **({"ServerSideEncryption": "aws:kms"} if kms else {}))
    row = send(client, upload, 1, PARTS[0])
    assert re.fullmatch('"[0-9a-f]{32}"', row["ETag"])
    assert row["ETag"] != f'"{hashlib.md5(PARTS[0]).hexdigest()}"'
    assert complete(client, upload, [row])["ETag"].endswith('-1"')


@pytest.mark.parametrize("keep", ["disk", False])
def test_bodies_elsewhere(keep: Any) -> None:
    with StrictS3(keep_bodies=keep, min_part_size=PART) as s3:
        s3.create_bucket(BUCKET)
        client = s3.client()
        upload = create(client)
        complete(client, upload, send_all(client, upload))
        found = s3.objects[BUCKET][KEY]
        assert (found.size, found.crc64nvme) == (len(BODY), crc64(BODY))
        if keep:
            assert found.sha256() == hashlib.sha256(BODY).hexdigest()
        client.close()


def test_etags_without_quotes(s3: StrictS3, client: Any) -> None:
    """In headers and documents; and with or without them, conditions are met."""
    s3.knobs.respond = lambda _, response: response.without_quotes()
    upload = create(client)
    row = send(client, upload, 1, PARTS[0])
    listed = client.list_parts(**upload)["Parts"][0]["ETag"]
    assert row["ETag"] == listed == hashlib.md5(PARTS[0]).hexdigest()
    done = complete(client, upload, [row])["ETag"]
    assert re.fullmatch("[0-9a-f]{32}-1", done)
    assert client.head_object(Bucket=BUCKET, Key=KEY)["ETag"] == done
    assert client.list_objects_v2(Bucket=BUCKET)["Contents"][0]["ETag"] == done
    assert client.get_object(Bucket=BUCKET, Key=KEY, IfMatch=f'"{done}"')["ETag"] == done


@pytest.mark.parametrize("status", [400, 501])
def test_a_store_that_refuses_a_request(s3: StrictS3, client: Any, status: int) -> None:
    def receive(exchange: Exchange) -> None:
        if exchange.op == "HeadObject" and "x-amz-checksum-mode" in exchange.headers:
            raise S3Error("InvalidRequest", status=status)

    s3.knobs.receive = receive
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    upload = create(client)
    complete(client, upload, [send(client, upload, 1, PARTS[0])])
    assert client.head_object(Bucket=BUCKET, Key=KEY)["ContentLength"] == len(PARTS[0])
    assert "ETag" in client.get_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")


def test_a_knob_that_does_not_exist_is_refused(s3: StrictS3) -> None:
    with pytest.raises(AttributeError, match="quoted_etags"):
        s3.knobs.quoted_etags = False  # type: ignore[attr-defined]  # there is none of this name

"""StrictS3 completes, lists and aborts uploads as AWS does."""

from __future__ import annotations

import base64
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from awscrt import checksums as crt
from botocore.exceptions import ClientError

from bigupload.testing.faults import Conflict, Stall
from bigupload.testing.strict_s3 import StrictS3
from tests.strict_s3.support import (
    BODY,
    BUCKET,
    KEY,
    PART,
    PARTS,
    code,
    complete,
    crc64,
    create,
    presign,
    put,
    send,
    send_all,
)

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it

# -- the happy path


@pytest.mark.parametrize("tls", [False, True])
def test_an_upload_through_presigned_urls(tls: bool) -> None:
    with StrictS3(tls=tls, min_part_size=PART) as s3:
        s3.create_bucket(BUCKET)
        client = s3.client()
        upload = create(client, Metadata={"token": "t"})
        rows = []
        for number, data in enumerate(PARTS, 1):
            status, _, headers = put(
                presign(client, upload, data, number),
                data,
                {"x-amz-checksum-crc64nvme": crc64(data)},
                str(s3.ca_bundle),
            )
            assert (status, headers["x-amz-checksum-crc64nvme"]) == (200, crc64(data))
            assert headers["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
            rows.append({"PartNumber": number, "ETag": headers["etag"], "ChecksumCRC64NVME": crc64(data)})
        response = complete(
            client, upload, rows, ChecksumCRC64NVME=crc64(BODY), ChecksumType="FULL_OBJECT", MpuObjectSize=len(BODY)
        )
        assert (response["ChecksumCRC64NVME"], response["ChecksumType"]) == (crc64(BODY), "FULL_OBJECT")
        etags = b"".join(hashlib.md5(data).digest() for data in PARTS)
        assert response["ETag"] == f'"{hashlib.md5(etags).hexdigest()}-4"'
        head = client.head_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")
        assert (head["ContentLength"], head["ChecksumCRC64NVME"]) == (len(BODY), crc64(BODY))
        assert head["Metadata"] == {"token": "t"}
        assert "PartsCount" not in head
        assert client.head_object(Bucket=BUCKET, Key=KEY, PartNumber=2)["PartsCount"] == 4
        assert client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == BODY == s3.objects[BUCKET][KEY].body
        assert client.get_object(Bucket=BUCKET, Key=KEY, Range="bytes=60-70")["Body"].read() == BODY[60:71]
        client.close()


@pytest.mark.parametrize(
    ("algorithm", "kind", "expected"),
    [
        ("SHA256", "COMPOSITE", re.compile(r".{43}=-4")),
        ("CRC32", "COMPOSITE", re.compile(r".{6}==-4")),
        (
            "CRC32C",
            "FULL_OBJECT",
            re.compile(re.escape(base64.b64encode(crt.crc32c(BODY).to_bytes(4, "big")).decode())),
        ),
    ],
)
def test_other_checksums(client: Any, algorithm: str, kind: str, expected: re.Pattern[str]) -> None:
    name = f"Checksum{algorithm}"
    upload = create(client, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    rows = []
    for number, data in enumerate(PARTS, 1):
        response = client.upload_part(**upload, PartNumber=number, Body=data, ChecksumAlgorithm=algorithm)
        rows.append({"PartNumber": number, "ETag": response["ETag"], name: response[name]})
    assert client.list_parts(**upload)["ChecksumType"] == kind
    assert expected.fullmatch(complete(client, upload, rows)[name])


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("CRC64NVME", "COMPOSITE"), ("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT")]
)
def test_combinations_that_s3_refuses(client: Any, algorithm: str, kind: str) -> None:
    with pytest.raises(ClientError) as error:
        create(client, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert code(error) == (400, "InvalidRequest")


# -- complete


def test_complete_wants_the_very_parts(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    rows = send_all(client, upload)
    short = send(client, upload, 2, b"short")
    small = [rows[0], short, *rows[2:]]
    fresh = [*rows[:1], send(client, upload, 2, PARTS[1]), *rows[2:]]
    older = [rows[0], {**rows[1], "ETag": short["ETag"]}, *rows[2:]]
    cases: list[tuple[list[dict[str, Any]], dict[str, Any], tuple[int, str]]] = [
        (older, {}, (400, "InvalidPart")),
        (small, {}, (400, "InvalidPart")),
        ([*fresh, {**fresh[0], "PartNumber": 9}], {}, (400, "InvalidPart")),
        ([{**fresh[0], "ChecksumCRC64NVME": crc64(b"x")}, *fresh[1:]], {}, (400, "InvalidPart")),
        ([fresh[1], fresh[0]], {}, (400, "InvalidPartOrder")),
        ([fresh[0], fresh[0]], {}, (400, "InvalidPartOrder")),
        ([fresh[0], fresh[2]], {}, (500, "InternalError")),
        ([{"PartNumber": 1, "ETag": fresh[0]["ETag"]}], {}, (400, "InvalidRequest")),
        ([], {}, (400, "MalformedXML")),
        (fresh, {"ChecksumCRC64NVME": crc64(b"x")}, (400, "BadDigest")),
        (fresh, {"ChecksumCRC32C": "AAAAAA=="}, (400, "InvalidRequest")),
        (fresh, {"ChecksumType": "COMPOSITE"}, (400, "InvalidRequest")),
        (fresh, {"MpuObjectSize": len(BODY) - 1}, (400, "InvalidRequest")),
    ]
    for rows_sent, options, expected in cases:
        with pytest.raises(ClientError) as error:
            complete(client, upload, rows_sent, **options)
        assert code(error) == expected
    complete(client, upload, fresh, ChecksumCRC64NVME=crc64(BODY), MpuObjectSize=len(BODY))
    assert s3.objects[BUCKET][KEY].body == BODY
    with pytest.raises(ClientError) as error:
        complete(client, upload, fresh)
    assert code(error) == (404, "NoSuchUpload")


def test_parts_too_small(client: Any) -> None:
    upload = create(client)
    rows = [send(client, upload, 1, b"short"), send(client, upload, 2, b"last")]
    with pytest.raises(ClientError) as error:
        complete(client, upload, rows)
    assert code(error) == (400, "EntityTooSmall")
    complete(client, upload, rows[:1])


def test_complete_only_where_nothing_is(s3: StrictS3, client: Any) -> None:
    upload, other = create(client), create(client)
    rows, others = send_all(client, upload), send_all(client, other)
    s3.script("CompleteMultipartUpload", Conflict())
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            complete(client, other, others, IfNoneMatch="*")
        assert code(error) == (409, "ConditionalRequestConflict")
    complete(client, upload, rows, IfNoneMatch="*")
    late = create(client)
    with pytest.raises(ClientError) as error:
        complete(client, late, send_all(client, late), IfNoneMatch="*")
    assert code(error) == (412, "PreconditionFailed")


# -- listings and abort


def test_listings_come_in_pages(s3: StrictS3, client: Any) -> None:
    s3.knobs.page_size = 3
    upload = create(client)
    send_all(client, upload)
    pages = list(client.get_paginator("list_parts").paginate(**upload))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2, 3], [4]]
    assert [part["ChecksumCRC64NVME"] for page in pages for part in page["Parts"]] == [crc64(data) for data in PARTS]
    assert (pages[0]["ChecksumAlgorithm"], pages[0]["ChecksumType"]) == ("CRC64NVME", "FULL_OBJECT")
    more = {create(client)["UploadId"] for _ in range(6)}
    client.create_multipart_upload(Bucket=BUCKET, Key="another")
    found = [
        each["UploadId"]
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET, Prefix="some/")
        for each in page["Uploads"]
    ]
    assert len(found) == 7
    assert set(found) == more | {upload["UploadId"]}


def test_abort_leaves_what_is_in_flight(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    url, headers = presign(client, upload, PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
    s3.script("UploadPart", Stall())
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(put, url, PARTS[0], headers)
        s3.wait_for("UploadPart")
        client.abort_multipart_upload(**upload)
        s3.release()
        assert sending.result()[0] == 200
    assert len(client.list_parts(**upload)["Parts"]) == 1
    client.abort_multipart_upload(**upload)
    with pytest.raises(ClientError) as error:
        client.list_parts(**upload)
    assert code(error) == (404, "NoSuchUpload")
    assert s3.uploads == {}

"""The tests' own tools: StrictS3 is as strict as AWS, and CountingProxy counts right."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yarl
from awscrt import checksums as crt
from botocore.exceptions import ClientError

from tests.tools.proxy import CountingProxy
from tests.tools.strict_s3 import (
    Call,
    Conflict,
    ErrorIn200,
    FlipBit,
    LostAnswer,
    Ok,
    Reset,
    Stall,
    Status,
    StrictS3,
    Whitespace,
    WrongEtag,
)

BUCKET, KEY = "bucket", "some/big file+1.bin"
PART = 64
BODY = bytes(range(256))[: 3 * PART + 5]
PARTS = [BODY[at : at + PART] for at in range(0, len(BODY), PART)]


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=PART) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def client(s3: StrictS3) -> Iterator[Any]:
    client = s3.client()
    yield client
    client.close()


def crc64(data: bytes) -> str:
    return base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def create(client: Any, **options: Any) -> dict[str, Any]:
    """The arguments that name the upload."""
    options.setdefault("ChecksumAlgorithm", "CRC64NVME")
    answer = client.create_multipart_upload(Bucket=BUCKET, Key=KEY, **options)
    return {"Bucket": BUCKET, "Key": KEY, "UploadId": answer["UploadId"]}


def send(client: Any, upload: dict[str, Any], number: int, data: bytes) -> dict[str, Any]:
    answer = client.upload_part(**upload, PartNumber=number, Body=data, ChecksumCRC64NVME=crc64(data))
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC64NVME": answer["ChecksumCRC64NVME"]}


def send_all(client: Any, upload: dict[str, Any]) -> list[dict[str, Any]]:
    return [send(client, upload, number, data) for number, data in enumerate(PARTS, 1)]


def complete(client: Any, upload: dict[str, Any], rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": rows}, **options)
    return answer


def presign(client: Any, upload: dict[str, Any], data: bytes, number: int = 1, seconds: int = 60) -> str:
    params = {**upload, "PartNumber": number, "ContentLength": len(data), "ChecksumCRC64NVME": crc64(data)}
    return str(client.generate_presigned_url("upload_part", params, ExpiresIn=seconds))


def put(
    url: str, data: bytes | Iterator[bytes], headers: dict[str, str], ca: str | None = None
) -> tuple[int, str, dict[str, str]]:
    """A PUT by hand: status, error code, headers."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.connect()
        # A store that refuses before it has read the body closes: the answer is there though sending failed.
        with contextlib.suppress(ConnectionError):
            connection.request("PUT", f"{parts.path}?{parts.query}", data, headers)
        response = connection.getresponse()
        found = re.search(r"<Code>(\w+)</Code>", response.read().decode())
        return response.status, found[1] if found else "", {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()


# --- the happy path


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
        answer = complete(
            client, upload, rows, ChecksumCRC64NVME=crc64(BODY), ChecksumType="FULL_OBJECT", MpuObjectSize=len(BODY)
        )
        assert (answer["ChecksumCRC64NVME"], answer["ChecksumType"]) == (crc64(BODY), "FULL_OBJECT")
        etags = b"".join(hashlib.md5(data).digest() for data in PARTS)
        assert answer["ETag"] == f'"{hashlib.md5(etags).hexdigest()}-4"'
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
        answer = client.upload_part(**upload, PartNumber=number, Body=data, ChecksumAlgorithm=algorithm)
        rows.append({"PartNumber": number, "ETag": answer["ETag"], name: answer[name]})
    assert client.list_parts(**upload)["ChecksumType"] == kind
    assert expected.fullmatch(complete(client, upload, rows)[name])


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("CRC64NVME", "COMPOSITE"), ("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT")]
)
def test_combinations_that_s3_refuses(client: Any, algorithm: str, kind: str) -> None:
    with pytest.raises(ClientError) as error:
        create(client, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert code(error) == (400, "InvalidRequest")


# --- signatures


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


# --- bodies


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
    answer = client.create_multipart_upload(Bucket=BUCKET, Key=KEY)
    upload = {"Bucket": BUCKET, "Key": KEY, "UploadId": answer["UploadId"]}
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


# --- complete


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


def test_a_repeatable_complete(s3: StrictS3, client: Any) -> None:
    s3.knobs.complete_repeatable = True
    upload = create(client)
    rows = send_all(client, upload)
    assert complete(client, upload, rows)["ETag"] == complete(client, upload, rows)["ETag"]


# --- listings and abort


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


# --- other stores


def test_a_store_that_ignores_checksums(s3: StrictS3, client: Any) -> None:
    s3.knobs.echo_checksums = False
    upload = create(client)
    answer = client.upload_part(**upload, PartNumber=1, Body=BODY, ChecksumCRC64NVME=crc64(b"other"))
    assert "ChecksumCRC64NVME" not in answer
    assert "ChecksumCRC64NVME" not in client.list_parts(**upload)["Parts"][0]
    done = complete(client, upload, [{"PartNumber": 1, "ETag": answer["ETag"]}], ChecksumCRC64NVME=crc64(b"other"))
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


# --- faults


def test_scripted_faults(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    url, headers = presign(client, upload, PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
    slow = Status(503, "SlowDown", headers={"Retry-After": "7"})
    s3.script("UploadPart", slow, Reset(after_bytes=10), Ok(), LostAnswer(), WrongEtag(), FlipBit(3), Status(403))
    status, error, answered = put(url, PARTS[0], headers)
    assert (status, error, answered["retry-after"]) == (503, "SlowDown", "7")
    with pytest.raises(ConnectionError):
        put(url, PARTS[0], headers)
    assert s3.uploads[upload["UploadId"]].parts == {}
    assert put(url, PARTS[0], headers)[0] == 200
    s3.uploads[upload["UploadId"]].parts.clear()
    with pytest.raises(ConnectionError):
        put(url, PARTS[0], headers)
    stored = s3.uploads[upload["UploadId"]].parts[1]
    assert put(url, PARTS[0], headers)[2]["etag"] != stored.etag
    assert put(url, PARTS[0], headers)[:2] == (400, "BadDigest")
    assert put(url, PARTS[0], headers)[:2] == (403, "")
    assert [each.status for each in s3.requests if each.op == "UploadPart"] == [503, 0, 200, 0, 200, 400, 403]
    assert s3.requests[2].bytes_received == 10
    assert s3.count("UploadPart", status=200) == 2


def test_an_answer_before_the_body(s3: StrictS3, client: Any) -> None:
    s3.script("UploadPart", Status(503, "SlowDown", read_body=False))
    upload = create(client)
    parts = urlsplit(presign(client, upload, bytes(1 << 26)))
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as sock:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {1 << 26}\r\n\r\n"
        sock.sendall(head.encode())
        with pytest.raises(ConnectionError):
            sock.sendall(bytes(1 << 26))
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    assert s3.requests[-1].bytes_received == 0


def test_faults_in_complete(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    rows = send_all(client, upload)
    s3.script("CompleteMultipartUpload", ErrorIn200("InternalError"), LostAnswer())
    with pytest.raises(ClientError) as error:
        complete(client, upload, rows)
    assert error.value.response["Error"]["Code"] == "InternalError"
    assert s3.objects[BUCKET] == {}
    with pytest.raises(Exception, match="Connection"):
        complete(client, upload, rows)
    assert s3.objects[BUCKET][KEY].body == BODY
    again = create(client)
    s3.script("CompleteMultipartUpload", Whitespace(1000))
    assert complete(client, again, send_all(client, again))["ChecksumCRC64NVME"] == crc64(BODY)


def test_scripts_for_one_part_and_for_ever(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    s3.script("UploadPart", Status(500, "InternalError"), part_number=2, repeat=True)
    send(client, upload, 1, PARTS[0])
    for _ in range(2):
        with pytest.raises(ClientError):
            send(client, upload, 2, PARTS[1])
    s3.clear()
    send(client, upload, 2, PARTS[1])


async def test_holding_a_request(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    url, headers = presign(client, upload, PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
    s3.hold("UploadPart", acted=True)
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(put, url, PARTS[0], headers)
        await s3.wait_for_async("UploadPart")
        assert not sending.done()
        s3.release("UploadPart")
        s3.wait_for("UploadPart", answered=True)
        assert sending.result()[0] == 200
    with pytest.raises(TimeoutError):
        s3.wait_for("UploadPart", 2, timeout=0)


def test_a_store_that_stops_while_requests_hang() -> None:
    with StrictS3() as s3, ThreadPoolExecutor() as threads:
        s3.create_bucket(BUCKET)
        client = s3.client()
        s3.hold("HeadBucket")
        hanging = threads.submit(client.head_bucket, Bucket=BUCKET)
        s3.wait_for("HeadBucket")
        s3.stop()
        hanging.exception(timeout=10)  # it ends, with an answer or without one
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", s3.port), timeout=5).close()
        client.close()


def test_calls_before_and_after_the_store_acts(s3: StrictS3) -> None:
    seen: list[int] = []

    def count(s3: StrictS3) -> None:
        seen.append(len(s3.uploads))

    s3.script("CreateMultipartUpload", Call(count), Call(count, acted=True))
    client = s3.client()
    create(client)
    create(client)
    client.close()
    assert seen == [0, 2]


# --- the proxy


def test_the_proxy_counts_parts(s3: StrictS3) -> None:
    with CountingProxy("127.0.0.1", s3.port) as proxy:
        client = s3.client(endpoint_url=proxy.url)
        upload = create(client)
        s3.script("UploadPart", Status(503, "SlowDown"))
        headers = {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
        url = presign(client, upload, PARTS[0])
        assert put(url, PARTS[0], headers)[0] == 503
        rows = send_all(client, upload)
        complete(client, upload, rows)
        assert client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == BODY
        client.close()
        key = (f"/{BUCKET}/{KEY}", upload["UploadId"])
        first = proxy.parts[(*key, 1)]
        assert (first.attempts, first.sent_in_full, first.acknowledged, first.statuses) == (2, 2, 1, [503, 200])
        assert first.body_bytes == 2 * PART
        assert proxy.parts[(*key, 4)].body_bytes == 5
        assert len(proxy.parts) == 4
        assert proxy.bytes_acknowledged == len(BODY)
        assert proxy.bytes_taken == len(BODY) + PART


def test_the_proxy_calls_back(s3: StrictS3) -> None:
    calls: list[tuple[str, int, int]] = []
    with CountingProxy("127.0.0.1", s3.port) as proxy:

        def note(name: str) -> Any:
            return lambda: calls.append((name, proxy.bytes_taken, proxy.bytes_acknowledged))

        proxy.on_taken(PART + 1, note("taken"))
        proxy.on_acknowledged(2 * PART, note("acknowledged"), before_answer=True)
        client = s3.client(endpoint_url=proxy.url)
        send_all(client, create(client))
        client.close()
    assert sorted(name for name, _, _ in calls) == ["acknowledged", "taken"]
    assert {name: taken for name, taken, _ in calls}["taken"] >= PART + 1
    assert {name: acked for name, _, acked in calls}["acknowledged"] == 2 * PART


def test_the_proxy_passes_resets_and_early_answers(s3: StrictS3) -> None:
    with CountingProxy("127.0.0.1", s3.port) as proxy:
        client = s3.client(endpoint_url=proxy.url)
        upload = create(client)
        url, headers = presign(client, upload, PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
        s3.script("UploadPart", LostAnswer(), Status(403, read_body=False))
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            put(url, PARTS[0], headers)
        assert put(url, PARTS[0], headers)[0] == 403
        proxy.cut(refuse=True)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            put(url, PARTS[0], headers)
        proxy.restore()
        assert put(url, PARTS[0], headers)[0] == 200
        assert proxy.parts[f"/{BUCKET}/{KEY}", upload["UploadId"], 1].statuses == [403, 200]
        client.close()


async def test_the_proxy_carries_many_connections() -> None:
    size, count = 1 << 20, 24
    data = bytes(size)
    headers = {"x-amz-checksum-crc64nvme": crc64(data)}
    with StrictS3(keep_bodies=False) as s3, CountingProxy("127.0.0.1", s3.port) as proxy:
        s3.create_bucket(BUCKET)
        client = s3.client(endpoint_url=proxy.url)
        upload = create(client)
        reached = threading.Event()
        proxy.on_acknowledged(size * count, reached.set)
        async with aiohttp.ClientSession() as session:
            for number in range(1, count + 1):
                url = presign(client, upload, data, number)
                async with session.put(yarl.URL(url, encoded=True), data=data, headers=headers) as answer:
                    assert answer.status == 200
        client.close()
        assert reached.wait(10)
        assert {traffic.body_bytes for traffic in proxy.parts.values()} == {size}
        assert proxy.bytes_taken == size * count

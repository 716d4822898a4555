"""StrictS3 fails, holds and stops as a test's script says."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from bigupload.testing.faults import Call, ErrorIn200, FlipBit, LostResponse, Ok, Reset, Status, Whitespace, WrongEtag
from bigupload.testing.strict_s3 import StrictS3
from tests.strict_s3.support import BODY, BUCKET, KEY, PARTS, complete, crc64, create, presign, put, send, send_all

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it


def test_scripted_faults(s3: StrictS3, client: Any) -> None:
    upload = create(client)
    url, headers = presign(client, upload, PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
    slow = Status(503, "SlowDown", headers={"Retry-After": "7"})
    s3.script("UploadPart", slow, Reset(after_bytes=10), Ok(), LostResponse(), WrongEtag(), FlipBit(3), Status(403))
    status, error, responded = put(url, PARTS[0], headers)
    assert (status, error, responded["retry-after"]) == (503, "SlowDown", "7")
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


def test_a_response_before_the_body(s3: StrictS3, client: Any) -> None:
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
    s3.script("CompleteMultipartUpload", ErrorIn200("InternalError"), LostResponse())
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
        s3.wait_for("UploadPart", responded=True)
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
        hanging.exception(timeout=10)  # it ends, with a response or without one
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

"""One upload in StrictS3, step by step, through boto3 and by hand."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from awscrt import checksums as crt
from botocore.exceptions import ClientError

BUCKET, KEY = "bucket", "some/big file+1.bin"
PART = 64
BODY = bytes(range(256))[: 3 * PART + 5]
PARTS = [BODY[at : at + PART] for at in range(0, len(BODY), PART)]


def crc64(data: bytes) -> str:
    return base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def create(client: Any, **options: Any) -> dict[str, Any]:
    """The arguments that name the upload."""
    options.setdefault("ChecksumAlgorithm", "CRC64NVME")
    response = client.create_multipart_upload(Bucket=BUCKET, Key=KEY, **options)
    return {"Bucket": BUCKET, "Key": KEY, "UploadId": response["UploadId"]}


def send(client: Any, upload: dict[str, Any], number: int, data: bytes) -> dict[str, Any]:
    response = client.upload_part(**upload, PartNumber=number, Body=data, ChecksumCRC64NVME=crc64(data))
    return {"PartNumber": number, "ETag": response["ETag"], "ChecksumCRC64NVME": response["ChecksumCRC64NVME"]}


def send_all(client: Any, upload: dict[str, Any]) -> list[dict[str, Any]]:
    return [send(client, upload, number, data) for number, data in enumerate(PARTS, 1)]


def complete(client: Any, upload: dict[str, Any], rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    response: dict[str, Any] = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": rows}, **options)
    return response


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
        # A store that refuses before it has read the body closes: the response is there though sending failed.
        with contextlib.suppress(ConnectionError):
            connection.request("PUT", f"{parts.path}?{parts.query}", data, headers)
        response = connection.getresponse()
        found = re.search(r"<Code>(\w+)</Code>", response.read().decode())
        return response.status, found[1] if found else "", {k.lower(): v for k, v in response.getheaders()}
    finally:
        connection.close()

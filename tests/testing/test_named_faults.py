"""Each fault by its name, as a client without retries sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, IncompleteReadError, ResponseStreamingError

from bigupload.testing.named_faults import FAULTS, Faults
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.waiting import until

BODY = b"0123456789" * 100
PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
REFUSED = {
    "slow down": "SlowDown",
    "internal error": "InternalError",
    "bad gateway": "502",
    "request timeout": "RequestTimeout",
    "access denied": "AccessDenied",
    "expired url": "AccessDenied",
    "expired token": "ExpiredToken",
    "no such upload": "NoSuchUpload",
    "flip bit": "XAmzContentSHA256Mismatch",
}
"""The error codes of faults that hit a part."""


@pytest.fixture
def client(bigupload_strict_s3: StrictS3) -> Iterator[Any]:
    client = bigupload_strict_s3.client()
    yield client
    client.close()


@pytest.fixture
def upload(client: Any) -> dict[str, str]:
    return {
        "Bucket": "bucket",
        "Key": "key",
        "UploadId": client.create_multipart_upload(Bucket="bucket", Key="key")["UploadId"],
    }


def send(client: Any, upload: dict[str, str], number: int = 1) -> dict[str, Any]:
    etag = client.upload_part(**upload, PartNumber=number, Body=BODY)["ETag"]
    return {"PartNumber": number, "ETag": etag}


def complete(client: Any, upload: dict[str, str], part: dict[str, Any], **more: str) -> None:
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]}, **more)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", REFUSED)
def test_a_part_is_refused_once(name: str, client: Any, upload: dict[str, str], bigupload_faults: Faults) -> None:
    bigupload_faults(name, part=2)
    send(client, upload)
    with pytest.raises(ClientError) as error:
        send(client, upload, 2)
    assert error.value.response["Error"]["Code"] == REFUSED[name]
    send(client, upload, 2)


@pytest.mark.parametrize(("name", "there"), [("reset", []), ("lost response", [1])])
def test_connections_that_break(
    name: str, there: list[int], client: Any, upload: dict[str, str], bigupload_strict_s3: StrictS3,
    bigupload_faults: Faults,
) -> None:  # fmt: skip
    bigupload_faults(name)
    with pytest.raises(ConnectionClosedError):
        send(client, upload)
    bigupload_strict_s3.settle()
    assert list(bigupload_strict_s3.uploads[upload["UploadId"]].parts) == there


def test_reset_after_some_bytes(client: Any, bigupload_strict_s3: StrictS3, bigupload_faults: Faults) -> None:
    bigupload_faults("reset", after_bytes=100, key="key")
    client.put_object(Bucket="bucket", Key="other", Body=BODY)
    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket="bucket", Key="key", Body=BODY)
    assert bigupload_strict_s3.requests[-1].bytes_received == 100


async def test_stall(
    client: Any, upload: dict[str, str], bigupload_strict_s3: StrictS3, bigupload_faults: Faults
) -> None:
    bigupload_faults("stall")
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(send, client, upload)
        await until(lambda: bigupload_strict_s3.stalled == 1)
        assert not bigupload_strict_s3.uploads[upload["UploadId"]].parts
        bigupload_strict_s3.release()
        sending.result()
    assert list(bigupload_strict_s3.uploads[upload["UploadId"]].parts) == [1]


def test_lies(client: Any, upload: dict[str, str], bigupload_strict_s3: StrictS3, bigupload_faults: Faults) -> None:
    bigupload_faults("wrong etag")
    bigupload_faults("flip stored bit", at=3)
    part = send(client, upload)
    with pytest.raises(ClientError, match="InvalidPart"):
        complete(client, upload, part)
    complete(client, upload, send(client, upload))
    stored = bigupload_strict_s3.objects["bucket"]["key"].body
    assert isinstance(stored, bytes)
    assert [at for at, (is_, was) in enumerate(zip(stored, BODY, strict=True)) if is_ != was] == [3]


def test_faults_of_complete(client: Any, upload: dict[str, str], bigupload_faults: Faults) -> None:
    bigupload_faults("error in 200", code="SlowDown")
    part = send(client, upload)
    with pytest.raises(ClientError, match="SlowDown"):
        complete(client, upload, part)
    bigupload_faults("conflict")
    for _ in range(2):
        with pytest.raises(ClientError, match="ConditionalRequestConflict"):
            complete(client, upload, part, IfNoneMatch="*")


def test_a_download_that_is_cut(client: Any, bigupload_faults: Faults) -> None:
    client.put_object(Bucket="bucket", Key="key", Body=BODY)
    bigupload_faults("cut response", after_bytes=10)
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        client.get_object(Bucket="bucket", Key="key")["Body"].read()


def test_times_and_always(client: Any, bigupload_strict_s3: StrictS3, bigupload_faults: Faults) -> None:
    def refusals(requests: int) -> int:
        before = bigupload_strict_s3.count("HeadBucket", status=403)
        for _ in range(requests):
            with contextlib.suppress(ClientError):
                client.head_bucket(Bucket="bucket")
        return bigupload_strict_s3.count("HeadBucket", status=403) - before

    bigupload_faults("access denied", op="HeadBucket", times=2)
    assert refusals(1) == 1
    assert bigupload_faults.unmet() == (
        "'access denied' (op=HeadBucket): 1 of 2 requests met it.\nArrived: HeadBucket 1. Check part, key and op."
    )
    assert refusals(2) == 1
    bigupload_faults("access denied", op="HeadBucket", always=True)
    assert refusals(3) == 3
    assert bigupload_faults.unmet() == ""
    bigupload_strict_s3.clear()
    assert refusals(3) == 0


def test_names_that_do_not_exist(bigupload_faults: Faults) -> None:
    with pytest.raises(ValueError, match=r"^no fault is named 'slow-down'; the names are: slow down, .*, cut resp"):
        bigupload_faults("slow-down")
    with pytest.raises(ValueError, match=r"^'reset' has no `bytes`; its details are: after_bytes; .*: part, key, op,"):
        bigupload_faults("reset", bytes=3)
    with pytest.raises(ValueError, match=r"^'lost response' has no `at`; its details are: none; arguments for every"):
        bigupload_faults("lost response", at=3)
    with pytest.raises(ValueError, match=r"^Complete is none of \['Abort"):
        bigupload_faults("reset", op="Complete")


@pytest.mark.parametrize(
    ("name", "op", "ops"),
    [
        ("cut response", "CreateMultipartUpload", "GetObject"),
        ("conflict", "PutObject", "CompleteMultipartUpload"),
        ("flip bit", "CreateMultipartUpload", "UploadPart, PutObject, CompleteMultipartUpload, .*"),
        ("flip stored bit", "CompleteMultipartUpload", "UploadPart, PutObject"),
        ("wrong etag", "AbortMultipartUpload", "UploadPart, PutObject, .*"),
        ("stall", "HeadObject", "UploadPart, PutObject, .*"),
    ],
)
def test_faults_that_cannot_happen(name: str, op: str, ops: str, bigupload_faults: Faults) -> None:
    with pytest.raises(ValueError, match=rf"^'{name}' cannot happen to {op}; it can to: {ops}$"):
        bigupload_faults(name, op=op)


def test_a_fault_for_no_request(bigupload_faults: Faults) -> None:
    with pytest.raises(ValueError, match=r"^`times` must be at least 1$"):
        bigupload_faults("reset", times=0)


def test_each_name_is_tried_here_and_described() -> None:
    here = Path(__file__).read_text()
    page = PAGE.read_text()
    for name, fault in FAULTS.items():
        assert f'"{name}"' in here
        assert f"| `{name}` | {fault.says} |" in page

"""What fails with boto3 fails with the adapter by the same exception."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

import bigupload
from bigupload import errors
from bigupload.adapters.boto3 import install, uninstall
from bigupload.manifests.journal import FileJournal
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import Exchange, S3Error, StrictS3
from tests.integration.support import content
from tests.tools.cases import each_case

LARGE = content(9 * 1024 * 1024)
ONCE = Config(retries={"total_max_attempts": 1})


@pytest.fixture
def both(s3: StrictS3) -> Iterator[list[Any]]:
    """Two clients, each of which tries once: boto3's and the adapter's."""
    clients = [boto3.client("s3", config=ONCE), install(boto3.client("s3", config=ONCE))]
    yield clients
    for each in clients:
        uninstall(each)
        each.close()


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        call()
    error = caught.value
    assert isinstance(error, Exception)
    return error


@pytest.mark.slow
@each_case(
    "status, code, operation, size",
    [
        (403, "AccessDenied", "PutObject", 10),
        (403, "AccessDenied", "CreateMultipartUpload", len(LARGE)),
        (403, "InvalidAccessKeyId", "PutObject", 10),
        (403, "SignatureDoesNotMatch", "PutObject", 10),
        (400, "InvalidArgument", "PutObject", 10),
        (400, "InvalidArgument", "UploadPart", len(LARGE)),
        (400, "ExpiredToken", "PutObject", 10),
        (400, "EntityTooLarge", "CompleteMultipartUpload", len(LARGE)),
        (503, "SlowDown", "PutObject", 10),
        (503, "SlowDown", "CreateMultipartUpload", len(LARGE)),
        (500, "InternalError", "CompleteMultipartUpload", len(LARGE)),
        (404, "NoSuchUpload", "CompleteMultipartUpload", len(LARGE)),
    ],
)
def test_a_refusal_of_the_store(
    both: list[Any], s3: StrictS3, tmp_path: Path, status: int, code: str, operation: str, size: int
) -> None:
    """Its code and its status, in a ClientError, which `upload_file` wraps."""
    key = f"{operation}-{code}"  # what an earlier case left unfinished is no part of this one
    (tmp_path / "file").write_bytes(LARGE[:size])
    for client in both:
        s3.clear()
        s3.script(operation, Status(status, code), repeat=True)
        wrapped = raised(lambda client=client: client.upload_file(str(tmp_path / "file"), "bucket", key))
        assert type(wrapped) is S3UploadFailedError
        assert code in str(wrapped)
        assert str(wrapped).startswith(
            f"Failed to upload {tmp_path / 'file'} to bucket/{key}: An error occurred ({code})"
        )
        refused = raised(lambda client=client: client.upload_fileobj(io.BytesIO(LARGE[:size]), "bucket", key))
        assert isinstance(refused, ClientError)
        assert refused.response["Error"]["Code"] == code
        assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_bucket_that_is_not_there(both: list[Any]) -> None:
    for client in both:
        for data in (b"small", LARGE):
            with pytest.raises(client.exceptions.NoSuchBucket) as caught:
                client.upload_fileobj(io.BytesIO(data), "no-bucket", "key")
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_files_that_can_not_be_read(both: list[Any], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", ".", "loop", "missing/file", "a\0b"):
        theirs, ours = (raised(lambda c=c, n=name: c.upload_file(str(tmp_path / n), "bucket", "key")) for c in both)
        assert (type(ours), str(ours)) == (type(theirs), str(theirs)), name


def test_a_fifo_is_boto3s(both: list[Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    holder = os.open(tmp_path / "fifo", os.O_RDWR)
    theirs = raised(lambda: both[0].upload_file(str(tmp_path / "fifo"), "bucket", "key"))
    with pytest.warns(UserWarning, match="not a regular file"):
        ours = raised(lambda: both[1].upload_file(str(tmp_path / "fifo"), "bucket", "key"))
    assert type(ours) is type(theirs)
    os.close(holder)


class Broken:
    """A file object whose `read` fails after some bytes."""

    def __init__(self, size: int, error: Exception, *, seeks: bool) -> None:
        self._file = io.BytesIO(content(20 * 1024 * 1024))
        self._left = size
        self._error = error
        if seeks:
            self.seek, self.tell = self._file.seek, self._file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= size if size > 0 else 0
        if self._left < 0:
            raise self._error
        return self._file.read(size)


@each_case("seeks", [True, False])
@each_case("size", [0, 9 * 1024 * 1024])
def test_what_a_file_object_raises(both: list[Any], size: int, seeks: bool) -> None:
    class OwnError(Exception):
        pass

    for client in both:
        error = OwnError("mine")
        with pytest.raises(OwnError) as caught:
            client.upload_fileobj(Broken(size, error, seeks=seeks), "bucket", "key")
        assert caught.value is error


def test_a_file_object_that_can_not_be_read(both: list[Any], s3: StrictS3, tmp_path: Path) -> None:
    """One that is only written to seems to be empty: that is not taken for its content."""
    with (tmp_path / "file").open("wb") as written:
        written.write(b"data")
        theirs, ours = (raised(lambda c=c: c.upload_fileobj(written, "bucket", "key")) for c in both)
        assert (type(ours), str(ours)) == (type(theirs), str(theirs))
    for each in (io.TextIOWrapper(io.BytesIO(b"text")), io.StringIO("text")):
        with pytest.raises(TypeError, match="open it in binary mode"):
            both[1].upload_fileobj(each, "bucket", "key")
    assert s3.objects["bucket"] == {}


def test_nobody_listens(tmp_path: Path, bigupload_state: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        made = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        for client in (boto3.client("s3", config=ONCE, **made), install(boto3.client("s3", config=ONCE, **made))):
            with pytest.raises(EndpointConnectionError, match=url):
                client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")
            client.close()


def test_no_credentials(s3: StrictS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for client in (boto3.client("s3"), install(boto3.client("s3"))):
        with pytest.raises(NoCredentialsError):
            client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")
        client.close()


def test_the_cause_is_the_error_of_bigupload(client: Any, s3: StrictS3, tmp_path: Path) -> None:
    """With the manifest, for who wants to know more."""
    (tmp_path / "file").write_bytes(LARGE)
    s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(S3UploadFailedError) as caught:
        client.upload_file(str(tmp_path / "file"), "bucket", "key")
    cause = caught.value.__cause__
    assert isinstance(cause, errors.AccessDenied)
    assert cause.manifest is not None
    s3.clear()
    client.upload_file(str(tmp_path / "file"), "bucket", "key")
    assert s3.count("CreateMultipartUpload") == 1, "it was resumed"


# -- what an earlier run left


def interrupted(s3: StrictS3, path: Path, **extra: Any) -> None:
    """Leave an unfinished upload of two parts behind, one of which is in the store."""
    client = install(boto3.client("s3"))

    def refuse_the_second(exchange: Exchange) -> None:
        if exchange.op == "UploadPart" and exchange.query["partNumber"] == "2":
            (upload,) = s3.uploads.values()
            raise S3Error("AccessDenied" if 1 in upload.parts else "SlowDown")

    usual, s3.knobs.receive = s3.knobs.receive, refuse_the_second
    with pytest.raises(S3UploadFailedError, match="AccessDenied"):
        client.upload_file(str(path), "bucket", "key", ExtraArgs=extra)
    s3.knobs.receive = usual
    s3.clear()
    uninstall(client)
    client.close()
    assert len(s3.uploads) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "extra", [{"Metadata": {"a": "new"}}, {"ChecksumAlgorithm": "SHA256"}, {"StorageClass": "GLACIER"}]
)
def test_an_unfinished_upload_with_other_properties_is_aborted(s3: StrictS3, tmp_path: Path, extra: Any) -> None:
    """It would keep those that it began with, and boto3 knows nothing of it."""
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    interrupted(s3, path)
    client = install(boto3.client("s3"))
    client.upload_file(str(path), "bucket", "key", ExtraArgs=extra)
    headers = s3.objects["bucket"]["key"].headers
    assert headers.get("x-amz-meta-a") == extra.get("Metadata", {}).get("a")
    assert headers.get("x-amz-storage-class") == extra.get("StorageClass")
    assert s3.uploads == {}
    client.close()


@pytest.mark.slow
def test_a_file_that_is_another_now(s3: StrictS3, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(10 * 1024 * 1024))
    interrupted(s3, path)
    for size in (10, 9):
        path.write_bytes(content(size * 1024 * 1024, seed=1))
        client = install(boto3.client("s3"))
        client.upload_file(str(path), "bucket", "key")
        assert s3.objects["bucket"]["key"].body == content(size * 1024 * 1024, seed=1)
        client.close()
    assert s3.uploads == {}


def test_what_failed_for_good_is_aborted(client: Any, s3: StrictS3, tmp_path: Path) -> None:
    """As boto3 does: nothing could resume it."""
    (tmp_path / "file").write_bytes(LARGE)
    s3.script("UploadPart", Status(400, "InvalidArgument"), repeat=True)
    with pytest.raises(S3UploadFailedError, match=r"An error occurred \(InvalidArgument\)"):
        client.upload_file(str(tmp_path / "file"), "bucket", "key")
    assert s3.uploads == {}


def test_a_resumed_upload_that_the_store_refuses_begins_anew(client: Any, s3: StrictS3, tmp_path: Path) -> None:
    """Else each further run would fail like this one."""
    path = tmp_path / "file"
    path.write_bytes(content(10 * 1024 * 1024))
    interrupted(s3, path)
    s3.script("UploadPart", Status(400, "InvalidArgument"), part_number=2)
    seen: list[int] = []
    client.upload_file(str(path), "bucket", "key", Callback=seen.append)
    assert s3.objects["bucket"]["key"].body == path.read_bytes()
    assert s3.count("CreateMultipartUpload") == 2
    assert sum(seen) == path.stat().st_size
    assert s3.uploads == {}


def test_another_process_is_at_it(client: Any, s3: StrictS3, tmp_path: Path, results: list[Any]) -> None:
    """boto3 would not mind: it sends the file once more."""
    path = tmp_path / "file"
    path.write_bytes(content(10 * 1024 * 1024))
    interrupted(s3, path)
    (known,) = asyncio.run(bigupload.list_uploads())
    with FileJournal(known.manifest), pytest.warns(UserWarning, match="boto3 makes this upload itself"):
        client.upload_file(str(path), "bucket", "key")
    assert s3.objects["bucket"]["key"].body == path.read_bytes()
    assert results == []


def test_a_state_directory_that_can_not_be_written(s3: StrictS3, tmp_path: Path) -> None:
    """As where a program may write nowhere, on Lambda: the upload does not fail because it could not resume."""
    (tmp_path / "file").write_bytes(LARGE)
    (tmp_path / "occupied").write_bytes(b"")
    client = install(boto3.client("s3"), state_dir=tmp_path / "occupied" / "state")
    with pytest.warns(UserWarning, match="boto3 makes this upload itself"):
        client.upload_file(str(tmp_path / "file"), "bucket", "key")
    assert s3.objects["bucket"]["key"].body == LARGE
    client.close()

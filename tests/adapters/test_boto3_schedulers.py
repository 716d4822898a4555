"""Airflow's and Prefect's uploads go through a client with the adapter, without code of ours in them.

They call `upload_file` and `upload_fileobj` of a client that they keep, so that it can be installed there. Where the
packages are not installed, programs do what these lines of them do.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import S3Transfer, TransferConfig

from bigupload import UploadResult, Verified
from bigupload.adapters.boto3 import install, uninstall
from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import content

LARGE = content(9 * 1024 * 1024)


def test_s3hook_load_file_of_airflow(
    s3: StrictS3, tmp_path: Path, results: list[UploadResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hook.get_conn()` returns the client that the hook keeps."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    hooks = pytest.importorskip(
        "airflow.providers.amazon.aws.hooks.s3", reason="apache-airflow-providers-amazon is heavy"
    )
    hook = hooks.S3Hook(aws_conn_id=None)
    install(hook.get_conn(), on_result=results.append)
    (tmp_path / "file").write_bytes(LARGE)
    hook.load_file(tmp_path / "file", "raw/file", bucket_name="bucket", encrypt=True)
    hook.load_bytes(b"small", "raw/bytes", bucket_name="bucket")
    assert s3.objects["bucket"]["raw/file"].body == LARGE
    assert s3.objects["bucket"]["raw/file"].headers["x-amz-server-side-encryption"] == "AES256"
    assert [(result.key, result.verified) for result in results] == [
        ("raw/file", Verified.FULL_OBJECT), ("raw/bytes", Verified.FULL_OBJECT),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="already exists"):
        hook.load_file(tmp_path / "file", "raw/file", bucket_name="bucket")


def test_what_s3hook_load_file_does(client: Any, s3: StrictS3, tmp_path: Path, results: list[UploadResult]) -> None:
    """airflow/providers/amazon/aws/hooks/s3.py, `client.upload_file(` in `load_file`, `_upload_file_obj` (9.39)."""
    (tmp_path / "file").write_bytes(LARGE)
    extra_args: dict[str, object] = {"ServerSideEncryption": "AES256", "ACL": "private"}
    assert all(name in S3Transfer.ALLOWED_UPLOAD_ARGS for name in extra_args)
    client.upload_file(str(tmp_path / "file"), "bucket", "raw/file", ExtraArgs=extra_args, Config=TransferConfig())
    client.upload_fileobj(io.BytesIO(b"small"), "bucket", "raw/bytes", ExtraArgs=extra_args, Config=TransferConfig())
    assert s3.objects["bucket"]["raw/file"].body == LARGE
    assert len(results) == 2


def test_s3bucket_of_prefect(s3: StrictS3, tmp_path: Path, results: list[UploadResult]) -> None:
    """`credentials.get_s3_client()` returns the client that Prefect keeps for equal credentials."""
    prefect_aws = pytest.importorskip("prefect_aws", reason="prefect-aws is heavy")
    credentials = prefect_aws.AwsCredentials(
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region_name=s3.region,
        aws_client_parameters=prefect_aws.AwsClientParameters(endpoint_url=s3.url),
    )
    install(credentials.get_s3_client(), on_result=results.append)
    bucket = prefect_aws.S3Bucket(bucket_name="bucket", credentials=credentials)
    (tmp_path / "file").write_bytes(LARGE)
    bucket.upload_from_path(tmp_path / "file", "raw/file")
    bucket.upload_from_file_object(io.BytesIO(b"small"), "raw/object")
    bucket.write_path("raw/path", b"small")
    assert s3.objects["bucket"]["raw/file"].body == LARGE
    assert [result.key for result in results] == ["raw/file", "raw/object", "raw/path"]


def test_what_s3bucket_of_prefect_does(s3: StrictS3, tmp_path: Path, results: list[UploadResult]) -> None:
    """prefect_aws/s3.py, `client.upload_file(` in `upload_from_path`, in a worker thread (0.7)."""
    from concurrent.futures import ThreadPoolExecutor

    client = install(boto3.client("s3"), on_result=results.append)
    (tmp_path / "file").write_bytes(LARGE)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(client.upload_file, Filename=str(tmp_path / "file"), Bucket="bucket", Key="raw/file").result()
        pool.submit(client.upload_fileobj, Fileobj=io.BytesIO(b"small"), Bucket="bucket", Key="raw/object").result()
    assert s3.objects["bucket"]["raw/file"].body == LARGE
    assert [result.key for result in results] == ["raw/file", "raw/object"]
    uninstall(client)
    client.close()

"""Canaries: each private name of boto3 that the adapter uses is there and is what it is used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig

from bigupload.adapters.boto3 import arguments


def client_of(**arguments: Any) -> Any:
    return boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b", **arguments)


def test_the_credentials_of_a_client() -> None:
    assert arguments.credentials_of(client_of()).get_frozen_credentials().access_key == "a"


def test_the_certificates_of_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert arguments.trusted_by(client_of()) is True
    assert arguments.trusted_by(client_of(verify=False)) is False
    assert arguments.trusted_by(client_of(verify=str(tmp_path))) == tmp_path
    assert arguments.trusted_by_botocore().is_file()


def test_what_a_config_says_explicitly() -> None:
    assert arguments.explicit(TransferConfig(multipart_threshold=7), "multipart_threshold") == 7
    for name in (
        "multipart_threshold",
        "multipart_chunksize",
        "max_request_concurrency",
        "max_bandwidth",
        "use_threads",
    ):
        assert arguments.explicit(TransferConfig(), name) is None, name

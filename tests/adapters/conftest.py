"""boto3 clients of a strict fake of AWS S3, one with the adapter and one without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from bigupload import UploadResult
from bigupload.adapters.boto3 import install, uninstall
from bigupload.testing.strict_s3 import StrictS3


@pytest.fixture
def s3(bigupload_strict_s3: StrictS3) -> StrictS3:
    return bigupload_strict_s3


@pytest.fixture
def plain(s3: StrictS3) -> Iterator[Any]:
    """A client as boto3 makes it; endpoint and credentials come from the environment."""
    client = boto3.client("s3")
    yield client
    client.close()


@pytest.fixture
def results() -> list[UploadResult]:
    return []


@pytest.fixture
def client(s3: StrictS3, results: list[UploadResult]) -> Iterator[Any]:
    """A client with the adapter."""
    client = install(boto3.client("s3"), on_result=results.append)
    yield client
    uninstall(client)
    client.close()


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[bytes], str]:
    def made(data: bytes) -> str:
        (tmp_path / "file.bin").write_bytes(data)
        return str(tmp_path / "file.bin")

    return made

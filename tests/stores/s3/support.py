"""botocore as the tests of signing compare with it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

NOON = datetime.datetime(2026, 5, 17, 23, 59, 59, tzinfo=datetime.UTC)
"""botocore's time, where a test uses the fixture `now`."""


class Botocore:
    """A client, and the number of the URLs that it was asked for."""

    def __init__(self, token: str | None = None, bucket: str = "the-bucket", **where: Any) -> None:
        where.setdefault("config", Config(signature_version="s3v4"))
        self.credentials = ReadOnlyCredentials("AKID/+", "secret", token)
        self.client = boto3.client(
            "s3", aws_access_key_id="AKID/+", aws_secret_access_key="secret", aws_session_token=token, **where
        )
        self.bucket = bucket
        self.asked = 0

    def url(self, method: str, parameters: Mapping[str, Any]) -> str:
        self.asked += 1
        params = {"Bucket": self.bucket, **parameters}
        url: str = self.client.generate_presigned_url(method, Params=params, ExpiresIn=3600)
        return url

"""A boto3 client of a SeaweedFS, and what lies in it."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from bigupload.stores.local_store import LocalStore


def weed_client(store: LocalStore) -> Any:
    """Without retries: what works only at the second attempt was not ready."""
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=store.region,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def fetch(store: LocalStore, bucket: str, key: str) -> bytes:
    """The object's bytes."""
    client = weed_client(store)
    try:
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body
    finally:
        client.close()

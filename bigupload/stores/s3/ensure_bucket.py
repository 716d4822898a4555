"""Create a bucket that is missing."""

from __future__ import annotations

from typing import Any

from bigupload.core.retry_policy import Fault
from bigupload.stores.s3.client import S3Bucket


async def ensure_bucket(bucket: S3Bucket) -> bool:
    """Create the bucket if it is missing. Returns whether this call created it."""
    try:
        await bucket.call("to look at the bucket", "head_bucket")
    except Fault as fault:
        if fault.status != 404:  # a response to HEAD has no body, so there is no code NoSuchBucket
            raise fault.public() from fault
        return await _make(bucket)
    return False


async def _make(bucket: S3Bucket) -> bool:
    """Create the bucket. Returns False if another process did that at the same time."""
    where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": bucket.region}}
    try:
        await bucket.call("to make the bucket", "create_bucket", **({} if bucket.region == "us-east-1" else where))
    except Fault as fault:
        if fault.code != "BucketAlreadyOwnedByYou":
            raise fault.public() from fault
        return False
    return True

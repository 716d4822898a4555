"""Delete an object, if it is still the one that was listed."""

from __future__ import annotations

from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.client import S3Bucket


async def delete_object(bucket: S3Bucket, key: str, *, etag: str) -> None:
    """Delete an object. One that is gone already is no error with most stores, and Fault(GONE) with some.

    Args:
        bucket: Its bucket.
        key: Its key.
        etag: The ETag that it must have; empty: any.

    Raises:
        Fault: EXISTS if it now has another ETag and the store supports If-Match.
    """
    condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
    try:
        await bucket.call("to delete the object", "delete_object", Key=key, **condition)
    except Fault as fault:
        if fault.kind is not FaultKind.UNSUPPORTED or not condition:
            raise
        await bucket.call("to delete the object", "delete_object", Key=key)

"""Whether an object is the file already, so that the upload can be skipped."""

from __future__ import annotations

from pathlib import Path

import anyio

from bigupload import errors
from bigupload.core.integrity import Verified
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.stores.s3.bucket_pool import BucketPool
from bigupload.verification.by_checksum import Verification, verify


async def prove_existing(
    path: str,
    url: str,
    manifest: Path,
    *,
    s3: S3Options,
    required: Verified,
    part_size: int | None = None,
    retry: RetryPolicy | None = None,
    pool: BucketPool | None = None,
    reading: anyio.CapacityLimiter | None = None,
) -> UploadResult | None:
    """Hash the file, and compare it with the checksums that the store has of the object.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY".
        manifest: Where the manifest of such an upload is.
        s3: How to reach the store.
        required: The least level of proof. The size alone never suffices.
        part_size: The object's part size in bytes, if known.
        retry: How often and for how long a failed request is repeated.
        pool: Where to take the connection to the bucket from.
        reading: Bounds the threads that read files. None: one for each processor.

    Returns:
        The result of the skipped upload. None if there is no object, another object, or no proof.

    Raises:
        BigUploadError: The file or the object cannot be read.
    """
    try:
        found = await verify(path, url, s3=s3, part_size=part_size, retry=retry, pool=pool, reading=reading)
    except errors.ObjectMismatch:
        return None
    if found.verified is Verified.SIZE or not found.verified.satisfies(required):
        return None
    return _skipped(found, url, manifest)


def _skipped(found: Verification, url: str, manifest: Path) -> UploadResult:
    return UploadResult(
        path=found.path,
        bucket=found.bucket,
        key=found.key,
        url=found.url,
        size=found.size,
        etag=found.etag,
        checksum=found.checksum if found.verified is not Verified.COMPOSITE_ETAG else None,
        verified=found.verified,
        parts=0,
        resumed_parts=0,
        bytes_sent=0,
        retries=0,
        seconds=found.seconds,
        manifest=manifest,
        skipped=True,
    )

"""From what a caller names to a store: `s3://BUCKET/KEY`, the local store, or what a manifest recorded."""

from __future__ import annotations

import dataclasses
import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import anyio.to_thread
import platformdirs

from bigupload import errors
from bigupload.manifest import Target
from bigupload.options import S3Options
from bigupload.stores.s3 import S3Store

LOCAL_BUCKET = "bigupload"
LOCAL = "local"
"""What a manifest has for the local store's endpoint: its port and its keys are the machine's, not the upload's."""


def parse_s3_url(url: str, file_name: str | None = None) -> tuple[str, str]:
    """(bucket, key) of `s3://BUCKET/KEY`. Where KEY is empty or ends in "/", `file_name` is put behind it.

    Raises UsageError.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not bucket:
        raise errors.UsageError(f"not a target: {url!r} (write it like s3://bucket/key or s3://bucket/folder/)")
    if not key or key.endswith("/"):
        if file_name is None:
            raise errors.UsageError(f"{url!r} names no object: write it like s3://bucket/key")
        key += file_name
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise errors.UsageError(f"an S3 key is UTF-8, {key!r} is not: name the object, as s3://bucket/key") from None
    if length > 1024:  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
        raise errors.UsageError("an S3 key has at most 1,024 bytes")
    return bucket, key


async def connect(bucket: str, key: str, options: S3Options) -> S3Store:
    """The store for a key. For the local store, starts that where it does not run, and makes its bucket."""
    if not options.local:
        return S3Store(bucket, key, options.completed_by(os.environ))
    from bigupload import local_store

    running = await anyio.to_thread.run_sync(local_store.start)
    reached = dataclasses.replace(
        options,
        endpoint_url=running.endpoint_url,
        region=running.region,
        access_key=running.access_key,
        secret_key=running.secret_key,
    )
    store = S3Store(bucket, key, reached, recorded=options, target=Target(bucket=bucket, key=key, endpoint=LOCAL))
    try:
        await store.ensure_bucket()
    except BaseException:
        await store.aclose()
        raise
    return store


async def reconnect(target: Target, recorded: Mapping[str, Any], secrets: S3Options | None = None) -> S3Store:
    """The store that a manifest names, with the credentials of `secrets` or of this process's surroundings."""
    if target.bucket is None:
        raise errors.ManifestMismatch("this manifest's target is no S3 bucket, and this version knows no other")
    return await connect(target.bucket, target.key, S3Options.from_json(recorded, secrets))


def guess_content_type(path: str | PurePath) -> str:
    """From the name; what nobody knows is bytes."""
    return mimetypes.guess_type(str(path), strict=False)[0] or "application/octet-stream"


def state_dir() -> Path:
    """Where manifests are kept: BIGUPLOAD_STATE_DIR, else the user's state directory."""
    override = os.environ.get("BIGUPLOAD_STATE_DIR")
    if override:
        return Path(override)
    try:
        return platformdirs.user_state_path("bigupload")
    except RuntimeError:  # neither HOME nor a known user
        raise errors.UsageError("there is no home directory: set HOME, or BIGUPLOAD_STATE_DIR") from None

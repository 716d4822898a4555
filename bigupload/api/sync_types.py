"""The steps that a sync reports, and their sum."""

from __future__ import annotations

from typing import Literal, TypeAlias

from bigupload import errors
from bigupload.batch.job import UploadFailed
from bigupload.batch.tree import Omitted
from bigupload.engine.upload_run import UploadResult
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStep:
    """An object that was deleted, or was to be; with `dry_run`, what would be done."""

    action: Literal["upload", "delete"]
    key: str
    """The object's key."""
    url: str
    """The object's URL, "s3://BUCKET/KEY"."""
    size: int
    """Bytes of what is uploaded or deleted."""
    source: str | None = None
    """The path of the file that would be uploaded."""
    done: bool = False
    """Whether it was done. False with `dry_run`, and if it failed."""
    error: errors.BigUploadError | None = None
    """The error because of which the object was not deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """The outcome of a sync; with `dry_run`, the expected one."""

    uploaded: int
    """Files that were sent."""
    same: int
    """Files that were in the store already."""
    deleted: int
    """Objects that were deleted."""
    failed: int
    """Files and directories that can't be read or were refused, and objects that were not deleted."""
    size: int
    """Bytes of the files that were sent."""
    seconds: float
    not_deleted: str | None = None
    """The reason why `delete` deleted nothing, if it was asked for and something forbade it."""


SyncOutcome: TypeAlias = UploadResult | UploadFailed | SyncStep | Omitted
"""The argument of `on_outcome`."""

"""An s3:// source: whether the store copies it to the target by itself, so that its bytes do not pass this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from bigupload import errors
from bigupload.api.opened_source import OpenedSource
from bigupload.core.checksums import UPLOAD_ALGORITHMS
from bigupload.core.copies import CopyOrigin
from bigupload.engine.context import UploadContext, UploadSettings
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import Store


def check_not_itself(found: OpenedSource, store: Store) -> None:
    """Raises UsageError if an object would replace itself."""
    stored, target = found.stored, store.target
    if stored is not None and (stored.bucket, stored.key) == (target.bucket, target.key):
        raise errors.UsageError(f"{found.source.path} is the source and the target: name another target")


def settings_of(found: OpenedSource, store: Store, settings: UploadSettings, *, chosen: bool) -> UploadSettings:
    """The settings of a new upload: if the caller chose no checksum, one that the source's store has of all of it."""
    usable = [algorithm for algorithm in UPLOAD_ALGORITHMS if algorithm in found.checksums]
    if chosen or not usable or settings.algorithm in usable or not isinstance(store, S3Store):
        return settings
    return dataclasses.replace(settings, algorithm=usable[0])


def let_store_copy(context: UploadContext, found: OpenedSource, store: Store) -> None:
    """Let the store copy the source, if the copy can be proved. Else warn that it is read through this machine."""
    context.origin = None
    stored, algorithm = found.stored, context.settings.algorithm
    if context.journal.exists and context.manifest.status in ("uploading", "completing"):
        algorithm = context.manifest.header.checksum.algorithm
    if stored is None or not stored.size or not isinstance(store, S3Store):
        return
    checksum = found.checksums.get(algorithm)
    if checksum is None:
        context.warn(
            f"{found.source.path} is read through this machine: its store has no {algorithm} of the whole object, by "
            "which a copy could be proved"
        )
        return
    context.origin = CopyOrigin(source=stored, algorithm=algorithm, checksum=checksum)


def reopening_copied(
    context: UploadContext, store: Store, open_again: Callable[[], Awaitable[OpenedSource]]
) -> Callable[[], Awaitable[OpenedSource]]:
    """Return `open_again`, after which the store copies what is there then."""

    async def reopen() -> OpenedSource:
        found = await open_again()
        let_store_copy(context, found, store)
        return found

    return reopen

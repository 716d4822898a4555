"""Copies by the store itself, so that their bytes are not sent.

It is the whole of an s3:// source, or with `delta=True` those parts that are the same in the object of the last upload.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from bigupload import errors
from bigupload.api.arguments import UploadOptions
from bigupload.api.state import UploaderState
from bigupload.api.types import OpenedSource
from bigupload.core.checksums import UPLOAD_ALGORITHMS, Algorithm
from bigupload.core.integrity import CopyOrigin, CopySource, ObjectFacts, PreviousVersion, prove_object
from bigupload.core.manifest import Manifest
from bigupload.core.part_plan import Limits, plan_parts
from bigupload.engine.context import UploadContext, UploadSettings
from bigupload.errors import ObjectMismatch, UsageError
from bigupload.options import recorded_with_customer_key
from bigupload.ports import Source
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import Store
from bigupload.units import format_part_size

_BEFORE_VERSIONS = "null"
"""The version id of an object that is older than the versioning of its bucket. Another upload replaces it."""


class NoBase(Exception):
    """The upload has no base, so that everything is sent. The text has the reason."""


def check_manifest(known: Manifest, size: int, algorithm: Algorithm, limits: Limits) -> None:
    """Check whether the parts of a completed upload can be compared with those of a new one.

    Args:
        known: The manifest of the completed upload.
        size: The new object's size in bytes.
        algorithm: The new upload's.
        limits: What the store allows.

    Raises:
        NoBase: They can't.
    """
    before = known.header.checksum.algorithm
    if before is not algorithm:
        raise NoBase(f"the last upload to {known.target} used `checksum='{before}'`, and this one uses {algorithm}")
    if not known.plan.has_equal_parts:
        raise NoBase(f"the parts of the last upload to {known.target} have several sizes")
    try:
        plan_parts(size, known.plan.part_size, limits=limits)
    except UsageError:
        raise NoBase(
            f"the source does not fit into parts of {format_part_size(known.plan.part_size)}, as the last upload to "
            f"{known.target} had them"
        ) from None


def base_of(known: Manifest, found: ObjectFacts | None, owner: str | None, *, customer_key: bool) -> PreviousVersion:
    """Make the base of a new upload.

    Args:
        known: The manifest of the completed upload.
        found: The object that is there now.
        owner: The AWS account that must own the bucket.
        customer_key: Whether the new upload has a customer key, with which the object was found.

    Raises:
        NoBase: The object is not the one that the upload made.
    """
    if found is None:
        raise NoBase(f"{known.target} was deleted since the last upload")
    try:
        contradicted = prove_object(found, known.expected_object()) is None
    except ObjectMismatch:
        contradicted = True
    if contradicted or not known.made_object(found):
        raise NoBase(f"{known.target} was replaced since the last upload from here")
    source = CopySource(
        bucket=known.target.bucket or "",
        key=known.target.key,
        etag=found.etag,
        size=known.plan.known_size,
        version_id=None if found.version_id == _BEFORE_VERSIONS else found.version_id,
        owner=owner,
        customer_key=customer_key,
    )
    checksums = tuple(known.parts[part.number].checksum for part in known.plan)
    return PreviousVersion(source=source, part_size=known.plan.part_size, checksums=checksums)


_MOST_EXAMINED = 10
"""Completed uploads to one key that are looked at: the last one has probably made the object."""


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


def check_delta(options: UploadOptions, settings: UploadSettings) -> None:
    """Raises UsageError for options that contradict `delta`."""
    if not options.get("delta", False):
        return
    s3 = options.get("s3")
    if options.get("service") is not None:
        raise errors.UsageError("`delta` needs an earlier object, and a media service makes a new one for each upload")
    if settings.part_size is not None:
        raise errors.UsageError("`part_size` can't be used with `delta`, which takes that of the last upload")
    if settings.algorithm is Algorithm.NONE:
        raise errors.UsageError("`checksum='none'` can't be used with `delta`: only checksums show the changed parts")
    if s3 is not None and s3.if_none_match:
        raise errors.UsageError("`if_none_match` refuses to replace an object, and `delta` replaces one: leave one out")


def check_delta_source(source: Source) -> None:
    """Raises UsageError for a source that can't be compared with an object before it is sent."""
    if source.stream is not None:
        raise errors.UsageError(f"`delta` is for files, and {source.path} is a stream: leave it out")


async def find_base(
    context: UploadContext, known: Manifest | None, state: UploaderState, *, resume: bool
) -> PreviousVersion | None:
    """Find the object to copy from. If there is none, warn with the reason.

    Args:
        context: The upload's context.
        known: Its manifest, before it is set aside; None: there was none.
        state: Where the other manifests are.
        resume: Whether an unfinished upload is resumed. It keeps what it began with.
    """
    if known is not None and resume and known.status in ("uploading", "completing"):
        if known.header.copies is None:
            context.warn("this upload began without `delta`, and sends all parts (`resume=False` starts a new upload)")
        return None
    try:
        return await _find_base(context, known, state)
    except NoBase as e:
        context.warn(f"`delta` is not possible, and all parts are sent: {e}")
        return None


async def _find_base(context: UploadContext, own: Manifest | None, state: UploaderState) -> PreviousVersion:
    """Find which of the completed uploads to the target made the object that is there."""
    target, settings = context.store.target, context.settings
    known = [own] if own is not None and own.completed is not None else []
    known += await state.last_completed(target, most=_MOST_EXAMINED)
    if not known:
        raise NoBase(f"no manifest on this machine describes a completed upload to {target}")
    try:
        found = await context.retrier.request(lambda: context.store.stat(known[0].upload_id, settings.algorithm))
    except (errors.AccessDenied, errors.CredentialsError) as e:
        raise NoBase(str(e)) from e
    recorded = context.store.options()
    owner, customer_key = recorded.get("expected_bucket_owner"), recorded_with_customer_key(recorded)
    reasons: list[NoBase] = []
    for manifest in known:
        try:
            base = base_of(manifest, found, owner, customer_key=customer_key)
            check_manifest(manifest, context.source.fingerprint.size, settings.algorithm, context.store.limits)
        except NoBase as e:
            reasons.append(e)
        else:
            return base
    raise reasons[0]

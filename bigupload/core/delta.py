"""Whether the object of an earlier upload can be the base of a new one, which sends only what differs. Pure."""

from __future__ import annotations

from bigupload.core.checksums import Algorithm
from bigupload.core.copies import CopyBase, CopySource
from bigupload.core.integrity import ObjectFacts, prove_object
from bigupload.core.manifest import Manifest
from bigupload.core.part_plan import Limits, plan_parts
from bigupload.errors import ObjectMismatch, UsageError
from bigupload.units import format_part_size

_BEFORE_VERSIONS = "null"
"""What S3 calls the version of an object that is older than the versions of its bucket. Another upload replaces it."""


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


def base_of(known: Manifest, found: ObjectFacts | None, owner: str | None, *, customer_key: bool) -> CopyBase:
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
    return CopyBase(source=source, part_size=known.plan.part_size, checksums=checksums)

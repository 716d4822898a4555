"""Which manifest is whose: the same source and target have the same one, so that the same command resumes. Pure."""

from __future__ import annotations

import hashlib

from bigupload.core.manifest import Header, Target


def manifest_id(path: str, target: Target) -> str:
    """Compute the manifest's name: the same file and target give the same name, so that the same command resumes.

    Args:
        path: Absolute path of the source.
        target: Where the object goes.
    """
    where = "\0".join([path, target.bucket or "", target.chosen_key, target.endpoint or "", target.service or ""])
    return hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def belongs_to(header: Header, path: str, target: Target) -> bool:
    """Whether a manifest is for this source path and target."""
    return header.source.path == path and same_target(header.target, target)


def same_target(one: Target, other: Target) -> bool:
    """Whether two targets are the same. The region is not part of a target's identity."""

    def identity(of: Target) -> tuple[str | None, ...]:
        return of.bucket, of.chosen_key, of.endpoint, of.service

    return identity(one) == identity(other)

"""The uploads in a directory's manifests, and the one that a person names."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from bigupload import errors
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Header, Manifest, Target, same_target
from bigupload.core.manifest_lines import decode
from bigupload.manifests.journal import MAX_BYTES, read_manifest
from bigupload.manifests.manifest_index import IndexedManifest, indexed_manifests, own_id
from bigupload.manifests.state_directory import SUFFIX, find_manifests
from bigupload.records import dataclass
from bigupload.units import printable

_MOST_LOOKED_AT = 1000
"""The most manifests that are read to find out whether a service was used before."""
_MIN_PREFIX = 4
"""Characters of an id that name an upload: fewer are more likely a slip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownUpload:
    """An upload that a manifest on this machine describes. Sizes are bytes."""

    manifest: Path
    """The manifest's file."""
    id: str
    """The manifest's id, which `resume` and `abort` take instead of the path; its beginning is enough. It is the
    manifest's name without the ending. If the manifest was set aside, or is outside the state directory, the id is made
    from its first line."""
    status: Literal["uploading", "completing", "completed", "aborted", "unreadable", "replaced"]
    source: str | None = None
    """The file's absolute path, or a URL without its query; None if the manifest is unreadable, as the fields below."""
    target: str | None = None
    """"s3://BUCKET/KEY", or the media service's URL."""
    endpoint: str | None = None
    """The store's URL, or "local" for the local store; None: AWS, or a media service."""
    size: int | None = 0
    """None: a stream whose size nobody knows yet."""
    bytes_uploaded: int = 0
    """Bytes of the parts that the store has acknowledged."""
    parts: int | None = 0
    """As `size`."""
    parts_uploaded: int = 0
    created_at: str | None = None
    """ISO 8601, UTC."""
    verified: Verified | None = None
    """The proof of a completed upload."""
    error: str | None = None
    """The reason why the manifest is unreadable."""

    is_file: bool = True
    """Whether the source is a file or a URL, so that the manifest alone is enough to resume."""

    @property
    def resumable(self) -> bool:
        """Whether the upload is unfinished: it can be resumed, and its parts may occupy the store."""
        return self.status in ("uploading", "completing")

    @property
    def held(self) -> int:
        """Bytes of the recorded parts that occupy the store."""
        return self.bytes_uploaded if self.resumable or self.status == "replaced" else 0


def known_uploads(directory: Path) -> Iterator[KnownUpload]:
    """Read the manifests of a directory, the least recently written first. Blocking.

    Those of unfinished uploads that this user began with a manifest elsewhere come after them. Another process may
    rename or delete manifests at the same time: those are left out.

    Raises:
        ManifestError: The directory can't be listed.
    """
    for path in find_manifests(directory):
        with contextlib.suppress(errors.ManifestNotFound):
            yield read_known_upload(path)
    for indexed in _indexed(directory):
        with contextlib.suppress(errors.ManifestNotFound):
            upload = dataclasses.replace(read_known_upload(indexed.path), id=indexed.id)
            if upload.resumable or upload.status == "unreadable":
                yield upload


def _indexed(directory: Path) -> list[IndexedManifest]:
    """Return the manifests in the index. An entry that can't be read is left out; `gc` is more careful."""
    try:
        found = indexed_manifests(directory)
    except errors.ManifestError as e:
        _warn(str(e))
        return []
    for each in found:
        if each.hangs:
            _warn(f"left out: the file system of {each.path} does not respond, which is the manifest of {each.id}")
    return [each for each in found if not each.hangs]


def _warn(message: str) -> None:
    import logging  # which takes 10 ms

    logging.getLogger("bigupload").warning("%s", printable(message))


def replaced_uploads(directory: Path) -> list[KnownUpload]:
    """Read the unfinished uploads that others replaced: their manifests were set aside. Blocking.

    The store keeps their parts until they are aborted. The least recently written comes first.

    Raises:
        ManifestError: The directory can't be listed.
    """
    found = []
    for path in find_manifests(directory, set_aside=True):
        if not path.name.endswith(SUFFIX):
            with contextlib.suppress(errors.ManifestNotFound):
                found.append(read_known_upload(path))
    return [dataclasses.replace(each, id=_own_id(each.manifest), status="replaced") for each in found if each.resumable]


def _own_id(path: Path) -> str:
    """The id of a manifest that was set aside: its name has that of the upload that replaced it."""
    try:
        with path.open("rb") as file:
            return own_id(file.readline(MAX_BYTES))
    except OSError:  # deleted meanwhile
        return path.name


def read_known_upload(path: Path) -> KnownUpload:
    """Read one manifest. Blocking.

    Raises:
        ManifestNotFound: There is no such file.
    """
    name = path.name.removesuffix(SUFFIX)
    try:
        manifest = read_manifest(path).manifest
    except errors.ManifestNotFound:
        raise
    except errors.ManifestError as e:
        return KnownUpload(manifest=path, id=name, status="unreadable", error=str(e))
    return KnownUpload(
        manifest=path,
        id=name,
        status=manifest.status,
        source=manifest.source.path,
        is_file=manifest.source.can_be_opened,
        target=str(manifest.target),
        endpoint=manifest.target.endpoint,
        size=manifest.plan.size,
        bytes_uploaded=manifest.bytes_uploaded,
        parts=manifest.plan.count if manifest.plan.size is not None else None,
        parts_uploaded=len(manifest.parts),
        created_at=manifest.header.created_at,
        verified=manifest.completed.verified if manifest.completed is not None else None,
    )


def completed_uploads(directory: Path, target: Target) -> Iterator[Manifest]:
    """Read the manifests of completed uploads to a target, the most recently written first. Blocking.

    Those that were set aside are among them. What can't be read is left out.

    Args:
        directory: The state directory; it need not exist.
        target: Bucket, key and endpoint.

    Raises:
        ManifestError: The directory can't be listed.
    """
    for path in reversed(find_manifests(directory, set_aside=True)):
        first = _target_of(path)
        if first is None or not same_target(first, target):
            continue
        try:
            manifest = read_manifest(path).manifest
        except errors.ManifestError:
            continue
        if manifest.completed is not None and same_target(manifest.target, target):
            yield manifest


def _target_of(path: Path) -> Target | None:
    """The target in a manifest's first line: to read all of a thousand manifests would take seconds."""
    try:
        with path.open("rb") as file:
            first = decode(file.readline(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return first.target if isinstance(first, Header) else None


def has_manifest_of_service(directory: Path, url: str) -> bool:
    """Return whether an upload through the media service at `url` was begun. Blocking; false if that is unknown."""
    try:
        found = find_manifests(directory, set_aside=True)
    except errors.ManifestError:
        return False
    targets = map(_target_of, reversed(found[-_MOST_LOOKED_AT:]))
    return any(target is not None and target.service == url for target in targets)


def locate_manifest(name: str | os.PathLike[str], directory: Path | None) -> Path:
    """Return the manifest that a path, a file name, an id or the beginning of an id names.

    Args:
        name: A path that exists; or what `status` shows of a manifest in `directory`.
        directory: The state directory; None: `name` is a path.

    Raises:
        ManifestNotFound: There is no such manifest.
        ManifestError: The directory can't be listed.
        UsageError: The id's beginning fits several manifests.
    """
    text = os.fspath(name)
    path = Path(text)
    if os.path.lexists(text):
        return path
    where = "" if directory is None else " (`bigupload status` shows those of this machine)"
    absent = errors.ManifestNotFound(f"no such manifest: {errors.IT}{where}", it=text)
    if directory is None or path.name != text:
        raise absent
    manifests = find_manifests(directory)
    if len(text) < _MIN_PREFIX:
        raise absent
    beginning = text.removesuffix(SUFFIX)
    named = {each.name.removesuffix(SUFFIX): each for each in manifests}
    named |= {indexed.id: indexed.path for indexed in _indexed(directory)}
    named |= {replaced.id: replaced.manifest for replaced in replaced_uploads(directory)}
    found = [each for each in named if each.startswith(beginning)]
    if len(found) > 1:
        raise errors.UsageError(f"{text!r} fits several manifests, write more of its id: {', '.join(found)}")
    if not found:
        raise absent
    return named[found[0]]

"""Orphans, which are abandoned multipart uploads: find them and abort them.

An upload is *owned* if a manifest on this machine can resume it. It is *alive* while parts of it arrive, from anywhere:
its age counts from the last part that the store has, by the store's clock. An upload that is neither is an orphan. A
manifest that can't be read may own any upload, so nothing is aborted while there is one.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, field
from datetime import UTC, datetime
from pathlib import Path

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.manifest import Aborted
from bigupload.core.manifest_lines import Replay
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Retrier
from bigupload.manifests.journal import FileJournal, read_manifest
from bigupload.manifests.manifest_index import indexed_manifests
from bigupload.manifests.state_directory import SUFFIX, find_manifests, unlistable
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.s3.multipart import MAX_LISTED_UPLOADS, S3Store
from bigupload.stores.s3.operations import UploadPages
from bigupload.stores.targets import connect, parse_s3_url
from bigupload.support.cancellation import for_each

MEDIA = "media/"
"""The prefix of a media service's keys. Its own sweep knows how long its clients may take, so they are left to it
unless the caller's prefix begins with this one."""

_CONCURRENCY = 8
"""Uploads that are examined at a time."""
_OF_ONE_UPLOAD = (errors.AccessDenied, errors.StoreRefused, errors.StoreUnavailable)
"""Errors that one upload can meet and the next one not."""


@dataclass(frozen=True, slots=True)
class OwnedUpload:
    """The upload that a manifest owns; every open upload under its key, if it does not name one."""

    upload_id: str
    key: str | None = None
    bucket: str | None = None
    """With `key`; None: any bucket."""

    def covers(self, bucket: str, key: str, upload_id: str) -> bool:
        """Whether this upload is owned."""
        return upload_id == self.upload_id or (key == self.key and self.bucket in (None, bucket))


def owned_by(read: Replay) -> OwnedUpload | None:
    """Return the upload that a manifest can resume. A completed, aborted or restarted upload has no owner."""
    manifest = read.manifest
    if read.damage is not None:  # the lost lines may hold a restart, with another upload id
        return OwnedUpload(manifest.upload_id, manifest.target.key, manifest.target.bucket)
    if manifest.status not in ("uploading", "completing"):
        return None
    if manifest.target.service is not None:  # its upload id is the service's handle
        return OwnedUpload(manifest.upload_id, manifest.target.key)
    return OwnedUpload(manifest.upload_id)


class Owners:
    """The manifests of this machine: those in the state directory, and those elsewhere that its index names.

    They are read again before each decision, as far as they have changed.

    Attributes:
        unreadable: Why manifests can't be read, as of the last `refresh`.
    """

    def __init__(self, directory: Path, others: Sequence[Path] = ()) -> None:
        """Name the directories and manifests; `refresh` reads them.

        Args:
            directory: The state directory, which need not exist.
            others: More directories and manifests, which must exist.

        Raises:
            UsageError: One of `others` does not exist.
        """
        self._paths = [directory, *others]
        for path in others:
            if not path.exists():
                raise errors.UsageError(f"no such manifest or directory: {path}")
        self._known: dict[Path, tuple[tuple[int, ...], OwnedUpload | None]] = {}
        self.unreadable: list[errors.ManifestError] = []

    def refresh(self) -> None:
        """Read manifests that are new or changed. Blocking. Raises ManifestError if a directory can't be listed."""
        known, self.unreadable = self._known, []
        self._known = {}
        for path in self._manifests():
            with contextlib.suppress(FileNotFoundError, errors.ManifestNotFound):  # deleted since it was listed
                status = self._status_of(path)
                if status is None:
                    continue
                signature = (status.st_ino, status.st_size, status.st_mtime_ns)
                before = known.get(path)
                if before is not None and before[0] == signature:
                    self._known[path] = before
                    continue
                try:
                    self._known[path] = (signature, owned_by(read_manifest(path)))
                except errors.ManifestNotFound:
                    raise
                except errors.ManifestError as e:
                    self.unreadable.append(e)

    def _status_of(self, path: Path) -> os.stat_result | None:
        """Return None if it is unknown now: an entry of the index may name a directory that can't be searched."""
        try:
            return path.lstat()
        except FileNotFoundError:
            raise
        except OSError as e:
            self.unreadable.append(
                errors.ManifestMismatch(f"can't read the manifest {errors.IT}: {e.strerror}", it=path)
            )
            return None

    def require_readable(self) -> None:
        """Raises ManifestCorrupt if a manifest can't be read."""
        if self.unreadable:
            raise errors.ManifestCorrupt(
                "nothing is aborted: a manifest that can't be read may own the upload. If it is not a manifest, move "
                f"it away: {self.unreadable[0]}"
            )

    def own(self, bucket: str, key: str, upload_id: str) -> bool:
        """Whether a manifest can resume this upload."""
        return any(owned is not None and owned.covers(bucket, key, upload_id) for _, owned in self._known.values())

    async def record_aborted(self, bucket: str, key: str, upload_id: str) -> None:
        """Record that an upload was aborted, if one that replaced it set its manifest aside.

        Such a manifest owns nothing, and `status` would count the parts of its upload for ever. What can't be written
        is left: to abort the upload again deletes nothing.
        """
        for path in self._set_aside():
            with contextlib.suppress(errors.ManifestError):
                manifest = read_manifest(path).manifest
                target = manifest.target
                if (target.bucket, target.key, manifest.upload_id) == (bucket, key, upload_id):
                    with FileJournal(path) as journal:
                        await journal.append(Aborted())

    def _set_aside(self) -> list[Path]:
        found: list[Path] = []
        for path in self._paths:
            with contextlib.suppress(errors.ManifestError):  # one of them may be a manifest
                found += [each for each in find_manifests(path, set_aside=True) if not each.name.endswith(SUFFIX)]
        return found

    def _manifests(self) -> list[Path]:
        found: list[Path] = []
        for path in self._paths:
            try:
                with os.scandir(path) as entries:  # not glob, which returns nothing for an unreadable directory
                    found += [Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX)]
                for indexed in indexed_manifests(path):
                    if indexed.hangs:
                        self.unreadable.append(
                            errors.ManifestMismatch(f"the file system of the manifest {indexed.path} does not respond")
                        )
                    else:
                        found.append(indexed.path)
            except FileNotFoundError:
                continue
            except OSError as e:
                if path is self._paths[0]:
                    raise unlistable(path, e) from e
                if not isinstance(e, NotADirectoryError):
                    raise errors.ManifestError(f"can't list the manifests in {path}: {e.strerror}") from e
                found.append(path)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An open upload that no manifest owns and no part of which arrived for a while."""

    bucket: str
    key: str
    upload_id: str
    initiated: str
    """The time at which it was created: ISO 8601, by the store's clock."""
    idle: float
    """Seconds since its last part arrived, or since it was created."""
    parts: int
    held: int
    """Bytes of its parts."""


@dataclass(slots=True, kw_only=True)
class OrphanReport:
    """The outcome for the open uploads under a prefix. The fields are numbers of uploads unless noted."""

    orphans: int = 0
    """Aborted (with `dry_run`: would be)."""
    held: int = 0
    """Bytes of the orphans' parts."""
    owned: int = 0
    """Left because a manifest can resume them."""
    alive: int = 0
    """Left because they, or their last part, are younger than was asked for."""
    media: int = 0
    """Left to a media service."""
    failed: list[errors.BigUploadError] = field(default_factory=list)
    """The errors of uploads that could not be examined or aborted."""
    unreadable: list[errors.ManifestError] = field(default_factory=list)
    """Manifests that can't be read and may own orphans; only with `dry_run`."""


@dataclass(slots=True)
class OrphanSearch:
    """One search under one prefix."""

    owners: Owners
    """The manifests."""
    _: KW_ONLY
    older_than: float
    """Seconds without a new part."""
    dry_run: bool
    """Abort nothing."""
    on_orphan: Callable[[Orphan], None]
    """Called with each upload that was aborted (with `dry_run`: would be)."""
    on_failure: Callable[[str, errors.BigUploadError], None]
    """Called with the key of each upload that could not be examined or aborted, and the reason."""
    retrier: Retrier = field(default_factory=lambda: Retrier(policy=RetryPolicy(), emit=lambda _: None))
    """Repeats failed requests."""
    pool: BucketPool | None = None
    """Where to take the connection to the bucket from."""
    report: OrphanReport = field(default_factory=OrphanReport)
    """What was found until now."""

    async def run(self, url: str, s3: S3Options) -> OrphanReport:
        """Search and abort.

        Args:
            url: "s3://BUCKET/PREFIX"; the prefix may be empty.
            s3: How to reach the store.

        Raises:
            ManifestError: A manifest can't be read, so nothing may be aborted.
            BucketNotFound: There is no such bucket.
            StoreError: The store refused to list, or can't be reached.
        """
        bucket, prefix = parse_s3_url(url, "")
        self._read_manifests()
        store = await connect(bucket, prefix, s3, self.pool, creates_bucket=False)
        async with contextlib.aclosing(store):
            decide = functools.partial(self._decide, store, bucket)
            await for_each(await self._old_uploads(store, prefix), decide, at_once=_CONCURRENCY)
        self.report.unreadable = list(self.owners.unreadable)
        return self.report

    def _read_manifests(self) -> None:
        self.owners.refresh()
        if not self.dry_run:
            self.owners.require_readable()

    async def _old_uploads(self, store: S3Store, prefix: str) -> list[_Candidate]:
        """List the uploads that were created long enough ago.

        The whole list is read before the first abort: some stores lose their place when uploads of a page are gone.
        """
        found: list[_Candidate] = []
        pages, is_empty = UploadPages(), True
        while not pages.ended:
            page = await self.retrier.request(functools.partial(store.next_open, pages))
            is_empty = is_empty and not page.uploads
            now = page.now or datetime.now(UTC)
            for key, upload_id, initiated in page.uploads:
                if key.startswith(MEDIA) and not prefix.startswith(MEDIA):
                    self.report.media += 1
                elif (now - initiated).total_seconds() < self.older_than:
                    self.report.alive += 1
                else:
                    found.append(_Candidate(key, upload_id, initiated, now))
            if len(found) > MAX_LISTED_UPLOADS:
                raise errors.StoreRefused(
                    f"more than {MAX_LISTED_UPLOADS:,} old uploads are open: name a longer prefix"
                )
        if is_empty:
            await self.retrier.request(store.objects("").require_bucket)
        return found

    async def _decide(self, store: S3Store, bucket: str, candidate: _Candidate) -> None:
        try:
            orphan = await self._examine(store.at(candidate.key), bucket, candidate)
            if orphan is None:
                return
            if not self.dry_run:
                await self.retrier.request(lambda: store.at(candidate.key).abort(candidate.upload_id))
                await self.owners.record_aborted(bucket, candidate.key, candidate.upload_id)
        except _OF_ONE_UPLOAD as e:
            self.report.failed.append(e)
            self.on_failure(candidate.key, e)
            return
        self.report.orphans += 1
        self.report.held += orphan.held
        self.on_orphan(orphan)

    async def _examine(self, store: S3Store, bucket: str, candidate: _Candidate) -> Orphan | None:
        """Return None if the upload is owned, alive, or has ended since it was listed."""
        try:
            rows = await self.retrier.request(
                lambda: store.list_parts(candidate.upload_id, Algorithm.NONE), expected={FaultKind.GONE}
            )
        except Fault:
            return None
        last = max([candidate.initiated, *(row.arrived for row in rows if row.arrived is not None)])
        idle = max(0.0, (candidate.now - last).total_seconds())
        if idle < self.older_than:
            self.report.alive += 1
            return None
        self._read_manifests()  # as late as possible: the upload may have been adopted since
        if self.owners.own(bucket, candidate.key, candidate.upload_id):
            self.report.owned += 1
            return None
        return Orphan(
            bucket=bucket,
            key=candidate.key,
            upload_id=candidate.upload_id,
            initiated=candidate.initiated.astimezone(UTC).isoformat(timespec="seconds"),
            idle=round(idle),
            parts=len({row.number for row in rows}),
            held=sum(row.size for row in rows),
        )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An open upload that is old enough. `now`: the store's clock when it was listed."""

    key: str
    upload_id: str
    initiated: datetime
    now: datetime

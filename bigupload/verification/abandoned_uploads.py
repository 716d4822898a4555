"""Open multipart uploads that nobody goes on with: found, and given up.

An upload is *owned* where a manifest on this machine can go on with it, and *alive* while parts of it arrive, from
wherever: its age counts from the last part that the store has, and is told by the store's clock. What is neither is an
orphan. A manifest that can't be read may own anything, so nothing is given up beside one.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.manifest_lines import Replay
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Retrier
from bigupload.engine.task_groups import for_each
from bigupload.manifests.journal import read_manifest
from bigupload.manifests.state_directory import SUFFIX
from bigupload.options import S3Options
from bigupload.stores.s3.multipart import MOST_OPEN, S3Store, Way
from bigupload.stores.targets import connect, parse_s3_url

MEDIA = "media/"
"""A media service's keys. Its own sweep knows how long its clients may take, so that they are left to it unless the
prefix that was asked for begins so."""

_AT_ONCE = 8
_GONE = frozenset({FaultKind.GONE})
_OF_ONE = (errors.AccessDenied, errors.StoreRefused, errors.StoreUnavailable)
"""What one upload can meet while the next does not."""


@dataclass(frozen=True, slots=True)
class ManifestClaim:
    """What a manifest owns: one upload, and where it can't say which, whatever is open under its key."""

    upload_id: str
    key: str | None = None
    bucket: str | None = None
    """With `key`; None: any."""

    def covers(self, bucket: str, key: str, upload_id: str) -> bool:
        """Whether it is this upload that is owned."""
        return upload_id == self.upload_id or (key == self.key and self.bucket in (None, bucket))


def claim_of(read: Replay) -> ManifestClaim | None:
    """What can be gone on with by a manifest. An upload that was completed, aborted or superseded is nobody's."""
    manifest = read.manifest
    if read.damage is not None:  # a restart may be among what was lost, and with it another upload id
        return ManifestClaim(manifest.upload_id, manifest.target.key, manifest.target.bucket)
    if manifest.status not in ("uploading", "completing"):
        return None
    if manifest.target.service is not None:  # its upload id is the service's handle
        return ManifestClaim(manifest.upload_id, manifest.target.key)
    return ManifestClaim(manifest.upload_id)


class Owners:
    """The manifests of this machine, looked at again before each decision; what did not change is not read again."""

    def __init__(self, directory: Path, others: Sequence[Path] = ()) -> None:
        """`directory` may be missing yet; each of `others`, a directory or a manifest, must be there."""
        self._places = [directory, *others]
        for place in others:
            if not place.exists():
                raise errors.UsageError(f"no such manifest or directory: {place}")
        self._known: dict[Path, tuple[tuple[int, ...], ManifestClaim | None]] = {}
        self.unreadable: list[errors.ManifestError] = []

    def refresh(self) -> None:
        """Read what is new. Raises ManifestError where a directory can't be listed."""
        known, self.unreadable = self._known, []
        self._known = {}
        for path in self._manifests():
            with contextlib.suppress(FileNotFoundError, errors.ManifestNotFound):  # gone since it was listed
                status = path.lstat()
                signature = (status.st_ino, status.st_size, status.st_mtime_ns)
                before = known.get(path)
                if before is not None and before[0] == signature:
                    self._known[path] = before
                    continue
                try:
                    self._known[path] = (signature, claim_of(read_manifest(path)))
                except errors.ManifestNotFound:
                    raise
                except errors.ManifestError as e:
                    self.unreadable.append(e)

    def require_readable(self) -> None:
        """Raises ManifestCorrupt where a manifest can't be read."""
        if self.unreadable:
            raise errors.ManifestCorrupt(
                f"nothing is given up beside a manifest that can't be read, as it may own it: {self.unreadable[0]}"
            )

    def own(self, bucket: str, key: str, upload_id: str) -> bool:
        """Whether an upload is one that can be gone on with here."""
        return any(claim is not None and claim.covers(bucket, key, upload_id) for _, claim in self._known.values())

    def _manifests(self) -> list[Path]:
        found: list[Path] = []
        for place in self._places:
            try:
                with os.scandir(place) as entries:  # not glob, to which what it may not list is empty
                    found += [Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX)]
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                found.append(place)
            except OSError as e:
                raise errors.ManifestError(f"can't look for manifests in {place}: {e.strerror}") from e
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An open upload that is nobody's. `held` is the bytes of its parts, `idle` the seconds since the last came."""

    bucket: str
    key: str
    upload_id: str
    initiated: str
    """ISO 8601, the store's clock."""
    idle: float
    parts: int
    held: int


@dataclass(slots=True, kw_only=True)
class GcReport:
    """What a collection came to, in uploads."""

    orphans: int = 0
    held: int = 0
    """Bytes of the orphans' parts."""
    owned: int = 0
    alive: int = 0
    """Begun, or still fed, more recently than was asked for."""
    media: int = 0
    """Of a media service, and left to it."""
    failed: list[errors.BigUploadError] = field(default_factory=list)


class OrphanCollection:
    """One run over one prefix. `on_orphan` is told what was given up (with `dry_run`, what would be), `on_failure` the
    key of what could not be looked at or given up, and why."""

    def __init__(
        self,
        owners: Owners,
        *,
        older_than: float,
        dry_run: bool,
        on_orphan: Callable[[Orphan], None],
        on_failure: Callable[[str, errors.BigUploadError], None],
        retry: RetryPolicy | None = None,
    ) -> None:
        """`older_than`: seconds without a new part."""
        self._owners = owners
        self._older_than = older_than
        self._dry_run = dry_run
        self._on_orphan = on_orphan
        self._on_failure = on_failure
        self._patience = Retrier(policy=retry or RetryPolicy(), emit=lambda _: None)
        self._report = GcReport()

    async def run(self, url: str, s3: S3Options) -> GcReport:
        """All keys that begin as `url`, "s3://BUCKET/PREFIX", does; the prefix may be empty.

        Raises ManifestError where nothing may be given up, and StoreError where the store can't be asked.
        """
        bucket, prefix = parse_s3_url(url, "")
        self._look_at_manifests()
        store = await connect(bucket, prefix, s3)
        async with contextlib.aclosing(store):
            decide = functools.partial(self._decide, store, bucket)
            await for_each(await self._old_ones(store, prefix), decide, at_once=_AT_ONCE)
        return self._report

    def _look_at_manifests(self) -> None:
        self._owners.refresh()
        if not self._dry_run:
            self._owners.require_readable()

    async def _old_ones(self, store: S3Store, prefix: str) -> list[_Candidate]:
        """Those that were begun long enough ago. All are listed before one is given up: not every store finds the
        next page by an upload that is gone."""
        found: list[_Candidate] = []
        way = Way()
        while not way.ended:
            page = await self._patience.request(functools.partial(store.next_open, way))
            now = page.now or datetime.now(UTC)
            for key, upload_id, initiated in page.uploads:
                if key.startswith(MEDIA) and not prefix.startswith(MEDIA):
                    self._report.media += 1
                elif (now - initiated).total_seconds() < self._older_than:
                    self._report.alive += 1
                else:
                    found.append(_Candidate(key, upload_id, initiated, now))
            if len(found) > MOST_OPEN:
                raise errors.StoreRefused(f"more than {MOST_OPEN:,} old uploads are open: name a longer prefix")
        return found

    async def _decide(self, store: S3Store, bucket: str, candidate: _Candidate) -> None:
        try:
            orphan = await self._look(store.at(candidate.key), bucket, candidate)
            if orphan is None:
                return
            if not self._dry_run:
                await self._patience.request(lambda: store.at(candidate.key).abort(candidate.upload_id))
        except _OF_ONE as e:
            self._report.failed.append(e)
            self._on_failure(candidate.key, e)
            return
        self._report.orphans += 1
        self._report.held += orphan.held
        self._on_orphan(orphan)

    async def _look(self, store: S3Store, bucket: str, candidate: _Candidate) -> Orphan | None:
        """None: it is owned, alive, or has ended meanwhile."""
        try:
            rows = await self._patience.request(
                lambda: store.list_parts(candidate.upload_id, Algorithm.NONE), expected=_GONE
            )
        except Fault:
            return None
        last = max([candidate.initiated, *(row.arrived for row in rows if row.arrived is not None)])
        idle = max(0.0, (candidate.now - last).total_seconds())
        if idle < self._older_than:
            self._report.alive += 1
            return None
        self._look_at_manifests()  # as late as can be: an upload may have been adopted since
        if self._owners.own(bucket, candidate.key, candidate.upload_id):
            self._report.owned += 1
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
    """Old enough to be looked at. `now`: the store's clock when it was listed."""

    key: str
    upload_id: str
    initiated: datetime
    now: datetime

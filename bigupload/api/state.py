"""The manifests of one `Uploader`: where they are, who began them, and which upload a manifest is of."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import itertools
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bigupload import errors
from bigupload.api.arguments import StrPath
from bigupload.api.checks import checked_path
from bigupload.api.upload_slots import UNKNOWN
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Manifest, Target, manifest_id
from bigupload.core.remote_url import is_remote, shown_url
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.events import Warned
from bigupload.manifests.state_directory import (
    CLEAN_EVERY,
    FACTS,
    MANIFEST_INDEX,
    SUFFIX,
    EndpointFacts,
    is_clean_up_due,
    state_dir,
)
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.targets import LOCAL, Store
from bigupload.support.cancellation import run_shielded
from bigupload.support.daemon_threads import DaemonThreadPool, run_in_daemon_thread

if TYPE_CHECKING:  # modules that only some calls need are imported by them
    from bigupload.api.calls import OpenCall
    from bigupload.manifests.job_record import JobRecord
    from bigupload.manifests.journal import FileJournal
    from bigupload.manifests.listing import KnownUpload

_NO_MANIFEST = " (`bigupload status` shows the manifests of this machine)"
_WRITERS = 8
"""Manifests that are written at a time: each is one fsync."""
_CLEANED_AT: dict[Path, float] = {}
"""The time at which this process last looked whether a directory is to be cleaned, by the monotonic clock."""


class UploaderState:
    """The state directory of one `Uploader`."""

    def __init__(self, directory: Path | None) -> None:
        """Name the directory, which need not exist.

        Args:
            directory: None: BIGUPLOAD_STATE_DIR, else the user's state directory, looked up when it is needed.
        """
        self._directory = directory
        self._cleaned = False
        # A separate thread: the threads of the event loop, and anyio's, may all wait for this very upload.
        self._writers = DaemonThreadPool(_WRITERS, "bigupload-manifest")
        self._readers = asyncio.Semaphore(1)
        self.wall_clock = time.time
        """Seconds since 1970."""

    def close(self) -> None:
        """End the threads, once what they write is on disk. Idempotent."""
        self._writers.shutdown(wait=False)

    @property
    def directory(self) -> Path:
        """The directory. Raises UsageError if there is neither a home directory nor BIGUPLOAD_STATE_DIR."""
        return self._directory if self._directory is not None else state_dir()

    def _directory_or_none(self) -> Path | None:
        try:
            return self.directory
        except errors.UsageError:
            return None

    def _index(self) -> Path | None:
        """The directory with the index of the manifests that this user began outside the state directory."""
        directory = self._directory_or_none()
        return None if directory is None else directory / MANIFEST_INDEX

    async def clean(self) -> None:
        """Delete old manifests of finished uploads: once for this Uploader, and once a day for the directory."""
        if self._cleaned:
            return
        directory, now = self._directory_or_none(), time.monotonic()
        if directory is None:
            return
        self._cleaned = True
        if now - _CLEANED_AT.get(directory, -math.inf) >= CLEAN_EVERY:  # a thousand calls may begin at once
            _CLEANED_AT[directory] = now
            await run_shielded(run_in_daemon_thread(partial(_clean_if_due, directory)))

    def journal(self, manifest: StrPath | None, source: Source, store: Store) -> FileJournal:
        """The journal of an upload, not open yet: at the path `manifest`, or named by source and target."""
        from bigupload.manifests.journal import FileJournal

        if manifest is not None:
            directory = Path(manifest).parent
            if not directory.is_dir():  # else a misspelled name hides the manifest
                raise errors.UsageError(f"`manifest` is in a directory that must exist, and {directory} does not")
            return FileJournal(Path(manifest), index=self._index(), executor=self._writers)
        name = f"{manifest_id(source.path, store.target)}{SUFFIX}"
        journal = FileJournal(self.directory / name, index=self._index(), executor=self._writers)
        with contextlib.suppress(OSError):  # opening it says so
            if not journal.path.exists():
                journal.warning = self._perhaps_begun(source, store)
        return journal

    def job_record(self, name: str, target: str, endpoint: str | None = None) -> JobRecord:
        """The record of a job, not open yet."""
        from bigupload.manifests.job_record import JOB_SUFFIX, JobRecord, job_id

        path = self.directory / f"{job_id(name, target)}{JOB_SUFFIX}"
        return JobRecord(path, name, target, endpoint, now=_now, executor=self._writers)

    def facts_of(self, target: Target) -> EndpointFacts | None:
        """What was found out about the bucket of a target; None: there is no place to remember it, or it is at AWS."""
        directory = self._directory_or_none() if target.endpoint is not None else None
        if directory is None:
            return None
        return EndpointFacts(directory / FACTS, f"{target.endpoint} {target.bucket}", self.wall_clock)

    def _perhaps_begun(self, source: Source, store: Store) -> str | None:
        """Return a warning if an earlier version may have begun this upload and not recorded its endpoint."""
        target = store.target
        if target.service is not None or target.endpoint in (None, LOCAL):
            return None
        from bigupload.manifests.journal import read_manifest

        path = self.directory / f"{manifest_id(source.path, dataclasses.replace(target, endpoint=None))}{SUFFIX}"
        try:
            found = read_manifest(path).manifest
        except errors.ManifestError:
            return None
        if found.status not in ("uploading", "completing") or found.header.options.get("aws") is True:
            return None
        return (
            f"{path} is of an unfinished upload of this file. It names no endpoint, so the upload may be at "
            f"{target.endpoint} too. To continue that one, stop this upload, then "
            f"`adopt('{target}')`"
        )

    @contextlib.contextmanager
    def existing(self, manifest: StrPath) -> Iterator[FileJournal]:
        """The open journal of a manifest, given by its path, its id or the beginning of that.

        Raises:
            ManifestNotFound: There is no such manifest.
            ManifestCorrupt: It is empty, or its first line can't be read.
            UsageError: It is neither a text nor a path.
        """
        from bigupload.manifests.journal import FileJournal
        from bigupload.manifests.listing import locate_manifest

        checked_path(manifest, "manifest")
        path = locate_manifest(manifest, self._directory_or_none())
        with FileJournal(path, index=self._index(), advice=_NO_MANIFEST, executor=self._writers) as journal:
            if not journal.exists:
                raise errors.ManifestCorrupt(f"{errors.IT} is empty: upload the file again", it=path)
            yield journal

    def bytes_left(self, manifest: StrPath) -> int:
        """Bytes that the upload of a manifest, given as for `existing`, has left. Blocking. Raises what that does."""
        from bigupload.manifests.listing import locate_manifest, read_known_upload

        known = read_known_upload(locate_manifest(checked_path(manifest, "manifest"), self._directory_or_none()))
        return UNKNOWN if known.size is None else known.size - known.bytes_uploaded

    async def last_completed(self, target: Target, *, most: int) -> list[Manifest]:
        """The manifests of the last completed uploads to a target, the latest first.

        Raises:
            ManifestError: The directory can't be listed.
        """
        from bigupload.manifests.listing import completed_uploads

        directory = self._directory_or_none()
        if directory is None:
            return []
        return await run_in_daemon_thread(
            lambda: list(itertools.islice(completed_uploads(directory, target), most)), self._readers
        )

    async def has_uploaded_through(self, service: str) -> bool:
        """Return whether the directory has an upload that was begun through the media service at this URL."""
        from bigupload.manifests.listing import has_manifest_of_service

        directory = self._directory_or_none()
        if directory is None:
            return False
        return await run_in_daemon_thread(lambda: has_manifest_of_service(directory, service), self._readers)

    async def list_uploads(self) -> list[KnownUpload]:
        """List the uploads of the manifests in the directory. Raises ManifestError if it can't be listed."""
        from bigupload.manifests.listing import known_uploads

        directory = self.directory
        return await run_in_daemon_thread(lambda: list(known_uploads(directory)), self._readers)


def _clean_if_due(directory: Path) -> None:
    if is_clean_up_due(directory):
        from bigupload.manifests.clean_up import clean_if_due

        clean_if_due(directory)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def require_trust(
    journal: FileJournal, *, trust: bool, source: StrPath | None, call: OpenCall, does: Literal["send", "abort"]
) -> None:
    """Refuse a manifest of unknown origin, before credentials or bytes are sent anywhere.

    With `trust`, warn of what it does: which file, which target, which endpoint.

    Raises:
        UsageError: This user did not begin it on this machine, and `trust` is not set.
    """
    if journal.written_here:
        return
    known = journal.manifest
    endpoint = known.header.options.get("endpoint_url")
    at = f" at {endpoint}" if endpoint and known.target.service is None else ""
    if known.header.options.get("no_verify_ssl"):
        at += ", whose certificate it would not check"
    file = known.source.path if source is None else shown_url(str(source)) if is_remote(str(source)) else source
    what = (
        f"send {file} to {known.target}{at}" if does == "send" else f"abort the upload of {file} to {known.target}{at}"
    )
    if not trust:
        refused = errors.UsageError(
            f"you did not begin {errors.IT} on this machine. It would {what}, with your credentials. To do so: "
            "`trust=True`",
            it=journal.path,
        )
        refused.retry_with = "trust"
        raise refused
    began_elsewhere = f"you did not begin {journal.path} on this machine, and trust it to {what}, with your credentials"
    call.emit_of(known.source.path, known.target, journal)(Warned(message=began_elsewhere))


async def existing_object(
    source: Source,
    store: Store,
    journal: FileJournal,
    s3: S3Options | None,
    required: Verified,
    *,
    retry: RetryPolicy,
    pool: BucketPool,
) -> UploadResult | None:
    """The result without an upload, if the object is the file already. An unfinished upload is resumed instead."""
    part_size = None
    if journal.exists:
        if journal.manifest.status in ("uploading", "completing"):
            return None
        part_size = journal.manifest.plan.part_size
    from bigupload.verification.by_checksum import prove_existing

    return await prove_existing(
        source.path,
        str(store.target),
        journal.path if journal.exists else None,
        s3=s3 or S3Options(),
        required=required,
        part_size=part_size,
        retry=retry,
        pool=pool,
    )


async def object_exists(store: Store, known: Manifest, retrier: Retrier) -> bool:
    """Whether an upload made its object, although its manifest does not record that."""
    try:
        facts = await retrier.request(lambda: store.stat(known.upload_id, known.header.checksum.algorithm))
    except (errors.UploadGone, errors.MediaRefused):  # a media service says that nothing of it is left
        return False
    if facts is None or not known.made_object(facts):
        return False
    return known.token is not None or not await _is_open(store, known, retrier)


async def _is_open(store: Store, known: Manifest, retrier: Retrier) -> bool:
    """An adopted upload has no token. Its object is known by its content, and another upload's may have the same."""
    algorithm = known.header.checksum.algorithm
    try:
        await retrier.request(lambda: store.list_parts(known.upload_id, algorithm), expected={FaultKind.GONE})
    except Fault:
        return False
    return True

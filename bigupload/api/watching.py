"""`watch`: the uploads of a directory's files, each as `upload` makes it, as one iterator of what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
import time
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from bigupload import errors, events
from bigupload.api import operations
from bigupload.api.arguments import StrPath, UploadOptions, WatchOptions
from bigupload.api.calls import OpenCall
from bigupload.api.checks import check_target, checked_idle, checked_path, settings_of
from bigupload.api.event_delivery import log_failure
from bigupload.api.many import Outcome
from bigupload.api.many_items import is_gone, job_target, prefix_of, recorded_file, result_of_record
from bigupload.api.resources import UploaderResources
from bigupload.api.steps import Row, Steps
from bigupload.api.types import OpenedSource
from bigupload.batch.job import UploadFailed
from bigupload.batch.tree import Selection
from bigupload.batch.watching import NotSettledError, Watched, WatchedFiles, Watching, file_events, require_file_events
from bigupload.core.manifest import Fingerprint, Manifest
from bigupload.core.retry_policy import Fault
from bigupload.core.settling import Begin, SettlingFiles
from bigupload.engine.context import UploadSettings
from bigupload.engine.retrying import RunCounts
from bigupload.engine.upload_run import UploadResult, result_of
from bigupload.manifests.job_record import JobRecord, RecordedFile
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.file import open_file
from bigupload.stores.s3.operations import ObjectPages
from bigupload.stores.targets import LOCAL_BUCKET, connect, parse_s3_url
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import end_task

_WAITING = 100
"""Outcomes that wait for the iterator's reader. While there are more, the uploads wait, too."""
_MOST_RECORDED = 1000
"""Files that are recorded by one fsync."""


def watch(
    call: OpenCall, resources: UploaderResources, directory: StrPath, options: WatchOptions
) -> AsyncGenerator[Outcome, None]:
    """Check the arguments of a watch, and return its iterator. See `Uploader.watch`."""
    call.warnings += check_target(options.get("to"), None, options.get("s3"))
    prefix = prefix_of(options.get("to") or f"s3://{LOCAL_BUCKET}/")
    if options.get("checksum") == "none":
        raise errors.UsageError("`checksum='none'` can't be used here: only checksums show rewritten parts")
    steps = Steps(options.get("then"), resources, call, options, "watch")
    settings = settings_of(options, recalls=not steps.deletes)
    poll, until_idle = options.get("poll"), options.get("until_idle")
    # Symbolic links in it stay: their targets may change.
    path = os.path.abspath(checked_path(directory, "directory"))  # noqa: PTH100 - removes "..", as for a file
    steps.check_beside(path, options.get("selection") or Selection())
    if poll is None:
        require_file_events()
    files = WatchedFiles(
        path,
        options.get("selection") or Selection(),
        now=time.time(),
        all_names=options.get("all_names", False),
        prefix=_key_of(prefix),
    )
    idle = checked_idle(options.get("idle", "10s"))
    watched = Watched(
        directory=path,
        idle=idle,
        list_files=files.found,
        events=partial(file_events, path) if poll is None else None,
        poll=math.inf if poll is None else checked_idle(poll, "poll"),
        until_idle=math.inf if until_idle is None else checked_idle(until_idle, "until_idle"),
    )
    return _outcomes(call, resources, settings, options, steps, watched, prefix)


async def _outcomes(
    call: OpenCall,
    resources: UploaderResources,
    settings: UploadSettings,
    options: WatchOptions,
    steps: Steps,
    watched: Watched,
    prefix: str,
) -> AsyncGenerator[Outcome, None]:
    """Watch, and yield what became of each file. When the iterator is closed, the watch is cancelled and awaited."""
    send, receive = anyio.create_memory_object_stream[Outcome](_WAITING)
    uploads = FileUploads(call, resources, settings, options, steps, watched, prefix, send)

    async def run() -> None:
        watching = Watching(watched, uploads, SettlingFiles(idle=watched.idle))
        await watching.standing.check()  # else `status` would list a watch of a missing directory
        target = await job_target(prefix, options.get("s3") or S3Options())
        with resources.state.job_record(f"watch {watched.directory}", target) as record:
            if not record.path.exists():  # else an earlier watch has found the bucket
                await uploads.check_bucket()
            open_record(record)
            uploads.record = record
            async with steps:
                if steps.deletion is not None:
                    await steps.deletion.restore_below(watched.directory)
                await watching.run()
                await steps.end()
            if not uploads.has_failed():
                await record.finish(keep=lambda key: not is_gone(f"{watched.directory}/{key}"))

    async def work() -> None:
        with send, log_failure(watched.directory):
            await call.run(run)

    resources.calls.check()
    resources.calls.add(call)
    task = asyncio.get_running_loop().create_task(work(), name=f"bigupload watch {watched.directory}")
    task.add_done_callback(lambda _: call.end())  # also if it was cancelled before it began
    try:
        with receive:
            async for outcome in receive:
                yield outcome
        await task
    finally:
        await end_task(task)


def open_record(record: JobRecord) -> None:
    """Open the record of a watch. Once it has ended by itself, it is finished, and keeps its files for the next one.

    Raises:
        ManifestLocked: The directory is watched already.
        ManifestCorrupt: It can't be read.
        ManifestUnwritable: It can't be written.
    """
    try:
        record.open(resume=True, keep=True)
    except errors.ManifestLocked as e:
        raise errors.ManifestLocked(f"another process watches this directory for this target: {e}") from e
    except errors.ManifestCorrupt as e:
        raise errors.ManifestCorrupt(
            f"{record.path} is damaged, or no record of this watch: delete it. The files are then hashed, and compared "
            "with the objects"
        ) from e


@dataclass(frozen=True, slots=True)
class _Known:
    """A file and the record of its upload in a local manifest."""

    fingerprint: Fingerprint
    """The file's fingerprint now."""
    manifest: Manifest | None = None
    path: Path | None = None
    """The manifest's path."""
    result: UploadResult | None = None
    """The upload's result, if the object is the file as it is now."""


class FileUploads:
    """Uploads the files of a watch. Implements `batch.watching.Uploads`."""

    def __init__(
        self,
        call: OpenCall,
        resources: UploaderResources,
        settings: UploadSettings,
        options: WatchOptions,
        steps: Steps,
        watched: Watched,
        prefix: str,
        outcomes: MemoryObjectSendStream[Outcome],
    ) -> None:
        """Upload nothing yet.

        Args:
            call: The call that the watch is.
            resources: The Uploader's resources.
            settings: The settings of each upload.
            options: The caller's options.
            steps: What follows each upload.
            watched: The directory.
            prefix: What all keys begin with, as a URL.
            outcomes: Gets what became of each file.
        """
        self._call = call
        self._resources = resources
        self._settings = settings
        self._options = options
        self._directory = watched.directory
        self._idle = watched.idle
        self._outcomes = outcomes
        self._prefix = prefix
        self.record: JobRecord | None = None
        """The record of the files that are in the store."""
        self._failed: set[str] = set()
        """Paths of files whose last upload failed."""
        self._steps = steps
        self._recording = Batcher(self._record_all, max_batch=_MOST_RECORDED)  # a record takes one call at a time

    def warn(self, message: str) -> None:
        """Report a warning about the whole watch."""
        self._call.emit(events.Warned(message=message))

    async def failed(self, path: str, error: errors.BigUploadError, retry_in: float | None) -> None:
        """Report a failure."""
        self._failed.add(path)
        key = os.path.relpath(path, self._directory).replace(os.sep, "/")
        key = _key_of(self._prefix) + key
        await self._outcomes.send(UploadFailed(source=path, key=key, error=error, retry_in=retry_in))

    def has_failed(self) -> bool:
        """Whether the last upload of a file that still exists failed. Blocking, if one failed."""
        return any(map(os.path.lexists, self._failed))

    async def check_bucket(self) -> None:
        """Look whether the bucket is there, once, and before the first file has settled.

        By a list, whose refusal has the store's error code: HEAD has none, so a 404 may be a load balancer's.

        Raises:
            BucketNotFound: There is no such bucket. Any other problem is reported by the uploads, if it lasts.
        """
        bucket, _ = parse_s3_url(self._prefix, "")
        store = await connect(bucket, "", self._options.get("s3") or S3Options(), self._resources.buckets)
        async with contextlib.aclosing(store):
            try:
                await store.objects("").next_objects("", ObjectPages())
            except (Fault, errors.StoreError) as e:
                error = e.public() if isinstance(e, Fault) and e.is_decided else e
                if isinstance(error, errors.BucketNotFound):
                    raise error from e

    async def upload(self, begin: Begin) -> Fingerprint:
        """Upload a file, unless a local manifest proves that the object is the file. See `batch.watching.Uploads`."""
        target = self._prefix + begin.key
        try:
            parse_s3_url(target)
        except errors.UsageError as e:
            raise errors.SourceUnsupported(f"can't be an object's name: {e}") from e
        if self._steps.deletion is not None:
            await self._steps.deletion.begin(begin.path)
        self._steps.failed(len(self._failed - {begin.path}))
        row = await self._steps.after(self._recorded(begin, target), partial(self._sent, begin, target))
        assert row is not None
        if row.error is not None:
            if not row.is_recorded:
                await self._recording.submit(recorded_file(row))
            raise row.error
        self._failed.discard(begin.path)
        await self._outcomes.send(row.proved)
        assert row.fingerprint is not None
        return row.fingerprint

    async def _sent(self, begin: Begin, target: str) -> Row:
        call = self._resources.calls.begin(self._options.get("on_event"))
        subject, size = f"{begin.path} → {target}", begin.fingerprint.size

        async def upload() -> operations.Uploaded:
            async with self._resources.places.place(subject, lambda: size, self._settings.priority):
                return await self._upload(call, begin, target)

        result, fingerprint = await call.run(upload)
        row = self._row(begin, result, fingerprint)
        await self._recording.submit(recorded_file(row))
        return dataclasses.replace(row, is_recorded=True)

    def _row(self, begin: Begin, result: UploadResult, fingerprint: Fingerprint) -> Row:
        return Row(source=begin.path, path=begin.path, key=begin.key, result=result, fingerprint=fingerprint)

    # -- one upload

    async def _record_all(self, files: Sequence[RecordedFile]) -> Sequence[None]:
        if self.record is not None:
            await self.record.record(files)
        return [None] * len(files)

    def _recorded(self, begin: Begin, target: str) -> Row | None:
        """A file that an earlier run has uploaded, if it has not changed since."""
        if self.record is None or self.record.is_new:
            return None
        found = self.record.find(begin.key, begin.path, begin.fingerprint)
        if found is None or not found.verified.satisfies(self._settings.require_proof):
            return None
        bucket, key = parse_s3_url(target)
        result = result_of_record(found, self.record.path, bucket=bucket, key=key, url=target)
        return dataclasses.replace(self._row(begin, result, begin.fingerprint), is_recorded=True)

    async def _upload(self, call: OpenCall, begin: Begin, target: str) -> tuple[UploadResult, Fingerprint]:
        options: UploadOptions = {"to": target}
        if (s3 := self._options.get("s3")) is not None:
            options["s3"] = s3
        known = await self._known(begin, options)
        if not begin.follow and known.fingerprint != begin.fingerprint:
            raise NotSettledError
        if known.result is not None:
            return known.result, known.fingerprint
        settings = await self._suit(call, begin, known, options)
        try:
            with log_failure(f"{begin.path} → {target}"):
                result, fingerprint = await operations.upload(
                    self._resources, call, begin.path, settings, options, digests=self._steps.digests
                )
        except errors.SourceChanged as e:
            changed = "was rewritten, truncated or replaced while it was uploaded: it is uploaded when it has settled"
            raise errors.SourceChanged(f"{begin.path} {changed}", same_size=True, manifest=e.manifest) from e
        if not begin.follow and fingerprint != begin.fingerprint:
            # It was written between two looks, so a write after it may have left the same times: their clock is coarse.
            raise NotSettledError
        return result, fingerprint

    async def _known(self, begin: Begin, options: UploadOptions) -> _Known:
        with await open_file(begin.path) as source:
            opened = OpenedSource(source=source, name=Path(source.path).name)
            store = await self._resources.connect(opened, options)
            async with contextlib.aclosing(store):
                journal = self._resources.state.journal(None, source, store)
                if not os.path.lexists(journal.path):  # as for a small file: a lock would take as long as its PUT
                    return _Known(source.fingerprint)
                with journal:
                    if not journal.exists:
                        return _Known(source.fingerprint)
                    manifest, result = journal.manifest, None
                    if manifest.completed is not None and manifest.source.fingerprint == source.fingerprint:
                        counts = RunCounts(resumed_parts=manifest.plan.count)
                        result = result_of(journal, counts, seconds=0.0, required=self._settings.require_proof)
                        result = dataclasses.replace(result, skipped=True)
                    return _Known(source.fingerprint, manifest, journal.path, result)

    async def _suit(self, call: OpenCall, begin: Begin, known: _Known, options: UploadOptions) -> UploadSettings:
        """Choose the options by the manifest. Returns the settings.

        Raises:
            NotSettledError: The file can't be followed, because its upload began when it had settled.
        """
        manifest = known.manifest
        completed = manifest is not None and manifest.status == "completed"
        began = manifest if manifest is not None and manifest.status in ("uploading", "completing") else None
        if begin.follow:
            if completed or (began is not None and began.first_plan.size is not None):
                raise NotSettledError
            options["follow"], options["idle"] = True, self._idle
        elif began is None:
            options["skip_existing"] = begin.first or completed
        elif began.first_plan.size not in (None, known.fingerprint.size):  # such an upload is aborted, not left behind
            return dataclasses.replace(self._settings, follow_changes=True)
        elif began.first_plan.size is None and not _may_hold(began, known.fingerprint.size):
            await self._abort(call, known, options)
        return self._settings

    async def _abort(self, call: OpenCall, known: _Known, options: UploadOptions) -> None:
        """Abort the upload of a file that was followed, and is shorter now."""
        assert known.path is not None
        try:
            await operations.abort(self._resources, call, known.path, {"s3": options.get("s3")})
        except errors.UsageError:  # it was completed, which is not recorded
            options["resume"] = False


def _key_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[2]


def _may_hold(manifest: Manifest, size: int) -> bool:
    """Whether a file of `size` bytes has all parts of an upload that began while it grew."""
    plan = manifest.first_plan
    return all(plan.part(part.number).offset + part.size <= size for part in manifest.parts.values())

"""One call of `watch`: a directory's files that have settled, and growing ones, as items of the job of `upload_many`.

A file that was there before the watch, and that no record knows, is compared with its object. A growing file is
followed. The manifest of an unfinished upload decides how that is resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from pathlib import Path
from typing import cast

from bigupload import errors, events
from bigupload.api import operations
from bigupload.api.arguments import StrPath, UploadManyOptions, UploadOptions, WatchOptions
from bigupload.api.calls import OpenCall
from bigupload.api.checks import check_target, checked_idle, checked_path, settings_of
from bigupload.api.event_delivery import log_failure
from bigupload.api.many import Outcome, UploadMany
from bigupload.api.many_items import ManyItem, is_gone
from bigupload.api.resources import UploaderResources
from bigupload.api.steps import Row, Steps
from bigupload.batch.job import Job
from bigupload.batch.tree import Omitted, Selection
from bigupload.batch.watching import WatchedFiles, Watching, file_events, require_file_events
from bigupload.core.manifest import Manifest, manifest_id
from bigupload.core.retry_policy import Fault
from bigupload.core.settling import Begin, SettlingFiles
from bigupload.engine.context import UploadSettings
from bigupload.engine.retrying import Retrier
from bigupload.manifests.job_record import JobName, JobRecord
from bigupload.manifests.journal import read_manifest
from bigupload.manifests.state_directory import SUFFIX
from bigupload.records import dataclass
from bigupload.stores.s3.objects import S3Objects
from bigupload.stores.s3.operations import ObjectPages
from bigupload.stores.targets import parse_s3_url

_AT_ONCE = 32
"""More than `core/settling` opens at a time: one waits for the next file."""


@dataclass(frozen=True, slots=True)
class _WatchedItem(ManyItem):
    """A file to upload, or what can't be read."""

    begin: Begin | None = None
    """None: it can't be read."""


class WatchMany(UploadMany):
    """One call."""

    def __init__(self, resources: UploaderResources, call: OpenCall, directory: StrPath, options: WatchOptions) -> None:
        """Check the arguments. See `Uploader.watch`."""
        call.warnings += check_target(options.get("to"), None, options.get("s3"))
        if options.get("checksum") == "none":
            raise errors.UsageError("`checksum='none'` can't be used here: only checksums show rewritten parts")
        steps = Steps(options.get("then"), resources, call, options, "watch")
        # Symbolic links in it stay: their targets may change.
        path = os.path.abspath(checked_path(directory, "directory"))  # noqa: PTH100 - removes "..", as for a file
        of_many = {name: value for name, value in options.items() if name in UploadManyOptions.__annotations__}
        of_many["job"] = JobName(f"watch {path}", "watch", [path])
        settings = settings_of(options, recalls=not steps.deletes)
        super().__init__(resources, call, settings, cast("UploadManyOptions", of_many), steps)
        selection = options.get("selection") or Selection()
        poll, until_idle = options.get("poll"), options.get("until_idle")
        steps.check_beside(path, selection)
        if poll is None:
            require_file_events()
        all_names = options.get("all_names", False)
        files = WatchedFiles(path, selection, now=time.time(), all_names=all_names, prefix=self._key_prefix)
        self._directory = path
        self._idle = checked_idle(options.get("idle", "10s"))
        self._watching = Watching(
            directory=path,
            list_files=files.found,
            idle=self._idle,
            files=SettlingFiles(idle=self._idle),
            events=partial(file_events, path) if poll is None else None,
            poll=math.inf if poll is None else checked_idle(poll, "poll"),
            until_idle=math.inf if until_idle is None else checked_idle(until_idle, "until_idle"),
            warn=lambda message: call.emit(events.Warned(message=message)),
        )
        self._failing: set[str] = set()
        """Paths of files whose last upload failed."""

    async def watched(self) -> AsyncGenerator[Outcome, None]:
        """Watch, and yield what became of each file. To close the iterator cancels the watch, and awaits its end."""
        async with (
            contextlib.aclosing(self._watching.found()) as found,
            contextlib.aclosing(self.outcomes(self._items(found))) as outcomes,
        ):
            async for outcome in outcomes:
                yield outcome

    async def _items(self, found: AsyncIterator[Begin | Omitted]) -> AsyncIterator[ManyItem]:
        async for each in found:
            if isinstance(each, Omitted):
                yield _WatchedItem(each.path, "", omitted=each.reason, path=each.path)
            else:
                yield _WatchedItem(each.path, each.key, each.fingerprint, path=each.path, begin=each)

    def _at_once(self) -> int:
        return _AT_ONCE

    @contextlib.asynccontextmanager
    async def _reporting_progress(self) -> AsyncIterator[None]:
        yield  # a watch has no end to progress to

    async def _run(self, job: Job[ManyItem, Row]) -> None:
        with log_failure(self._directory):
            await self._watching.root.check()  # else `status` would list a watch of a missing directory
            self._directories = [self._directory]
            await super()._run(job)

    def _open_record(self, record: JobRecord) -> None:
        """Open the record. Once the watch has ended by itself, it is finished, and keeps its files for the next one."""
        try:
            record.open(resume=True, keep=True)
        except errors.ManifestLocked as e:
            raise errors.ManifestLocked(f"another process watches this directory for this target: {e}") from e
        except errors.ManifestCorrupt as e:
            raise errors.ManifestCorrupt(
                f"{record.path} is damaged, or no record of this watch: delete it. The files are then hashed, and "
                "compared with the objects"
            ) from e
        self._job_context.began = record.began

    async def _look_at_store(self, objects: S3Objects, retrier: Retrier) -> None:
        """Look whether the bucket is there, once, and before the first file has settled.

        By a list, whose refusal has the store's error code: HEAD has none, so a 404 may be a load balancer's.

        Raises:
            BucketNotFound: There is no such bucket. Any other problem is reported by the uploads, if it lasts.
        """
        self._objects = objects
        if self._record is not None and not self._record.is_new:  # an earlier watch has found it
            return
        try:
            await objects.next_objects("", ObjectPages())
        except (Fault, errors.StoreError) as e:
            error = e.public() if isinstance(e, Fault) and e.is_decided else e
            if isinstance(error, errors.BucketNotFound):
                raise error from e

    async def _finish(self) -> None:
        self._failures = len(self._failing)
        if self._record is not None and not any(map(os.path.lexists, self._failing)):
            await self._record.finish(keep=lambda key: not is_gone(f"{self._directory}/{key}"))

    # -- one file

    async def _row(self, item: ManyItem) -> Row | None:
        begin, upload = _begin_of(item), partial(super()._row, item)
        if begin is None:
            return await upload()
        self._steps.failed(len(self._failing - {item.path}))
        row = await self._watching.attempt(begin, upload)
        if row is not None and row.error is None:
            self._failing.discard(item.path)
            assert row.fingerprint is not None
            self._watching.uploaded(begin, row.fingerprint)
        return row

    async def _process(self, item: ManyItem) -> Row | None:
        if item.omitted is None:
            try:
                parse_s3_url(self._to(item))
            except errors.UsageError as e:
                raise errors.SourceUnsupported(f"can't be an object's name: {e}") from e
        return await super()._process(item)

    async def _failed(self, item: ManyItem, row: Row, began: float) -> Row | None:
        error, begin = row.error, _begin_of(item)
        assert error is not None
        retry_in = math.inf if begin is None else await self._watching.failed(begin, error)
        if retry_in is None:
            return None
        self._failing.add(item.path)
        if isinstance(error, errors.SourceChanged):
            changed = "was rewritten, truncated or replaced while it was uploaded: it is uploaded when it has settled"
            error = errors.SourceChanged(
                f"{errors.IT} {changed}", it=item.path, same_size=True, manifest=error.manifest
            )
        return dataclasses.replace(row, error=error, retry_in=None if retry_in == math.inf else retry_in)

    async def _send(self, item: ManyItem) -> Row | None:
        begin, known = _begin_of(item), self._manifest_of(item)
        assert begin is not None
        if begin.follow and known is not None and (known.first_plan.size is not None or known.status == "completed"):
            await self._watching.changed(begin)  # its upload began when it had settled
            return None
        row = await super()._send(item)
        if row is not None and not begin.follow and row.fingerprint != begin.fingerprint:
            # It was written between two looks, so a write after it may have left the same times: their clock is coarse.
            await self._watching.changed(begin)
            return None
        return row

    def _path_of_manifest(self, item: ManyItem) -> Path:
        target = self._objects.target(parse_s3_url(self._to(item))[1])
        return self._resources.state.directory / f"{manifest_id(item.path, target)}{SUFFIX}"

    def _manifest_of(self, item: ManyItem) -> Manifest | None:
        """What is known of the last upload in parts. None: nothing, or the upload reports why it can't be read."""
        try:
            return read_manifest(self._path_of_manifest(item)).manifest
        except errors.ManifestError:
            return None

    async def _suit(self, item: ManyItem, options: UploadOptions) -> UploadSettings:
        begin, known = _begin_of(item), self._manifest_of(item)
        assert begin is not None
        size, is_completed = begin.fingerprint.size, known is not None and known.status == "completed"
        if begin.follow:
            options["follow"], options["idle"] = True, self._idle
        elif known is None or known.status not in ("uploading", "completing"):
            options["skip_existing"] = begin.first or is_completed
        elif known.first_plan.size not in (None, size):  # such an upload is aborted, not left behind
            return dataclasses.replace(self._settings, follow_changes=True)
        elif known.first_plan.size is None and not _may_hold(known, size):  # it was followed, and is shorter now
            call, manifest = self._call.for_one_file(), self._path_of_manifest(item)
            try:
                await operations.abort(self._resources, call, manifest, {"s3": self._options.get("s3")})
            except errors.UsageError:  # it was completed, which is not recorded
                options["resume"] = False
        return self._settings


def _begin_of(item: ManyItem) -> Begin | None:
    return cast("_WatchedItem", item).begin


def _may_hold(manifest: Manifest, size: int) -> bool:
    """Whether a file of `size` bytes has all parts of an upload that began while it grew."""
    plan = manifest.first_plan
    return all(plan.part(part.number).offset + part.size <= size for part in manifest.parts.values())

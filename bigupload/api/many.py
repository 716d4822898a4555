"""One call of `upload_many`: each file is an upload as `upload` makes it, several at a time, and small ones share one
sender (`small_files`). And one call of `verify_many`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import anyio

from bigupload import errors, events
from bigupload.api import operations
from bigupload.api.arguments import UploadManyOptions, UploadOptions, VerifyOptions
from bigupload.api.calls import OpenCall
from bigupload.api.event_delivery import log_failure
from bigupload.api.many_items import (
    JobTally,
    ManyItem,
    items_of,
    job_target,
    prefix_of,
    recorded_file,
    result_of_record,
)
from bigupload.api.resources import UploaderResources
from bigupload.api.small_files import AHEAD, JobContext
from bigupload.api.sources import size_of
from bigupload.api.steps import Row, Steps, outcome_of
from bigupload.api.types import ManySource, VerificationFailed
from bigupload.batch.job import Job, UploadFailed, affects_all, results_while
from bigupload.batch.listing import CountedFiles
from bigupload.core.manifest import Fingerprint
from bigupload.engine.context import UploadSettings
from bigupload.engine.retrying import Contact, Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.job_record import JobRecord, RecordedFile, file_of_row, stored_path
from bigupload.options import S3Options
from bigupload.sources.file import fingerprint_of
from bigupload.sources.opening import is_path
from bigupload.stores.s3.objects import S3Objects
from bigupload.stores.targets import LOCAL_BUCKET, parse_s3_url
from bigupload.support.cancellation import end_task
from bigupload.support.daemon_threads import run_in_daemon_thread

if TYPE_CHECKING:
    from bigupload.verification.by_checksum import Verification

Outcome: TypeAlias = UploadResult | UploadFailed
_REPORT_EVERY = 0.5
"""Seconds between two `JobProgress` events."""
_OF_EACH_FILE = UploadOptions.__annotations__.keys() & UploadManyOptions.__annotations__.keys() - {"on_event", "to"}


class UploadMany:
    """One call."""

    _dry_run = False
    """Whether nothing may be sent, nor recorded."""

    def __init__(
        self,
        resources: UploaderResources,
        call: OpenCall,
        settings: UploadSettings,
        options: UploadManyOptions,
        steps: Steps,
    ) -> None:
        """Connect to nothing yet.

        Raises:
            UsageError: `to` names one object, and not what keys begin with.
        """
        self._steps = steps
        self._resources = resources
        self._call = call
        self._settings = settings
        self._options = options
        self._prefix = prefix_of(options.get("to") or f"s3://{LOCAL_BUCKET}/")
        self._bucket, key = parse_s3_url(self._prefix, "key")
        self._key_prefix = key.removesuffix("key")
        of_each = {name: value for name, value in options.items() if name in _OF_EACH_FILE}
        self._of_each = cast("UploadOptions", of_each)
        self._s3 = options.get("s3") or S3Options()
        self._contact = Contact()
        self._job_context = JobContext(contact=self._contact)
        self._record: JobRecord | None = None
        self._manifests = KeyedLocks()
        self._tally = JobTally()
        self._failures = 0
        self._gone = 0
        """The number of failures that are files that do not exist."""
        self._last_success = 0.0
        """The time at which a file was last sent, by the clock of `resources`, which is that of the engine."""

    async def outcomes(
        self, sources: Iterable[ManySource] | AsyncIterable[ManySource | ManyItem]
    ) -> AsyncGenerator[Outcome, None]:
        """Upload, and yield what becomes of each file.

        Raises:
            BigUploadError: What ends the whole job.
        """
        job = self._job(sources)
        self._resources.calls.check()
        self._resources.calls.add(self._call)  # at once: its Uploader may be closed before the first step
        try:
            async with contextlib.aclosing(results_while(job, self._call.run(partial(self._run, job)))) as rows:
                async for row in rows:
                    yield self._outcome_of(row)
        finally:
            self._call.end()

    def _job(self, sources: Iterable[ManySource] | AsyncIterable[ManySource | ManyItem]) -> Job[ManyItem, Row]:
        listing = sources if isinstance(sources, CountedFiles) else None
        self._directories = listing.directories if listing is not None else ()
        self._tally = JobTally(listing.found if listing is not None else None)
        record = self.record if self._options.get("job") is not None and not self._dry_run else None
        return Job(self._tally.counted(items_of(sources)), self._upload, at_once=self._at_once, record=record)

    def _outcome_of(self, row: Row) -> Outcome:
        return outcome_of(row, full_key=self._full_key(row.key) if row.key else "")

    def _at_once(self) -> int:
        return self._resources.shared.limit + AHEAD

    async def _run(self, job: Job[ManyItem, Row]) -> None:
        if not self._dry_run:
            await self._resources.state.clean()
        async with contextlib.AsyncExitStack() as opened:
            if (name := self._options.get("job")) is not None:
                record = self._resources.state.job_record(name, *await self._job_target())
                self._record = opened.enter_context(record)
                self._open_record(record)
                self._job_context.record, self._job_context.token = record.path, record.token
            await opened.enter_async_context(self._steps)
            if self._steps.deletion is not None:
                await self._steps.deletion.restore_below(*self._directories)
            if self._options.get("service") is None:
                await self._prepare(opened)
            async with self._reporting_progress():
                await self._work(job)
                await self._finish()
            self._steps.failed(self._failures)
            await self._steps.end()

    def _open_record(self, record: JobRecord) -> None:
        resume = self._options.get("resume", True)
        record.open(resume=resume)
        self._job_context.began = record.began if resume else None

    async def _work(self, job: Job[ManyItem, Row]) -> None:
        await job.run()

    async def _finish(self) -> None:
        """All files are done."""
        if self._record is not None and self._failures == self._gone:
            await self._record.finish(gone=self._gone)

    @contextlib.asynccontextmanager
    async def _reporting_progress(self) -> AsyncIterator[None]:
        """Emit `JobProgress` at once, now and then, and at the end."""
        reporting = asyncio.create_task(self._report_periodically()) if self._call.has_listeners else None
        try:
            yield
        finally:
            if reporting is not None:
                await end_task(reporting)
        if reporting is not None:
            self._report_progress(is_finished=True)

    async def _report_periodically(self) -> None:
        while True:
            self._report_progress()
            await anyio.sleep(_REPORT_EVERY)

    def _report_progress(self, *, is_finished: bool = False) -> None:
        late = self._resources.shared.flight.responses_are_late
        self._emit_for_job(self._tally.progress(time.monotonic(), late=late, is_finished=is_finished))

    def _emit_for_job(self, event: events.Event) -> None:
        target = self._options.get("service") or self._prefix
        job = events.UploadIdentity(source="", target=target, id="", manifest=None)
        events.identified(job, self._call.emit_as_own)(event)

    async def _job_target(self) -> tuple[str, str | None]:
        """Return the job's target as its record writes it, with the endpoint, and that alone."""
        if (service := self._options.get("service")) is not None:
            return service, None
        return await job_target(self._prefix, self._s3)

    async def record(self, rows: Sequence[Row]) -> None:
        """Record which files are in the store."""
        assert self._record is not None
        await self._record.record([recorded_file(row) for row in rows if is_to_record(row)])

    async def _prepare(self, opened: contextlib.AsyncExitStack) -> None:
        """Open the sender of small files."""
        sender = opened.enter_context(await self._resources.small.sender(self._bucket, self._s3, self._settings))
        while not await sender.open(self._emit_for_job, self._contact):
            pass  # another call could not open it: this one reports its own error
        self._job_context.sender = sender
        retrier = Retrier(policy=self._resources.retry, emit=self._emit_for_job, contact=self._contact)
        await self._look_at_store(sender.objects_of(self._s3), retrier)

    async def _look_at_store(self, objects: S3Objects, retrier: Retrier) -> None:
        """Look at the store before the first file."""

    # -- one file

    async def _upload(self, item: ManyItem) -> Row | None:
        row = await self._row(item)
        self._tally.done(item, row)
        return row

    async def _row(self, item: ManyItem) -> Row | None:
        """Return the row of one file; None: nothing has to be sent."""
        began, row = self._resources.clock(), None
        try:
            with log_failure(f"{item.shown} → {self._to(item)}"):
                row = await self._process(item)
                if row is not None and row.error is not None:
                    raise row.error
        except errors.BigUploadError as e:
            return await self._failed(item, dataclasses.replace(row or self._row_of(item), error=e), began)
        self._last_success = self._resources.clock()
        return row

    async def _failed(self, item: ManyItem, row: Row, began: float) -> Row | None:
        """Return the row of a file that failed. Raises its error if that ends the job."""
        error = row.error
        assert error is not None
        # A store that responds with errors is asked for each file: a large one's responses are not seen here.
        responded = max(self._last_success, self._contact.responded_at or 0.0) >= began
        others_go = isinstance(error, errors.StoreUnavailable) or responded
        if affects_all(error, others_go=others_go):
            raise error
        self._failures += 1
        self._gone += await run_in_daemon_thread(item.is_gone, self._resources.shared.checking)
        return row

    async def _process(self, item: ManyItem) -> Row | None:
        """Run all steps of one file."""
        deletion = self._steps.deletion
        if deletion is not None and item.path and (item.omitted is None or item.key):
            await deletion.begin(item.path)
            if item.omitted is not None and os.path.lexists(item.path):
                item = dataclasses.replace(item, omitted=None)
            elif item.omitted is not None and (gone := self._recorded_as_gone(item)) is not None:
                return dataclasses.replace(gone, result=await deletion.gone(item.path, gone.proved))
        item.check()
        self._steps.check_source(item.source)
        return await self._steps.after(await self._known(item), partial(self._send, item))

    def _row_of(
        self,
        item: ManyItem,
        result: UploadResult | None = None,
        fingerprint: Fingerprint | None = None,
        *,
        is_recorded: bool = False,
    ) -> Row:
        return Row(
            source=item.shown,
            path=item.path,
            key=item.key,
            result=result,
            fingerprint=fingerprint,
            is_recorded=is_recorded,
        )

    async def _send(self, item: ManyItem) -> Row | None:
        """Upload a file that is not known to be in the store. None: without a result."""
        options, is_of_service = self._of_each.copy(), self._options.get("service") is not None
        if not is_of_service:
            options["to"] = self._to(item)
        if not item.path or is_of_service:
            options["name"] = item.key.rpartition("/")[2]
        if self._record is not None:
            self._record.may_lack_files |= self._s3.if_none_match
        result, fingerprint = await operations.upload(
            self._resources,
            self._call.for_one_file(self._tally.observer(item)),
            item.source,
            await self._suit(item, options),
            options,
            digests=self._steps.digests,
            in_slot=partial(self._in_slot, item),
            job=self._job_context,
        )
        return self._row_of(item, result, fingerprint)

    async def _suit(self, item: ManyItem, options: UploadOptions) -> UploadSettings:
        """Change the options for one file. Returns its settings."""
        return self._settings

    @contextlib.asynccontextmanager
    async def _in_slot(self, item: ManyItem) -> AsyncIterator[bool]:
        """Wait for a file's slot and its manifest. Yields whether the manifest was another file's of this call."""
        # A service has one manifest for all keys of a file: its records of one are not true of another.
        manifest = item.path if self._options.get("service") is not None and item.path else item.key
        slot = self._resources.upload_slots.slot(item.shown, partial(size_of, item.source), self._settings.priority)
        async with slot, self._manifests.lock(manifest) as is_anothers:
            yield is_anothers

    async def _fingerprint(self, item: ManyItem) -> Fingerprint | None:
        """Return the fingerprint for a file's record; None without a record or a path."""
        if self._record is None or not item.path:
            return None
        if item.fingerprint is not None:
            return item.fingerprint
        try:
            found = await run_in_daemon_thread(partial(os.stat, item.path), self._resources.shared.checking)
        except (OSError, ValueError):  # the upload says why
            return None
        return fingerprint_of(found)

    async def _known(self, item: ManyItem) -> Row | None:
        """Return a file that need not be sent; None: send it."""
        if self._record is None or self._record.is_new or (fingerprint := await self._fingerprint(item)) is None:
            return None
        found = self._record.find(item.key, item.path, fingerprint)
        if found is None or not found.verified.satisfies(self._settings.require_proof):
            return None
        if found.location is None and self._options.get("service") is not None:  # an earlier version recorded none
            return None
        return self._row_of(item, self._result_of(item, found), fingerprint, is_recorded=True)

    def _recorded_as_gone(self, item: ManyItem) -> Row | None:
        """Return a file that is not there, and that an earlier run of the job has uploaded; None: it has not."""
        if self._record is None or (known := self._record.find_all([item.key]).get(item.key)) is None:
            return None
        path, size, mtime, ctime, inode = known[:5]
        if path != stored_path(item.path):
            return None
        fingerprint = Fingerprint(size, mtime, ctime, inode)
        found = file_of_row(item.key, item.path, fingerprint, known)
        return self._row_of(item, self._result_of(item, found), fingerprint, is_recorded=True)

    def _result_of(self, item: ManyItem, found: RecordedFile) -> UploadResult:
        """The result of a file that is in the store already."""
        assert self._record is not None
        if found.location is not None:
            key, url = found.location
            return result_of_record(found, self._record.path, bucket="", key=key, url=url)
        key = self._full_key(item.key)
        url = (
            self._to(item)
            if self._job_context.sender is None
            else self._job_context.sender.objects_of(self._s3).url(key)
        )
        return result_of_record(found, self._record.path, bucket=self._bucket, key=key, url=url)

    def _full_key(self, key: str) -> str:
        return key if self._options.get("service") is not None else self._key_prefix + key

    def _to(self, item: ManyItem) -> str:
        return f"{self._prefix}{item.key}" if self._options.get("service") is None else f"service:///{item.key}"


def is_to_record(row: Row) -> bool:
    """Return whether a job's record is to have a file."""
    return row.result is not None and row.fingerprint is not None and row.path != "" and not row.is_recorded


class KeyedLocks:
    """One lock per name. Remembers which names were completed, in 70 bytes each."""

    def __init__(self) -> None:
        self._open: dict[str, anyio.Lock] = {}
        self._completed: set[int] = set()

    @contextlib.asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[bool]:
        """Hold a name's lock. Yields whether a block of this name has completed before, without an exception."""
        lock = self._open.setdefault(name, anyio.Lock())
        try:
            async with lock:
                yield hash(name) in self._completed
                self._completed.add(hash(name))
        finally:
            if not lock.locked():
                self._open.pop(name, None)


_VERIFIED_AT_ONCE = 16
"""Objects. Of each, the store is asked once or twice, and its file is hashed in threads."""


Verdict: TypeAlias = "Verification | VerificationFailed"


class VerifyMany:
    """One call of `verify_many`: each object against its file, several at a time."""

    def __init__(self, resources: UploaderResources, call: OpenCall, url: str, options: VerifyOptions) -> None:
        """Connect to nothing yet.

        Raises:
            UsageError: The URL names one object, and not what keys begin with.
        """
        self._call = call
        self._prefix = prefix_of(url)
        self._verify = operations.verifier(resources, options)

    async def verdicts(
        self, sources: Iterable[ManySource] | AsyncIterable[ManySource]
    ) -> AsyncGenerator[Verdict, None]:
        """Verify, and yield what is found of each object.

        Raises:
            BigUploadError: What ends the whole.
        """
        job: Job[ManyItem, Verdict] = Job(items_of(sources), self._one, at_once=lambda: _VERIFIED_AT_ONCE)
        async with contextlib.aclosing(results_while(job, self._call.run(job.run))) as verdicts:
            async for verdict in verdicts:
                yield verdict

    async def _one(self, item: ManyItem) -> Verdict:
        url = f"{self._prefix}{item.key}"
        try:
            item.check()
            if not is_path(item.source):
                raise errors.UsageError(f"{item.key}: only files can be compared with objects")
            return await self._verify(item.source, url)
        except errors.BigUploadError as e:
            if affects_all(e, others_go=not isinstance(e, errors.StoreUnreachable)):
                raise
            key = url.partition("://")[2].partition("/")[2] if item.key else ""
            return VerificationFailed(source=item.shown, key=key, error=e)

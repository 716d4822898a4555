"""One call of `sync`: the files of a directory whose objects are not them, as items of the job of `upload_many`.

Whether an object is the file is decided by proof. The store's list has the objects, with their sizes and ETags. If the
metadata of a file and the ETag of its object are as the sync's record has them, an earlier sync has proved it. Any
other file of the same size is hashed, and compared with the checksums that the store has of the object. In most syncs
records find nearly every file: they are looked up for some hundred files at a time, because two look-ups for each would
take longer than all else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import field
from functools import partial
from typing import Any, Literal, NamedTuple, cast

from bigupload import errors
from bigupload.api.arguments import StrPath, SyncOptions, UploadManyOptions
from bigupload.api.calls import OpenCall
from bigupload.api.checks import checked_path
from bigupload.api.event_delivery import log_failure
from bigupload.api.many import UploadMany, is_to_record
from bigupload.api.many_items import ManyItem, is_gone, item_of
from bigupload.api.resources import UploaderResources
from bigupload.api.steps import Row, Steps
from bigupload.api.types import SyncOutcome, SyncResult, SyncStep
from bigupload.batch.inventory import Inventory, ListedObject, ListFailed, MountPoints, StoreList
from bigupload.batch.job import Job, UploadFailed, results_while
from bigupload.batch.listing import CountedFiles, FileListing, FoundFiles, RequiredDirectory, batches_ahead
from bigupload.batch.tree import FileEntry, Found, Omitted, Selection
from bigupload.core.integrity import Verified
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.core.selection import Scope, selects
from bigupload.engine.context import UploadSettings
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.job_record import FileRow, JobName, JobRecord, OtherJobs, file_of_row, stored_path
from bigupload.records import dataclass
from bigupload.stores.s3.objects import ListedRow, S3Objects
from bigupload.stores.s3.operations import ObjectPages
from bigupload.stores.targets import parse_s3_url
from bigupload.support.cancellation import for_each
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.units import counted


class SameFiles(NamedTuple):
    """The files of a batch whose objects are proved to be them. By their keys below the target."""

    all: dict[str, FileRow]
    new: dict[str, FileRow]
    """The rows that the sync's own record does not have yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileComparison:
    """Compares the files of one sync with the list of the bucket and with the records. It sends nothing."""

    listed: Inventory
    """The objects that the store has listed so far."""
    record: JobRecord
    """What earlier syncs recorded."""
    others: OtherJobs | None
    """What other jobs recorded below the target; None: that counts for nothing."""
    directory: str
    """The directory of the files, as it is listed."""
    prefix: str
    """Is before the key of each file."""
    required: Verified
    """What a record must have proved."""
    size_only: bool
    """Whether an object of the same size counts as the file, without any record."""

    def path_of(self, key: str) -> str:
        """Return the absolute path of the file that has a key, as `os.path.abspath` returns it."""
        base = os.path.join(os.path.abspath(self.directory), "")  # noqa: PTH100, PTH118 - keeps links; a text
        return base + key.replace("/", os.sep)

    def find(self, files: Iterable[FileEntry]) -> SameFiles:
        """Compare files, and mark their objects as matched. Blocking, for some microseconds a file.

        What is not found may be there all the same: its object may be listed later, or must be asked for.
        """
        prefix = self.prefix
        keys = {prefix + each.key: each for each in files if each.inode and "\\" not in each.key}  # see `_object_of`
        there = [
            (each, etag)
            for key, size, etag in self.listed.match_all([*keys]).values()
            if size == (each := keys[key]).size
        ]
        return self.proved(there)

    def proved(self, there: Sequence[tuple[FileEntry, str]]) -> SameFiles:
        """Compare files that have objects of their sizes, with the ETags of those, and with the records."""
        if self.size_only:  # what nobody has compared is in no record
            how = None, Verified.SIZE.value, None
            alike: dict[str, FileRow] = {
                f.key: (f.path, f.size, f.mtime_ns, f.ctime_ns, f.inode, etag, *how) for f, etag in there
            }
            return SameFiles(alike, {})
        found = self._proved(there, self.record.find_all([each.key for each, _ in there]))
        new: dict[str, FileRow] = {}
        if self.others is not None and len(found) < len(there):
            rest = [(each, etag) for each, etag in there if each.key not in found]
            for rows in self.others.find_all([each.key for each, _ in rest]):
                new = self._proved(rest, rows) | new  # the first record counts
        return SameFiles(found | new if new else found, new)

    def _proved(self, there: Iterable[tuple[FileEntry, str]], rows: dict[str, FileRow]) -> dict[str, FileRow]:
        """Return the files whose metadata and objects' ETags are as recorded. An object without an ETag never is."""
        found: dict[str, FileRow] = {}
        base, enough = stored_path(self.path_of("")), [each.value for each in Verified if each.satisfies(self.required)]
        for each, listed in there if rows else ():
            if (row := rows.get(each.key)) is not None:
                path, size, mtime_ns, ctime_ns, inode, etag, _, verified, _ = row
                if (
                    (size, mtime_ns, ctime_ns, inode) == (each.size, each.mtime_ns, each.ctime_ns, each.inode)
                    and path == base + each.key.replace("/", os.sep)
                    and (bare := listed.strip('"'))
                    and etag.strip('"') == bare
                    and verified in enough
                ):
                    found[each.key] = row
        return found


class SyncMany(UploadMany):
    """One call."""

    def __init__(
        self,
        resources: UploaderResources,
        call: OpenCall,
        settings: UploadSettings,
        directory: StrPath,
        options: SyncOptions,
        steps: Steps,
    ) -> None:
        """Connect to nothing yet.

        Raises:
            UsageError: The options contradict one another.
        """
        self._directory = "" if directory == "" else os.fspath(checked_path(directory, "directory"))
        of_many = {name: value for name, value in options.items() if name in UploadManyOptions.__annotations__}
        path = os.path.abspath(self._directory)  # noqa: PTH100 - keeps links, as a job's name does
        of_many["job"] = JobName(f"sync {path}", "sync", [path])
        super().__init__(resources, call, settings, cast("UploadManyOptions", of_many), steps)
        self._selection = options.get("selection") or Selection()
        self._size_only = options.get("size_only", False)
        self._dry_run = options.get("dry_run", False)
        self._deletes = options.get("delete", False)
        self._may_be_empty = options.get("allow_empty", False) or steps.deletes
        self._on_outcome: Callable[[SyncOutcome], object] = options.get("on_outcome") or (lambda _: None)
        self._on_same = options.get("on_same")
        wants_each = options.get("on_outcome") is not None and self._on_same is None
        self._counts_same = not wants_each and not steps.reports_each
        """Whether nobody wants a result of each file that is in the store already."""
        self._known_rows = 0
        """The number of files of this sync that are recorded."""
        self._listed = FoundFiles()
        self._reading = asyncio.Semaphore(os.cpu_count() or 1)
        self._threads = asyncio.Semaphore(1)
        note = "Nothing more was deleted. " if self._deletes else ""
        self._root = RequiredDirectory(self._directory, "sync", self._threads, note)
        self._files = 0
        self._counts = dict.fromkeys(("uploaded", "same", "deleted", "failed", "size"), 0)
        self._not_deleted: str | None = None
        if not self._directory:
            raise errors.UsageError("the directory's name is empty: is a variable not set?")
        if self._s3.if_none_match:
            raise errors.UsageError("a sync replaces the objects of files that changed: leave out `if_none_match`")
        if self._size_only and settings.require_proof is not Verified.SIZE:
            raise errors.UsageError(
                f"`size_only` compares sizes, and `require_proof` asks for {settings.require_proof}: leave one of them "
                "out"
            )
        self._scope = self._selection.scope()
        steps.check_beside(self._directory, self._selection)
        self._inventory = Inventory()  # last of all: `run` closes it

    async def run(self) -> SyncResult:
        """Sync.

        Raises:
            BigUploadError: What ends the whole.
        """
        began = self._resources.clock()
        job = self._job(CountedFiles(self._found(), self._listed, [self._directory]))
        with contextlib.closing(self._inventory), log_failure(f"{self._directory} → {self._prefix}"):
            await self._call.run(partial(self._run, job))
        seconds = self._resources.clock() - began
        return SyncResult(**self._counts, seconds=seconds, not_deleted=self._not_deleted)

    async def _run(self, job: Job[ManyItem, Row]) -> None:
        await self._root.check()
        await super()._run(job)

    def _open_record(self, record: JobRecord) -> None:
        resume = self._options.get("resume", True)
        needs_mounts = self._deletes and not self._may_be_empty
        if self._dry_run:
            record.peek(resume=resume, needs_mounts=needs_mounts)
        else:
            record.open(resume=resume, keep=True, needs_mounts=needs_mounts)
        # No manifest is believed: the store has shown that the object is not the file, whatever was completed once.
        self._kept = record
        self._mounts = MountPoints(self._directory, record.mounts)

    async def _look_at_store(self, objects: S3Objects, retrier: Retrier) -> None:
        await super()._look_at_store(objects, retrier)
        self._objects, self._retrier = objects, retrier

    async def _work(self, job: Job[ManyItem, Row]) -> None:
        """Look at each file while the bucket is listed, and send it if its object is not the file."""
        async with contextlib.AsyncExitStack() as opened:
            others: OtherJobs | None = None
            if self._options.get("resume", True):
                others = OtherJobs(self._kept.path, self._kept.target)
                opened.enter_context(contextlib.closing(others))
            self._comparison = FileComparison(
                listed=self._inventory,
                record=self._kept,
                others=others,
                directory=self._directory,
                prefix=self._key_prefix,
                required=self._settings.require_proof,
                size_only=self._size_only,
            )
            next_objects = partial(self._next_objects, ObjectPages())
            self._store_list = await opened.enter_async_context(StoreList(self._inventory, next_objects))
            try:
                async with contextlib.aclosing(results_while(job, job.run())) as rows:
                    async for row in rows:
                        self._report(self._outcome_of(row))
                await self._store_list.read_all()
            except ListFailed as e:
                raise e.cause from None

    async def record(self, rows: Sequence[Row]) -> None:
        """Record which files are in the store."""
        await super().record(rows)
        self._known_rows += sum(is_to_record(row) for row in rows)

    async def _next_objects(self, pages: ObjectPages) -> list[ListedRow] | None:
        """List the next objects that are there; None after the last. One that stands for a folder has no file."""
        if pages.ended:
            return None
        rows = await self._retrier.request(lambda: self._objects.next_objects(self._key_prefix, pages))
        self._tally.objects_listed += len(rows)
        return [row for row in rows if not row[0].endswith("/")]

    # -- the items

    async def _found(self) -> AsyncGenerator[Found, None]:
        """The files that may have to be sent, and what can't be read.

        Files left out for good reason are only reported; so are those that were in the store at the last sync,
        which are nearly all of them in most syncs: a task for each would take longer than all else.
        """
        listing = FileListing([self._directory], self._selection, now=time.time(), prefix=self._key_prefix)
        async with contextlib.aclosing(batches_ahead(self._mounts.noting(listing.found()), self._listed)) as batches:
            async for batch in batches:
                if not self._dry_run:
                    await self._kept.record_mounts(self._mounts.found.copy())
                same = await self._same([each for each in batch if isinstance(each, FileEntry)])
                if len(same) == len(batch) and self._counts_same:
                    continue
                for found in batch:
                    if isinstance(found, Omitted) and not found.is_failure:
                        self._report(found)
                    elif isinstance(found, Omitted) or (known := same.get(found.key)) is None:
                        yield found
                    elif not self._counts_same:
                        await self._report_same(found, known)

    async def _same(self, files: Sequence[FileEntry]) -> dict[str, FileRow]:
        """Compare files with the list and the records. Returns those that are in the store, by their keys."""
        self._files += len(files)
        if self._steps.wants_each or not files:  # each is compared by itself
            return {}
        await self._store_list.reached(self._key_prefix + files[-1].key)  # they are in the order of their keys
        same, new = self._comparison.find(files)
        if new and not self._dry_run:
            found = [each for each in files if each.key in new]
            path_of = self._comparison.path_of
            await self._kept.record([file_of_row(f.key, path_of(f.key), f.fingerprint, new[f.key]) for f in found])
        size = sum(each.size for each in files if each.key in same)
        self._known_rows += len(same)
        self._tally.same(len(same), size)
        self._counts["same"] += len(same)
        if same and self._on_same is not None:
            self._on_same(len(same), size)
        return same

    async def _report_same(self, found: FileEntry, known: FileRow) -> None:
        """Report one file that is in the store already."""
        row = await self._steps(self._row_of_same(item_of(found), found, known))
        if self._on_same is None or row.error is not None:
            self._on_outcome(self._outcome_of(row))

    def _row_of_same(self, item: ManyItem, file: FileEntry, known: FileRow, *, is_recorded: bool = True) -> Row:
        result = self._result_of(item, file_of_row(item.key, item.path, file.fingerprint, known))
        return self._row_of(item, result, file.fingerprint, is_recorded=is_recorded)

    def _report(self, outcome: SyncOutcome) -> None:
        counts = self._counts
        if isinstance(outcome, UploadFailed) or (isinstance(outcome, SyncStep) and outcome.error is not None):
            counts["failed"] += 1
        elif isinstance(outcome, SyncStep) and outcome.action == "delete":
            counts["deleted"] += 1
            self._tally.objects_deleted += 1
        elif isinstance(outcome, UploadResult) and outcome.skipped:
            counts["same"] += 1
        elif not isinstance(outcome, Omitted):
            counts["uploaded"] += 1
            counts["size"] += outcome.size
        self._on_outcome(outcome)

    def _report_step(self, key: str, size: int, *, action: Literal["upload", "delete"] = "delete", **more: Any) -> None:
        self._report(SyncStep(action=action, key=key, url=self._url_of(key), size=size, **more))

    def _url_of(self, key: str) -> str:
        return f"{self._prefix}{key[len(self._key_prefix) :]}"

    # -- one file

    async def _known(self, item: ManyItem) -> Row | None:
        """Return a file whose object is the file already; None: send it."""
        listed = await self._object_of(item)
        fingerprint = await self._fingerprint(item)
        if listed is None or fingerprint is None or listed.size != fingerprint.size:
            return None
        now = fingerprint
        file = FileEntry(item.path, item.key, now.size, now.mtime_ns, now.ctime_ns, now.inode)
        same, new = self._comparison.proved([(file, listed.etag)])
        if (known := same.get(item.key)) is not None:
            return self._row_of_same(item, file, known, is_recorded=item.key not in new)
        result = await self._proved(item)
        return None if result is None else self._row_of(item, result, fingerprint)

    async def _object_of(self, item: ManyItem) -> ListedObject | None:
        """Return the object of a file. Waits for the end of the list before it returns None."""
        if "\\" in item.key:  # SeaweedFS takes it for a slash: an object of that key is this file's, and stays
            await self._store_list.read_all()
            self._inventory.match(self._key_prefix + item.key.replace("\\", "/"))
        return await self._store_list.find(self._key_prefix + item.key)

    async def _proved(self, item: ManyItem) -> UploadResult | None:
        from bigupload.verification.by_checksum import prove_existing

        try:
            found = await prove_existing(
                item.path,
                self._to(item),
                self._kept.path,
                s3=self._s3,
                required=self._settings.require_proof,
                part_size=self._settings.part_size,
                retry=self._resources.retry,
                pool=self._resources.buckets,
                reading=self._reading,
            )
        except errors.SourceChanged:  # as it is now, it is not in the store
            return None
        self._last_success = self._resources.clock()
        return found

    async def _send(self, item: ManyItem) -> Row | None:
        if not self._dry_run:
            return await super()._send(item)
        fingerprint = await self._fingerprint(item)
        key = parse_s3_url(self._to(item))[1]
        if fingerprint is None or not os.access(item.path, os.R_OK):
            raise errors.SourceUnreadable(f"can't read {errors.IT}: Permission denied", it=item.shown)
        self._report_step(key, fingerprint.size, action="upload", source=item.path)
        return None

    # -- the end

    async def _finish(self) -> None:
        """Delete the objects that have no file, if that is wanted and may be. All files have been looked at."""
        await self._root.check()
        selection = self._selection
        is_of_a_time = selection.newer_than is not None or selection.older_than is not None
        if not self._files and not self._failures and not self._may_be_empty and not is_of_a_time:
            what = "" if selection.is_all else " that the selection selects"
            raise errors.UsageError(
                f"nothing to sync: {self._directory} has no file{what}. If that is right: `allow_empty=True`"
            )
        unmounted: dict[str, str] = {}
        if self._deletes and self._failures:
            self._not_deleted = f"{counted(self._failures, 'file')} failed"
        elif self._deletes and not self._files and not self._may_be_empty:
            self._not_deleted = "no file was found"
        elif self._deletes:
            unmounted = await self._delete()
        if not self._dry_run and not self._counts["failed"]:
            directory = self._directory
            known = None if self._size_only or self._steps.deletes else self._known_rows
            if self._deletes and selection.is_all:
                # Else files that the selection leaves out may be missing there.
                await self._kept.record_mounts(self._mounts.found, forget={*unmounted} | self._mounts.merged)
            await self._kept.finish(keep=lambda key: not is_gone(f"{directory}/{key}"), known=known)

    async def _delete(self) -> dict[str, str]:
        """Delete the objects that no file matched. Returns the directories that are not mounted, with the reasons."""
        leftovers = Leftovers(
            self._directory,
            self._key_prefix,
            self._scope,
            self._mounts,
            follow_symlinks=self._selection.follow_symlinks,
            also_unmounted=self._may_be_empty,
        )
        for page in self._inventory.unmatched():
            gone = await run_in_daemon_thread(partial(leftovers.of, page), self._threads)
            await self._root.check()
            if self._dry_run:
                for each in gone:
                    self._report_step(each.key, each.size)
            elif gone:
                await self._delete_page(gone)
        if (unmounted := leftovers.unmounted) and not self._may_be_empty:
            all_of_them = f", which deletes below all {len(unmounted)} that are named" if len(unmounted) > 1 else ""
            paths = {folder: f"{self._directory}/{folder}".rstrip("/") for folder in unmounted}
            for folder, why in unmounted.items():
                error = errors.DirectoryGone(
                    f"{paths[folder]} {why}, so nothing was deleted below it: mount it and try "
                    f"again. If its files were deleted: `allow_empty=True`{all_of_them}"
                )
                self._report_step(f"{self._key_prefix}{folder}", 0, error=error)
            self._not_deleted = f"a file system may not be mounted at {', '.join(paths.values())}"
        return unmounted

    async def _delete_page(self, listed: Sequence[ListedObject]) -> None:
        wanted = {each.key: each.etag for each in listed}
        refused: dict[str, str] | None
        try:
            refused = await self._retrier.request(
                lambda: self._objects.delete_many([*wanted.items()]), expected=_NOT_IN_BATCHES
            )
        except Fault:
            refused = None
        except errors.AccessDenied as e:
            for each in listed:
                self._report_deletion(each, e)
            return
        if refused is None or not refused.keys() <= wanted.keys():  # of which keys it speaks is not known
            again = listed
        else:
            again = [each for each in listed if not self._is_settled(each, refused.get(each.key))]
        await for_each(again, self._delete_one, at_once=_SINGLE_AT_ONCE)

    def _is_settled(self, listed: ListedObject, code: str | None) -> bool:
        """Report what one of many deletions ended with. False: the object has to be deleted alone."""
        if code == "PreconditionFailed":
            self._report_deletion(listed, self._replaced(listed))
        elif code in _GONE:
            self._report_deletion(listed)
        elif (kind := classify(403 if code == _DENIED else 400, code)).is_retried or kind is FaultKind.UNSUPPORTED:
            return False
        else:
            text = f"the store does not delete {self._url_of(listed.key)} ({code})"
            self._report_deletion(listed, Fault(kind, text, code=code).public())
        return True

    async def _delete_one(self, listed: ListedObject) -> None:
        error: errors.BigUploadError | None = None
        try:
            await self._retrier.request(
                lambda: self._objects.delete(listed.key, etag=listed.etag), expected=_GONE_OR_REPLACED
            )
        except Fault as fault:
            error = None if fault.kind is FaultKind.GONE else self._replaced(listed)
        except (errors.StoreUnreachable, errors.CredentialsError, errors.ClockSkewed, errors.BucketNotFound):
            raise
        except errors.BigUploadError as e:
            error = e
        self._report_deletion(listed, error)

    def _report_deletion(self, listed: ListedObject, error: errors.BigUploadError | None = None) -> None:
        self._report_step(listed.key, listed.size, done=error is None, error=error)

    def _replaced(self, listed: ListedObject) -> errors.BigUploadError:
        return errors.TargetReplaced(
            f"{self._url_of(listed.key)} was replaced since it was listed, and is left. If it has no file: make the "
            "same call again"
        )


_SINGLE_AT_ONCE = 16
"""Requests in flight, where each object needs one of its own."""
_NOT_IN_BATCHES = frozenset({FaultKind.UNSUPPORTED, FaultKind.FINAL})
"""The store has no such request; or XML can't hold one of the keys."""
_DENIED = "AccessDenied"
_GONE = (None, "NoSuchKey")
_GONE_OR_REPLACED = frozenset({FaultKind.GONE, FaultKind.EXISTS})


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The objects that have no file."""

    directory: str
    """The directory of the files."""
    prefix: str
    """The prefix of all keys; empty, or with a slash at its end."""
    scope: Scope
    """The files that are synced. Other objects stay."""
    mounts: MountPoints
    follow_symlinks: bool = False
    """False: symbolic links were left out, and with them all that they may lead to."""
    also_unmounted: bool = False
    """Whether objects below a directory may go whose file system may not be mounted."""
    unmounted: dict[str, str] = field(default_factory=dict)
    """Such directories, with the reasons: those of the objects that `of` has seen."""

    def of(self, listed: Sequence[ListedObject]) -> list[ListedObject]:
        """Return the objects that may be deleted. Blocking: the directory is asked for each."""
        gone = [each for each in listed if self._may_go(each.key[len(self.prefix) :])]
        self.mounts.look_again()  # after the files: an unmount hides them
        below = {each.key: found for each in gone if (found := self.mounts.unmounted(each.key[len(self.prefix) :]))}
        self.unmounted.update(below.values())
        return gone if self.also_unmounted else [each for each in gone if each.key not in below]

    def _may_go(self, key: str) -> bool:
        names = key.split("/")
        if not {"", ".", ".."}.isdisjoint(names):  # no file has such a key, so no sync has made the object
            return False
        return selects(self.scope, key) and is_gone(f"{self.directory}/{key}") and not self._is_below_link(names)

    def _is_below_link(self, names: Sequence[str]) -> bool:
        """Whether a link that was left out is on the way to a file: its target may be unmounted for a while."""
        above = ("/".join((self.directory, *names[:count])) for count in range(1, len(names)))
        return not self.follow_symlinks and any(map(os.path.islink, above))

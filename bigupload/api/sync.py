"""One call of `sync`: the files of a directory that are not in the store are sent, as `upload_many` does it.

Whether a file is there is decided by proof. The store's list has the objects, with their sizes and ETags. If the
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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import NamedTuple, cast

from bigupload import errors
from bigupload.api.arguments import StrPath, SyncOptions, UploadManyOptions
from bigupload.api.calls import OpenCall
from bigupload.api.checks import checked_path
from bigupload.api.event_delivery import log_failure
from bigupload.api.many import UploadMany, is_to_record
from bigupload.api.many_items import JobTally, ManyItem, is_gone, item_of, items_of
from bigupload.api.resources import UploaderResources
from bigupload.api.steps import Row, Steps
from bigupload.api.types import ManySource, SyncOutcome, SyncResult, SyncStep
from bigupload.batch.inventory import Inventory, ListedObject, ListFailed, StoreList
from bigupload.batch.job import Job, UploadFailed, results_while
from bigupload.batch.listing import FileListing, FoundFiles, StandingDirectory, batches_ahead
from bigupload.batch.mount_points import MountPoints
from bigupload.batch.tree import FileEntry, Omitted, Selection
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.core.selection import Scope, selects
from bigupload.engine.context import UploadSettings
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.job_record import FileRow, JobRecord, OtherJobs, file_of_row, stored_path
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


class FileComparison:
    """Compares the files of one sync with the list of the bucket and with the records. It sends nothing."""

    def __init__(
        self,
        listed: Inventory,
        record: JobRecord,
        others: OtherJobs | None,
        *,
        directory: str,
        prefix: str,
        required: Verified,
        size_only: bool,
    ) -> None:
        """Look at nothing yet.

        Args:
            listed: The objects that the store has listed so far.
            record: What earlier syncs recorded.
            others: What other jobs recorded below the target; None: that counts for nothing.
            directory: The directory of the files, as it is listed.
            prefix: Is before the key of each file.
            required: What a record must have proved.
            size_only: Whether an object of the same size counts as the file, without any record.
        """
        self._listed = listed
        self._record = record
        self._others = others
        self._base = os.path.join(os.path.abspath(directory), "")  # noqa: PTH100, PTH118 - keeps links; a text
        self._stored_base = stored_path(self._base)
        self._prefix = prefix
        self._enough = frozenset(each.value for each in Verified if each.satisfies(required))
        self._size_only = size_only

    def path_of(self, key: str) -> str:
        """Return the absolute path of the file that has a key, as `os.path.abspath` returns it."""
        return self._base + key.replace("/", os.sep)

    def find(self, files: Iterable[FileEntry]) -> SameFiles:
        """Compare files, and mark their objects as met. Blocking, for some microseconds a file.

        What is not found may be there all the same: its object may be listed later, or must be asked for.
        """
        prefix = self._prefix
        keys = {prefix + each.key: each for each in files if each.inode and "\\" not in each.key}  # see `_object_of`
        there = [
            (each, etag)
            for key, size, etag in self._listed.meet_all([*keys]).values()
            if size == (each := keys[key]).size
        ]
        if self._size_only:
            of_same_size = {each.key: _of_same_size(each.path, each.fingerprint, etag) for each, etag in there}
            return SameFiles(of_same_size, {})
        found = self._proved(there, self._record.find_all([each.key for each, _ in there]))
        new: dict[str, FileRow] = {}
        if self._others is not None and len(found) < len(there):
            rest = [(each, etag) for each, etag in there if each.key not in found]
            for rows in self._others.find_all([each.key for each, _ in rest]):
                new = self._proved(rest, rows) | new  # the first record counts
        return SameFiles(found | new if new else found, new)

    def _proved(self, there: Iterable[tuple[FileEntry, str]], rows: dict[str, FileRow]) -> dict[str, FileRow]:
        """Return the files whose metadata and objects' ETags are as recorded. An object without an ETag never is."""
        found: dict[str, FileRow] = {}
        base, enough = self._stored_base, self._enough
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


def _of_same_size(path: str, file: Fingerprint, etag: str) -> FileRow:
    """Return the row of a file whose object has its size; nothing else was compared, so no record has it."""
    return path, file.size, file.mtime_ns, file.ctime_ns, file.inode, etag, None, Verified.SIZE, None


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
        of_many = {name: value for name, value in options.items() if name in UploadManyOptions.__annotations__}
        super().__init__(resources, call, settings, cast("UploadManyOptions", of_many), steps)
        self._directory = "" if directory == "" else os.fspath(checked_path(directory, "directory"))
        self._selection = options.get("selection") or Selection()
        self._size_only = options.get("size_only", False)
        self._dry_run = options.get("dry_run", False)
        self._deletes = options.get("delete", False)
        self._may_be_empty = options.get("allow_empty", False) or steps.deletes
        self._on_outcome: Callable[[SyncOutcome], object] = options.get("on_outcome") or (lambda _: None)
        self._on_same = options.get("on_same")
        is_heard = options.get("on_outcome") is not None and self._on_same is None
        self._counts_same = not is_heard and not steps.reports_each
        """Whether nobody wants a result of each file that is in the store already."""
        self._known_rows = 0
        """The number of files of this sync that are recorded."""
        self._listed = FoundFiles()
        self._tally = JobTally(self._listed)
        self._reading = asyncio.Semaphore(os.cpu_count() or 1)
        self._threads = asyncio.Semaphore(1)
        note = "Nothing more was deleted. " if self._deletes else ""
        self._standing = StandingDirectory(self._directory, "sync", self._threads, note)
        self._others: OtherJobs | None = None
        self._files = 0
        self._counts = dict.fromkeys(("uploaded", "same", "deleted", "failed", "size"), 0)
        self._check_options()
        self._inventory = Inventory()  # last of all: `run` closes it

    def _check_options(self) -> None:
        if not self._directory:
            raise errors.UsageError("the directory's name is empty: is a variable not set?")
        if self._s3.if_none_match:
            raise errors.UsageError("a sync replaces the objects of files that changed: leave out `if_none_match`")
        if self._size_only and self._settings.require_proof is not Verified.SIZE:
            raise errors.UsageError(
                f"`size_only` compares sizes, and `require_proof` asks for {self._settings.require_proof}: "
                "leave one of them out"
            )
        self._scope = self._selection.scope()
        self._steps.check_beside(self._directory, self._selection)

    async def run(self) -> SyncResult:
        """Sync.

        Raises:
            BigUploadError: What ends the whole.
        """
        with contextlib.closing(self._inventory), log_failure(f"{self._directory} → {self._prefix}"):
            return await self._call.run(self._sync)

    async def _sync(self) -> SyncResult:
        began = self._resources.clock()
        await self._standing.check()
        async with contextlib.AsyncExitStack() as opened:
            await self._open_record(opened)
            await opened.enter_async_context(self._steps)
            if self._steps.deletion is not None and not self._dry_run:
                await self._steps.deletion.restore_below(self._directory)
            objects, retrier = await self._prepare(opened)
            async with self._telling():
                await self._compare(partial(self._next_objects, objects, retrier, ObjectPages()))
                not_deleted = await self._finish(objects, retrier)
            self._steps.failed(self._counts["failed"])
            await self._steps.end()
        seconds = self._resources.clock() - began
        return SyncResult(**self._counts, seconds=seconds, not_deleted=not_deleted)

    async def _compare(self, next_objects: Callable[[], Awaitable[list[ListedRow] | None]]) -> None:
        """Look at each file while the bucket is listed, and send it if its object is not the file."""
        job: Job[ManyItem, Row] = Job(
            items_of(self._found()), self._upload, at_once=self._at_once, record=None if self._dry_run else self.record
        )
        async with StoreList(self._inventory, next_objects) as self._store_list:
            try:
                async with contextlib.aclosing(results_while(job, job.run())) as rows:
                    async for row in rows:
                        self._tell(self._outcome_of(row))
                await self._store_list.read_all()
            except ListFailed as e:
                raise e.cause from None

    async def record(self, rows: Sequence[Row]) -> None:
        """Record which files are in the store."""
        await super().record(rows)
        self._known_rows += sum(is_to_record(row) for row in rows)

    async def _open_record(self, opened: contextlib.AsyncExitStack) -> None:
        """Read what earlier syncs of the directory to this target recorded."""
        name = f"sync {os.path.abspath(self._directory)}"  # noqa: PTH100 - keeps links, as a job's name does
        target = await self._job_target()
        self._record = opened.enter_context(self._resources.state.job_record(name, target))
        resume = self._options.get("resume", True)
        needs_mounts = self._deletes and not self._may_be_empty
        if self._dry_run:
            self._record.peek(resume=resume, needs_mounts=needs_mounts)
        else:
            await self._resources.state.clean()
            self._record.open(resume=resume, keep=True, needs_mounts=needs_mounts)
        self._mounts = MountPoints(self._directory, self._record.mounts)
        if resume:
            self._others = opened.enter_context(contextlib.closing(OtherJobs(self._record.path, target)))

    async def _next_objects(self, objects: S3Objects, retrier: Retrier, pages: ObjectPages) -> list[ListedRow] | None:
        """List the next objects that are there; None after the last. One that stands for a folder has no file."""
        if pages.ended:
            return None
        rows = await retrier.request(lambda: objects.next_objects(self._key_prefix, pages))
        self._tally.objects_listed += len(rows)
        return [row for row in rows if not row[0].endswith("/")]

    async def _found(self) -> AsyncIterator[ManySource | ManyItem]:
        """The files that may have to be sent, and what can't be read.

        Files left out for good reason are only reported; so are those that were in the store at the last sync,
        which are nearly all of them in most syncs: a task for each would take longer than all else.
        """
        listing = FileListing([self._directory], self._selection, now=time.time(), prefix=self._key_prefix)
        comparison = self._comparison()
        async with contextlib.aclosing(batches_ahead(self._mounts.noting(listing.found()), self._listed)) as batches:
            async for batch in batches:
                if not self._dry_run:
                    assert self._record is not None
                    await self._record.record_mounts(self._mounts.found.copy())
                rest: Sequence[FileEntry | Omitted] = batch
                while rest:
                    count = await self._reached(rest)
                    reached, rest = rest[:count], rest[count:]
                    same = await self._same(comparison, reached)
                    if len(same) == count and self._counts_same:
                        continue
                    for found in reached:
                        if isinstance(found, Omitted) and not found.is_failure:
                            self._tell(found)
                        elif isinstance(found, Omitted) or (known := same.get(found.key)) is None:
                            yield found
                        elif not self._counts_same:
                            await self._tell_same(found, known)

    def _comparison(self) -> FileComparison | None:
        """Return the comparison of many files with the store; None: each is compared by itself, in a thread."""
        if self._steps.wants_each:
            return None
        assert self._record is not None
        return FileComparison(
            self._inventory,
            self._record,
            self._others,
            directory=self._directory,
            prefix=self._key_prefix,
            required=self._settings.require_proof,
            size_only=self._size_only,
        )

    async def _reached(self, found: Sequence[FileEntry | Omitted]) -> int:
        """Wait until the list has come to the first of some files. Returns how many of them it has come to."""

        def is_ahead(each: FileEntry | Omitted) -> bool:
            return isinstance(each, FileEntry) and not self._store_list.has_reached(self._key_prefix + each.key)

        if not is_ahead(found[-1]) and isinstance(found[-1], FileEntry):  # they are in the order of their keys
            return len(found)
        if isinstance(found[0], FileEntry):
            await self._store_list.reached(self._key_prefix + found[0].key)
        return next((at for at, each in enumerate(found) if is_ahead(each)), len(found))

    async def _same(
        self, comparison: FileComparison | None, found: Sequence[FileEntry | Omitted]
    ) -> Mapping[str, FileRow]:
        """Compare files with the list and the records. Returns those that are in the store, by their keys."""
        files = [each for each in found if isinstance(each, FileEntry)]
        self._files += len(files)
        if comparison is None:
            return {}
        same, new = comparison.find(files)
        if new and not self._dry_run:
            assert self._record is not None
            await self._record.record(
                [
                    file_of_row(each.key, comparison.path_of(each.key), each.fingerprint, new[each.key])
                    for each in files
                    if each.key in new
                ]
            )
        size = sum(each.size for each in files if each.key in same)
        self._known_rows += len(same)
        self._tally.same(len(same), size)
        self._counts["same"] += len(same)
        if same and self._on_same is not None:
            self._on_same(len(same), size)
        return same

    async def _tell_same(self, found: FileEntry, known: FileRow) -> None:
        """Report one file that is in the store already."""
        item = item_of(found)
        result = self._result_of(item, file_of_row(item.key, item.path, found.fingerprint, known))
        row = await self._steps(self._row_of(item, result, found.fingerprint, is_recorded=True))
        if self._on_same is None or row.error is not None:
            self._on_outcome(self._outcome_of(row))

    def _tell(self, outcome: SyncOutcome) -> None:
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

    # -- one file

    async def _known(self, item: ManyItem) -> Row | None:
        """Return a file whose object is the file already; None: send it."""
        listed = await self._object_of(item)
        fingerprint = await self._fingerprint(item)
        if listed is None or fingerprint is None or listed.size != fingerprint.size:
            return None
        if (known := self._known_at_once(item, fingerprint, listed)) is not None:
            return known
        result = await self._proved(item)
        return None if result is None else self._row_of(item, result, fingerprint)

    async def _object_of(self, item: ManyItem) -> ListedObject | None:
        """Return the object of a file. Waits for the end of the list before it returns None."""
        if "\\" in item.key:  # SeaweedFS takes it for a slash: an object of that key is this file's, and stays
            await self._store_list.read_all()
            self._inventory.meet(self._key_prefix + item.key.replace("\\", "/"))
        return await self._store_list.find(self._key_prefix + item.key)

    def _known_at_once(self, item: ManyItem, fingerprint: Fingerprint, listed: ListedObject) -> Row | None:
        """The file, if records alone prove that the object is the file; else None."""
        if self._size_only:
            row = _of_same_size(item.path, fingerprint, listed.etag)
            result = self._result_of(item, file_of_row(item.key, item.path, fingerprint, row))
            return self._row_of(item, result, fingerprint, is_recorded=True)  # which nobody may take for a proof
        assert self._record is not None
        etag, required = listed.etag.strip('"'), self._settings.require_proof
        if not etag:  # a store that lists none can't show whether its object is the recorded one
            return None
        if not self._record.is_new:
            found = self._record.find(item.key, item.path, fingerprint)
            if found is not None and found.etag.strip('"') == etag and found.verified.satisfies(required):
                return self._row_of(item, self._result_of(item, found), fingerprint, is_recorded=True)
        other = self._others and self._others.find(item.key, item.path, fingerprint, etag)
        if other and other.verified.satisfies(required):
            return self._row_of(item, self._result_of(item, other), fingerprint)
        return None

    async def _proved(self, item: ManyItem) -> UploadResult | None:
        from bigupload.verification.by_checksum import prove_existing

        assert self._record is not None
        try:
            found = await prove_existing(
                item.path,
                self._to(item),
                self._record.path,
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
            raise errors.SourceUnreadable(f"can't read {item.shown}: Permission denied")
        self._tell(SyncStep(action="upload", key=key, url=self._to(item), size=fingerprint.size, source=item.path))
        return None

    # -- the end

    async def _finish(self, objects: S3Objects, retrier: Retrier) -> str | None:
        """All files have been looked at. Returns why nothing was deleted, or not everything, if it was to be."""
        await self._standing.check()
        if not self._files and not self._failures and not self._may_be_empty and not self._is_of_a_time:
            what = "" if self._selection.is_all else " that the selection selects"
            raise errors.UsageError(
                f"nothing to sync: {self._directory} has no file{what}. If that is right: `allow_empty=True`"
            )
        not_deleted = self._why_not_delete() if self._deletes else None
        away: Mapping[str, str] = {}
        if self._deletes and not_deleted is None:
            deletes = SyncDeletes(objects, retrier, self._url_of, self._tell, self._standing.check)
            follows = self._selection.follow_symlinks
            leftovers = Leftovers(
                self._directory,
                self._key_prefix,
                self._scope,
                self._mounts,
                follow_symlinks=follows,
                also_away=self._may_be_empty,
            )
            await deletes.delete(self._inventory, leftovers, dry_run=self._dry_run)
            away = leftovers.away
            if away and not self._may_be_empty:
                not_deleted = self._not_mounted(away)
        if self._record is not None and not self._dry_run and not self._counts["failed"]:
            directory = self._directory
            known = None if self._size_only or self._steps.deletes else self._known_rows
            if self._deletes and self._selection.is_all:
                # Else files that the selection leaves out may be missing there.
                await self._record.record_mounts(self._mounts.found, forget={*away} | self._mounts.merged)
            await self._record.finish(keep=lambda key: not is_gone(f"{directory}/{key}"), known=known)
        return not_deleted

    def _not_mounted(self, away: Mapping[str, str]) -> str:
        """Report each directory below which nothing was deleted. Returns why."""
        all_of_them = f", which deletes below all {len(away)} that are named" if len(away) > 1 else ""
        for folder, why in away.items():
            error = errors.DirectoryGone(
                f"{self._path_of(folder)} {why}, so nothing was deleted below it: mount it and make the same call "
                f"again. If its files were deleted: `allow_empty=True`{all_of_them}"
            )
            key = f"{self._key_prefix}{folder}"
            self._tell(SyncStep(action="delete", key=key, url=self._url_of(key), size=0, error=error))
        return f"a file system may not be mounted at {', '.join(map(self._path_of, away))}"

    def _path_of(self, folder: str) -> str:
        return f"{self._directory}/{folder}".rstrip("/")

    @property
    def _is_of_a_time(self) -> bool:
        return self._selection.newer_than is not None or self._selection.older_than is not None

    def _why_not_delete(self) -> str | None:
        if self._failures:
            return f"{counted(self._failures, 'file')} failed"
        if not self._files and not self._may_be_empty:
            return "no file was found"
        return None

    def _url_of(self, key: str) -> str:
        return f"{self._prefix}{key[len(self._key_prefix) :]}"


_SINGLE_AT_ONCE = 16
"""Requests in flight, where each object needs one of its own."""
_NOT_IN_BATCHES = frozenset({FaultKind.UNSUPPORTED, FaultKind.FINAL})
"""The store has no such request; or XML can't hold one of the keys."""
_DENIED = "AccessDenied"
_AWAY = (None, "NoSuchKey")
_AWAY_OR_REPLACED = frozenset({FaultKind.GONE, FaultKind.EXISTS})


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
    also_away: bool = False
    """Whether objects below a directory may go whose file system may not be mounted."""
    away: dict[str, str] = field(default_factory=dict)
    """Such directories, with the reasons: those of the objects that `of` has seen."""

    def of(self, listed: Sequence[ListedObject]) -> list[ListedObject]:
        """Return the objects that may be deleted. Blocking: the directory is asked for each."""
        gone = [each for each in listed if self._may_go(each.key[len(self.prefix) :])]
        self.mounts.look_again()  # after the files: an unmount hides them
        below = {each.key: away for each in gone if (away := self.mounts.away(each.key[len(self.prefix) :]))}
        self.away.update(below.values())
        return gone if self.also_away else [each for each in gone if each.key not in below]

    def _may_go(self, key: str) -> bool:
        names = key.split("/")
        if not {"", ".", ".."}.isdisjoint(names):  # no file has such a key, so no sync has made the object
            return False
        return selects(self.scope, key) and is_gone(f"{self.directory}/{key}") and not self._is_below_link(names)

    def _is_below_link(self, names: Sequence[str]) -> bool:
        """Whether a link that was left out is on the way to a file: what it leads to may be away for a while."""
        above = ("/".join((self.directory, *names[:count])) for count in range(1, len(names)))
        return not self.follow_symlinks and any(map(os.path.islink, above))


@dataclass(frozen=True, slots=True, eq=False)
class SyncDeletes:
    """The deletions of one sync."""

    objects: S3Objects
    retrier: Retrier
    url: Callable[[str], str]
    """Returns the URL of a key."""
    report: Callable[[SyncStep], None]
    """Called with the outcome for each object."""
    check: Callable[[], Awaitable[None]]
    """Called before objects are deleted. Raises if none may be."""

    async def delete(self, inventory: Inventory, leftovers: Leftovers, *, dry_run: bool) -> None:
        """Delete the objects that no file was met for, or with `dry_run` only report them.

        Raises:
            BigUploadError: What `check` raised; or what would befall every other request, too.
        """
        threads = asyncio.Semaphore(1)
        for page in inventory.not_met():
            gone = await run_in_daemon_thread(partial(leftovers.of, page), threads)
            await self.check()
            if dry_run:
                for each in gone:
                    self.report(self._step(each))
            elif gone:
                await self._delete_page(gone)

    async def _delete_page(self, listed: Sequence[ListedObject]) -> None:
        wanted = {each.key: each.etag for each in listed}
        refused: dict[str, str] | None
        try:
            refused = await self.retrier.request(
                lambda: self.objects.delete_many([*wanted.items()]), expected=_NOT_IN_BATCHES
            )
        except Fault:
            refused = None
        except errors.AccessDenied as e:
            for each in listed:
                self.report(self._step(each, error=e))
            return
        if refused is None or not refused.keys() <= wanted.keys():  # of which keys it speaks is not known
            await for_each(listed, self._delete_one, at_once=_SINGLE_AT_ONCE)
            return
        again = []
        for each in listed:
            code = refused.get(each.key)
            if code in _AWAY:
                self.report(self._step(each, done=True))
            elif code == "PreconditionFailed":
                self.report(self._step(each, error=self._replaced(each)))
            elif (kind := classify(403 if code == _DENIED else 400, code)).is_retried or kind is FaultKind.UNSUPPORTED:
                again.append(each)
            else:
                fault = Fault(kind, f"the store does not delete {self.url(each.key)} ({code})", code=code)
                self.report(self._step(each, error=fault.public()))
        await for_each(again, self._delete_one, at_once=_SINGLE_AT_ONCE)

    async def _delete_one(self, listed: ListedObject) -> None:
        try:
            await self.retrier.request(
                lambda: self.objects.delete(listed.key, etag=listed.etag), expected=_AWAY_OR_REPLACED
            )
        except Fault as fault:
            gone = fault.kind is FaultKind.GONE
            self.report(self._step(listed, done=gone, error=None if gone else self._replaced(listed)))
        except (errors.StoreUnreachable, errors.CredentialsError, errors.ClockSkewed, errors.BucketNotFound):
            raise
        except errors.BigUploadError as e:
            self.report(self._step(listed, error=e))
        else:
            self.report(self._step(listed, done=True))

    def _replaced(self, listed: ListedObject) -> errors.BigUploadError:
        return errors.TargetReplaced(
            f"{self.url(listed.key)} was replaced since it was listed, and is left. If it has no file: make the same "
            "call again"
        )

    def _step(
        self, listed: ListedObject, *, done: bool = False, error: errors.BigUploadError | None = None
    ) -> SyncStep:
        return SyncStep(
            action="delete", key=listed.key, url=self.url(listed.key), size=listed.size, done=done, error=error
        )

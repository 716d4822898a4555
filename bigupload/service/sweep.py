"""Deletes what may not stay in the bucket: what is 7 days old, over the size limit, or not the media that it claims.

A presigned PUT can't bind a range of sizes nor look at bytes, and some stores accept lifecycle rules and never act on
them: here both promises are kept. It has no state but a `SweepMemory`, which spares it to look at an object twice and
lets it continue after an interruption. Any number of replicas may sweep one bucket at once: they delete the same
objects. Keys that the service does not make are not touched.

The clock is passed in, and is compared with the store's, which stamps the objects. Stores refuse signatures of clocks
that are 15 minutes off, so an object may end early by that much and no more. AWS dates an object that was uploaded in
parts by the upload's beginning: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import media
from bigupload.service.bucket_rules import MEDIA_PREFIX, REFUSED_PREFIX
from bigupload.service.contract import STORED_FOR
from bigupload.service.judgement import judge
from bigupload.service.object_keys import is_made_here, note_key
from bigupload.service.problems import Problem, Refused
from bigupload.service.sweep_memory import SweepMemory, mark_of
from bigupload.stores.s3.media_objects import MediaBucket

if TYPE_CHECKING:
    from bigupload.stores.s3.client import S3Bucket

_PAGE = 1000
"""Objects: what S3 lists at once, and deletes at once."""
_LOOKS_AT_ONCE = 8
_MAX_ABORTS = 100_000
"""Open uploads that one sweep aborts: their keys and ids are some 40 MB."""
_STORED_FOR = timedelta(seconds=STORED_FOR)

_AGAIN_SOON = frozenset({FaultKind.BUSY, FaultKind.SERVER, FaultKind.BROKEN, FaultKind.STALLED})
"""After these, a batch is not tried again as a thousand calls: the next sweep will."""


class Reason(enum.StrEnum):
    """Why something is deleted. Upper bounds of what stays: younger than 7 days, at most the limit, media."""

    EXPIRED = "expired"
    TOO_LARGE = "too large"
    NOT_MEDIA = "not media"
    HEADERS = "wrong headers"
    ABORTED = "aborted upload"


_REASONS = {Problem.FILE_TOO_LARGE: Reason.TOO_LARGE, Problem.UNSUPPORTED_HEADERS: Reason.HEADERS}
"""Of a refusal; all others mean that the object is not the media that it claims to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """One thing that was deleted (in a dry run: would have been). `size` is in bytes, 0 for an open upload."""

    key: str
    reason: Reason
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What one sweep did (in a dry run: would have done)."""

    looked_at: int = 0
    """Objects in the bucket, under keys that the service makes."""
    expired: int = 0
    too_large: int = 0
    not_media: int = 0
    wrong_headers: int = 0
    aborted_uploads: int = 0
    failed: int = 0
    """Objects and uploads that could not be looked at or deleted: the next sweep tries again."""
    bytes_freed: int = 0
    """Of objects. What open uploads held, no store tells."""

    @property
    def deleted(self) -> int:
        """Objects, for whatever reason."""
        return self.expired + self.too_large + self.not_media + self.wrong_headers


@dataclass(frozen=True, slots=True)
class _Listed:
    """An object as the list shows it."""

    key: str
    size: int
    etag: str
    last_modified: datetime

    @property
    def mark(self) -> int:
        """A number for this version of the object."""
        return mark_of(self.key, self.etag, self.last_modified.isoformat())


class _Tally:
    """What a run has done so far."""

    def __init__(self, on_removal: Callable[[Removal], None] | None) -> None:
        self._on_removal = on_removal
        self._removed = dict.fromkeys(Reason, 0)
        self._freed = 0
        self.looked_at = 0
        self.failed = 0

    def removed(self, key: str, reason: Reason, size: int = 0) -> None:
        self._removed[reason] += 1
        self._freed += size
        if self._on_removal is not None:
            self._on_removal(Removal(key=key, reason=reason, size=size))

    def report(self) -> SweepReport:
        return SweepReport(
            looked_at=self.looked_at,
            expired=self._removed[Reason.EXPIRED],
            too_large=self._removed[Reason.TOO_LARGE],
            not_media=self._removed[Reason.NOT_MEDIA],
            wrong_headers=self._removed[Reason.HEADERS],
            aborted_uploads=self._removed[Reason.ABORTED],
            failed=self.failed,
            bytes_freed=self._freed,
        )


class Sweep:
    """Sweeps one bucket, again and again. One run at a time."""

    def __init__(
        self,
        bucket: S3Bucket,
        *,
        now: Callable[[], datetime],
        max_file_size: int = media.MAX_FILE_SIZE,
        page_size: int = _PAGE,
        on_removal: Callable[[Removal], None] | None = None,
        memory: SweepMemory | None = None,
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the uploads.
            now: The time, with its zone.
            max_file_size: The limit, in bytes.
            page_size: Objects to list at once, at most 1,000.
            on_removal: Is told each removal.
            memory: What earlier sweeps found. None: nothing, and it is kept in memory.
        """
        self._bucket = bucket
        self._objects = MediaBucket(bucket)
        self._now = now
        self._max_file_size = max_file_size
        self._page_size = page_size
        self._on_removal = on_removal
        self._memory = memory if memory is not None else SweepMemory()
        self._batches = True

    async def run(self, *, dry_run: bool = False) -> SweepReport:
        """Look at everything once. One object that fails is counted and stops nothing; may be cancelled anywhere.

        After an interruption it continues at the page that it had come to, so that it reaches the end of a large bucket
        however often the process restarts; the next sweep begins at the beginning again.

        Raises:
            BigUploadError: The bucket can't be listed, or nothing connects any more.
        """
        tally = _Tally(self._on_removal)
        try:
            async for page in self._pages(REFUSED_PREFIX):  # first: below, more are made
                tally.looked_at += len(page)
                expired = [item for item in page if self._is_over(item.last_modified)]
                await self._delete(expired, Reason.EXPIRED, tally, dry_run=dry_run)
            async for page in self._pages(MEDIA_PREFIX, after=self._memory.position()):
                media_marks = await self._sweep_page(page, tally, dry_run=dry_run)
                if page:
                    self._memory.page_done(page[-1].key, media_marks)
            await self._abort_uploads(tally, dry_run=dry_run)
        except Fault as fault:
            raise fault.public() from fault
        self._memory.all_done()
        return tally.report()

    def _is_over(self, since: datetime) -> bool:
        return self._now() - since >= _STORED_FOR

    async def _pages(self, prefix: str, after: str = "") -> AsyncIterator[list[_Listed]]:
        """The objects under `prefix` whose keys come after `after`."""
        start: dict[str, Any] = {"StartAfter": after} if after else {}
        while True:
            page = await self._bucket.call(
                "to list the objects", "list_objects_v2", Prefix=prefix, MaxKeys=self._page_size, **start
            )
            yield [
                _Listed(row["Key"], row["Size"], row.get("ETag", ""), row["LastModified"])
                for row in page.get("Contents", ())
                if is_made_here(row["Key"])  # an operator's own files may lie here as well
            ]
            if not page.get("IsTruncated"):
                return
            before, contents = start, page.get("Contents", ())
            if token := page.get("NextContinuationToken"):
                start = {"ContinuationToken": token}
            elif contents:  # a store that gives no token
                start = {"StartAfter": contents[-1]["Key"]}
            if start == before:
                raise Fault(FaultKind.FINAL, "the store's list of objects leads nowhere")

    async def _sweep_page(self, page: list[_Listed], tally: _Tally, *, dry_run: bool) -> set[int]:
        """Delete what may not stay of a page; the marks of what was found to be media."""
        known = self._memory.known([item.mark for item in page])
        found: set[int] = set()
        tally.looked_at += len(page)
        expired: list[_Listed] = []
        too_large: list[_Listed] = []
        rest: list[_Listed] = []
        for item in page:
            if self._is_over(item.last_modified):
                expired.append(item)
            elif item.size > self._max_file_size:
                too_large.append(item)
            elif item.mark in known:
                found.add(item.mark)
            else:
                rest.append(item)
        await self._delete(expired, Reason.EXPIRED, tally, dry_run=dry_run)
        await self._delete_too_large(too_large, tally, dry_run=dry_run)
        await self._look_at_all(rest, tally, found, dry_run=dry_run)
        return found

    async def _delete_too_large(self, items: Sequence[_Listed], tally: _Tally, *, dry_run: bool) -> None:
        noted: list[_Listed] = []
        for item in items:
            try:
                if not dry_run:
                    await self._note(item, Problem.FILE_TOO_LARGE)
                noted.append(item)
            except (Fault, errors.StoreRefused) as e:
                if _is_end(e):
                    raise
                tally.failed += 1
        await self._delete(noted, Reason.TOO_LARGE, tally, dry_run=dry_run)

    # -- what is not media

    async def _look_at_all(self, items: Sequence[_Listed], tally: _Tally, found: set[int], *, dry_run: bool) -> None:
        waiting: Iterator[_Listed] = iter(items)
        lost: list[Exception] = []

        async def worker() -> None:
            for item in waiting:
                if lost:
                    return
                try:
                    problem = await self._refusal(item)
                    if problem is None:
                        found.add(item.mark)
                    elif dry_run or await self._delete_unchanged(item, problem):
                        tally.removed(item.key, _REASONS.get(problem, Reason.NOT_MEDIA), item.size)
                except (Fault, errors.BigUploadError) as e:
                    if _is_end(e):
                        lost.append(e)  # raised below: out of the group it would come as an ExceptionGroup
                    elif not _is_away(e):
                        tally.failed += 1

        async with anyio.create_task_group() as group:
            for _ in range(min(_LOOKS_AT_ONCE, len(items))):
                group.start_soon(worker)
        if lost:
            raise lost[0]

    async def _refusal(self, item: _Listed) -> Problem | None:
        """Why an object may not stay; None where it may. Raises Fault where it is gone, or was replaced meanwhile."""
        head = await self._objects.look(item.key, first=media.HEAD_BYTES, etag=item.etag)
        if head is None:
            raise Fault(FaultKind.GONE, "the object was deleted meanwhile", status=404)
        try:
            judge(item.key, head, max_file_size=self._max_file_size, now=self._now())
        except Refused as refused:
            return refused.problem
        return None

    async def _delete_unchanged(self, item: _Listed, problem: Problem) -> bool:
        await self._note(item, problem)
        return await self._objects.delete_unchanged(item.key, etag=item.etag, modified=item.last_modified)

    async def _note(self, item: _Listed, problem: Problem) -> None:
        """So that a client whose complete was not judged yet hears the reason, as if it had been."""
        await self._objects.put_note(note_key(item.key), {"code": problem.code})

    # -- deleting

    async def _delete(self, items: Sequence[_Listed], reason: Reason, tally: _Tally, *, dry_run: bool) -> None:
        """A page's objects, each on the condition that it is still the one that was listed."""
        outcomes = dict.fromkeys(items, True) if dry_run else await self._delete_batch(items)
        for item in items:
            if item not in outcomes:  # neither deleted nor there, or another by now
                continue
            if outcomes[item]:
                tally.removed(item.key, reason, item.size)
            else:
                tally.failed += 1

    async def _delete_batch(self, items: Sequence[_Listed]) -> dict[_Listed, bool]:
        """Whether each was deleted; those that had gone by themselves are left out."""
        if not items:
            return {}
        if not self._batches or len(items) == 1:
            return await self._delete_singly(items)
        rows = [{"Key": item.key} | ({"ETag": item.etag} if item.etag else {}) for item in items]
        try:
            answer: Mapping[str, Any] = await self._bucket.call(
                "to delete objects", "delete_objects", Delete={"Objects": rows, "Quiet": True}
            )
        except Fault as fault:
            if fault.kind is FaultKind.UNREACHABLE:
                raise
            if fault.kind in _AGAIN_SOON:
                return dict.fromkeys(items, False)
            self._batches = fault.kind is not FaultKind.UNSUPPORTED
            return await self._delete_singly(items)  # one key that XML can't carry refuses them all
        codes = {row.get("Key"): row.get("Code", "") for row in answer.get("Errors", ())}
        singly = [item for item in items if codes.get(item.key) == "NotImplemented"]  # a condition in a batch
        outcomes = {item: item.key not in codes for item in items if codes.get(item.key) not in _AWAY_CODES}
        return outcomes | await self._delete_singly(singly)

    async def _delete_singly(self, items: Sequence[_Listed]) -> dict[_Listed, bool]:
        outcomes: dict[_Listed, bool] = {}
        for item in items:
            try:
                await self._objects.delete(item.key, etag=item.etag)
                outcomes[item] = True
            except (Fault, errors.StoreRefused) as e:
                if _is_end(e):
                    raise
                if not _is_away(e):
                    outcomes[item] = False
        return outcomes

    # -- open uploads

    async def _abort_uploads(self, tally: _Tally, *, dry_run: bool) -> None:
        """Parts that arrive during an abort can survive it; so does the upload then, for the next sweep.

        The whole list is read before the first abort: some stores lose their place when uploads of a page are gone.
        """
        due: list[dict[str, Any]] = []
        async for row in self._bucket.open_uploads(MEDIA_PREFIX):
            if is_made_here(row["Key"]) and self._is_over(row["Initiated"]):
                due.append({"Key": row["Key"], "UploadId": row["UploadId"]})
            if len(due) >= _MAX_ABORTS:  # the next sweep finds the others
                break
        for upload in due:
            try:
                if not dry_run:
                    await self._bucket.call("to abort", "abort_multipart_upload", **upload)
                tally.removed(upload["Key"], Reason.ABORTED)
            except Fault as fault:
                if _is_end(fault):
                    raise
                tally.failed += not _is_away(fault)


_AWAY_CODES = frozenset({"NoSuchKey", "PreconditionFailed"})


def _is_away(e: Exception) -> bool:
    """Deleted or replaced since it was listed: nothing to do, and no failure."""
    return isinstance(e, Fault) and (e.kind in (FaultKind.GONE, FaultKind.EXISTS) or e.status == 404)


def _is_end(e: Exception) -> bool:
    """The next object would fail like this one."""
    return (isinstance(e, Fault) and e.kind is FaultKind.UNREACHABLE) or (
        isinstance(e, errors.BigUploadError) and not isinstance(e, errors.StoreRefused)
    )

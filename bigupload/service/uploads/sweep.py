"""Delete objects that are older than the policy keeps them (by default 7 days), over the size limit, or not the media
that they claim to be.

The sweep is needed because a presigned PUT can limit neither sizes nor content, and because some stores accept
lifecycle rules and never apply them. Its only state is a `SweepMemory`: with it, a sweep examines no object twice and
resumes after an interruption. Several replicas may sweep one bucket at once, because they delete the same objects. Keys
that the service does not make are not touched.

The clock is passed in and compared with the store's dates. Stores refuse signatures if the clock is 15 minutes off, so
an object is deleted at most 15 minutes early. AWS dates the object of a multipart upload by the upload's creation:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html

The memory is a cache in an SQLite file: the object versions that are media, and the sweep's progress. Without it, a
sweep checks everything again, and nothing else is lost. So a file that is damaged or cannot be written is replaced by
one in memory. The file grows by about 25 bytes for each object in the bucket; the memory of the process does not grow.
The file is valid for one version of the rules, and for one process at a time: see `SweepLock`.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import sqlite3
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import filelock

from bigupload import __version__, errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.service.media import media_types
from bigupload.service.media.object_keys import REFUSED_PREFIX
from bigupload.service.media.policy import LONGEST_UPLOAD, PUBLISHED_POLICY, Policy
from bigupload.service.media_objects import MediaBucket, StoredVersion
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.finishing import FINAL_PROBLEMS, Finishing
from bigupload.service.webhooks.hooks import Hooks
from bigupload.service.webhooks.telling import RETRIED_FOR, Telling
from bigupload.stores.s3.bucket import NOT_BY_BATCH
from bigupload.support.cancellation import for_each
from bigupload.support.files import file_lock

if TYPE_CHECKING:
    from bigupload.stores.s3.bucket import S3Bucket


R = TypeVar("R")

RULES = f"1 {__version__}"
"""The rules by which the stored objects were found to be media: of this layout of the file, and of this release. A
release may have stricter rules, so that the first sweep of each examines every object again."""


def rules_of(policy: Policy, *, hook: str | None = None) -> str:
    """Return the rules under `policy` and with the operator's hook, as `SweepMemory` takes them."""
    rules = RULES if policy == PUBLISHED_POLICY else f"{RULES} {policy.fingerprint}"
    return rules if hook is None else f"{rules} {hashlib.sha256(hook.encode()).hexdigest()[:16]}"


_SCHEMA = """
    CREATE TABLE IF NOT EXISTS judged (mark INTEGER PRIMARY KEY, sweep INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY, sweep INTEGER NOT NULL, after TEXT NOT NULL);
    INSERT OR IGNORE INTO progress VALUES (1, 0, '');
    CREATE TABLE IF NOT EXISTS rules (text TEXT NOT NULL);
"""
_AT_ONCE = 500
"""The most values in one statement: older SQLite has a limit of 999."""


def mark_of(*version: str) -> int:
    """Return a number for a version of an object. Among a million versions, two share one with a chance of 1 in 10⁷."""
    digest = hashlib.blake2b("\n".join(version).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


class SweepMemory:
    """The results of one bucket's sweeps. Blocking, and quick."""

    def __init__(self, path: Path | None = None, *, rules: str = RULES) -> None:
        """Open the file.

        Args:
            path: The file, created if it is missing; None: in memory only.
            rules: The rules that hold now. What was stored under others is forgotten.
        """
        self._use(_in_memory() if path is None else _open(path, rules))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _use(self, database: sqlite3.Connection) -> None:
        self._database = database
        weakref.finalize(self, database.close)  # for a memory that nobody closes

    def position(self) -> str:
        """Return the key after which an interrupted sweep continues; empty: at the beginning."""
        return str(self._run(lambda database: database.execute("SELECT after FROM progress").fetchone()[0]))

    def known(self, marks: Sequence[int]) -> set[int]:
        """Return those of `marks` that are known to be media."""

        def find(database: sqlite3.Connection) -> set[int]:
            found: set[int] = set()
            for start in range(0, len(marks), _AT_ONCE):
                some = marks[start : start + _AT_ONCE]
                places = ",".join("?" * len(some))
                rows = database.execute(f"SELECT mark FROM judged WHERE mark IN ({places})", some)  # noqa: S608 - only "?"
                found.update(mark for (mark,) in rows)
            return found

        return self._run(find)

    def page_done(self, after: str, marks: Collection[int]) -> None:
        """Record that everything up to the key `after` was swept, and that the objects with these marks exist and are
        media."""

        def write(database: sqlite3.Connection) -> None:
            with database:
                (sweep,) = database.execute("SELECT sweep FROM progress").fetchone()
                database.executemany(
                    "INSERT INTO judged VALUES (?, ?) ON CONFLICT (mark) DO UPDATE SET sweep = excluded.sweep",
                    [(mark, sweep) for mark in marks],
                )
                database.execute("UPDATE progress SET after = ?", (after,))

        self._run(write)

    def all_done(self) -> None:
        """Record the end of a sweep: forget the objects that it did not find."""

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.execute("DELETE FROM judged WHERE sweep < (SELECT sweep FROM progress)")
                database.execute("UPDATE progress SET sweep = sweep + 1, after = ''")

        self._run(write)

    def _run(self, action: Callable[[sqlite3.Connection], R]) -> R:
        """Continue in memory, without the earlier results, if the disk is full or the file is damaged."""
        try:
            return action(self._database)
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._use(_in_memory())
            return action(self._database)


def _in_memory() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.executescript(_SCHEMA)
    return database


def _open(path: Path, rules: str) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return _in_memory()
    for may_replace in (True, False):
        try:
            with contextlib.ExitStack() as closing:
                database = sqlite3.connect(path, check_same_thread=False)
                closing.callback(database.close)
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")  # a power cut may leave it out of date, but not damaged
                database.executescript(_SCHEMA)
                _keep_to_rules(database, rules)
                closing.pop_all()
                return database
        except sqlite3.DatabaseError:
            if may_replace:
                with contextlib.suppress(OSError):
                    path.unlink()
    return _in_memory()


def _keep_to_rules(database: sqlite3.Connection, rules: str) -> None:
    if database.execute("SELECT text FROM rules").fetchall() != [(rules,)]:
        with database:
            database.execute("DELETE FROM judged")
            database.execute("UPDATE progress SET after = ''")
            database.execute("DELETE FROM rules")
            database.execute("INSERT INTO rules VALUES (?)", (rules,))


class SweepLock:
    """Keeps the sweeps of one bucket, and their file, to one process of this machine.

    Of two processes that share the file, each would continue where the other one is, and forget what the other one has
    found. The operating system releases the lock when the process ends, however it ends.
    """

    def __init__(self, path: Path | None) -> None:
        """`path`: the file of the sweeps' memory; None: no file, and nothing is shared."""
        self._lock = None if path is None else file_lock(path.with_suffix(".lock"))

    def take(self) -> bool:
        """Take the lock. Returns False if another process has it. Blocking, but does not wait."""
        if self._lock is not None:
            try:
                Path(self._lock.lock_file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock.acquire(blocking=False)
            except filelock.Timeout:
                return False
            except OSError:  # no directory, or no locks there: then there is no file to share either
                pass
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._lock is not None:
            self._lock.release()


_PAGE = 1000
"""The number of objects that S3 lists or deletes in one request."""
_LOOKS_AT_ONCE = 8
_MAX_ABORTS = 100_000
"""The most open uploads that one sweep aborts. Their keys and ids need about 40 MB."""
_NOTES_KEPT = timedelta(seconds=LONGEST_UPLOAD)
"""As long as a handle is valid, by which a client asks for the reason."""


class Reason(enum.StrEnum):
    """The reasons for deleting an object or upload: by its name, a count of `SweepReport`. An object stays while the
    policy keeps it, if it is within the limit and of an accepted type."""

    EXPIRED = "expired"
    TOO_LARGE = "too large"
    NOT_MEDIA = "not media"
    WRONG_HEADERS = "wrong headers"
    REFUSED = "refused"
    ABORTED_UPLOADS = "aborted upload"


REASONS = {
    Problem.FILE_TOO_LARGE: Reason.TOO_LARGE,
    Problem.UNSUPPORTED_HEADERS: Reason.WRONG_HEADERS,
    Problem.FILE_REFUSED: Reason.REFUSED,
}
"""By problem. All other problems mean that the object is not the media that it claims to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An object or upload that was deleted, or in a dry run would have been. `size` is in bytes, 0 for an open
    upload."""

    key: str
    reason: Reason
    size: int


@dataclass(slots=True, kw_only=True)
class SweepReport:
    """The result of one sweep (of a dry run: what it would have done). It counts while the sweep runs."""

    looked_at: int = 0
    """The number of objects in the bucket, under keys that the service makes."""
    expired: int = 0
    too_large: int = 0
    not_media: int = 0
    wrong_headers: int = 0
    refused: int = 0
    """The number of objects that the operator's hook refused."""
    aborted_uploads: int = 0
    failed: int = 0
    """The number of objects and uploads that could not be checked or deleted. The next sweep tries again."""
    bytes_freed: int = 0
    """The size of the deleted objects. Stores do not report the size of aborted uploads."""

    @property
    def deleted(self) -> int:
        """The number of objects that were deleted, for any reason."""
        return self.expired + self.too_large + self.not_media + self.wrong_headers + self.refused

    @contextlib.contextmanager
    def counting_failures(self) -> Iterator[None]:
        """Count what fails with one object or upload, unless it was deleted or replaced since it was listed. Anything
        that the next one would fail with, too, is raised."""
        try:
            yield
        except Fault as e:
            if e.kind is FaultKind.UNREACHABLE:
                raise
            self.failed += not (e.is_absent or e.kind is FaultKind.EXISTS)
        except (errors.BigUploadError, OSError) as e:  # OSError: the caller of `run` can't print a removal
            if not isinstance(e, errors.StoreRefused):
                raise
            self.failed += 1
        except Exception:
            self.failed += 1  # one object must not stop every later sweep at its page


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed(StoredVersion):
    """An object in the store's list."""

    key: str

    @property
    def mark(self) -> int:
        """A number that identifies this version of the object."""
        return mark_of(self.key, self.etag, self.modified.isoformat())


class Sweep:
    """Sweeps one bucket, any number of times, one run at a time."""

    def __init__(
        self,
        bucket: S3Bucket,
        *,
        now: Callable[[], datetime],
        policy: Policy = PUBLISHED_POLICY,
        page_size: int = _PAGE,
        on_removal: Callable[[Removal], None] | None = None,
        memory: SweepMemory | None = None,
        hooks: Hooks | None = None,
        telling: Telling | None = None,
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the uploads.
            now: The time, with its zone.
            policy: What stays, and how long.
            page_size: Objects to list at once, at most 1,000.
            on_removal: Called for each removal.
            memory: The results of earlier sweeps. None: no results, and this sweep's stay in memory.
            hooks: The operator's checks, which an object must pass that did not pass them yet. None: no checks.
            telling: Notes the events for webhooks. None: no webhooks.
        """
        self._bucket = bucket
        self._objects = MediaBucket(bucket)
        self._finishing = Finishing(
            self._objects,
            policy=policy,
            clock=lambda: now().timestamp(),
            hooks=hooks,
            telling=telling,
            tells_within=RETRIED_FOR,
        )
        self._telling = telling
        self._now = now
        self._policy = policy
        self._page_size = page_size
        self._on_removal = on_removal
        self._memory = memory if memory is not None else SweepMemory()
        self._batches = True

    async def run(self, *, dry_run: bool = False) -> SweepReport:
        """Check every object once. An object that fails is counted and stops nothing. The sweep may be cancelled
        anywhere.

        After an interruption it continues at the last page, so it reaches the end of a large bucket even if the process
        restarts often. The next sweep begins at the first page again.

        Raises:
            BigUploadError: The bucket cannot be listed, or the store is unreachable.
        """
        tally = SweepReport()
        try:
            async for page in self._pages(REFUSED_PREFIX):  # first, because the sweep below writes more notes
                tally.looked_at += len(page)
                expired = [item for item in page if self._is_older(item.modified, _NOTES_KEPT)]
                await self._delete(expired, tally, dry_run=dry_run)
            async for page in self._pages(self._policy.keys.prefix, after=self._memory.position()):
                media_marks = await self._sweep_page(page, tally, dry_run=dry_run)
                if page:
                    self._memory.page_done(page[-1].key, media_marks)
            await self._abort_uploads(tally, dry_run=dry_run)
        except Fault as fault:
            raise fault.public() from fault
        self._memory.all_done()
        return tally

    def _is_older(self, since: datetime, kept: timedelta | None) -> bool:
        return kept is not None and self._now() - since >= kept

    async def _pages(self, prefix: str, after: str = "") -> AsyncIterator[list[_Listed]]:
        """Yield pages of the objects under `prefix` whose keys come after `after`."""
        async for rows in self._bucket.object_pages(prefix, after=after, size=self._page_size):
            yield [
                _Listed(key=row["Key"], size=row["Size"], etag=row.get("ETag", ""), modified=row["LastModified"])
                for row in rows
                if self._policy.keys.is_made_here(row["Key"])  # the operator's own files may be here too
            ]

    async def _sweep_page(self, page: list[_Listed], tally: SweepReport, *, dry_run: bool) -> set[int]:
        """Delete the objects of a page that must not stay. Returns the marks of the objects that are media."""
        known = self._memory.known([item.mark for item in page])
        found: set[int] = set()
        tally.looked_at += len(page)
        expired: list[_Listed] = []
        rest: list[_Listed] = []
        for item in page:
            if self._is_older(item.modified, self._policy.kept):
                expired.append(item)
            elif item.mark in known and item.size <= self._policy.max_file_size:
                found.add(item.mark)
            else:
                rest.append(item)
        if (telling := self._telling) is not None and not dry_run:  # if that fails, they stay until the next sweep

            async def tell(item: _Listed) -> None:
                await telling.leaving("media.expired", item.key, item)

            await for_each(expired, tell, at_once=_LOOKS_AT_ONCE)
        await self._delete(expired, tally, dry_run=dry_run)

        async def look(item: _Listed) -> None:
            with tally.counting_failures():
                refused = await self._refusal(item, dry_run=dry_run)
                if refused is None:
                    found.add(item.mark)
                elif dry_run or await self._finishing.refuse(item.key, item, refused):
                    self._removed(tally, item.key, REASONS.get(refused.problem, Reason.NOT_MEDIA), item.size)

        await for_each(rest, look, at_once=_LOOKS_AT_ONCE)
        return found

    def _removed(self, tally: SweepReport, key: str, reason: Reason, size: int = 0) -> None:
        count = reason.name.lower()
        setattr(tally, count, getattr(tally, count) + 1)
        tally.bytes_freed += size
        if self._on_removal is not None:
            self._on_removal(Removal(key=key, reason=reason, size=size))

    async def _refusal(self, item: _Listed, *, dry_run: bool) -> Refused | None:
        """Return why an object must be deleted; None if it may stay. Raises Fault if it was deleted or replaced
        meanwhile, and Refused if the hook did not answer."""
        if item.size > self._policy.max_file_size:
            return Refused(Problem.FILE_TOO_LARGE)
        head = await self._objects.look(item.key, first=media_types.HEAD_BYTES, etag=item.etag)
        if head is None:
            raise Fault(FaultKind.GONE, "the object was deleted meanwhile", status=404)
        try:
            await (self._finishing.judge if dry_run else self._finishing.accept)(item.key, head)
        except Refused as refused:
            if refused.problem not in FINAL_PROBLEMS:
                raise
            return refused
        return None

    # -- deleting

    async def _delete(self, items: Sequence[_Listed], tally: SweepReport, *, dry_run: bool) -> None:
        """Delete a page's expired objects, each on the condition that it is still the listed one."""
        codes = {} if dry_run else await self._delete_batch(items)
        for item in items:
            code = codes.get(item.key)
            if code == NOT_BY_BATCH:
                with tally.counting_failures():
                    await self._bucket.delete(item.key, etag=item.etag)
                    code = None
            elif code is not None:
                tally.failed += code not in _AWAY_CODES
            if code is None:
                self._removed(tally, item.key, Reason.EXPIRED, item.size)

    async def _delete_batch(self, items: Sequence[_Listed]) -> Mapping[str, str]:
        """Delete objects together. Returns S3's code for each key that was not; NOT_BY_BATCH: it may be alone."""
        singly = dict.fromkeys((item.key for item in items), NOT_BY_BATCH)
        if not self._batches or len(items) < 2:
            return singly
        try:
            return await self._bucket.delete_many([(item.key, item.etag) for item in items])
        except Fault as fault:
            if fault.kind is FaultKind.UNREACHABLE:
                raise
            if fault.kind.is_retried:  # by the next sweep, instead of as a thousand calls
                return dict.fromkeys(singly, "failed")
            self._batches = fault.kind is not FaultKind.UNSUPPORTED
            return singly  # one key that XML cannot contain makes the batch fail

    # -- open uploads

    async def _abort_uploads(self, tally: SweepReport, *, dry_run: bool) -> None:
        """Abort old uploads. If a part arrives during an abort, the upload may survive until the next sweep.

        The whole list is read before the first abort: some stores lose their place in the list when its uploads go.
        """
        longest = timedelta(seconds=self._policy.upload_lifetime)
        due: list[dict[str, Any]] = []
        async for row in self._bucket.open_uploads(self._policy.keys.prefix):
            if self._policy.keys.is_made_here(row["Key"]) and self._is_older(row["Initiated"], longest):
                due.append({"Key": row["Key"], "UploadId": row["UploadId"]})
            if len(due) >= _MAX_ABORTS:  # the next sweep aborts the others
                break
        for upload in due:
            with tally.counting_failures():
                if not dry_run:
                    await self._bucket.call("to abort", "AbortMultipartUpload", **upload)
                    if self._telling is not None:
                        await self._telling.upload_aborted(upload["Key"], upload["UploadId"], by_age=True)
                self._removed(tally, upload["Key"], Reason.ABORTED_UPLOADS)


_AWAY_CODES = frozenset({"NoSuchKey", "PreconditionFailed"})
"""The object was deleted or replaced since it was listed, which is not a failure."""

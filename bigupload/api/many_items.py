"""The items of a job: the sources of `upload_many` with their keys, and the files that a program selects.

Each has its row in the job's record, and all of them are counted for the `JobProgress` events.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bigupload import errors, events
from bigupload.api.types import ManySource, StrPath, UploadSource
from bigupload.batch.listing import CountedFiles, FileListing, FoundFiles, read_ahead
from bigupload.batch.tree import FileEntry, Found, Omitted, Selection
from bigupload.core.manifest import Fingerprint
from bigupload.core.rate_meter import RateMeter
from bigupload.core.remote_url import chosen_name, is_remote, parse_remote
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.job_record import RecordedFile
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.opening import is_path
from bigupload.stores.targets import endpoint_of, parse_s3_url
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.systems import with_slashes
from bigupload.units import escaped

if TYPE_CHECKING:
    from bigupload.api.steps import Row


@dataclass(frozen=True, slots=True)
class ManyItem:
    """One file of the job."""

    source: UploadSource
    key: str
    """Below the target."""
    fingerprint: Fingerprint | None = None
    """The file's when it was listed."""
    is_second: bool = False
    """Whether another one had the same key before."""
    omitted: str | None = None
    """The reason why it can't be uploaded."""
    path: str = ""
    """A file's absolute path. Empty: it is not a file of this machine."""

    def check(self) -> None:
        """Raise an error if it can't be uploaded.

        Raises:
            UsageError: Another file has the same key: one object would replace the other.
            SourceError: It has no key, or was not found.
        """
        if self.omitted is not None:
            raise errors.SourceError(f"{errors.IT}: {self.omitted}", it=escaped(self.shown))
        if self.is_second:
            raise errors.UsageError(f"another file of this call has the key {self.key}: give them different keys")

    def is_gone(self) -> bool:
        """Whether it is a file that does not exist, for certain: one that can't be looked at may. Blocking."""
        if not self.path:
            return False
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False

    @property
    def shown(self) -> str:
        """Its name in messages: its path, or its key."""
        return os.fspath(cast("StrPath", self.source)) if self.path else self.key


def is_gone(path: str) -> bool:
    """Whether no file is at a path, for certain: a path that can't be looked at may be a file. Blocking.

    A link and a special file count as files: they were left out, and are not gone. A directory does not.
    """
    if "\0" in path:
        return True
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as e:
        return e.errno == errno.ENAMETOOLONG
    except ValueError:  # this system's file names can't hold it
        return False


def prefix_of(to: str) -> str:
    """The prefix of all keys, as a URL that ends in a slash."""
    bucket, _ = parse_s3_url(to, "key")
    if to.endswith("/"):
        return to
    if to.partition("://")[2] != bucket:
        raise errors.UsageError(f"many files go below a folder: end the target with a slash, as in {to}/")
    return f"{to}/"


async def items_of(
    sources: Iterable[ManySource] | AsyncIterable[ManySource | ManyItem],
) -> AsyncIterator[ManyItem]:
    """Each source with its key; an item stays as it is. Of what no selection listed, a hash is remembered: 70 bytes for
    each file.

    Raises:
        UsageError: A source has neither a path nor a key.
    """
    seen: set[int] = set()

    def one(given: ManySource | ManyItem) -> ManyItem | None:
        """Return the item of a source; None: nothing comes of it."""
        if isinstance(given, ManyItem):
            return given
        if isinstance(given, Omitted):
            if not given.is_failure:
                return None
            return ManyItem(given.path, given.key, omitted=given.reason, path=_absolute(given.path))
        item = item_of(given)
        if not isinstance(given, FileEntry):  # a selection has each key once
            if hash(item.key) in seen:
                item = dataclasses.replace(item, is_second=True)
            seen.add(hash(item.key))
        return item

    if isinstance(sources, AsyncIterable):
        async for given in sources:
            if (item := one(given)) is not None:
                yield item
    else:
        for given in sources:
            if (item := one(given)) is not None:
                yield item


def item_of(given: Any) -> ManyItem:
    """Return a source with its key. Raises UsageError if it has neither a path nor a key."""
    if isinstance(given, FileEntry):
        known = given.fingerprint if given.inode else None
        return ManyItem(given.path, given.key, known, path=_absolute(given.path))
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str):
        source, key = given
        return ManyItem(source, key, path=_absolute(source) if is_path(source) else "")
    if is_path(given):
        text = os.fspath(given)
        return ManyItem(text, with_slashes(text).rpartition("/")[2] or Path(text).name, path=_absolute(text))
    if is_remote(given):
        url = parse_remote(given)
        if key := chosen_name(url, None):
            return ManyItem(given, key)
        raise errors.UsageError(f"{url.shown} has no name of its own: give it together with a key")
    raise errors.UsageError(
        f"one of many sources is a path, or a pair of a source and its key, not {type(given).__name__}"
    )


def _absolute(path: StrPath) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as FileSource


def select_files(*sources: StrPath, selection: Selection | None = None) -> AsyncGenerator[FileEntry | Omitted, None]:
    """List the files of directories and patterns for `upload_many`, in the order in which S3 lists their keys.

    ::

        files = bigupload.select_files("photos", selection=bigupload.Selection(exclude=["*.tmp"]))
        async for done in uploader.upload_many(files, to="s3://bucket/photos/"):
            ...

    Directories are read in a thread, as files are needed. What can't be selected comes as an `Omitted`: `upload_many`
    makes an `UploadFailed` of each that is a failure.

    Args:
        *sources: Directories, whose files have keys relative to them; files, whose keys are their names; and patterns
            such as "src/**/*.c", whose files have keys relative to the directory before the first wildcard.
        selection: Which of their files; None: all.

    Raises:
        UsageError: When it is iterated: there is no source, two files have one key, or a directory beside other sources
            does not end in a slash, so that its name would be lost.
    """
    found = FoundFiles()
    names = [os.fspath(source) for source in sources]
    return CountedFiles(_select(names, selection or Selection(), found), found, [*filter(os.path.isdir, names)])


async def _select(names: list[str], selection: Selection, counted: FoundFiles) -> AsyncGenerator[Found, None]:
    def open_listing() -> FileListing:
        listing = FileListing(names, selection, now=time.time())
        listing.check()
        return listing

    listing = await run_in_daemon_thread(open_listing)
    async for found in read_ahead(listing.found(), counted):
        yield found


async def job_target(prefix: str, s3: S3Options) -> tuple[str, str | None]:
    """Return a job's target as its record writes it, with the endpoint, and that alone."""
    endpoint = await endpoint_of(s3)
    return prefix if endpoint is None else f"{prefix} at {endpoint}", endpoint


def recorded_file(row: Row) -> RecordedFile:
    """Return the record of a file that is in the store."""
    result = row.proved
    assert row.fingerprint is not None
    return RecordedFile(
        key=row.key,
        path=row.path,
        fingerprint=row.fingerprint,
        etag=result.etag,
        checksum=result.checksum,
        verified=result.verified,
        version_id=result.version_id,
        location=None if result.bucket else (result.key, result.url),
    )


def result_of_record(found: RecordedFile, record: Path, *, bucket: str, key: str, url: str) -> UploadResult:
    """Return the result of a file that an earlier run uploaded."""
    return UploadResult(
        path=Path(found.path),
        bucket=bucket,
        key=key,
        url=url,
        size=found.fingerprint.size,
        etag=found.etag,
        checksum=found.checksum,
        verified=found.verified,
        manifest=record,
        skipped=True,
        version_id=found.version_id,
    )


@dataclass(slots=True)
class _FileProgress:
    """The progress of one file that is being uploaded, in bytes."""

    resumed: int = 0
    acknowledged: int = 0
    """With those that earlier runs sent."""
    in_flight: int = 0
    is_waiting: bool = False
    hangs_for: float | None = None

    def observe(self, event: events.Event) -> None:
        match event:
            case events.UploadStarted(resumed_bytes=resumed):
                self.resumed = self.acknowledged = resumed
                self.in_flight = 0
            case events.Progress(
                bytes_uploaded=done, bytes_in_flight=flying, is_waiting=waiting, source_hangs_for=hangs
            ):
                self.acknowledged, self.in_flight, self.is_waiting = done, flying, waiting
                self.hangs_for = hangs
            case events.Restarted():
                self.resumed = self.acknowledged = self.in_flight = 0
            case _:
                pass


class JobTally:
    """Counts files and bytes."""

    def __init__(self, found: FoundFiles | None = None) -> None:
        """Begin with none.

        Args:
            found: The listing's counts. None: no listing, so taken files count as found.
        """
        self.objects_listed = 0
        self.objects_deleted = 0
        self._counts_taken = found is None
        self._found = FoundFiles() if found is None else found
        self._files = {"uploaded": 0, "skipped": 0, "failed": 0}
        self._bytes = dict(self._files)
        self._meter = RateMeter()
        self._in_progress: dict[int, _FileProgress] = {}
        """By the item's identity: its key need not be its own."""

    async def counted(self, items: AsyncIterator[ManyItem]) -> AsyncIterator[ManyItem]:
        """Hand items on, and count them if no listing does."""
        async for item in items:
            if self._counts_taken:
                self._found.files += 1
                self._found.bytes += _size(item)
            yield item
        self._found.is_complete = True

    def observer(self, item: ManyItem) -> Callable[[events.Event], None]:
        """Return the callback for the events of an item's upload."""
        return self._in_progress.setdefault(id(item), _FileProgress()).observe

    def done(self, item: ManyItem, row: Row | None) -> None:
        """Count what became of an item. None: it would be uploaded."""
        progress = self._in_progress.pop(id(item), None)
        size = _size(item)
        if row is not None and row.error is not None:
            self._count("failed", size)
            return
        outcome = row.result if row is not None else None
        if outcome is not None:
            if self._counts_taken and item.fingerprint is None:
                self._found.bytes += outcome.size
            size = outcome.size
        if outcome is not None and outcome.skipped:
            self._count("skipped", size)
            return
        resumed = progress.resumed if progress is not None else 0
        self._count("uploaded", size - resumed)
        self._bytes["skipped"] += resumed

    def same(self, files: int, size: int) -> None:
        """Count files that were in the store already, and their bytes together."""
        self._count("skipped", size, files)

    def _count(self, what: str, size: int, files: int = 1) -> None:
        self._files[what] += files
        self._bytes[what] += size

    def progress(self, now: float, *, late: bool = False, is_finished: bool = False) -> events.JobProgress:
        """Return the present state as an event.

        Args:
            now: Seconds.
            late: Whether responses are late, so that what is in flight is not done.
            is_finished: Whether everything is done.
        """
        files = self._in_progress.values()
        uploaded = self._bytes["uploaded"] + sum(max(0, each.acknowledged - each.resumed) for each in files)
        in_flight = sum(each.in_flight for each in files)
        skipped = self._bytes["skipped"] + sum(each.resumed for each in files)
        flying = [each for each in files if each.in_flight]
        self._meter.add(now, uploaded, in_flight, late=late)
        hanging = [each.hangs_for for each in files if each.hangs_for is not None]
        hangs = max(hanging) if hanging and not in_flight else None
        to_send = self._found.bytes - skipped - self._bytes["failed"] if self._found.is_complete else None
        return events.JobProgress(
            files_found=self._found.files,
            bytes_found=self._found.bytes,
            is_listed=self._found.is_complete,
            files_uploaded=self._files["uploaded"],
            files_skipped=self._files["skipped"],
            files_failed=self._files["failed"],
            bytes_uploaded=uploaded,
            bytes_in_flight=in_flight,
            bytes_skipped=skipped,
            bytes_failed=self._bytes["failed"],
            objects_listed=self.objects_listed,
            objects_deleted=self.objects_deleted,
            rate=self._meter.rate(now),
            seconds_left=self._meter.seconds_left(now, to_send) if hangs is None else None,
            source_hangs_for=hangs,
            is_waiting=late and bool(flying) and all(each.is_waiting for each in flying),
            is_finished=is_finished,
        )


def _size(item: ManyItem) -> int:
    """The size in the listing; 0 without one."""
    return item.fingerprint.size if item.fingerprint is not None else 0

"""Delete what a state directory no longer needs. Nothing that can be resumed is ever deleted, and no lock that is held.

Deleted are manifests of completed and aborted uploads (also those that were set aside), records of jobs that have
finished or have no file (those of syncs and watches after a year), lock files that nobody holds, copies of damaged
tails, half-written files of processes that were killed, notes about manifests elsewhere, and the progress of a `verify
--download` that was interrupted 30 days ago. Manifests that can't be read stay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from bigupload import errors
from bigupload.core.manifest import Aborted, Completed
from bigupload.core.manifest_lines import decode
from bigupload.manifests.lock import LOCK_SUFFIX, ManifestLock
from bigupload.manifests.notes import leads_to
from bigupload.manifests.state_directory import (
    CLEANED_MARK,
    DAY,
    JOB_SUFFIX,
    NEW_SUFFIX,
    NOTES,
    SUFFIX,
    is_clean_up_due,
)
from bigupload.records import dataclass
from bigupload.support.files import is_private_file
from bigupload.support.systems import open_binary

KEEP_FINISHED = 30 * DAY
"""Seconds for which the manifest of a completed or aborted upload is kept: `status` shows it, and `resume` gives its
result again."""
KEEP_FINISHED_COUNT = 1000
"""The number of younger ones that are kept: nobody reads a longer list."""
KEEP_JOBS_BYTES = 1 << 30
"""Bytes of the records of jobs that are kept, the most recent ones: four million files of finished jobs. They spare a
sync of these files from hashing them."""
KEEP_REPEATED = 365 * DAY
"""Seconds for which the record of a sync or watch is kept at least, also by `status --clean`. It shows the next run
which files are in the store: without it, a sync asks about each of them."""
KEEP_NOTES = 180 * DAY
"""Seconds for which it is remembered that this user began a manifest outside the state directory, if it is finished or
not there any more: it may be on a disk that is not mounted, or was moved. Later, resuming it asks for --trust."""
MOST_EXAMINED = 2000
"""The number of old files that one automatic clean-up opens, at some 30 µs each."""
# Patterns are compiled when they are first used: a clean-up is due once a day.
_MANIFEST = re.escape(SUFFIX) + r"(\.[0-9]+)?$"
_LOCKED = re.escape(SUFFIX) + r"(\.[0-9]+)?$|" + re.escape(JOB_SUFFIX) + "$"
_REST = (
    re.escape(SUFFIX)
    + r"(\.[0-9]+)?\.(damaged|new)$|"
    + r"\.readback\.json(\.[0-9]+)?$|"  # the progress of a `verify --download` of earlier versions
    + re.escape(f"{JOB_SUFFIX}{NEW_SUFFIX}")
    + r"(-journal)?$"
)
_MANIFEST_NAME = r".*(" + re.escape(SUFFIX) + r"(\.[0-9]+)?|" + re.escape(JOB_SUFFIX) + r")(?=\.)"
_TAIL = 64 * 1024
"""Bytes at a manifest's end in which its last record lies."""


@dataclass(slots=True)
class Cleaned:
    """The result of a clean-up: numbers of deleted files, and their bytes."""

    manifests: int = 0
    others: int = 0
    bytes: int = 0
    kept_jobs: int = 0
    """Records of finished syncs and watches that stay although their age or number is beyond the limits."""


@dataclass(slots=True)
class _Listing:
    """The files of a state directory, each with its status."""

    manifests: list[tuple[Path, os.stat_result]] = field(default_factory=list)
    locks: list[tuple[Path, os.stat_result]] = field(default_factory=list)
    rest: list[tuple[Path, os.stat_result]] = field(default_factory=list)
    jobs: list[tuple[Path, os.stat_result]] = field(default_factory=list)


def clean_if_due(directory: Path, *, now: float | None = None) -> Cleaned | None:
    """Clean a state directory if that was not done for a day, with a bound on the work. Blocking, a few milliseconds.

    Args:
        directory: The state directory; it need not exist.
        now: Seconds since the epoch; None: the system's clock.

    Returns:
        What was deleted; None if the clean-up was not due. Never raises OSError: an upload does not depend on it.
    """
    now = time.time() if now is None else now
    if not is_clean_up_due(directory, now):
        return None
    mark = directory / CLEANED_MARK
    with contextlib.suppress(OSError):
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
        os.utime(mark, (now, now), follow_symlinks=os.utime not in os.supports_follow_symlinks)  # Windows: True
        return clean(directory, now=now, most=MOST_EXAMINED)
    return None


def clean(
    directory: Path,
    *,
    now: float | None = None,
    older_than: float = KEEP_FINISHED,
    keep: int = KEEP_FINISHED_COUNT,
    most: int | None = None,
) -> Cleaned:
    """Delete what a state directory no longer needs. Blocking.

    Args:
        directory: The state directory; it need not exist.
        now: Seconds since the epoch; None: the system's clock.
        older_than: Seconds since its last record after which a finished manifest is deleted. The progress of a
            `verify --download` is kept for KEEP_FINISHED at least, and the record of a sync or watch for KEEP_REPEATED.
        keep: How many finished manifests stay at most, the most recent ones, and how many records of jobs. Those of
            syncs and watches stay beside them.
        most: How many files to examine at most; None: all.

    Raises:
        OSError: The directory can't be listed, or nothing can be deleted in it.
    """
    now = time.time() if now is None else now
    try:
        found = _list(directory)
    except FileNotFoundError:
        return Cleaned()
    if not os.access(directory, os.W_OK):  # of root, too, on a disk that is mounted read-only
        raise PermissionError(errno.EACCES, "no file can be deleted in it", directory)
    run = _CleanUp(most)
    # The first ones are the oldest. All but the `keep` youngest are deleted, whatever their age.
    found.manifests.sort(key=lambda each: each[1].st_mtime)
    for number, (path, status) in enumerate(found.manifests):
        if now - status.st_mtime >= older_than or len(found.manifests) - number > keep:
            run.delete_finished(path)
    left = sum(status.st_size for _, status in found.jobs)
    for number, (path, status) in enumerate(sorted(found.jobs, key=lambda each: each[1].st_mtime)):
        is_last = number == len(found.jobs) - 1
        too_large = left > KEEP_JOBS_BYTES and not is_last
        if now - status.st_mtime >= older_than or len(found.jobs) - number > keep or too_large:
            is_old = now - status.st_mtime >= max(older_than, KEEP_REPEATED)
            run.delete_finished_job(path, status, also_repeated=is_old or too_large)
        left -= status.st_size
    for path, status in found.rest:
        is_progress = re.match(_MANIFEST_NAME, path.name) is None  # of a download, which can be resumed
        if now - status.st_mtime >= (max(older_than, KEEP_FINISHED) if is_progress else older_than):
            run.delete_rest(path, status)
    for path, _ in found.locks:
        run.delete_lock(path)
    with contextlib.suppress(OSError):
        for path, status in _files(directory / NOTES):
            if now - status.st_mtime >= KEEP_NOTES and ((noted := leads_to(path)) is None or is_finished(noted)):
                run.delete(path, status)
    return run.cleaned


def is_finished(path: Path) -> bool:
    """Whether a manifest's last record completes or aborts the upload. Blocking; reads only the end."""
    try:
        fd = open_binary(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0), links=False)
    except OSError:
        return False
    with os.fdopen(fd, "rb") as file:
        try:
            size = os.fstat(fd).st_size
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            last = decode(tail.splitlines(keepends=True)[-1]) if tail.endswith(b"\n") else None
        except (OSError, ValueError, IndexError, RecursionError):
            return False
    return isinstance(last, Completed | Aborted)


def forget_endpoint(directory: Path, endpoint: str) -> Cleaned:
    """Delete all manifests and records of jobs of a store that is no more, unless a process has them open. Blocking.

    Args:
        directory: The state directory; it need not exist.
        endpoint: The store, as manifests name it.

    Raises:
        OSError: The directory can't be listed.
    """
    from bigupload.manifests.job_record import delete_record, read_job  # sqlite3: few directories have a job
    from bigupload.manifests.journal import read_manifest

    run = _CleanUp(None)
    try:
        found = _list(directory)
    except FileNotFoundError:
        return run.cleaned
    for path, status in found.manifests:
        with contextlib.suppress(errors.ManifestError), _locked(path) as held:
            if held and read_manifest(path).manifest.target.endpoint == endpoint:
                run.delete(path, status, manifest=True)
    for path, status in found.jobs:
        with _locked(path) as held:
            if held and read_job(path).target.endswith(f" at {endpoint}"):
                run.delete(path, status)
                with contextlib.suppress(OSError):
                    delete_record(path)  # files that SQLite left beside it
    return run.cleaned


class _CleanUp:
    """Deletes single files, up to a number of examined ones."""

    def __init__(self, most: int | None) -> None:
        self._left = most
        self.cleaned = Cleaned()

    def _may_examine(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    def delete_finished(self, path: Path) -> None:
        """Delete a manifest whose upload is finished, unless a process has it open."""
        if not self._may_examine() or not is_finished(path):
            return
        with _locked(path) as held:
            if held and is_finished(path):
                self.delete(path, path.lstat(), manifest=True)

    def delete_finished_job(self, path: Path, status: os.stat_result, *, also_repeated: bool) -> None:
        """Delete the record of a job that has finished or has no file, unless a process has it open.

        Args:
            path: The record.
            status: The file's.
            also_repeated: Whether the record of a sync or watch is deleted, too. If it has no file, it always is.
        """
        from bigupload.manifests.job_record import delete_record, read_job  # sqlite3: few directories have a job

        def is_done() -> bool:
            job = read_job(path)
            return job.is_empty or (
                (job.status == "finished" or job.gone > 0) and (also_repeated or not job.is_repeated)
            )

        if not self._may_examine():
            return
        if not is_done():
            job = read_job(path)
            self.cleaned.kept_jobs += job.status == "finished" and job.is_repeated
            return
        with _locked(path) as held:
            if held and is_done():
                self.delete(path, status)
                with contextlib.suppress(OSError):
                    delete_record(path)  # also files that a killed process left beside it

    def delete_rest(self, path: Path, status: os.stat_result) -> None:
        """Delete a file beside a manifest or record, unless a process has that open."""
        if not self._may_examine():
            return
        name = re.match(_MANIFEST_NAME, path.name)
        if name is None:  # the progress of a download: without it, the object is read again
            self.delete(path, status)
            return
        with _locked(path.with_name(name[0])) as held:
            if held:
                self.delete(path, status)

    def delete_lock(self, path: Path) -> None:
        """Delete a lock file that nobody holds: taking and releasing the lock does that."""
        if self._may_examine():
            with _locked(path.with_name(path.name.removesuffix(LOCK_SUFFIX))) as held:
                self.cleaned.others += held

    def delete(self, path: Path, status: os.stat_result, *, manifest: bool = False) -> None:
        """Delete a file of this user's and count it."""
        if not is_private_file(status):
            return
        with contextlib.suppress(OSError):
            path.unlink()
            self.cleaned.bytes += status.st_size
            if manifest:
                self.cleaned.manifests += 1
            else:
                self.cleaned.others += 1


@contextlib.contextmanager
def _locked(manifest: Path) -> Iterator[bool]:
    """Hold a manifest's lock; False where it can't be had."""
    lock = ManifestLock(manifest, wait=0)
    try:
        lock.acquire()
    except (errors.ManifestLocked, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _list(directory: Path) -> _Listing:
    found = _Listing()
    for path, status in _files(directory):
        if re.search(_MANIFEST, path.name):
            found.manifests.append((path, status))
        elif re.search(_REST, path.name):
            found.rest.append((path, status))
        elif path.name.endswith(JOB_SUFFIX):
            found.jobs.append((path, status))
        elif path.name.endswith(LOCK_SUFFIX) and re.search(_LOCKED, path.name.removesuffix(LOCK_SUFFIX)):
            found.locks.append((path, status))
    return found


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files of a directory."""
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield Path(entry.path), status

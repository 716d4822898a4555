"""Delete what a state directory no longer needs. Nothing that can be resumed is ever deleted, and no lock that is held.

Deleted are manifests of completed and aborted uploads (also those that were set aside), records of jobs that have
finished or have no file (those of syncs and watches after a year), lock files that nobody holds, copies of damaged
tails, half-written files of processes that were killed, the index of manifests elsewhere, and the progress of a `verify
--download` that was interrupted 30 days ago. Manifests that can't be read stay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bigupload import errors
from bigupload.core.manifest import Aborted, Completed
from bigupload.core.manifest_lines import decode
from bigupload.manifests.lock import LOCK_SUFFIX, ManifestLock
from bigupload.manifests.manifest_index import manifest_of_entry
from bigupload.manifests.state_directory import (
    CLEANED_MARK,
    DAY,
    JOB_SUFFIX,
    MANIFEST_INDEX,
    NEW_SUFFIX,
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
KEEP_INDEX_ENTRIES = 180 * DAY
"""Seconds for which it is remembered that this user began a manifest outside the state directory, if it is finished or
not there any more: it may be on a disk that is not mounted, or was moved. Later, resuming it asks for --trust."""
MOST_EXAMINED = 2000
"""The number of old files that one automatic clean-up opens, at some 30 µs each."""
# Patterns are compiled when they are first used: a clean-up is due once a day.
_MANIFEST = re.escape(SUFFIX) + r"(\.[0-9]+)?"
_JOB = re.escape(JOB_SUFFIX)
_READ_BACK = r"\.readback\.json(\.[0-9]+)?"  # the progress of a `verify --download` of earlier versions
_NEW_JOB = re.escape(f"{JOB_SUFFIX}{NEW_SUFFIX}") + "(-journal)?"
_KINDS = {
    "manifests": f"{_MANIFEST}$",
    "rest": rf"({_MANIFEST}\.(damaged|new)|{_READ_BACK}|{_NEW_JOB})$",
    "jobs": f"{_JOB}$",
    "locks": f"({_MANIFEST}|{_JOB}){re.escape(LOCK_SUFFIX)}$",
}
"""The files of a state directory, by what their names hold."""
_MANIFEST_NAME = rf".*({_MANIFEST}|{_JOB})(?=\.)"
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

    def is_old(status: os.stat_result, least: float = 0) -> bool:
        return now - status.st_mtime >= max(older_than, least)

    # All but the `keep` youngest are deleted, whatever their age.
    for to_come, (path, status) in _countdown(found["manifests"]):
        if is_old(status) or to_come >= keep:
            run.delete_if(path, partial(is_finished, path))
    left = sum(status.st_size for _, status in found["jobs"])
    for to_come, (path, status) in _countdown(found["jobs"]):
        too_large = left > KEEP_JOBS_BYTES and to_come > 0
        if is_old(status) or to_come >= keep or too_large:
            run.delete_finished_job(path, also_repeated=is_old(status, KEEP_REPEATED) or too_large)
        left -= status.st_size
    for path, status in found["rest"]:
        manifest = re.match(_MANIFEST_NAME, path.name)
        if manifest is not None and is_old(status):
            run.delete_if(path, of=path.with_name(manifest[0]))
        elif manifest is None and is_old(status, KEEP_FINISHED) and run.may_examine():
            run.delete(path)  # the progress of a download: without it, the object is read again
    for path, _ in found["locks"]:
        run.delete_lock(path)
    with contextlib.suppress(OSError):
        for path, status in _files(directory / MANIFEST_INDEX):
            if now - status.st_mtime >= KEEP_INDEX_ENTRIES and (
                (indexed := manifest_of_entry(path)) is None or is_finished(indexed)
            ):
                run.delete(path)
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
    from bigupload.manifests.job_record import read_job  # sqlite3: few directories have a job
    from bigupload.manifests.journal import read_manifest

    run = _CleanUp(None)
    try:
        found = _list(directory)
    except FileNotFoundError:
        return run.cleaned

    def is_of_store(path: Path) -> bool:
        return read_manifest(path).manifest.target.endpoint == endpoint

    for path, _ in found["manifests"]:
        with contextlib.suppress(errors.ManifestError):
            run.delete_if(path, partial(is_of_store, path))
    for path, _ in found["jobs"]:
        if read_job(path).endpoint == endpoint:
            run.delete_if(path)
    return run.cleaned


class _CleanUp:
    """Deletes single files, up to a number of examined ones."""

    def __init__(self, most: int | None) -> None:
        self._left = most
        self.cleaned = Cleaned()

    def may_examine(self) -> bool:
        """Count one more file. Returns False after the last that may be examined."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    def delete_if(self, path: Path, is_done: Callable[[], bool] = lambda: True, *, of: Path | None = None) -> None:
        """Delete a file that nobody needs any more, unless a process has it open.

        Args:
            path: The file.
            is_done: Whether nobody needs it. It is asked again while no process can open the file.
            of: The manifest or record that it is beside; None: it is one itself.
        """
        if self.may_examine() and is_done():
            with _locked(of or path) as held:
                if held and is_done():
                    self.delete(path)

    def delete_finished_job(self, path: Path, *, also_repeated: bool) -> None:
        """Delete the record of a job that has finished or has no file, unless a process has it open.

        Args:
            path: The record.
            also_repeated: Whether the record of a sync or watch is deleted, too. If it has no file, it always is.
        """
        from bigupload.manifests.job_record import read_job  # sqlite3: few directories have a job

        def is_done() -> bool:
            job = read_job(path)
            is_over = job.is_empty or job.status == "finished" or job.gone > 0
            if is_over and job.is_repeated and not (also_repeated or job.is_empty):
                self.cleaned.kept_jobs += job.status == "finished"
                return False
            return is_over

        self.delete_if(path, is_done)

    def delete_lock(self, path: Path) -> None:
        """Delete a lock file that nobody holds: taking and releasing the lock does that."""
        if self.may_examine():
            with _locked(path.with_name(path.name.removesuffix(LOCK_SUFFIX))) as held:
                self.cleaned.others += held

    def delete(self, path: Path) -> None:
        """Delete a file of this user's and count it."""
        with contextlib.suppress(OSError):
            status = path.lstat()
            if not is_private_file(status):
                return
            path.unlink()
            self.cleaned.bytes += status.st_size
            if re.search(_KINDS["manifests"], path.name):
                self.cleaned.manifests += 1
            else:
                self.cleaned.others += 1
            if path.name.endswith(JOB_SUFFIX):
                from bigupload.manifests.job_record import delete_record

                delete_record(path)  # also files that a killed process left beside it


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


_Found: TypeAlias = list[tuple[Path, os.stat_result]]


def _list(directory: Path) -> dict[str, _Found]:
    """The files of each kind, the oldest first."""
    found: dict[str, _Found] = {kind: [] for kind in _KINDS}
    for path, status in sorted(_files(directory), key=lambda each: each[1].st_mtime):
        for kind, pattern in _KINDS.items():
            if re.search(pattern, path.name):
                found[kind].append((path, status))
                break
    return found


def _countdown(found: _Found) -> Iterator[tuple[int, tuple[Path, os.stat_result]]]:
    """Each file, with the number of those that come after it."""
    return zip(range(len(found) - 1, -1, -1), found, strict=True)


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files of a directory."""
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield Path(entry.path), status

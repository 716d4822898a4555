"""The record of sources that are deleted after their upload (`delete_source`): each with the object that was proved,
and how far its deletion has come. So a process that is killed leaves a file, or the proof that its object was complete.

    KEPT ──▶ DELETING ──▶ DELETED

KEPT is a file that stays for a while (`keep_for`). DELETING is on disk before the file is touched, DELETED after it is
gone. A row is forgotten where the file has changed, so that it is uploaded again. A row of a job names the job until a
run of it has left nothing to do: what earlier runs have deleted is reported by the next one, too.

One SQLite database for all calls of this user, as `job_record` has one for each job, and for the same reasons.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import enum
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bigupload import errors
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.manifests.job_record import open_database
from bigupload.records import dataclass
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import finish, run_shielded
from bigupload.support.files import is_lasting, is_private_file, reason_of, sync_directory

R = TypeVar("R")
NAME = "moves.sqlite"
"""The name of the database in the state directory."""
KEEP_DELETED = 30 * 86_400.0
"""Seconds for which it is remembered that a file was deleted: the same call then reports it."""
_APPLICATION = 0x62757032  # "bup2", as `job_record` has "bup1"
_MOST_AT_ONCE = 1000
"""Rows that are written by one fsync."""
_COLUMNS = (
    "path, target, base, size, mtime, ctime, inode, bucket, object, url, etag, checksum, verified, version, "
    "proved, state, changed, sha256, xxh128, job"
)
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION}",
    "CREATE TABLE IF NOT EXISTS move (path BLOB, target TEXT, base TEXT, size INTEGER, mtime INTEGER, ctime INTEGER, "
    "inode INTEGER, bucket TEXT, object TEXT, url TEXT, etag TEXT, checksum TEXT, verified TEXT, version TEXT, "
    "proved REAL, state TEXT, changed REAL, PRIMARY KEY (path, target)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS by_base ON move (base, state)",
)
_LATER = ("sha256 TEXT", "xxh128 TEXT", "job TEXT")
"""Columns that earlier versions did not have."""
_BY_JOB = "CREATE INDEX IF NOT EXISTS by_job ON move (job) WHERE job IS NOT NULL"
_ADD = f"INSERT OR REPLACE INTO move ({_COLUMNS}) VALUES ({', '.join('?' * 20)})"  # noqa: S608 - columns alone
_SELECT = f"SELECT {_COLUMNS} FROM move WHERE"  # noqa: S608 - columns alone
_FORGET = "DELETE FROM move WHERE path = ? AND target = ?"
_SET_APART = "UPDATE move SET job = ? WHERE job = ? AND state = 'deleted'"
_REPORTED = "UPDATE move SET job = NULL WHERE job IN (?, ?) AND state = 'deleted'"
_PAGE = 1000
"""Rows that are read at once: a killed job may have deleted a million files."""


class MoveState(enum.StrEnum):
    """The states of a source's deletion."""

    KEPT = "kept"
    DELETING = "deleting"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One source, and its object."""

    path: str
    """Absolute."""
    target: str
    """The object's name in the record, with its endpoint."""
    base: str
    """The target of the call: another call with the same one completes what a killed one began."""
    fingerprint: Fingerprint
    """The file's when its object was proved."""
    bucket: str
    key: str
    url: str
    etag: str
    checksum: str | None
    verified: Verified
    version_id: str | None
    proved: float
    """The time at which the object was proved, in seconds since 1970."""
    state: MoveState
    sha256: str | None = None
    xxh128: str | None = None
    job: str | None = None
    """The id of the job that deletes it, until a run of the job has left nothing to do; None: no job."""


class MoveRecord:
    """The database, opened when it is first used."""

    def __init__(self, path: Path, executor: concurrent.futures.Executor, now: Callable[[], float]) -> None:
        """Open nothing yet.

        Args:
            path: The database's file, which need not exist.
            executor: Threads that read and write.
            now: The time, in seconds since 1970.
        """
        self.path = path
        self._executor = executor
        self._now = now
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._writing = Batcher(self._write_all, max_batch=_MOST_AT_ONCE)

    async def find(self, path: str, target: str) -> Move | None:
        """Look a file up. Raises ManifestUnwritable or ManifestCorrupt, as the other methods."""
        found = await self._read("path = ? AND target = ?", os.fsencode(path), target)
        return found[0] if found else None

    async def find_deleted(self, path: str, base: str) -> Move | None:
        """Look up a file that a call with this target has deleted."""
        found = await self._read(
            "path = ? AND base = ? AND state = ?", os.fsencode(path), base, MoveState.DELETED.value
        )
        return found[0] if found else None

    async def of_base(self, base: str, state: MoveState) -> list[Move]:
        """The files of a target that are in one state."""
        return await self._read("base = ? AND state = ? ORDER BY path", base, state.value)

    async def set_apart(self, job: str) -> None:
        """Keep what earlier runs of a job have deleted apart from what this run deletes. See `earlier`."""
        await self._execute(_SET_APART, _earlier(job), job)

    async def earlier(self, job: str) -> AsyncGenerator[Move, None]:
        """The files that were set apart, a page at a time. None of them may be written meanwhile."""
        last: tuple[bytes, str] = b"", ""
        while True:
            where = f"job = ? AND (path, target) > (?, ?) ORDER BY path, target LIMIT {_PAGE}"
            page = await self._read(where, _earlier(job), *last)
            for move in page:
                yield move
            if len(page) < _PAGE:
                return
            last = os.fsencode(page[-1].path), page[-1].target

    async def met(self, move: Move, job: str) -> None:
        """Take a file out of those that were set apart: the run reports it among its own."""
        if move.job == _earlier(job):
            await self.write(dataclasses.replace(move, job=job))

    async def reported(self, job: str) -> None:
        """A run of a job has left nothing to do: the next one reports nothing of what was deleted until now."""
        await self._execute(_REPORTED, job, _earlier(job))

    async def write(self, move: Move) -> None:
        """Record a file in the state that it has, and wait until that is on disk."""
        await run_shielded(self._writing.submit((_ADD, _row(move, self._now()))))

    async def forget(self, move: Move) -> None:
        """Remove a file's row."""
        await self._execute(_FORGET, os.fsencode(move.path), move.target)

    def close(self) -> None:
        """Close the database. Idempotent."""
        with self._lock:
            if self._opened is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._opened.close()
                self._opened = None

    async def _read(self, where: str, *values: Any) -> list[Move]:
        def read(opened: sqlite3.Connection) -> list[Move]:
            return [_move(row) for row in opened.execute(f"{_SELECT} {where}", values)]

        return await self._call(read)

    async def _execute(self, statement: str, *values: Any) -> None:
        await run_shielded(self._writing.submit((statement, values)))

    async def _write_all(self, statements: Sequence[tuple[str, tuple[Any, ...]]]) -> Sequence[None]:
        def write(opened: sqlite3.Connection) -> None:
            with opened:
                opened.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    opened.execute(statement, values)

        await self._call(write)
        return [None] * len(statements)

    async def _call(self, function: Callable[[sqlite3.Connection], R]) -> R:
        def work() -> R:
            with self._lock, self._translated():
                if self._opened is None:
                    self._opened = self._open()
                return function(self._opened)

        return await finish(asyncio.get_running_loop().run_in_executor(self._executor, work))

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.lexists(self.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.close(os.open(self.path, flags, 0o600))
                sync_directory(self.path.parent)
        if not is_private_file(self.path.lstat()):
            raise sqlite3.DatabaseError("it is another user's, or not a regular file")
        opened = open_database(self.path)
        try:
            if opened.execute("PRAGMA application_id").fetchone() not in ((0,), (_APPLICATION,)):
                raise sqlite3.DatabaseError("another program or version wrote it")
            opened.execute("PRAGMA journal_mode = WAL")
            with opened:
                opened.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    opened.execute(statement)
                known = {row[1] for row in opened.execute("PRAGMA table_info(move)")}
                for column in _LATER:
                    if column.partition(" ")[0] not in known:
                        opened.execute(f"ALTER TABLE move ADD COLUMN {column}")
                opened.execute(_BY_JOB)
                old = self._now() - KEEP_DELETED
                opened.execute("DELETE FROM move WHERE state = ? AND changed < ?", (MoveState.DELETED.value, old))
        except BaseException:
            opened.close()
            raise
        return opened

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as e:
            raise errors.ManifestUnwritable(
                f"can't write the record of deleted sources {self.path}: {reason_of(e)}; without it, nothing is "
                "deleted",
                lasting=is_lasting(e, creating=self._opened is None),
            ) from e
        except sqlite3.Error as e:
            raise errors.ManifestCorrupt(
                f"{self.path} is damaged or no record of deleted sources ({e}): nothing was deleted. Move it away, and "
                "the files that are still there are uploaded again"
            ) from e


def _row(move: Move, now: float) -> tuple[Any, ...]:
    f = move.fingerprint
    return (
        os.fsencode(move.path), move.target, move.base, f.size, f.mtime_ns, f.ctime_ns, f.inode, move.bucket, move.key,
        move.url, move.etag, move.checksum, move.verified.value, move.version_id, move.proved, move.state.value, now,
        move.sha256, move.xxh128, move.job,
    )  # fmt: skip


def _move(row: Sequence[Any]) -> Move:
    path, target, base, size, mtime, ctime, inode, bucket, key, url, etag, checksum, verified, version, proved = row[
        :15
    ]
    return Move(
        path=os.fsdecode(path),
        target=target,
        base=base,
        fingerprint=Fingerprint(size, mtime, ctime, inode),
        bucket=bucket,
        key=key,
        url=url,
        etag=etag,
        checksum=checksum,
        verified=Verified(verified),
        version_id=version,
        proved=proved,
        state=MoveState(row[15]),
        sha256=row[17],
        xxh128=row[18],
        job=row[19],
    )


def _earlier(job: str) -> str:
    return f"{job} earlier"

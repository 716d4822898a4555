"""The record of a job of many files: which of them are in the store. The same call continues where the job stopped.
Its files are the rows of a database; a person names a job by its id. A sync right after an upload need not hash what
other jobs recorded below its target.

It is a small SQLite database, and not JSON lines as a manifest is. A file is looked up by its key without reading the
others into memory, and what a power failure leaves half-written is SQLite's business. A record of a million files has
200 MB; to write it took 5 µs of CPU a file and 4 MB of memory.

Each commit is one fsync, for all files that have arrived since the last one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import datetime
import errno
import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from bigupload import errors
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.manifests.lock import ManifestLock
from bigupload.manifests.state_directory import JOB_SUFFIX as JOB_SUFFIX
from bigupload.manifests.state_directory import NEW_SUFFIX, unlistable
from bigupload.records import dataclass
from bigupload.support.cancellation import finish, run_shielded
from bigupload.support.files import (
    create_private,
    is_at_file_limit,
    is_lasting,
    is_out_of_descriptors,
    is_private_file,
    reason_of,
    sync_directory,
)
from bigupload.units import quoted, split_command

R = TypeVar("R")
_MOST_OTHER_JOBS = 8
"""Records of other jobs that are read, the latest ones: a file is looked up in one after another."""
_MIN_PREFIX = 4
"""Characters of an id that name a job: fewer are more likely a slip."""
_FILES = (
    "CREATE TABLE file (key TEXT PRIMARY KEY, path TEXT, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER, "
    "etag TEXT, checksum TEXT, verified TEXT, version TEXT) WITHOUT ROWID"
)
_LOCATIONS = "CREATE TABLE IF NOT EXISTS place (key TEXT PRIMARY KEY, object TEXT, url TEXT) WITHOUT ROWID"
_ADD = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_LOCATION = "INSERT OR REPLACE INTO place VALUES (?, ?, ?)"
_FIND_ALL = "SELECT key, path, size, mtime, ctime, inode, etag, checksum, verified, version FROM file WHERE key IN ({})"
_FIND_LOCATION = "SELECT object, url FROM place WHERE key = ?"
_APPLICATION = 0x62757031  # "bup1": a database of another program or version is left alone
_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION}",
    "CREATE TABLE job (name TEXT, target TEXT, began TEXT, finished TEXT, files INTEGER, bytes INTEGER)",
    _FILES,
)
"""What `open` adds to it is missing in records of earlier versions."""
_MOUNTS = "CREATE TABLE IF NOT EXISTS mount (key TEXT PRIMARY KEY) WITHOUT ROWID"
"""The directories that were file systems of their own. Earlier versions had none."""
_ADD_MOUNT = "INSERT OR IGNORE INTO mount VALUES (?)"
_COUNTS = "SELECT count(*), coalesce(sum(size), 0) FROM file"
_BEGIN_RUN = (
    "UPDATE job SET finished = NULL, past = :past, token = :token, gone = 0, command = :command, "
    "arguments = :arguments, directory = :directory, endpoint = :endpoint"
)
_END_RUN = "UPDATE job SET finished = ?, (files, bytes) = (SELECT count(*), coalesce(sum(size), 0) FROM file)"
_NEXT_KEYS = "SELECT key FROM file WHERE key > ? ORDER BY key LIMIT 10000"


_EMPTY = "it is empty, as a full disk leaves it"
"""The error for an empty file, as earlier versions left it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """A file of a job that is in the store."""

    key: str
    path: str
    fingerprint: Fingerprint
    """The file's when it was uploaded."""
    etag: str
    checksum: str | None
    """"<algorithm>:<as S3 writes it>"; None if the store holds none."""
    verified: Verified
    version_id: str | None
    location: tuple[str, str] | None = None
    """The object's key and URL, if a media service chose them; None: they are known from the key."""


def _add_to(opened: sqlite3.Connection, files: Sequence[RecordedFile]) -> None:
    """Add files, within a transaction of the caller."""
    rows = [
        (
            each.key,
            stored_path(each.path),
            each.fingerprint.size,
            each.fingerprint.mtime_ns,
            each.fingerprint.ctime_ns,
            each.fingerprint.inode,
            each.etag,
            each.checksum,
            each.verified.value,
            each.version_id,
        )
        for each in files
    ]
    opened.executemany(_ADD, rows)
    if locations := [(each.key, *each.location) for each in files if each.location is not None]:
        opened.executemany(_ADD_LOCATION, locations)


FileRow: TypeAlias = tuple[str, int, int, int, int, str, str | None, str, str | None]
"""The record of a file: its path as `stored_path` writes it, size, mtime, ctime, inode; its object's ETag and
checksum, the value of a `Verified`, version. A tuple, because a sync compares a million of them."""


def file_of_row(
    key: str, path: str, fingerprint: Fingerprint, row: FileRow, location: tuple[str, str] | None = None
) -> RecordedFile:
    """Return the record of a file. The caller gives all that the row has not."""
    *_, etag, checksum, verified, version = row
    return RecordedFile(
        key=key,
        path=path,
        fingerprint=fingerprint,
        etag=etag,
        checksum=checksum,
        verified=Verified(verified),
        version_id=version,
        location=location,
    )


def _find_all_in(opened: sqlite3.Connection, keys: Sequence[str]) -> dict[str, FileRow]:
    rows = opened.execute(_FIND_ALL.format(",".join("?" * len(keys))), keys).fetchall()
    return {row[0]: row[1:] for row in rows}


def _find_in(opened: sqlite3.Connection, key: str, path: str, fingerprint: Fingerprint) -> RecordedFile | None:
    f, row = fingerprint, _find_all_in(opened, [key]).get(key)
    if row is None or row[:5] != (stored_path(path), f.size, f.mtime_ns, f.ctime_ns, f.inode):
        return None
    return file_of_row(key, path, f, row)


def stored_path(path: str) -> str:
    """SQLite's texts are UTF-8, and a path may be none."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownJob:
    """A job that a record on this machine describes."""

    record: Path
    """The record's file."""
    id: str
    """Its name without its ending."""
    status: Literal["unfinished", "finished", "unreadable"]
    name: str = ""
    """Its name, from its caller."""
    target: str = ""
    """The prefix of its keys, as a URL."""
    began: str | None = None
    """ISO 8601, UTC; as `finished`."""
    finished: str | None = None
    last_finished: str | None = None
    """The time at which a run last ended with all files in the store, even if a later one did not; None: not known."""
    files: int = 0
    """Files that are in the store."""
    bytes: int = 0
    """Their sizes together."""
    gone: int = 0
    """Files that did not exist when the last run ended, of an unfinished job of which nothing else is left."""
    command: str | None = None
    """The command that runs the job: "upload", "sync" or "watch"; None: a program does."""
    arguments: tuple[str, ...] = ()
    """Its sources, absolute, and the options that make another job of them. No target and no other option."""
    directory: str | None = None
    """Where the command ran, if the paths that came through a pipe depend on that."""
    endpoint: str | None = None
    """The store's URL, or "local" for the local store, with which `target` ends; None: AWS, or a media service."""
    error: str | None = None
    """The reason why the record is unreadable."""

    @property
    def is_empty(self) -> bool:
        """Whether no file is in the store."""
        return not self.files and (self.status != "unreadable" or self.error == _EMPTY)

    @property
    def is_repeated(self) -> bool:
        """Whether the job is a sync or a watch, whose next run uses the record."""
        return self.command in ("sync", "watch")

    @property
    def shown(self) -> str:
        """Its name for a person: a list that came through a pipe is `--files-from=-`, as it was typed."""
        return " ".join(map(quoted, self.arguments)) if self.command in ("upload", "move") else self.name


class JobName(str):
    """The name of a command's job, with the fields of `KnownJob` that its record gets."""

    command: str | None
    arguments: Sequence[str]
    directory: str | None

    def __new__(cls, name: str, command: str, arguments: Sequence[str], directory: str | None = None) -> JobName:
        """Name a job. The same name to the same target is the same job, whatever the other fields are."""
        made = super().__new__(cls, name)
        made.command, made.arguments, made.directory = command, arguments, directory
        return made


def _job_of_text(name: str) -> JobName | None:
    """The command in a name that an earlier version recorded without it; None: a program's, or one that was cut."""
    command, _, source = name.partition(" ")
    if command in ("sync", "watch"):
        return JobName(name, command, [source])
    if not re.match(r"['\"]?(?:/|--)", name) or re.search(r"… [0-9a-f]{16}$", name):
        return None
    try:
        words = split_command(name)
    except ValueError:  # a program chose it
        return None
    directory = None
    for number, word in enumerate(words):
        if piped := re.fullmatch(r"--files-from=(.*)/-", word):
            words[number], directory = "--files-from=-", piped[1] or "/"
    return JobName(name, "upload", words, directory)


def job_id(name: str, target: str) -> str:
    """Return the name of a job's record: the same job to the same target has the same one."""
    return hashlib.sha256(f"{name}\0{target}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


class JobRecord:
    """One job's record, locked from `open` to `close`."""

    def __init__(
        self,
        path: Path,
        name: str,
        target: str,
        endpoint: str | None = None,
        *,
        now: Callable[[], str],
        executor: concurrent.futures.Executor,
    ) -> None:
        """Name the record.

        Args:
            path: Its file, which need not exist.
            name: What the caller calls the job. A `JobName` has the command, too.
            target: What its keys begin with.
            endpoint: The store with which the target ends.
            now: The time, in ISO 8601.
            executor: Threads that write.
        """
        self.path = path
        self.id = path.name.removesuffix(JOB_SUFFIX)
        """As `job_id` returns it."""
        self.is_new = True
        """Whether no file is recorded from earlier runs."""
        self.began = 0.0
        """The time at which the job's first run began, in seconds since 1970."""
        self.mounts: frozenset[str] = frozenset()
        """The directories below the source that were file systems of their own when their files were synced, as "a/b/".
        They outlast `resume=False`."""
        self.token = ""
        """Random, and the same for all runs until the job is finished: a run recognises with it the objects that an
        earlier run made and did not record."""
        self.may_lack_files = False
        """Whether the token must outlast this run, even if no file is recorded."""
        self.target = target
        """What its keys begin with, as its caller names it."""
        self._name = name
        self._endpoint = endpoint
        self._now = now
        self._executor = executor
        self._write_lock = threading.Lock()
        """Held while a thread writes: the connection has one transaction at a time."""
        self._lock = ManifestLock(path, held="this job is running already")
        self._has_locations = False
        """Whether earlier runs recorded keys and URLs that a media service chose."""
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None

    def __enter__(self) -> JobRecord:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, *, resume: bool, keep: bool = False, needs_mounts: bool = False) -> None:
        """Take the lock, and read what is recorded. Blocking.

        Args:
            resume: False forgets what earlier runs recorded.
            keep: Whether what a finished job recorded is read, too. Else it is forgotten.
            needs_mounts: Whether a record whose `mounts` can't be read is an error even where it is forgotten.

        Raises:
            ManifestLocked: Another process runs the job, or another call of this one.
            ManifestCorrupt: The file is not a record.
            ManifestUnwritable: The lock or the file can't be written, or the mounts can't be read now.
        """
        try:
            self._lock.acquire()
        except OSError as e:
            raise self._unwritable(e, creating=True) from e
        try:
            with self._translated():
                last_finished = None
                if not resume or (not keep and self._finished()):
                    self.mounts = self._known_mounts(needed=needs_mounts)
                    last_finished = read_job(self.path).last_finished
                    delete_record(self.path)
                self._open(last_finished)
        except BaseException:
            self.close()
            raise

    def peek(self, *, resume: bool = True, needs_mounts: bool = False) -> None:
        """Read `mounts` and what is recorded for `find`: without the lock, and without a change. Blocking.

        Args:
            resume: False reads the mounts alone.
            needs_mounts: As for `open`.

        Raises:
            ManifestCorrupt: The file is not a record.
            ManifestUnwritable: It can't be read now.
        """
        self.mounts = self._known_mounts(needed=needs_mounts)
        with self._translated():
            if resume and os.path.lexists(self.path) and read_job(self.path).status != "unreadable":
                self._reading = _open_to_read(self.path)
                self.is_new = self._reading.execute("SELECT 1 FROM file LIMIT 1").fetchone() is None

    def _finished(self) -> bool:
        return os.path.lexists(self.path) and read_job(self.path).status == "finished"

    def _known_mounts(self, *, needed: bool) -> frozenset[str]:
        """Read the mounts. None are known if there is no record, or an empty one, as earlier versions left it.

        Raises:
            ManifestError: They are needed, and the record can't be read.
        """
        try:
            _check_private(self.path)
            return frozenset() if _has_no_byte(self.path) else _read(self.path, _mounts)
        except FileNotFoundError:
            return frozenset()
        except (OSError, sqlite3.Error) as e:
            if not needed:
                return frozenset()
            text = (
                f"can't read the record {self.path}: {_why_unreadable(self.path, e)}. Only it has what was mounted "
                "below the directory, so nothing is deleted:"
            )
            allow = "or allow it with `allow_empty=True`"
            if isinstance(e, OSError | sqlite3.OperationalError):
                again = f"{text} try again when it can be read, {allow}"
                raise errors.ManifestUnwritable(again, lasting=is_lasting(e)) from e
            raise errors.ManifestCorrupt(
                f"{text} mount all of it, and sync once with `resume=False` and without `delete`, {allow}"
            ) from e

    def _open(self, last_finished: str | None) -> None:
        if not os.path.lexists(self.path) or _has_no_byte(self.path):
            self._create()
        self._writing = open_database(self.path)
        stored, job = _job(self._writing)
        self.began = datetime.datetime.fromisoformat(job["began"]).timestamp()
        self.token = job["token"] or os.urandom(16).hex()
        made = self._name if isinstance(self._name, JobName) else None
        job["past"] = job["finished"] or last_finished or job["past"]
        job |= {"token": self.token, "endpoint": self._endpoint, **_columns(made)}
        self._writing.execute("PRAGMA journal_mode = WAL")
        with self._transaction() as opened:
            for column in job.keys() - stored:
                opened.execute(f"ALTER TABLE job ADD COLUMN {column}")
            opened.execute(_BEGIN_RUN, job)
            opened.execute(_LOCATIONS)
            opened.execute(_MOUNTS)
            opened.executemany(_ADD_MOUNT, [(key,) for key in self.mounts])
        self._reading = open_database(self.path)
        self.mounts = _mounts(self._reading)
        self.is_new = self._reading.execute("SELECT 1 FROM file LIMIT 1").fetchone() is None
        self._has_locations = self._reading.execute("SELECT 1 FROM place LIMIT 1").fetchone() is not None

    def _create(self) -> None:
        """Make the file, whole or not at all: beside its place, and then moved there."""
        delete_record(self.path)  # also files that SQLite left beside one that is gone
        new = self.path.with_name(f"{self.path.name}{NEW_SUFFIX}")
        delete_record(new)
        os.close(create_private(new))
        try:
            with contextlib.closing(open_database(new)) as made:
                made.execute("BEGIN")
                for statement in _SCHEMA:
                    made.execute(statement)
                subject = (self._name, self.target, self._now())
                made.execute("INSERT INTO job (name, target, began) VALUES (?, ?, ?)", subject)
                made.execute("COMMIT")
            new.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                delete_record(new)
            raise
        sync_directory(self.path.parent)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._writing is not None
        with self._translated(), self._writing:
            self._writing.execute("BEGIN")
            yield self._writing

    def find(self, key: str, path: str, fingerprint: Fingerprint) -> RecordedFile | None:
        """Look a file up that is in the store, unchanged since. It takes microseconds."""
        assert self._reading is not None
        with self._translated():
            found = _find_in(self._reading, key, path, fingerprint)
            if found is None or not self._has_locations:
                return found
            return dataclasses.replace(found, location=self._reading.execute(_FIND_LOCATION, (key,)).fetchone())

    def find_all(self, keys: Sequence[str]) -> dict[str, FileRow]:
        """Look up a few hundred files together. Blocking, for a millisecond.

        Returns:
            What is recorded, by key, whether or not the files are as they were. Nothing where a media service chose
            the objects' keys: `find` has these.
        """
        if self.is_new or self._has_locations or not keys:
            return {}
        assert self._reading is not None
        with self._translated():
            return _find_all_in(self._reading, keys)

    async def record(self, files: Sequence[RecordedFile]) -> None:
        """Record files, and wait until that is on disk. A cancelled call has recorded all of them or none.

        Raises:
            ManifestUnwritable: It can't be written. What was recorded before is whole.
        """
        if files:
            await run_shielded(self._call(self._add, files))

    async def _call(self, function: Callable[..., None], *arguments: object) -> None:
        def write() -> None:
            with self._write_lock:
                function(*arguments)

        await finish(asyncio.get_running_loop().run_in_executor(self._executor, write))

    def _add(self, files: Sequence[RecordedFile]) -> None:
        with self._transaction() as opened:
            _add_to(opened, files)

    async def record_mounts(self, mounts: Set[str], *, forget: Set[str] = frozenset()) -> None:
        """Add mount points, and forget others. As `record`."""
        after = (self.mounts - forget) | mounts
        if after != self.mounts:
            await run_shielded(self._call(self._change_mounts, after))

    def _change_mounts(self, after: frozenset[str]) -> None:
        with self._transaction() as opened:
            opened.execute("DELETE FROM mount")
            opened.executemany(_ADD_MOUNT, [(key,) for key in after])
        self.mounts = after

    async def finish(
        self, *, keep: Callable[[str], bool] | None = None, known: int | None = None, gone: int = 0
    ) -> None:
        """Record that the job is done, or that all is done but files that do not exist.

        What is recorded of its files is of use to a sync: see `OtherJobs`.

        Args:
            keep: Called in a thread with each key, and returns whether to keep the file. None: every file is kept.
            known: How many of the recorded files are known to be kept. If it is all of them, `keep` is not called.
            gone: How many files do not exist. The job then stays unfinished: they may come, and the same call
                sends them alone.
        """
        await run_shielded(self._call(self._finish, keep, known, gone))

    def _finish(self, keep: Callable[[str], bool] | None, known: int | None, gone: int) -> None:
        if gone:
            with self._transaction() as opened:
                opened.execute("UPDATE job SET gone = ?", (gone,))
            return
        if keep is not None:
            self._forget(keep, known)
        with self._transaction() as opened:
            opened.execute(_END_RUN, (self._now(),))

    def _forget(self, keep: Callable[[str], bool], known: int | None) -> None:
        """Forget the files whose keys are not to be kept, some thousand at a time."""
        assert self._reading is not None
        with self._translated():
            if known is not None and self._reading.execute("SELECT count(*) FROM file").fetchone() == (known,):
                return
        last = ""
        while True:
            with self._transaction() as opened:
                rows = self._reading.execute(_NEXT_KEYS, (last,)).fetchall()
                if not rows:
                    return
                opened.executemany("DELETE FROM file WHERE key = ?", [row for row in rows if not keep(row[0])])
            last = rows[-1][0]

    def close(self) -> None:
        """Close the file, and release the lock last of all. A record that has nothing is deleted. Idempotent."""
        needed = self.may_lack_files or bool(self.mounts)
        empty = self._writing is not None and not needed and read_job(self.path).is_empty
        for connection in filter(None, (self._reading, self._writing)):
            with contextlib.suppress(sqlite3.Error):  # the rows are on disk already
                connection.close()
        self._reading = self._writing = None
        if empty:  # an empty one would look like a job
            with contextlib.suppress(OSError):
                delete_record(self.path)
        self._lock.release()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as e:
            raise self._unwritable(e) from e
        except sqlite3.Error as e:
            raise errors.ManifestCorrupt(
                f"{self.path} is damaged or no record of a job ({e}): to upload all files again, `resume=False`"
            ) from e

    def _unwritable(self, e: OSError | sqlite3.Error, *, creating: bool = False) -> errors.ManifestUnwritable:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF
        full = getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or code == sqlite3.SQLITE_FULL
        if is_out_of_descriptors(e) or is_at_file_limit(e):
            advice = ""
        elif full or _is_full(self.path):
            advice = "; free some space on that disk, then run again"
        else:
            advice = "; set BIGUPLOAD_STATE_DIR to a directory that you can write to"
        return errors.ManifestUnwritable(
            f"can't write the job's record {self.path}: {reason_of(e)}{advice}",
            lasting=is_lasting(e, creating=creating) or code == sqlite3.SQLITE_READONLY,
        )


def read_job(path: Path) -> KnownJob:
    """Read a record's facts about its job. Blocking. Nothing is changed, and no lock is needed."""
    facts: dict[str, Any]
    try:
        _check_private(path)
        facts = {"status": "unreadable", "error": _EMPTY} if _has_no_byte(path) else _read(path, _facts)
    except (OSError, TypeError, sqlite3.Error) as e:
        facts = {"status": "unreadable", "error": _why_unreadable(path, e)}
    return KnownJob(record=path, id=path.name.removesuffix(JOB_SUFFIX), **facts)


def _why_unreadable(path: Path, e: Exception) -> str:
    return f"{e}: no space left on that disk" if isinstance(e, sqlite3.Error) and _is_full(path) else str(e)


def _check_private(path: Path) -> None:
    """Raises OSError or DatabaseError."""
    if not is_private_file(path.lstat()):
        raise sqlite3.DatabaseError("it is another user's, or not a regular file")


def _read(path: Path, function: Callable[[sqlite3.Connection], R]) -> R:
    """Read something of a record. Writes nothing, so a full disk is no obstacle. Raises OSError or sqlite3.Error."""
    before = _at_rest(path)
    if before is not None:
        try:
            with contextlib.closing(_open_immutable(path)) as opened:
                found = function(opened)
        except sqlite3.Error:
            if _at_rest(path) == before:
                raise
        else:
            if _at_rest(path) == before:
                return found
    with contextlib.closing(_connect(path, "mode=ro")) as opened:
        return function(opened)


def _mounts(opened: sqlite3.Connection) -> frozenset[str]:
    _check_database(opened)
    if opened.execute("SELECT 1 FROM sqlite_master WHERE name = 'mount'").fetchone() is None:
        return frozenset()
    return frozenset(key for (key,) in opened.execute("SELECT key FROM mount"))


def _facts(opened: sqlite3.Connection) -> dict[str, Any]:
    """Return the fields of a `KnownJob` that its record has."""
    _, job = _job(opened)
    if job["finished"] is None:
        job["files"], job["bytes"] = opened.execute(_COUNTS).fetchone()
    job["status"] = "unfinished" if job["finished"] is None else "finished"
    job["last_finished"] = job["finished"] or job.pop("past")
    job["arguments"] = tuple(json.loads(job["arguments"]))
    return {name: value for name, value in job.items() if name in KnownJob.__annotations__}


def _job(opened: sqlite3.Connection) -> tuple[Set[str], dict[str, Any]]:
    """Return which columns a job's row has, and their values. `open` adds those that earlier versions did not write.

    Of a record that was not opened since, their values are those that earlier versions wrote elsewhere.
    """
    _check_database(opened)
    cursor = opened.execute("SELECT * FROM job")
    job = dict(zip([name for name, *_ in cursor.description], cursor.fetchone(), strict=True))
    stored = job.keys() | set()
    if "command" not in stored:
        tables = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
        for column, table, select in (
            ("past", "past", "SELECT finished FROM past"),
            ("token", "own", "SELECT token FROM own"),
        ):
            row = opened.execute(select).fetchone() if table in tables else None
            job[column] = None if row is None else row[0]
        (job["gone"],) = opened.execute("PRAGMA user_version").fetchone()
        _, at, endpoint = job["target"].rpartition("/ at ")
        job |= {"endpoint": endpoint if at else None, **_columns(_job_of_text(job["name"]))}
    return stored, job


def _columns(name: JobName | None) -> dict[str, str | None]:
    """What a record has of a job's command."""
    if name is None:
        return {"command": None, "arguments": "[]", "directory": None}
    return {"command": name.command, "arguments": json.dumps(name.arguments), "directory": name.directory}


def known_jobs(directory: Path) -> list[KnownJob]:
    """Read the records of a directory, the least recently written first. Blocking.

    Raises:
        ManifestError: The directory can't be listed.
    """
    try:
        found = [path for path in directory.iterdir() if path.name.endswith(JOB_SUFFIX)]
    except FileNotFoundError:
        return []
    except OSError as e:
        raise unlistable(directory, e) from e
    return [read_job(path) for path in sorted(found, key=last_written)]


def _has_no_byte(path: Path) -> bool:
    """Raises OSError."""
    return not path.lstat().st_size


def delete_record(path: Path) -> None:
    """Delete a record whose lock the caller holds, with SQLite's files beside it."""
    if os.path.lexists(path) and not is_private_file(path.lstat()):
        raise PermissionError(errno.EPERM, f"{path.name} belongs to another user, or is not a regular file")
    for name in (path.name, *(f"{path.name}{ending}" for ending in ("-wal", "-shm", "-journal"))):
        path.with_name(name).unlink(missing_ok=True)


def last_written(path: Path) -> float:
    """Return when a file was last written, in seconds since 1970; 0 if it is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def open_database(path: Path) -> sqlite3.Connection:
    """Open a record's database, which need not be one. Blocking."""
    opened = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        opened.execute("PRAGMA synchronous = FULL")  # each commit is on disk when it returns
        opened.execute("PRAGMA fullfsync = ON")  # also on macOS, the one system on which this does anything
    except BaseException:
        opened.close()
        raise
    return opened


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, timeout=60, isolation_level=None, check_same_thread=False
    )


def _at_rest(path: Path) -> tuple[int, ...] | None:
    """Return what a write changes of a record that is whole in its one file; None: a process writes it, or was killed.

    Its last connection writes all to that file as it closes.
    """
    for ending in ("-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            if path.with_name(f"{path.name}{ending}").stat().st_size:
                return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _open_immutable(path: Path) -> sqlite3.Connection:
    """Open a record that is at rest without the files that SQLite has beside one: a full disk has no room for them."""
    return _connect(path, "mode=ro&immutable=1")


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a record that is read for a while, in which another process may write to it. Blocking."""
    try:
        opened = open_database(path)
        try:
            _check_database(opened)
        except BaseException:
            opened.close()
            raise
    except sqlite3.OperationalError:  # a full disk, or one that is mounted read-only: nobody else can write, either
        if _at_rest(path) is None:
            raise
        return _open_immutable(path)
    return opened


def _is_full(path: Path) -> bool:
    """Whether the disk of a record has no room. SQLite says then that it can't open or can't write something."""
    with contextlib.suppress(OSError, AttributeError):  # Windows has no statvfs
        return os.statvfs(path.parent).f_bavail == 0
    return False


def _check_database(opened: sqlite3.Connection) -> None:
    """Raise DatabaseError unless this version wrote a record into it."""
    if opened.execute("PRAGMA application_id").fetchone() != (_APPLICATION,):
        raise sqlite3.DatabaseError("another program or version wrote it")


def locate_job(name: str | os.PathLike[str], directory: Path) -> KnownJob | None:
    """Return the job whose record a path, an id or the beginning of an id names; None: no job. Blocking.

    Raises:
        UsageError: The id's beginning fits several jobs.
        ManifestError: The directory can't be listed.
    """
    text = os.fspath(name)
    if os.path.lexists(text):
        return read_job(Path(text)) if text.endswith(JOB_SUFFIX) else None
    beginning = text.removesuffix(JOB_SUFFIX)
    if len(beginning) < _MIN_PREFIX or os.sep in beginning:
        return None
    found = [job for job in known_jobs(directory) if job.id.startswith(beginning)]
    if len(found) > 1:
        raise errors.UsageError(f"{text!r} fits several jobs, write more of its id: {', '.join(j.id for j in found)}")
    return found[0] if found else None


def forget_job(job: KnownJob) -> None:
    """Delete a job's record. Its objects stay. Blocking.

    Raises:
        ManifestLocked: A process runs the job.
        ManifestUnwritable: The record can't be deleted.
    """
    lock = ManifestLock(job.record, held="this job is running")
    try:
        lock.acquire()
        try:
            delete_record(job.record)
        finally:
            lock.release()
    except OSError as e:
        raise errors.ManifestUnwritable(f"can't delete {job.record}: {e.strerror}", lasting=is_lasting(e)) from e


class OtherJobs:
    """The records of a directory that are about one target. They are read alone, and need no lock."""

    def __init__(self, record: Path, target: str) -> None:
        """Open them. Blocking. What is damaged is left out.

        Args:
            record: The caller's own record, beside which they are.
            target: What their keys begin with, as they name it.
        """
        self._opened: list[sqlite3.Connection] = []
        others = [path for path in record.parent.glob(f"*{JOB_SUFFIX}") if path != record]
        for path in sorted(others, key=last_written, reverse=True):
            with contextlib.suppress(OSError, sqlite3.Error):
                if len(self._opened) < _MOST_OTHER_JOBS and is_private_file(path.lstat()):
                    self._open(path, target)

    def _open(self, path: Path, target: str) -> None:
        opened = _open_to_read(path)
        is_kept = False
        try:
            _check_database(opened)
            is_kept = opened.execute("SELECT target FROM job").fetchone() == (target,)
        finally:
            if is_kept:
                self._opened.append(opened)
            else:
                opened.close()

    def find_all(self, keys: Sequence[str]) -> Iterator[dict[str, FileRow]]:
        """Look up a few hundred files together. Yields what each record has of them, by key. Blocking."""
        for opened in self._opened:
            with contextlib.suppress(sqlite3.Error):
                yield _find_all_in(opened, keys)

    def close(self) -> None:
        """Close them. Idempotent."""
        while self._opened:
            with contextlib.suppress(sqlite3.Error):
                self._opened.pop().close()

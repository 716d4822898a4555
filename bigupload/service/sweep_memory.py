"""Store a sweep's results: the object versions that are media, and the sweep's progress.

This is a cache in an SQLite file. Without it, a sweep checks everything again, and nothing else is lost. So a file that
is damaged or cannot be written is replaced by one in memory. The file grows by about 25 bytes for each object in the
bucket; the memory of the process does not grow.

The file is valid for one version of the rules, and for one process at a time: see `SweepLock`.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import weakref
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import filelock

from bigupload.service.policy import PUBLISHED_POLICY, Policy
from bigupload.support.files import file_lock
from bigupload.version import __version__

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
        self._path = None if path is None else path.with_suffix(".lock")
        self._lock = None if self._path is None else file_lock(self._path)

    def take(self) -> bool:
        """Take the lock. Returns False if another process has it. Blocking, but does not wait."""
        if self._path is not None and self._lock is not None:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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

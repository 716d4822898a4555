"""What a sweep remembers: the versions of objects that it found to be media, and how far it has come.

A cache in an SQLite file. Without it everything is looked at again, and nothing else is lost: so a file that is
damaged, or can't be written, is replaced by one in memory. Its size grows with the bucket, by some 25 bytes for each
object; the memory of the process does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

R = TypeVar("R")

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS judged (mark INTEGER PRIMARY KEY, sweep INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS progress (id INTEGER PRIMARY KEY, sweep INTEGER NOT NULL, after TEXT NOT NULL);
    INSERT OR IGNORE INTO progress VALUES (1, 0, '');
"""
_AT_ONCE = 500
"""Values in one statement: SQLite has had a limit of 999."""


def mark_of(*version: str) -> int:
    """A number for a version of an object; two of a million versions share one with a chance of 1 in 10⁷."""
    digest = hashlib.blake2b("\n".join(version).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


class SweepMemory:
    """The memory of one bucket's sweeps. Blocking, and quick."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` is the file, made where it is missing; None: in memory only."""
        self._database = _in_memory() if path is None else _open(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def position(self) -> str:
        """The key after which an interrupted sweep continues; empty: at the beginning."""
        return str(self._run(lambda database: database.execute("SELECT after FROM progress").fetchone()[0]))

    def known(self, marks: Sequence[int]) -> set[int]:
        """Those of `marks` that were found to be media."""

        def find(database: sqlite3.Connection) -> set[int]:
            found: set[int] = set()
            for start in range(0, len(marks), _AT_ONCE):
                some = marks[start : start + _AT_ONCE]
                places = ",".join("?" * len(some))
                rows = database.execute(f"SELECT mark FROM judged WHERE mark IN ({places})", some)  # noqa: S608 - places
                found.update(mark for (mark,) in rows)
            return found

        return self._run(find)

    def page_done(self, after: str, marks: Collection[int]) -> None:
        """Everything up to the key `after` was swept; the objects with these marks are media, and are there."""

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
        """A sweep has come to its end: forget the objects that it did not meet."""

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.execute("DELETE FROM judged WHERE sweep < (SELECT sweep FROM progress)")
                database.execute("UPDATE progress SET sweep = sweep + 1, after = ''")

        self._run(write)

    def _run(self, action: Callable[[sqlite3.Connection], R]) -> R:
        """A full disk or a damaged file must not end a sweep: it goes on in memory, without what was remembered."""
        try:
            return action(self._database)
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = _in_memory()
            return action(self._database)


def _in_memory() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.executescript(_SCHEMA)
    return database


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return _in_memory()
    for may_replace in (True, False):
        try:
            database = sqlite3.connect(path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")  # after a power cut it may be a sweep behind, and is sound
            database.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            if may_replace:
                with contextlib.suppress(OSError):
                    path.unlink()
            continue
        return database
    return _in_memory()

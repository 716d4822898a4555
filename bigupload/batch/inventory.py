"""The objects below a prefix, looked up by key while the files are met, and those that no file was met for.

A store may list its keys in any order: SeaweedFS and S3's directory buckets do not list them as S3 does. So the list is
kept in a temporary database of its own, which is on disk as far as it is large, has no name, and ends with the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from bigupload import errors
from bigupload.records import dataclass

_SCHEMA = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = FILE",
    "CREATE TABLE object (key TEXT PRIMARY KEY, size INTEGER, etag TEXT, met INTEGER DEFAULT 0) WITHOUT ROWID",
)
_ADD = (
    "INSERT INTO object (key, size, etag) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET size = excluded.size, etag = excluded.etag"  # what was met stays met
)
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a list has it."""

    key: str
    size: int
    """In bytes."""
    etag: str
    """With quotes or without, as the store writes it."""


class Inventory:
    """The objects that a store listed. Used in one thread at a time; each call takes microseconds for each object."""

    def __init__(self) -> None:
        """Begin with none. Each method raises ManifestUnwritable if the database can't be written."""
        self._objects = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._is_empty = True
        for statement in _SCHEMA:
            self._objects.execute(statement)

    def add(self, objects: Iterable[ListedObject]) -> None:
        """Add the objects of one page. One that is listed twice counts once, as it was listed last."""
        rows = [(each.key, each.size, each.etag) for each in objects]
        self._is_empty = self._is_empty and not rows
        try:
            self._objects.execute("BEGIN")
            self._objects.executemany(_ADD, rows)
            self._objects.execute("COMMIT")
        except sqlite3.OperationalError as e:
            raise _unwritable(e) from e

    def meet(self, key: str) -> ListedObject | None:
        """Look up the object of a file, and mark it as one that has a file; None if it does not exist."""
        if self._is_empty:  # as when a directory is synced for the first time
            return None
        try:
            found = self._objects.execute("UPDATE object SET met = 1 WHERE key = ? RETURNING size, etag", (key,))
            row = found.fetchall()  # the statement is done when all of it is read
        except sqlite3.OperationalError as e:
            raise _unwritable(e) from e
        return ListedObject(key, *row[0]) if row else None

    def not_met(self) -> Iterator[list[ListedObject]]:
        """The objects that have no file, in the order of their keys, a thousand at a time."""
        last = ""
        while True:
            rows = self._objects.execute(
                "SELECT key, size, etag FROM object WHERE key > ? AND NOT met ORDER BY key LIMIT ?", (last, _PAGE)
            ).fetchall()
            if not rows:
                return
            yield [ListedObject(*row) for row in rows]
            last = rows[-1][0]

    def close(self) -> None:
        """Forget them. May be called again."""
        self._objects.close()


def _unwritable(error: sqlite3.OperationalError) -> errors.ManifestUnwritable:
    return errors.ManifestUnwritable(
        f"can't keep the list of the bucket in a temporary file ({error}): free some space, or name "
        "another directory in SQLITE_TMPDIR"
    )

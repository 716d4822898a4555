"""The objects below a prefix, looked up by key while the files are met, and those that no file was met for.

Not every store lists keys in the order of their bytes: SeaweedFS and S3's directory buckets do not. So the list is kept
in a temporary SQLite database. A large one is on disk. It has no name there, and ends with the process.

`StoreList` reads the list while the files are compared with it. An object that was listed exists, so its file is
compared at once. That an object does not exist is certain only at the end of the list, so the other files wait for it.
"""

from __future__ import annotations

import asyncio
import operator
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from bigupload import errors
from bigupload.support.cancellation import end_task
from bigupload.support.files import is_at_file_limit, reason_of

_SCHEMA = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = FILE",
    "CREATE TABLE object (key TEXT PRIMARY KEY, size INTEGER, etag TEXT, met INTEGER DEFAULT 0) WITHOUT ROWID",
)
_ADD = (
    "INSERT INTO object (key, size, etag) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET size = excluded.size, etag = excluded.etag"  # keys that were met stay met
)
_MEET = "UPDATE object SET met = 1 WHERE key IN ({}) RETURNING key, size, etag"
_PAGE = 1000


Row: TypeAlias = tuple[str, int, str]
"""An object's key, size and ETag."""


class ListedObject(NamedTuple):
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

    def add(self, objects: Iterable[Row]) -> None:
        """Add the objects of one page. Of an object that is listed twice, the later entry counts."""
        rows = list(objects)
        self._is_empty = self._is_empty and not rows
        try:
            self._objects.execute("BEGIN")
            self._objects.executemany(_ADD, rows)
            self._objects.execute("COMMIT")
        except sqlite3.OperationalError as e:
            raise _unwritable(e) from e

    def meet(self, key: str) -> ListedObject | None:
        """Look up the object of a file, and mark it as one that has a file; None if it does not exist."""
        row = self.meet_all([key]).get(key)
        return None if row is None else ListedObject._make(row)

    def meet_all(self, keys: Sequence[str]) -> dict[str, Row]:
        """Look up the objects of a few hundred files, as `meet`. Returns those that exist, by their keys."""
        if self._is_empty or not keys:  # empty: as when a directory is synced for the first time
            return {}
        try:
            found = self._objects.execute(_MEET.format(",".join("?" * len(keys))), keys)
            rows = found.fetchall()  # the statement is done when all of it is read
        except sqlite3.OperationalError as e:
            raise _unwritable(e) from e
        return {row[0]: row for row in rows}

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
    advice = "" if is_at_file_limit(error) else ": free some space, or name another directory in SQLITE_TMPDIR"
    return errors.ManifestUnwritable(
        f"can't keep the list of the bucket in a temporary file ({reason_of(error)}){advice}"
    )


class ListFailed(Exception):
    """The list could not be read to its end. It is not the error of the waiting file: `cause` ends the sync."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class StoreList:
    """One list, read by a task of its own from `__aenter__` on. The task ends with the block."""

    def __init__(self, inventory: Inventory, next_page: Callable[[], Awaitable[Sequence[Row] | None]]) -> None:
        """Read nothing yet.

        Args:
            inventory: Where the objects are kept.
            next_page: Returns the next objects; None after the last ones. What it raises ends the list.
        """
        self._inventory = inventory
        self._next_page = next_page
        self._has_ended = False
        self._failure: BaseException | None = None
        self._grown = asyncio.Event()
        self._last = ""
        """The last key of the list. Keys are compared by code points, whose order is that of their bytes in UTF-8."""
        self._is_ordered = True

    async def __aenter__(self) -> StoreList:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_task(self._reading)

    async def _read(self) -> None:
        try:
            while (page := await self._next_page()) is not None:
                self._inventory.add(page)
                self._look_at_order(page)
                self._wake()
            self._has_ended = True
        except Exception as e:
            self._failure = e
        finally:
            self._wake()

    def _look_at_order(self, page: Sequence[Row]) -> None:
        keys = [self._last, *(row[0] for row in page)]
        self._is_ordered = self._is_ordered and all(map(operator.lt, keys, keys[1:]))
        self._last = keys[-1]

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def reached(self, key: str) -> None:
        """Wait until the list has come to this key. If it is not in the order of its keys, return at once.

        Raises:
            ListFailed: The list failed.
        """
        while not self.has_reached(key):
            await self._more()

    def has_reached(self, key: str) -> bool:
        """Whether nobody need wait for this key: the list has come to it, or is not in the order of its keys."""
        return not self._is_ordered or self._has_ended or key <= self._last

    async def find(self, key: str) -> ListedObject | None:
        """Look up an object. Its absence is certain only at the end of the list.

        Raises:
            ListFailed: The list failed.
        """
        while True:
            found = self._inventory.meet(key)
            if found is not None or self._has_ended:
                return found
            await self._more()

    async def read_all(self) -> None:
        """Wait for the end of the list.

        Raises:
            ListFailed: The list failed.
        """
        while not self._has_ended:
            await self._more()

    async def _more(self) -> None:
        if self._failure is None:
            await self._grown.wait()
        if self._failure is not None:
            raise ListFailed(self._failure)

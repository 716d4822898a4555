"""The objects below a prefix, looked up by key while the files are met, and those that no file was met for.

Not every store lists keys in the order of their bytes: SeaweedFS and S3's directory buckets do not. So the list is kept
in a temporary SQLite database. A large one is on disk. It has no name there, and ends with the process.

`StoreList` reads the list while the files are compared with it. An object that was listed exists, so its file is
compared at once. That an object does not exist is certain only at the end of the list, so the other files wait for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from types import TracebackType

from bigupload import errors
from bigupload.records import dataclass
from bigupload.support.shielding import run_shielded

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
        """Add the objects of one page. Of an object that is listed twice, the later entry counts."""
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


class ListFailed(Exception):
    """The list could not be read to its end. It is no error of the file that waits for it: `cause` ends the sync."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class StoreList:
    """One list, read by a task of its own from `__aenter__` on. The task ends with the block."""

    def __init__(self, inventory: Inventory, next_page: Callable[[], Awaitable[Sequence[ListedObject] | None]]) -> None:
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

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await run_shielded(_end(self._reading))

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

    def _look_at_order(self, page: Sequence[ListedObject]) -> None:
        for each in page:
            self._is_ordered = self._is_ordered and self._last < each.key
            self._last = each.key

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def meet(self, key: str) -> ListedObject | None:
        """Look up an object that was listed already, as `Inventory.meet`."""
        return self._inventory.meet(key)

    async def reached(self, key: str) -> None:
        """Wait until the list has come to this key. If it is not in the order of its keys, return at once.

        Raises:
            ListFailed: The list failed.
        """
        while self._is_ordered and not self._has_ended and self._last < key:
            await self._more()

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


async def _end(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})

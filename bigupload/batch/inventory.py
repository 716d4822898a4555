"""The objects below a prefix, looked up by key while the files are listed, and those that no file matched.

Not every store lists keys in the order of their bytes: SeaweedFS and S3's directory buckets do not. So the list is kept
in a temporary SQLite database. A large one is on disk. It has no name there, and ends with the process.

`StoreList` reads the list while the files are compared with it. An object that was listed exists, so its file is
compared at once. That an object does not exist is certain only at the end of the list, so the other files wait for it.

`MountPoints` has the file systems that are mounted below the directory. It finds those that are not mounted now, and
whose files were synced once. A directory on which nothing is mounted any more looks as if its files had been deleted. A
mount point is on another device than the directory above it. Numbers of devices are not compared with those of earlier
days: they change with a start of the machine, and a stick gets the number of the one before it.
"""

from __future__ import annotations

import asyncio
import operator
import os
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from bigupload import errors
from bigupload.batch.tree import FileEntry, Found
from bigupload.support.cancellation import end_task
from bigupload.support.files import is_at_file_limit, reason_of

_SCHEMA = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = FILE",
    "CREATE TABLE object (key TEXT PRIMARY KEY, size INTEGER, etag TEXT, matched INTEGER DEFAULT 0) WITHOUT ROWID",
)
_ADD = (
    "INSERT INTO object (key, size, etag) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET size = excluded.size, etag = excluded.etag"  # keys that were matched stay matched
)
_MATCH = "UPDATE object SET matched = 1 WHERE key IN ({}) RETURNING key, size, etag"
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

    def match(self, key: str) -> ListedObject | None:
        """Look up the object of a file, and mark it as one that has a file; None if it does not exist."""
        row = self.match_all([key]).get(key)
        return None if row is None else ListedObject._make(row)

    def match_all(self, keys: Sequence[str]) -> dict[str, Row]:
        """Look up the objects of a few hundred files, as `match`. Returns those that exist, by their keys."""
        if self._is_empty or not keys:  # empty: as when a directory is synced for the first time
            return {}
        try:
            found = self._objects.execute(_MATCH.format(",".join("?" * len(keys))), keys)
            rows = found.fetchall()  # the statement is done when all of it is read
        except sqlite3.OperationalError as e:
            raise _unwritable(e) from e
        return {row[0]: row for row in rows}

    def unmatched(self) -> Iterator[list[ListedObject]]:
        """The objects that have no file, in the order of their keys, a thousand at a time."""
        last = ""
        while True:
            rows = self._objects.execute(
                "SELECT key, size, etag FROM object WHERE key > ? AND NOT matched ORDER BY key LIMIT ?", (last, _PAGE)
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
        while self._is_ordered and not self._has_ended and key > self._last:
            await self._more()

    async def find(self, key: str) -> ListedObject | None:
        """Look up an object. Its absence is certain only at the end of the list.

        Raises:
            ListFailed: The list failed.
        """
        while True:
            found = self._inventory.match(key)
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


_MOST_KNOWN = 1000
"""Directories whose devices are remembered: the files of each come together."""
_OF_EXT = "lost+found"
"""The directory that an empty file system has, if it is one of ext2 to ext4."""


def why_unmounted(*, was_mounted: bool, is_mounted: bool, is_empty: bool) -> str | None:
    """Return why the files of a directory may only be out of sight; None: what is gone from it was deleted.

    Args:
        was_mounted: Whether it was a mount point when its files were synced.
        is_mounted: Whether it is one now.
        is_empty: Whether nothing is in it.
    """
    if was_mounted and not is_mounted:
        return "was a file system of its own when its files were synced, and is none now"
    if is_mounted and is_empty:
        return "is an empty file system, and had files when it was synced"
    return None


class MountPoints:
    """The mount points of one directory: itself, "", and those below it, by the beginnings of their keys, as "a/b/"."""

    def __init__(self, directory: str, recorded: Collection[str]) -> None:
        """Look at nothing yet.

        Args:
            directory: Its path.
            recorded: Its mount points whose files were synced.
        """
        self.found: set[str] = set()
        """Those that have a file now."""
        self.merged: set[str] = set()
        """Recorded ones that have a file now and are mount points no more."""
        self._directory = directory
        self._recorded = frozenset(recorded)
        self._devices: dict[str, int | None] = {}
        self._away: dict[str, tuple[str, str] | None] = {}

    def noting(self, files: Iterator[Found]) -> Iterator[Found]:
        """Hand files on, and look at each directory that has one."""
        last = None
        for each in files:
            if isinstance(each, FileEntry) and (folder := _folder(each.key)) != last:
                last = folder
                for above in _above(folder):
                    if self._is_mounted(above):
                        self.found.add(above)
                    elif above in self._recorded:
                        self.merged.add(above)
            yield each

    def look_again(self) -> None:
        """Let `unmounted` look at the directories again: one may have been unmounted since."""
        self._devices.clear()
        self._away.clear()

    def unmounted(self, key: str) -> tuple[str, str] | None:
        """Return the topmost directory above a file that may not be mounted, with the reason; None: there is none."""
        folder = _folder(key)
        if folder not in self._away:
            if len(self._away) >= _MOST_KNOWN:
                self._away.clear()
            whys = ((above, self._why_unmounted(above)) for above in _above(folder))
            self._away[folder] = next(((above, why) for above, why in whys if why is not None), None)
        return self._away[folder]

    def _why_unmounted(self, folder: str) -> str | None:
        is_mounted = self._is_mounted(folder)
        return why_unmounted(
            was_mounted=folder in self._recorded or folder in self.found,
            is_mounted=is_mounted,
            is_empty=is_mounted and _is_empty(f"{self._directory}/{folder}"),
        )

    def _is_mounted(self, folder: str) -> bool:
        device, above = self._device(folder), self._device(_folder(folder[:-1]) if folder else "../")
        return None not in (device, above) and device != above

    def _device(self, folder: str) -> int | None:
        if folder not in self._devices:
            if len(self._devices) >= _MOST_KNOWN:
                self._devices.clear()
            try:
                self._devices[folder] = os.stat(f"{self._directory}/{folder}").st_dev
            except OSError:
                self._devices[folder] = None
        return self._devices[folder]


def _folder(key: str) -> str:
    return key[: key.rfind("/") + 1]


def _above(folder: str) -> Iterator[str]:
    """The directories on the way to one, and itself, from the top down."""
    yield ""
    at = folder.find("/")
    while at >= 0:
        yield folder[: at + 1]
        at = folder.find("/", at + 1)


def _is_empty(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return all(entry.name == _OF_EXT for entry in entries)
    except OSError:
        return False

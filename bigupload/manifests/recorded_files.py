"""The files of a job's record: the rows of its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from bigupload.core.integrity import Verified
from bigupload.core.manifest import Fingerprint
from bigupload.records import dataclass

FILES = (
    "CREATE TABLE file (key TEXT PRIMARY KEY, path TEXT, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER, "
    "etag TEXT, checksum TEXT, verified TEXT, version TEXT) WITHOUT ROWID"
)
PLACES = "CREATE TABLE IF NOT EXISTS place (key TEXT PRIMARY KEY, object TEXT, url TEXT) WITHOUT ROWID"
_ADD = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_PLACE = "INSERT OR REPLACE INTO place VALUES (?, ?, ?)"
_FIND = (
    "SELECT etag, checksum, verified, version FROM file WHERE (key, path, size, mtime, ctime, inode) = (?,?,?,?,?,?)"
)
_FIND_PLACE = "SELECT object, url FROM place WHERE key = ?"


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
    place: tuple[str, str] | None = None
    """The object's key and URL, if a media service chose them; None: they are known from the key."""


def add_to(opened: sqlite3.Connection, files: Sequence[RecordedFile]) -> None:
    """Add files, within a transaction of the caller."""
    rows = [
        (
            each.key,
            _text(each.path),
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
    if places := [(each.key, *each.place) for each in files if each.place is not None]:
        opened.executemany(_ADD_PLACE, places)


def find_in(
    opened: sqlite3.Connection, key: str, path: str, fingerprint: Fingerprint, *, with_place: bool = False
) -> RecordedFile | None:
    """Look a file up, and its object's key and URL if they were recorded."""
    f = fingerprint
    row = opened.execute(_FIND, (key, _text(path), f.size, f.mtime_ns, f.ctime_ns, f.inode)).fetchone()
    if row is None:
        return None
    etag, checksum, verified, version = row
    place = opened.execute(_FIND_PLACE, (key,)).fetchone() if with_place else None
    return RecordedFile(
        key=key,
        path=path,
        fingerprint=f,
        etag=etag,
        checksum=checksum,
        verified=Verified(verified),
        version_id=version,
        place=place,
    )


def _text(path: str) -> str:
    """SQLite's texts are UTF-8, and a path may be none."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

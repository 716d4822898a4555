"""The files of a sync that are in the store already, found by records alone: some hundred files at a time.

In most syncs that is nearly every file, and two look-ups for each would take longer than all else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from bigupload.batch.inventory import Inventory
from bigupload.batch.tree import FileEntry
from bigupload.core.integrity import Verified
from bigupload.manifests.job_record import FileRow, JobRecord, OtherJobs, stored_path


class SameFiles(NamedTuple):
    """The files of a batch whose objects are proved to be them. By their keys below the target."""

    all: dict[str, FileRow]
    new: dict[str, FileRow]
    """The rows that the sync's own record does not have yet."""


class FileComparison:
    """Compares the files of one sync with the list of the bucket and with the records. It sends nothing."""

    def __init__(
        self,
        listed: Inventory,
        record: JobRecord,
        others: OtherJobs | None,
        *,
        directory: str,
        prefix: str,
        required: Verified,
        size_only: bool,
    ) -> None:
        """Look at nothing yet.

        Args:
            listed: The objects that the store has listed so far.
            record: What earlier syncs recorded.
            others: What other jobs recorded below the target; None: that counts for nothing.
            directory: The directory of the files, as it is listed.
            prefix: Is before the key of each file.
            required: What a record must have proved.
            size_only: Whether an object of the same size counts as the file, without any record.
        """
        self._listed = listed
        self._record = record
        self._others = others
        self._base = os.path.join(os.path.abspath(directory), "")  # noqa: PTH100, PTH118 - keeps links; a text
        self._stored_base = stored_path(self._base)
        self._prefix = prefix
        self._enough = frozenset(each.value for each in Verified if each.satisfies(required))
        self._size_only = size_only

    def path_of(self, key: str) -> str:
        """Return the absolute path of the file that has a key, as `os.path.abspath` returns it."""
        return self._base + key.replace("/", os.sep)

    def find(self, files: Iterable[FileEntry]) -> SameFiles:
        """Compare files, and mark their objects as met. Blocking, for some microseconds a file.

        What is not found may be there all the same: its object may be listed later, or must be asked for.
        """
        prefix = self._prefix
        keys = {prefix + each.key: each for each in files if each.inode and "\\" not in each.key}  # see `_object_of`
        there = [
            (each, etag)
            for key, size, etag in self._listed.meet_all([*keys]).values()
            if size == (each := keys[key]).size
        ]
        if self._size_only:
            return SameFiles({each.key: _of_same_size(each, etag) for each, etag in there}, {})
        found = self._proved(there, self._record.find_all([each.key for each, _ in there]))
        new: dict[str, FileRow] = {}
        if self._others is not None and len(found) < len(there):
            rest = [(each, etag) for each, etag in there if each.key not in found]
            for rows in self._others.find_all([each.key for each, _ in rest]):
                new = self._proved(rest, rows) | new  # the first record counts
        return SameFiles(found | new if new else found, new)

    def _proved(self, there: Iterable[tuple[FileEntry, str]], rows: dict[str, FileRow]) -> dict[str, FileRow]:
        """Return the files whose metadata and objects' ETags are as recorded. An object without an ETag never is."""
        found: dict[str, FileRow] = {}
        base, enough = self._stored_base, self._enough
        for each, listed in there if rows else ():
            if (row := rows.get(each.key)) is not None:
                path, size, mtime_ns, ctime_ns, inode, etag, _, verified, _ = row
                if (
                    (size, mtime_ns, ctime_ns, inode) == (each.size, each.mtime_ns, each.ctime_ns, each.inode)
                    and path == base + each.key.replace("/", os.sep)
                    and (bare := listed.strip('"'))
                    and etag.strip('"') == bare
                    and verified in enough
                ):
                    found[each.key] = row
        return found


def _of_same_size(file: FileEntry, etag: str) -> FileRow:
    """Return the row of a file whose object has its size; nothing else was compared."""
    return file.path, file.size, file.mtime_ns, file.ctime_ns, file.inode, etag, None, Verified.SIZE, None

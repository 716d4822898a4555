"""Which files of a sync are in the store already, by records alone: some hundred files at a time.

In most syncs that is nearly every file, and two look-ups for each would take longer than all else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from bigupload.batch.inventory import StoreList
from bigupload.batch.tree import FileEntry
from bigupload.core.integrity import Verified
from bigupload.manifests.job_record import FileRow, JobRecord, ObjectRow, OtherJobs


class SameFiles(NamedTuple):
    """The files of a batch whose objects are proved to be them. By their keys below the target."""

    all: dict[str, ObjectRow]
    new: dict[str, ObjectRow]
    """Those of them that the sync's own record does not have yet."""


class FileComparison:
    """Compares the files of one sync with the list of the bucket and with the records. It sends nothing."""

    def __init__(
        self,
        listed: StoreList,
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
        wanted: dict[str, FileRow] = {}
        etags: dict[str, str] = {}
        for key, listed in self._listed.meet_all([*keys]).items():
            each = keys[key]
            if listed.size == each.size and (self._size_only or listed.etag.strip('"')):
                etags[each.key] = listed.etag if self._size_only else listed.etag.strip('"')
                wanted[each.key] = FileRow(self.path_of(each.key), each.size, each.mtime_ns, each.ctime_ns, each.inode)
        if self._size_only:
            return SameFiles({key: ObjectRow(etag, None, Verified.SIZE, None) for key, etag in etags.items()}, {})
        found = self._proved(self._record.find_all(wanted), etags)
        if self._others is None or len(found) == len(wanted):
            return SameFiles(found, {})
        rest = {key: file for key, file in wanted.items() if key not in found}
        new = self._proved(self._others.find_all(rest, etags), etags)
        return SameFiles(found | new, new)

    def _proved(self, rows: dict[str, ObjectRow], etags: dict[str, str]) -> dict[str, ObjectRow]:
        enough = self._enough
        return {key: row for key, row in rows.items() if row.verified in enough and row.etag.strip('"') == etags[key]}

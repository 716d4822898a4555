"""What other jobs recorded of files below a target. A sync right after an upload need not hash what that has proved."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from bigupload.core.manifest import Fingerprint
from bigupload.manifests.job_record import (
    JOB_SUFFIX,
    RecordedFile,
    check_database,
    find_in,
    last_written,
    open_database,
)
from bigupload.support.files import is_private_file

_MOST = 8
"""How many records are read, the latest ones: a file is looked up in one after another."""


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
                if len(self._opened) < _MOST and is_private_file(path.lstat()):
                    self._open(path, target)

    def _open(self, path: Path, target: str) -> None:
        opened = open_database(path)
        is_kept = False
        try:
            check_database(opened)
            is_kept = opened.execute("SELECT target FROM job").fetchone() == (target,)
        finally:
            if is_kept:
                self._opened.append(opened)
            else:
                opened.close()

    def find(self, key: str, path: str, fingerprint: Fingerprint, etag: str) -> RecordedFile | None:
        """Look up a file that was uploaded and has not changed since. It takes microseconds.

        Args:
            key: Below the target.
            path: Absolute.
            fingerprint: The file's.
            etag: The object's, without quotes. Another one is another object.
        """
        for opened in self._opened:
            with contextlib.suppress(sqlite3.Error):
                found = find_in(opened, key, path, fingerprint)
                if found is not None and found.etag.strip('"') == etag:
                    return found
        return None

    def close(self) -> None:
        """Close them. Idempotent."""
        while self._opened:
            with contextlib.suppress(sqlite3.Error):
                self._opened.pop().close()

"""What a selection of files hands on: files in the order of their keys, and what could not be selected."""

from __future__ import annotations

import os

from bigupload.core.manifest import Fingerprint
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file that was selected: where it is, what its key below the target's prefix is, and its metadata."""

    path: str
    """As the system opens it: relative to the working directory if the source was. May hold surrogate escapes."""
    key: str
    """Below the prefix: segments with "/" between them, none of them empty, "." or "..". Valid UTF-8, not empty."""
    size: int
    """In bytes, when the file was listed."""
    mtime_ns: int
    """The time of its last change, in nanoseconds since 1970."""
    ctime_ns: int = 0
    inode: int = 0

    @classmethod
    def of(cls, path: str, key: str, status: os.stat_result) -> FileEntry:
        """An entry with a file's metadata, which are those of the file that a symbolic link leads to."""
        return cls(path, key, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def fingerprint(self) -> Fingerprint:
        """What changes when the file is written or replaced."""
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class Omitted:
    """What the selection found but does not hand on: one line for a person."""

    path: str
    reason: str
    """Why, without the path: "a FIFO", "can't read the directory: Permission denied"."""
    is_failure: bool
    """Whether something that was to be uploaded is missing now, so that the job ends as failed. False for what never
    can be uploaded, such as sockets."""

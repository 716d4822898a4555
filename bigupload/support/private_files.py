"""What keeps files of this user's own: whose a file is, and making one where others may have put something before.

A user's own directories need none of this. It is for manifests in places that others can write, and for root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def is_ours(status: os.stat_result) -> bool:
    """Whether it is a regular file of this user's, or root's. For root everybody's is: a disk on the network may call
    root's own files somebody else's."""
    return stat.S_ISREG(status.st_mode) and _may_be_ours(status)


def ours_alone(directory: Path) -> bool:
    """Whether nobody else could have put a file there. A link counts as its directory, if nobody else made the link."""
    try:
        link, status = directory.lstat(), directory.stat()
    except OSError:
        return False
    return _may_be_ours(link) and _may_be_ours(status) and not status.st_mode & 0o022


def create_private(path: Path) -> int:
    """A descriptor that appends to a new file, mode 0600. What an earlier run of ours left there goes; a link,
    another user's file or anything else that is no file stays. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not is_ours(path.lstat()):
            raise PermissionError(errno.EPERM, f"{path.name} there is another user's, or not a regular file")
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)


def _may_be_ours(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # Windows: the directory's own rules must do
        return True
    return os.geteuid() in (0, status.st_uid) or status.st_uid == 0

"""Files that only this user may have written: who owns a file, and how to create one where others can write.

Inside the user's own directories none of this is needed. It protects manifests in directories that other users can
write to, and it protects root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def is_private_file(status: os.stat_result) -> bool:
    """Whether `status` describes a regular file that belongs to this user or to root.

    For root every regular file counts: a network file system may report another owner for root's own files.
    """
    return stat.S_ISREG(status.st_mode) and _owner_is_trusted(status)


def only_user_can_write(directory: Path) -> bool:
    """Whether no other user can create a file in `directory`.

    A symbolic link counts as the directory it points to, provided that no other user created the link.
    """
    try:
        link, status = directory.lstat(), directory.stat()
    except OSError:
        return False
    return _owner_is_trusted(link) and _owner_is_trusted(status) and not status.st_mode & 0o022


def create_private(path: Path) -> int:
    """Create a new file with mode 0600 and open it for appending.

    A file of this user at `path` is deleted first. A link, another user's file or anything that is not a regular file
    is left alone.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        PermissionError: Something that is not this user's regular file is in the way.
        OSError: The file can't be created.
    """
    with contextlib.suppress(FileNotFoundError):
        if not is_private_file(path.lstat()):
            raise PermissionError(errno.EPERM, f"{path.name} belongs to another user, or is not a regular file")
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)


def open_to_append(path: Path) -> int:
    """Open a file to append to it, and create it with mode 0600 if necessary.

    A link that this user or root created is followed. Another user's link, in a directory that others can write to,
    would choose which file this user appends to: also root follows none.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        PermissionError: The path is another user's link.
        OSError: The file can't be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as e:
        if e.errno not in (errno.ELOOP, errno.EMLINK):  # EMLINK: FreeBSD's word for a link
            raise
    before = path.lstat()
    if before.st_uid in (0, os.geteuid()):
        fd = os.open(path, flags, 0o600)
        if os.path.samestat(before, path.lstat()):
            return fd
        os.close(fd)
    raise PermissionError(errno.EPERM, "it is another user's link")


def _owner_is_trusted(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # Windows: the directory's access control list decides
        return True
    return os.geteuid() in (0, status.st_uid) or status.st_uid == 0

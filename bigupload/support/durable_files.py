"""Directory changes that survive a power failure. The manifests and the service's files depend on it."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_LASTING = (
    errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


def is_lasting(e: BaseException, *, creating: bool = False) -> bool:
    """Whether writing to the same place would fail again: it is forbidden, or no file can be there.

    Space comes back on a full disk, and so do descriptors and memory.

    Args:
        e: The error.
        creating: Whether a file was being created, and the directories above it: ENOENT says then that the file system
            takes none, as /proc does.
    """
    return isinstance(e, OSError) and (e.errno in _LASTING or (creating and e.errno == errno.ENOENT))


def sync_directory(directory: Path) -> None:
    """Write a directory's entries to disk, so that a new or renamed file keeps its name after a power failure.

    Does nothing where a directory can't be opened, as on Windows.
    """
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directory(directory: Path, *, mode: int) -> None:
    """Create a directory and its missing parents durably.

    Args:
        directory: The directory. It is not an error if it exists.
        mode: Permission bits of `directory`, for example 0o700. Missing parents get the default permissions.

    Raises:
        OSError: The directory can't be created.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)

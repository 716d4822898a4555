"""The service's private files: written whole or not at all, by one writer at a time, never readable by other users.

Knows bytes and paths, not what the files contain. Error messages name paths, never contents.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bigupload.errors import ServiceError
from bigupload.support.files import file_lock, sync_directory

_LOCK_SECONDS = 30.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, in a directory that is made (0700) where there is none. Blocks up to 30 s.

    Raises `ServiceError`. A directory that was there keeps its mode: it may hold more than this file.
    """
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.chmod(0o700)  # a umask may have taken the owner's rights, too
        lock = file_lock(f"{path}.lock")
        lock.acquire(timeout=_LOCK_SECONDS)
    except OSError as e:  # also the timeout, which has no errno
        raise ServiceError(f"can't lock {path}: {e.strerror or 'another process is writing it'}") from e
    try:
        yield
    finally:
        lock.release()


def read_regular(path: Path) -> tuple[bytes, os.stat_result]:
    """The file's bytes, and what it was before they were read. Raises OSError.

    A symbolic link is followed: that is how secrets are mounted into containers. A pipe would block for ever.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(), status


def write_private(path: Path, data: bytes) -> None:
    """Replace the file by one that holds `data`, mode 0600, on disk when this returns. To be called under its lock.

    Raises `ServiceError`: then the file is as it was. A symbolic link is refused: it would be replaced by a file, and
    a reader of the file that it points to would still read the old content.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        if path.is_symlink():
            raise ServiceError(f"{path} is a symbolic link: name the file itself")
        try:
            fresh.unlink(missing_ok=True)  # of a writer that was killed: we have the lock
            _write_new(fresh, data, owner=path)
            fresh.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise ServiceError(f"can't write {path}: {e.strerror}; the file is unchanged") from e
    sync_directory(path.parent)


def _write_new(path: Path, data: bytes, *, owner: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), 0o600)  # whatever the umask left of it
            _keep_owner(file.fileno(), owner)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _keep_owner(fd: int, path: Path) -> None:
    """What root changes must stay readable for the service, which should run as somebody else."""
    if os.geteuid() == 0 and path.exists():
        before = path.stat()
        os.fchown(fd, before.st_uid, before.st_gid)

"""The lock that keeps a manifest to one process. The lock file exists only while the lock is held.

Its first line is the holder's process. Where the file system has no `flock`, filelock writes the host and the process's
start time below it. The next process that wants the lock needs them: they show that a killed process no longer holds
it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from bigupload import errors
from bigupload.support.files import file_lock, is_private_file, make_directory
from bigupload.support.systems import open_binary
from bigupload.units import printable

LOCK_SUFFIX = ".lock"
_MOST_RACES = 100
"""The number of times that the file may vanish between opening and locking it, as others release the lock."""
_WAIT = 0.2
"""Seconds to wait for a lock. The clean-up of the state directory holds each for less than a millisecond."""
_PAUSE = 0.01
_LONGEST_RECORD = 1024
"""Bytes of a lock file that are read. filelock writes no more."""


class ManifestLock:
    """An exclusive lock on a manifest, in the file `MANIFEST.lock` beside it."""

    def __init__(
        self,
        manifest: Path,
        *,
        held: str = "another upload of this file to this key is running",
        wait: float = _WAIT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Name the lock; `acquire` takes it.

        Args:
            manifest: Path of the manifest, which need not exist.
            held: What it means that another holds it, for the message.
            wait: Seconds for which `acquire` waits for another holder.
            sleep: Waits the given seconds.
        """
        self._held = held
        self._pauses = round(wait / _PAUSE)
        self._sleep = sleep
        self.path = Path(f"{manifest}{LOCK_SUFFIX}")
        self._lock = file_lock(self.path)

    def acquire(self) -> None:
        """Take the lock, wait a moment if another has it, and create its directory if necessary.

        Raises:
            ManifestLocked: Another process, or another part of this one, holds it.
            OSError: The lock file can't be created, or belongs to somebody else.
        """
        make_directory(self.path.parent, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            if not is_private_file(self.path.lstat()):
                raise PermissionError(errno.EPERM, f"{self.path} is another user's, or not a regular file")
        try:
            self._acquire()
            _write_pid(self.path)
        except OSError:
            self._lock.release()
            raise

    def _acquire(self) -> None:
        import filelock  # slow to load: a file that one PUT sends has no manifest

        pauses = 0
        for _ in range(_MOST_RACES + self._pauses):
            try:
                self._lock.acquire(blocking=False)
                return
            except filelock.Timeout:
                if os.path.lexists(self.path):
                    if pauses == self._pauses:
                        break
                    pauses += 1
                    self._sleep(_PAUSE)
        if not os.path.lexists(self.path):  # nobody holds it: filelock takes "no such directory" for a race
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
        holder = _holder(self.path)
        raise errors.ManifestLocked(f"{self._held}{holder and f' ({holder})'}: wait for it, or stop it first")

    def release(self) -> None:
        """Delete the lock file and release the lock. Idempotent.

        Deleting comes first: filelock does not take a file that was deleted since, so that nobody can hold the
        old file while somebody else creates and locks a new one.
        """
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self._lock.release()


def is_locked(manifest: Path) -> bool:
    """Whether a process holds the lock of a manifest or of a job's record. Blocking.

    A lock file that a killed process left is deleted.
    """
    lock = ManifestLock(manifest, wait=0)
    if not os.path.lexists(lock.path):  # taking it would create the file
        return False
    try:
        lock.acquire()
    except errors.ManifestLocked:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _write_pid(path: Path) -> None:
    """Write who holds the lock, unless filelock did.

    A file that has a second name is not truncated: it may be anything.
    """
    pid = str(os.getpid()).encode()
    fd = open_binary(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0), links=False)
    try:
        if os.read(fd, _LONGEST_RECORD).split(b"\n")[0] == pid:
            return
        if is_private_file(status := os.fstat(fd)) and status.st_nlink == 1:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, pid + b"\n")
    finally:
        os.close(fd)


def _holder(path: Path) -> str:
    """The holder of a lock by its file: "process 7", or "process 7 on HOST"; "" if it does not."""
    try:
        with os.fdopen(open_binary(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0), links=False), "rb") as file:
            pid, *more = file.read(_LONGEST_RECORD).decode().splitlines()
        return f"process {int(pid)}" + (f" on {printable(more[0])}" if more else "")
    except (OSError, ValueError):
        return ""

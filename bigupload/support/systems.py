"""Differences between operating systems, each in one place. Other modules test for features, too.

Windows translates line ends in files that `os.open` opened, has neither positioned reads nor groups of processes, and
its event loop takes no signal handlers. macOS leaves bytes in the disk's cache after `fsync`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

try:  # not where it is used: a failed import searches every directory again each time
    import fcntl
except ImportError:  # Windows
    _HAS_FCNTL = False
else:
    _HAS_FCNTL = True

if TYPE_CHECKING:
    import asyncio

STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
"""The signals that ask a process to stop. Windows has no SIGHUP, and SIGBREAK for Ctrl-Break and a closed console."""
KILL: signal.Signals = getattr(signal, "SIGKILL", signal.SIGTERM)
"""The signal that ends a process at once. Windows has no SIGKILL, and SIGTERM is as final there."""
_NO_FULL_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)
_LOCKED_AT = 0x7FFF_FFF0
"""Offset of the byte that `lock_descriptor` locks on Windows, whose function takes 31 bits."""
_NO_NAME = 123
"""ERROR_INVALID_NAME: the name holds a character such as "?" or "*"."""
_ENDS_WITHIN = 10.0
"""Seconds for `taskkill`, which takes a tenth of one."""
_POSITIONS = [threading.Lock() for _ in range(64)]
"""Locks of descriptors' positions, by descriptor. Two descriptors may share one: that costs time alone."""


def open_binary(path: str | os.PathLike[str], flags: int, mode: int = 0o600, *, links: bool = True) -> int:
    """Open a file whose bytes are read and written as they are, and which no child process inherits.

    Windows would write "\\r\\n" for "\\n", and end a file at its first Ctrl-Z.

    Args:
        path: The file.
        flags: As for `os.open`.
        mode: The permissions of a new file.
        links: Whether to follow a symbolic link. Where the system can't refuse one, it is followed.

    Raises:
        OSError: The file can't be opened.
    """
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags if links else flags | getattr(os, "O_NOFOLLOW", 0), mode)


def close_read(fd: int) -> None:
    """Close a descriptor of which nothing was written. It is closed even if the file system reports an error.

    A FUSE file system whose process ended gives ENOTCONN, and NFS gives EIO. No byte depends on it: such an error would
    only hide the one that ended the upload.
    """
    with contextlib.suppress(OSError):
        os.close(fd)


def sync_to_disk(fd: int) -> None:
    """Bring a file's bytes to its disk, so that they are there after a power failure.

    On macOS `fsync` leaves them in the disk's cache. F_FULLFSYNC empties that:
    https://developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html

    Raises:
        OSError: Nobody knows what is on the disk.
    """
    if _HAS_FCNTL and (full := getattr(fcntl, "F_FULLFSYNC", None)) is not None:
        try:
            fcntl.fcntl(fd, full)
            return
        except OSError as e:  # some network file systems do not know it
            if e.errno not in _NO_FULL_SYNC:  # an fsync after a failed one says nothing of the first one's bytes
                raise
    os.fsync(fd)


def lock_descriptor(fd: int) -> None:
    """Lock a file against other descriptors, until this one is closed.

    Windows locks ranges. The one that is locked there is behind all bytes, because nobody could read it.

    Raises:
        BlockingIOError: Another descriptor has the lock.
        OSError: The file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        at = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as e:
            if e.errno not in (errno.EACCES, errno.EDEADLK, 0):  # 0: Wine
                raise
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK)) from e
        finally:
            os.lseek(fd, at, os.SEEK_SET)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def change_time(status: os.stat_result) -> int:
    """Return the time of the last change of a file's bytes or metadata, in nanoseconds since 1970; 0: not recorded.

    On Windows `st_ctime_ns` is the time of creation, and is to become the time of change in a later Python.
    """
    return 0 if os.name == "nt" else status.st_ctime_ns


def read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Read a range of a file. Any threads may do so at once. Blocking.

    Args:
        fd: A descriptor, which nobody reads or writes in another way.
        buffer: Where the bytes go.
        offset: The first byte's position in the file.

    Returns:
        How many bytes were read; 0 at the file's end.

    Raises:
        OSError: It can't be read.
    """
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    with _POSITIONS[fd % len(_POSITIONS)]:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write a range of a file. Any threads may do so at once. Blocking.

    Args:
        fd: A descriptor, which nobody reads or writes in another way.
        data: The bytes.
        offset: The first byte's position in the file.

    Returns:
        How many bytes were written.

    Raises:
        OSError: It can't be written.
    """
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    with _POSITIONS[fd % len(_POSITIONS)]:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def is_missing(e: OSError) -> bool:
    """Whether an error says that there is no such file. Windows says of some names that none can be called so."""
    return isinstance(e, FileNotFoundError) or getattr(e, "winerror", None) == _NO_NAME


def with_slashes(path: str) -> str:
    """A path with "/" between its names, as keys have it. Elsewhere than on Windows, a backslash is part of a name."""
    return path if os.sep == "/" else path.replace(os.sep, "/")


def end_group(pid: int, number: int) -> None:
    """Send a signal to a program, and to all that it started, if the program began a session of its own.

    Windows has no groups of processes. There, every signal ends the program at once, with those of its descendants
    whose parents have not ended. Blocking, for a tenth of a second.

    Raises:
        OSError: It has ended, for example.
    """
    if hasattr(os, "killpg"):
        os.killpg(pid, number)
    elif not _end_tree(pid):
        os.kill(pid, number)


def _end_tree(pid: int) -> bool:
    """Whether the program of Windows that ends a process with its descendants has done so."""
    import subprocess

    # By its whole path: a program of that name in the working directory would be found first.
    program = os.path.join(os.environ.get("SYSTEMROOT", ""), "System32", "taskkill.exe")  # noqa: PTH118 - loads no pathlib
    null = subprocess.DEVNULL
    try:
        done = subprocess.run(  # noqa: S603 - a program of the system, and a number
            [program, "/F", "/T", "/PID", str(pid)],
            stdin=null,
            stdout=null,
            stderr=null,
            timeout=_ENDS_WITHIN,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def way_of_ending(status: int | None) -> str:
    """Return the way in which a process ended, by its exit status: "status 1", or "SIGKILL" if that is negative."""
    if status is None or status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # real-time signals have no name
        return f"signal {-status}"


def on_signal(loop: asyncio.AbstractEventLoop, number: int, heard: Callable[[int], object]) -> bool:
    """Call `heard` with a signal's number, in the event loop, each time that the signal comes. In the main thread.

    Returns:
        Whether the event loop itself watches it, so that another handler of Python may take the place of the loop's.
    """
    try:
        loop.add_signal_handler(number, heard, number)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda n, _: loop.call_soon_threadsafe(heard, n))
        return False
    return True


def watches_descriptors(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether an event loop has `add_reader` and `add_writer`. That of Windows inherits the ones that always raise."""
    import asyncio  # a caller with a loop has loaded it

    return type(loop).add_writer is not asyncio.AbstractEventLoop.add_writer

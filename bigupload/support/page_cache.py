"""Whether a range of a file is in the page cache, so that reading it does not wait for a disk.

The answers come from `preadv2(2)` with `RWF_NOWAIT`, which fails where it would have to wait. Local Linux file systems
(ext4, XFS, Btrfs) support it. Network file systems, FUSE, tmpfs, overlay file systems and other operating systems do
not: there, every range counts as not cached.
"""

from __future__ import annotations

import os

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_STRIDE = 1024 * 1024
"""Bytes from one probe to the next. The kernel evicts a file's pages in long runs, and a probe takes microseconds."""


def read_cached(fd: int, buffer: memoryview, offset: int) -> int:
    """Read from the page cache without waiting for a disk.

    Args:
        fd: A descriptor of a regular file. Its position is not used.
        buffer: Where the bytes go.
        offset: The first byte's position in the file.

    Returns:
        How many bytes were read: less than `len(buffer)` where the rest is not cached or is past the end.
    """
    if _NOWAIT is None:
        return 0
    try:
        return os.preadv(fd, [buffer], offset, _NOWAIT)
    except OSError:  # EAGAIN: not cached; EOPNOTSUPP: the file system can't tell; others are for the read that waits
        return 0


def is_on_local_disk(fd: int) -> bool:
    """Whether the file's system is one of those that support `RWF_NOWAIT`. None of them waits for a network.

    Args:
        fd: A descriptor of a regular file.
    """
    if _NOWAIT is None or not hasattr(os, "preadv"):
        return False
    try:
        os.preadv(fd, [bytearray(1)], 0, _NOWAIT)
    except BlockingIOError:  # not cached
        return True
    except OSError:
        return False
    return True


def is_cached(fd: int, offset: int, size: int) -> bool:
    """Whether a range of a file is in the page cache, judged by one byte in each MiB and by the last byte.

    A range between two probes may be missing. The caller then waits for a local disk to read less than 1 MiB.

    Args:
        fd: A descriptor of a regular file.
        offset: The range's first byte.
        size: The range's length in bytes, at least 1.
    """
    probe = memoryview(bytearray(1))
    last = offset + size - 1
    at = offset
    while at < last:
        if not read_cached(fd, probe, at):
            return False
        at += _STRIDE
    return read_cached(fd, probe, last) == 1

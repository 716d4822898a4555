"""Pages of memory: buffers that begin at one, and ranges of files that the page cache has.

A `bytearray` of 128 KiB or more begins 16 bytes after a page, where glibc's malloc and its header put it. The kernel
copies a page of the page cache there by `rep movsb`, and AMD's Zen 3 needs four times as long for that instruction if
the target begins less than 32 bytes further into its page than the source does: 155 ms a GiB at a page's beginning,
600 ms at byte 16. Other processors lose nothing by it. So whatever is read in bulk is read into a `page_buffer`.

Whether the page cache has a range, so that reading it does not wait for a disk, comes from `preadv2(2)` with
`RWF_NOWAIT`, which fails where it would have to wait. Local Linux file systems (ext4, XFS, Btrfs) support it. Network
file systems, FUSE, tmpfs, overlay file systems and other operating systems do not: there, every range counts as not
cached.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_STRIDE = 1024 * 1024
"""Bytes from one probe to the next. The kernel evicts a file's pages in long runs, and a probe takes microseconds."""


def page_buffer(size: int) -> mmap.mmap:
    """Memory of the system's own. It goes back to it when nothing refers to it any more.

    In pages of 2 MiB on Linux, if it is large enough: the first bytes into 96 MiB then take 36 ms instead of 82 ms,
    because pages of 4 KiB have to be asked for one by one, and those of a shared mapping, mmap's default, are the
    dearest.

    Args:
        size: Its size in bytes. One of 0 bytes has one all the same: the system makes no empty mapping.

    Raises:
        MemoryError: The system gives this process no more memory.
    """
    import mmap  # a small file needs no buffer

    size = max(1, size)
    try:
        if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
            return mmap.mmap(-1, size)
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as e:  # a mapping of no file fails for nothing else
        raise MemoryError(str(e)) from e
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


_of_thread = threading.local()


def thread_buffer(size: int) -> memoryview:
    """Return this thread's own buffer of `size` bytes, for all that it reads: it stays in the core's cache."""
    buffers: dict[int, memoryview] = vars(_of_thread).setdefault("buffers", {})
    if size not in buffers:
        buffers[size] = memoryview(page_buffer(size))
    return buffers[size]


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
    except OSError:  # EAGAIN: not cached; EOPNOTSUPP: the file system does not know; others are for the read that waits
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

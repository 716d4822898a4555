"""This process's limit on open files and connections, and the message for a failure because of it."""

from __future__ import annotations

import errno
import os

OUT_OF_DESCRIPTORS = (
    "this process has too many files and connections open: allow more (ulimit -n), or upload fewer files at once"
)


_NUMBERS = (errno.EMFILE, errno.ENFILE)


def descriptor_limit() -> int | None:
    """Return how many descriptors this process may have open; None: as many as it likes."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit for sockets
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def is_out_of_descriptors(e: BaseException) -> bool:
    """Whether an error comes from this machine's limits on open files: EMFILE or ENFILE."""
    if isinstance(e, ImportError):  # of a module in C, for which the dynamic linker says it in words
        return any(os.strerror(number) in str(e) for number in _NUMBERS)
    return isinstance(e, OSError) and e.errno in _NUMBERS


def reason_of(e: OSError) -> str:
    """The operating system's words for an error; of too many open files, also what helps."""
    return OUT_OF_DESCRIPTORS if is_out_of_descriptors(e) else str(e.strerror)

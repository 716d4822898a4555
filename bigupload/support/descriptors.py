"""This process's limit on open files and connections, and how a failure because of it is told."""

from __future__ import annotations

import errno

OUT_OF_DESCRIPTORS = (
    "this process has too many files and connections open: allow more (ulimit -n), or upload fewer files at once"
)


def descriptor_limit() -> int | None:
    """Return how many descriptors this process may have open; None: as many as it likes."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit for sockets
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def is_out_of_descriptors(e: OSError) -> bool:
    """Whether an error comes from this machine's limits on open files: EMFILE or ENFILE."""
    return e.errno in (errno.EMFILE, errno.ENFILE)


def reason_of(e: OSError) -> str:
    """The operating system's words for an error; of too many open files, also what helps."""
    return OUT_OF_DESCRIPTORS if is_out_of_descriptors(e) else str(e.strerror)

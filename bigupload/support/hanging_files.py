"""Which files are in a file system that hangs, as one of a network whose server is gone: to look at them never ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import stat
from collections.abc import Iterable
from typing import TypeVar

from bigupload.support.daemon_threads import DaemonThreadPool

P = TypeVar("P", str, os.PathLike[str])

PATIENCE = 2.0
"""Seconds for which looking at all of them may take. A disk that has to start may be taken for one that hangs."""
_MOST_THREADS = 16
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def hanging(paths: Iterable[P]) -> set[P]:
    """Return the paths that can't be looked at, and opened if they are files, within PATIENCE. Blocking for that long.

    The threads that look are left behind: nothing can end them.
    """
    wanted = set(paths)
    if not wanted:
        return set()
    pool = DaemonThreadPool(min(_MOST_THREADS, len(wanted)), "bigupload-look")
    looks = {pool.submit(_look, path): path for path in wanted}
    _, left = concurrent.futures.wait(looks, timeout=PATIENCE)
    pool.shutdown(wait=False)
    return {looks[each] for each in left}


def _look(path: str | os.PathLike[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            os.close(os.open(path, _FLAGS))  # a network's file system may know the status, and hang here

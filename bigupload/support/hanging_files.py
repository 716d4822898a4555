"""Which files are in a file system that hangs, as one of a network whose server is gone: to look at them never ends."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import stat
from collections.abc import Iterable
from typing import TypeVar

from bigupload.support.daemon_threads import DaemonThreadPool

P = TypeVar("P", str, os.PathLike[str])

PATIENCE = 2.0
"""Seconds that a round of looks may take. A disk that has to start may be taken for one that hangs."""
_ROUNDS = (16, 64, 256)
"""The most threads of each round: what hangs keeps its thread, and the next round looks at what got none."""
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def hanging(paths: Iterable[P]) -> set[P]:
    """Return the paths that can't be looked at, and opened if they are files, within PATIENCE. Blocking.

    That takes PATIENCE at most, unless more paths hang than a round has threads. What none of the rounds could look at
    is returned as well. The threads that look are left behind: nothing can end them.
    """
    wanted = _spread(set(paths))
    begun: dict[concurrent.futures.Future[None], P] = {}
    for most in _ROUNDS:
        if not wanted:
            break
        pool = DaemonThreadPool(min(most, len(wanted)), "bigupload-look")
        looks = {pool.submit(_look, path): path for path in wanted}
        concurrent.futures.wait(looks, timeout=PATIENCE)
        pool.shutdown(wait=False)
        wanted = [path for each, path in looks.items() if each.cancel()]  # those that no thread has begun
        begun |= looks
    return {path for each, path in begun.items() if not each.done()}.union(wanted)


def _spread(paths: Iterable[P]) -> list[P]:
    """The first path of each directory, then the second of each: one that hangs takes not all threads at once."""
    seen: collections.Counter[str] = collections.Counter()
    places: list[tuple[int, P]] = []
    for path in paths:
        directory = os.path.dirname(os.fspath(path))  # noqa: PTH120
        places.append((seen[directory], path))
        seen[directory] += 1
    return [path for _, path in sorted(places, key=lambda each: each[0])]


def _look(path: str | os.PathLike[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            os.close(os.open(path, _FLAGS))  # a network's file system may know the status, and hang here

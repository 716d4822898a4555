"""The real command in a process that dies at a chosen moment, or whose files may not grow: `driver.py [options] -- …`.

Nothing in the product helps: os.write, os.fsync and os.replace are wrapped in this process before the command runs.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MOMENTS = ("before", "torn", "unsynced", "after")
"""Of a record: not a byte of it written; half of it; written and not fsynced; fsynced."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("survived SIGKILL")


def die_at(kind: str, moment: str, nth: int) -> None:
    """Kill this process at the `nth` record of a kind that is written, counted in records."""
    mark = f'{{"type":"{kind}"'.encode()
    write: Callable[[int, Any], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    seen, written_to = 0, -1

    def wrapped_write(fd: int, data: Any, /) -> int:
        nonlocal seen, written_to
        lines = bytes(data).splitlines(keepends=True)
        for number, line in enumerate(lines):
            seen += line.startswith(mark)
            if line.startswith(mark) and seen == nth:
                done = b"".join(lines[:number])  # what shares the write comes first
                if moment in ("before", "torn"):
                    write(fd, done + (line[: len(line) // 2] if moment == "torn" else b""))
                    die()
                if moment == "unsynced":
                    write(fd, done + line)
                    die()
                written_to = fd
        return write(fd, data)

    def wrapped_fsync(fd: Any) -> None:
        fsync(fd)
        if fd == written_to:
            die()

    os.write, os.fsync = wrapped_write, wrapped_fsync


def die_at_rename() -> None:
    """Kill this process once a manifest has its name."""
    replace: Callable[..., None] = os.replace

    def wrapped(source: Any, target: Any, **more: Any) -> None:
        replace(source, target, **more)
        if str(target).endswith(".manifest.jsonl"):
            die()

    os.replace = wrapped


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", help="Of record, to die at.")
    parser.add_argument("--moment", choices=MOMENTS)
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--die-at-rename", action="store_true")
    parser.add_argument("--least-part", type=int, help="Bytes: parts may be as small as this.")
    parser.add_argument("--largest-file", type=int, help="Bytes: no file may grow beyond this (RLIMIT_FSIZE).")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.least_part is not None:
        from bigupload.core.part_plan import Limits
        from bigupload.stores.s3.multipart import S3Store

        S3Store.limits = Limits(min_part_size=options.least_part, enough_parts=1)
    if options.kind is not None:
        die_at(options.kind, options.moment, options.nth)
    if options.die_at_rename:
        die_at_rename()
    if options.largest_file is not None:
        sys.dont_write_bytecode = True  # or Python keeps compiled modules that end at the limit as if they were whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.largest_file, resource.RLIM_INFINITY))

    from bigupload.cli import main as command

    command(options.arguments[1:])  # without the "--"


if __name__ == "__main__":
    main()

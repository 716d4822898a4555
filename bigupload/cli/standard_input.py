"""`bigupload upload -`: what comes in through a pipe."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bigupload import errors
from bigupload.cli.options import PATH, joined
from bigupload.core.remote_url import path_of, shown_url

STANDARD_INPUT = Path("-")
_PIPE_BYTES = 1024 * 1024
"""The largest pipe that Linux allows any user. Its default is 64 KiB: each read would wake the writer for little."""


stream_options = joined(
    click.option(
        "--name", metavar="NAME", help="The name of the file, of a URL, or of standard input (-), for the object."
    ),
    click.option(
        "--end-marker",
        metavar="TEXT",
        help="The text at the end of standard input; it is not uploaded. Without it, nothing is completed.",
    ),
    click.option(
        "--temp-dir",
        type=PATH,
        metavar="DIR",
        help="Where parts of standard input wait that memory does not hold. [default: the system's]",
    ),
)
"""The options that are about standard input."""


def check_standard_input(files: Sequence[Path | str], arguments: dict[str, Any]) -> None:
    """Raise UsageError for what can't be done with standard input, or with several files."""
    if len(files) > 1:
        for name in ("name", "expected_size", "end_marker"):
            if arguments[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} is for one file: upload one at a time")
    if STANDARD_INPUT in files:
        to = arguments["to"] or ""
        needs_name = to.endswith("/") or not to[len("s3://") :].partition("/")[2]
        if needs_name and arguments["name"] is None:
            raise click.UsageError("standard input has no name: give one with --name, or name the object in the target")


def label_of(path: Path | str, arguments: dict[str, Any]) -> Path:
    """Return a source's name in messages; the file name of a URL."""
    if isinstance(path, str):
        return Path(arguments["name"] or path_of(shown_url(path)))
    if path != STANDARD_INPUT:
        return path
    return Path(arguments["name"] or (arguments["to"] or "").rpartition("/")[2] or "standard input")


def is_piped() -> bool:
    """Whether standard input is a pipe, which may hold what a person meant to upload."""
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # there is none, or it is closed
        return False


def open_standard_input() -> io.FileIO:
    """Standard input without a buffer of Python's: its lock would keep a process that ends from ending.

    Raises:
        SourceUnreadable: It is closed.
    """
    try:
        if sys.stdin is None:  # it was closed when Python started: its number may be another file's by now
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        file = io.FileIO(0, closefd=False)
        with contextlib.suppress(ImportError, OSError, AttributeError):  # no pipe, or another system than Linux
            import fcntl

            fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError as e:
        raise errors.SourceUnreadable(f"can't read standard input: {e.strerror}") from None
    return file

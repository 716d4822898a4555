"""The outputs of the log of `logging.getLogger("bigupload")` in a command: standard error, a file, or both."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from bigupload.cli.wording import for_command_line
from bigupload.errors import UsageError
from bigupload.support.files import open_to_append, reason_of
from bigupload.units import printable

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_QUERY = re.compile(r"(\bhttps?://[^\s?\"'<>]*)\?[^\s\"'<>]*", re.IGNORECASE)
_USER = re.compile(r"(\bhttps?://)[^\s/@\"'<>]+@", re.IGNORECASE)


def begin(verbose: int, file: Path | None, file_level: str = "debug") -> Callable[[], None]:
    """Send the log to standard error (`verbose` 1: what happens, 2: each attempt) and to `file`.

    Args:
        verbose: What standard error gets.
        file: The log file.
        file_level: What the file gets: "debug" is each attempt, "info" what happens, "warning" what went wrong.

    Returns:
        The function that ends this.

    Raises:
        UsageError: the file can't be written.
    """
    logger = logging.getLogger("bigupload")
    handlers: list[logging.Handler] = []
    if verbose:
        handlers.append(_StandardError(_LEVELS[min(verbose, 2)]))
    if file is not None:
        handlers.append(_File(file, logging.getLevelNamesMapping()[file_level.upper()]))
    before = logger.level
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(min(handler.level for handler in handlers))

    def end() -> None:
        logger.setLevel(before)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()

    return end


def redacted(text: str) -> str:
    """Without queries and user names of URLs. The library logs none; a presigned URL in another's text is a secret."""
    return _USER.sub(r"\1…@", _QUERY.sub(r"\1?…", text))


class _Lines(logging.Formatter):
    """One line for each record, whatever is in it: time, level, logger, text."""

    converter = time.gmtime  # type: ignore[assignment]  # typeshed has it without gmtime's default argument
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        return printable(redacted(for_command_line(super().format(record))))


_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _is_not_an_uploads_end(record: logging.LogRecord) -> bool:
    """Whether the command does not write this line itself, as it does for the error that ended an upload."""
    return record.name != "bigupload" or record.levelno < logging.ERROR


class _StandardError(logging.Handler):
    """Above the progress display, which replaces `sys.stderr` while it is shown."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.setFormatter(_Lines(_FORMAT))
        self.addFilter(_is_not_an_uploads_end)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()


class _File(logging.Handler):
    """Appends each line by one write, so that lines of several processes do not mix.

    If the file was renamed or deleted, as logrotate does, the next line begins a new one under its name.
    """

    def __init__(self, path: Path, level: int) -> None:
        self._path = path.absolute()
        try:  # first: `logging` closes every handler that was initialized, also one whose file could not be opened
            self._descriptor = open_to_append(self._path)
        except OSError as e:
            raise UsageError(f"can't write the log file {path}: {e.strerror}") from e
        super().__init__(level)
        self.setFormatter(_Lines(_FORMAT))
        self._is_whole = True
        """Whether each line could be written."""

    def _follow_rotation(self) -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), os.fstat(self._descriptor)):
                return
        with contextlib.suppress(OSError):  # else it goes on where it was
            fresh = open_to_append(self._path)
            os.close(self._descriptor)
            self._descriptor = fresh

    def emit(self, record: logging.LogRecord) -> None:
        self._follow_rotation()
        try:
            os.write(self._descriptor, f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except OSError as e:  # an upload does not end because the log's disk is full
            if self._is_whole:
                self._is_whole = False
                lost = printable(f"bigupload: warning: lines are missing in the log file {self._path}: {reason_of(e)}")
                with contextlib.suppress(OSError):  # nobody reads it
                    click.echo(lost, err=True)

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

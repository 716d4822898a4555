"""A file that a command writes beside its uploads.

It takes its name when it is whole. Whether it can be written shows before anything is sent.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bigupload import errors

if TYPE_CHECKING:
    from bigupload.batch.selecting import Selection


def check_not_among_sources(option: str, file: Path, directory: str, selection: Selection) -> None:
    """Raise UsageError if the file would be one of those that are uploaded.

    Args:
        option: The option that names the file, as "--receipt".
        file: The file.
        directory: The directory that is uploaded.
        selection: Which files of it.
    """
    from bigupload.core.selection import selects

    top, path = os.path.realpath(directory), os.path.realpath(file)
    if os.path.commonpath([top, path]) == top:
        key = os.path.relpath(path, top)
        if any(selects(selection.scope(), name) for name in (key, _partial(Path(key)).as_posix())):
            raise errors.UsageError(
                f"{option} {file} would be uploaded itself while it is written: name a file elsewhere, or add "
                f"--exclude '/{key}*'"
            )


class OutputFile:
    """The file while it is written."""

    def __init__(self, file: TextIO, path: Path, option: str, finish: Callable[[], None]) -> None:
        self._file = file
        self._path = path
        self._option = option
        self._finish = finish

    def write(self, text: str) -> None:
        """Add a text. Raises BigUploadError, which names the file."""
        with _naming(self._option, self._path):
            self._file.write(text)

    def finish(self) -> None:
        """Let the file take its name. Raises BigUploadError, which names the file."""
        with _naming(self._option, self._path):
            self._file.close()
            self._finish()


@contextlib.contextmanager
def output_file(path: Path, option: str) -> Iterator[OutputFile]:
    """Open a file to write. Without `finish`, an earlier file of that name stays as it is.

    What is no regular file, such as `/dev/stdout`, is written as it is.

    Args:
        path: The file.
        option: The option that names it, for messages.

    Raises:
        BigUploadError: It can't be written.
    """
    with contextlib.ExitStack() as opened:
        with _naming(option, path):
            target = Path(os.path.realpath(path))
            status = target.stat() if target.exists() else None
            if status is not None and stat.S_ISDIR(status.st_mode):
                raise errors.BigUploadError(f"can't write {option} {path}: it is a directory")
            is_file = status is None or stat.S_ISREG(status.st_mode)
            partial = _partial(target) if is_file else target
            # A pipe that nobody reads is an error, not a wait.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if is_file else os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(partial, flags, 0o666)
            os.set_blocking(descriptor, True)
            file = os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="\n")
            opened.callback(_close, file)
        if is_file:
            opened.callback(partial.unlink, missing_ok=True)
        yield OutputFile(file, path, option, (lambda: os.replace(partial, target)) if is_file else lambda: None)  # noqa: PTH105 - a function that returns nothing


def _close(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # of a file that is not wanted, or that `finish` has closed
        file.close()


@contextlib.contextmanager
def _naming(option: str, path: Path) -> Iterator[None]:
    """Raise BigUploadError, which names the file, for an OSError."""
    try:
        yield
    except OSError as e:
        raise errors.BigUploadError(f"can't write {option} {path}: {e.strerror}") from e


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")

"""The file that `--write-checksums` writes: SHA-256 and path of each file, as `sha256sum -c` and rclone read it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.support.output_file import OutputFile, output_file

OPTION = "--write-checksums"
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})


write_checksums_option: Callable[[Any], Any] = click.option(
    OPTION,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the SHA-256 of each file that is in the store, as sha256sum -c reads it.",
)


def name_below(directory: str) -> Callable[[Path], str]:
    """Return a file's path for the list: relative to the directory, or as it is if it is elsewhere."""
    top = os.path.abspath(directory)  # noqa: PTH100 - keeps links, as the paths of results do

    def name(path: Path) -> str:
        relative = os.path.relpath(path, top)
        return str(path) if relative.startswith("../") else relative

    return name


class ChecksumList:
    """The list while it is written. A full disk ends the writing, and not what is listed."""

    def __init__(self, file: OutputFile | None = None) -> None:
        """Begin an empty list; without `file`, nothing is written."""
        self._file = file
        self._has_lines = False
        self._error: errors.OutputUnwritable | None = None

    def add(self, sha256: str | None, name: str) -> None:
        """Add a file: its SHA-256, and its path as `sha256sum -c` shall open it."""
        if self._file is None or self._error is not None:
            return
        self._has_lines = True
        try:
            self._file.write(_line(sha256 or "", name))
        except errors.OutputUnwritable as e:
            self._error = e

    def end(self) -> None:
        """Let the file take its name. Without a line, as after a failed upload of one file, an earlier list stays.

        Raises:
            OutputUnwritable: Any of it could not be written.
        """
        if self._error is not None:
            raise self._error
        if self._file is not None and self._has_lines:
            self._file.finish()

    def end_verified(self) -> int:
        """Do the same after a verification, and report a failure. Returns the exit status."""
        try:
            self.end()
        except errors.OutputUnwritable as e:
            complain(errors.BigUploadError(f"the verification is done, but {e}"))
            return errors.EXIT_AFTERWARDS
        return errors.EXIT_OK


@contextlib.contextmanager
def checksum_list(path: Path | None) -> Iterator[ChecksumList]:
    """Open a list to write. Without its `end`, an earlier list of that name stays as it is.

    Raises:
        OutputUnwritable: The file can't be written.
    """
    if path is None:
        yield ChecksumList()
        return
    with output_file(path, OPTION) as file:
        yield ChecksumList(file)


def _line(sha256: str, name: str) -> str:
    """As GNU's sha256sum writes it: a backslash in front marks escapes in the name."""
    escaped = name.translate(_ESCAPED)
    mark = "\\" if escaped != name else ""
    return f"{mark}{sha256}  {escaped}\n"

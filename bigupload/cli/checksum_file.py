"""The file that `--write-checksums` writes: SHA-256 and path of each file, as `sha256sum -c` and rclone read it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from bigupload.support.output_file import output_file

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


@contextlib.contextmanager
def writing_checksums(path: Path | None) -> Iterator[Callable[[str | None, str], None]]:
    """Write checksums to a file that takes its name at the end, so that no half of a list looks like a whole one.

    If there is no checksum, as after a failed upload of one file, an earlier list stays.

    Yields:
        A function that adds a file: its SHA-256, and its path as `sha256sum -c` shall open it. Without `path` it does
        nothing.

    Raises:
        BigUploadError: The file can't be written.
    """
    if path is None:
        yield lambda sha256, name: None
        return
    has_lines = False
    with output_file(path, OPTION) as file:

        def write(sha256: str | None, name: str) -> None:
            nonlocal has_lines
            has_lines = True
            file.write(_line(sha256 or "", name))

        yield write
        if has_lines:
            file.finish()


def _line(sha256: str, name: str) -> str:
    """As GNU's sha256sum writes it: a backslash in front marks escapes in the name."""
    escaped = name.translate(_ESCAPED)
    mark = "\\" if escaped != name else ""
    return f"{mark}{sha256}  {escaped}\n"

"""The file that `--write-checksums` writes: SHA-256 and path of each file, as `sha256sum -c` and rclone read it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors

if TYPE_CHECKING:
    from bigupload.batch.selecting import Selection

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})


write_checksums_option: Callable[[Any], Any] = click.option(
    "--write-checksums",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read each file that is in the store once more, and write its SHA-256, as sha256sum -c reads it.",
)


def check_checksum_file(file: Path, directory: str, selection: Selection) -> None:
    """Raise UsageError if the file would be one of those that are uploaded."""
    from bigupload.core.selection import selects

    top, path = os.path.realpath(directory), os.path.realpath(file)
    if os.path.commonpath([top, path]) == top:
        key = os.path.relpath(path, top)
        if any(selects(selection.scope(), name) for name in (key, _partial(Path(key)).as_posix())):
            raise errors.UsageError(
                f"--write-checksums {file} would be uploaded itself while it is written: name a file elsewhere, or add "
                f"--exclude '/{key}*'"
            )


def name_below(directory: str) -> Callable[[Path], str]:
    """Return what a file's path is called in the list: relative to the directory, or as it is if it is elsewhere."""
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
    partial, has_lines = _partial(path), False
    with contextlib.ExitStack() as opened:
        with _naming(path):
            file = opened.enter_context(partial.open("w", encoding="utf-8", errors="surrogateescape", newline="\n"))
        opened.callback(partial.unlink, missing_ok=True)

        def write(sha256: str | None, name: str) -> None:
            nonlocal has_lines
            with _naming(path):
                has_lines = True
                file.write(_line(sha256 or "", name))

        yield write
        with _naming(path):
            file.close()
            if has_lines:
                partial.replace(path)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise BigUploadError, which names the file, for an OSError."""
    try:
        yield
    except OSError as e:
        raise errors.BigUploadError(f"can't write --write-checksums {path}: {e.strerror}") from e


def _line(sha256: str, name: str) -> str:
    """As GNU's sha256sum writes it: a backslash in front marks escapes in the name."""
    escaped = name.translate(_ESCAPED)
    mark = "\\" if escaped != name else ""
    return f"{mark}{sha256}  {escaped}\n"


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")

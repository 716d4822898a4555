"""Make the right source of what the caller gave: a path, bytes, or a file object."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from bigupload import errors
from bigupload.ports import Source
from bigupload.sources.file import FileSource
from bigupload.sources.file_object import FileObjectSource
from bigupload.sources.memory import MemorySource, bytes_of
from bigupload.sources.unwatched import Unwatched

_KINDS = "a path, bytes, or a binary file object that can seek"


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a source is given by its path."""
    return isinstance(source, str | os.PathLike)


def name_of(source: object) -> str | None:
    """The last segment of the name that a source has by itself; None if it has none."""
    if is_path(source):
        return Path(os.path.abspath(source)).name  # noqa: PTH100 - removes "..", as `FileSource` does
    for attribute in ("name", "path"):  # an fsspec file has a path
        name = getattr(source, attribute, None)
        if isinstance(name, str) and not name.startswith("<"):  # as "<stdin>" does
            return PurePath(name).name or None
    return None


def checked_name(name: object) -> str:
    """Raises UsageError for what is no name of a file."""
    if not isinstance(name, str) or not name or "/" in name or "\0" in name or name in (".", ".."):
        raise errors.UsageError(f"a name is the last segment of a path, not {name!r}")
    return name


def open_source(source: Any, name: str) -> Source:
    """Open a source. Blocking.

    Args:
        source: What the caller gave.
        name: The name of a source that has no path.

    Raises:
        UsageError: It is nothing that can be uploaded.
        SourceError: It can't be opened or read.
    """
    if is_path(source):
        return FileSource(source)
    if isinstance(source, io.BytesIO):
        return _rest_of(source, name)
    if isinstance(source, bytes | bytearray | memoryview):
        return MemorySource(name, bytes_of(source))
    if isinstance(source, io.TextIOBase):
        raise errors.UsageError(f"{name} is a text file: open it in binary mode ('rb')")
    if isinstance(source, Mapping) or not callable(getattr(source, "read", None)):
        raise errors.UsageError(f"a source is {_KINDS}, not {type(source).__name__}")
    if getattr(source, "closed", False) is True:
        raise errors.UsageError(f"{name} is a closed file object: open it again")
    if not _can_seek(source):
        raise errors.UsageError(f"{name} can't seek, so that it can't be uploaded: a source is {_KINDS}")
    path = _path_of(source)
    return FileObjectSource(name, source) if path is None else FileSource(path)


def _rest_of(buffer: io.BytesIO, name: str) -> MemorySource:
    try:
        return MemorySource(name, bytes_of(buffer.getbuffer()), buffer.tell())
    except ValueError:
        raise errors.UsageError(f"{name} is a closed file object: open it again") from None


def _can_seek(source: Any) -> bool:
    if isinstance(source, mmap.mmap):  # says so from Python 3.13 on. Not viewed: a page may have to be read first
        return True
    try:
        return bool(source.seekable())
    except (AttributeError, OSError, ValueError):
        return False


def _path_of(source: Any) -> Path | None:
    """The path of a regular file that was opened with `open(path, "rb")` and not read yet, else None.

    Only for Python's own file objects: what has a descriptor may still decompress or decrypt what is read.
    """
    raw = source.raw if type(source) in (io.BufferedReader, io.BufferedRandom) else source
    if type(raw) is not io.FileIO or not isinstance(raw.name, str | bytes):
        return None
    try:
        if source.writable():
            source.flush()
        path = Path(os.fsdecode(raw.name)).absolute()
        return path if source.tell() == 0 and os.path.samestat(os.fstat(raw.fileno()), path.stat()) else None
    except (OSError, ValueError):  # it is closed, or was renamed
        return None


def skipped_bytes(source: Source) -> int:
    """How many bytes before the position of a file object are not uploaded."""
    return source.start if isinstance(source, Unwatched) else 0

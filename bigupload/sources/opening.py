"""Make the right source of what the caller gave: a path, bytes, a file object, or a stream of bytes."""

from __future__ import annotations

import inspect
import io
import os
import stat
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from bigupload import errors
from bigupload.core.remote_url import is_remote
from bigupload.ports import Source, Unwatched
from bigupload.sources.file import FileSource
from bigupload.sources.objects import FileObjectSource, MemorySource, bytes_of
from bigupload.sources.producers import (
    Producer,
    PushedBytes,
    of_async_iterable,
    of_file,
    of_iterable,
    of_reader,
    overrides_read,
)

_KINDS = "a path, a URL, bytes, a binary file object, or an iterable of bytes"
_ONCE = (("zipfile", "ZipExtFile"), ("gzip", "GzipFile"), ("bz2", "BZ2File"), ("lzma", "LZMAFile"))
"""File objects that seek by reading again from the beginning. Whoever has one has imported its module, so that none
is imported here."""


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a source is given by its path."""
    return isinstance(source, str | os.PathLike) and not is_remote(source)


def name_of(source: object) -> str | None:
    """The last segment of the name that a source has by itself; None if it has none."""
    if is_path(source):
        return Path(os.path.abspath(source)).name  # noqa: PTH100 - removes "..", as `FileSource` does
    for attribute in ("name", "path"):  # an fsspec file has a path
        name = getattr(source, attribute, None)
        if isinstance(name, str) and not name.startswith("<"):  # as "<stdin>" does
            return PurePath(name).name or None
    return None


def check_kind(source: object) -> None:
    """Refuse what can't be uploaded under any name.

    Raises:
        UsageError: It is of no type that can be a source, or a list of paths, which are several sources.
    """
    if isinstance(source, list | tuple | set | frozenset) and any(
        isinstance(each, str | os.PathLike) for each in source
    ):
        raise errors.UsageError(
            "a list of paths is not one source: upload_many takes a list, and select_files lists a directory's files"
        )
    is_any = isinstance(source, bytes | bytearray | memoryview | Iterable | AsyncIterable | PushedBytes)
    is_any = is_any or hasattr(source, "read")
    if not is_any or isinstance(source, type | Mapping):
        raise errors.UsageError(f"a source is {_KINDS}, not {'None' if source is None else type(source).__name__}")


def checked_name(name: object) -> str:
    """Raises UsageError unless it is a file name."""
    if not isinstance(name, str) or not name or "/" in name or "\0" in name or name in (".", ".."):
        raise errors.UsageError(f"a name is the last segment of a path, not {name!r}")
    return name


def open_source(source: Any, name: str) -> Source:
    """Open a source that is not a stream: `producer_of` returned None for it. Blocking.

    Args:
        source: What the caller gave.
        name: The name of a source that has no path.

    Raises:
        UsageError: It is nothing that can be uploaded.
        SourceError: It can't be opened or read.
    """
    if is_path(source):
        return FileSource(source)
    if isinstance(source, io.BytesIO) and not overrides_read(source):
        return _rest_of(source, name)
    if isinstance(source, bytes | bytearray | memoryview):
        return MemorySource(name, bytes_of(source))
    path = path_behind(source)
    return FileObjectSource(name, source) if path is None else FileSource(path)


def producer_of(source: Any, name: str) -> Producer | None:
    """Return the reader of a stream's bytes. None: the source is not a stream: it can be read in any order, also again.

    Args:
        source: What the caller gave, and no path.
        name: What it is called in an error.

    Raises:
        UsageError: It is nothing that can be uploaded.
    """
    if isinstance(source, bytes | bytearray | memoryview | io.BytesIO):
        return None
    if isinstance(source, PushedBytes):
        return source
    if isinstance(source, io.TextIOBase):
        raise errors.UsageError(f"{name} is a text file: open it in binary mode ('rb')")
    if isinstance(source, type | Mapping):
        raise errors.UsageError(f"a source is {_KINDS}, not {type(source).__name__}")
    if getattr(source, "closed", False) is True:
        raise errors.UsageError(f"{name} is a closed file object: open it again")
    read = getattr(source, "read", None)
    if isinstance(source, io.IOBase) and callable(read) and not source.readable():
        raise errors.UsageError(f"{name} was opened for writing alone: open it in mode 'rb'")
    if callable(read):
        if inspect.iscoroutinefunction(read):
            return of_reader(read)
        if _can_seek(source) and not _decompresses(source) and not _is_device(source):
            return None
        return of_file(source)
    if isinstance(source, AsyncIterable):
        return of_async_iterable(source)
    if isinstance(source, Iterable):
        return of_iterable(source)
    raise errors.UsageError(f"a source is {_KINDS}, not {type(source).__name__}")


def _rest_of(buffer: io.BytesIO, name: str) -> MemorySource:
    try:
        # Its bytes, which it shares until somebody writes to it. A view would forbid that, and must not outlive it.
        return MemorySource(name, bytes_of(buffer.getvalue()), buffer.tell())
    except ValueError:
        raise errors.UsageError(f"{name} is a closed file object: open it again") from None


def _decompresses(source: Any) -> bool:
    modules = ((sys.modules.get(module), name) for module, name in _ONCE)
    return any(module is not None and isinstance(source, getattr(module, name)) for module, name in modules)


def _is_device(source: Any) -> bool:
    """Whether a file of Python's own is a character device: it can seek without having an end."""
    raw = getattr(source, "raw", source)
    if type(raw) is not io.FileIO:
        return False
    try:
        return stat.S_ISCHR(os.fstat(raw.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _can_seek(source: Any) -> bool:
    # A mmap says so from Python 3.13 on. Not viewed: a page may have to be read first. Whoever has one has imported it.
    if (mmap := sys.modules.get("mmap")) is not None and isinstance(source, mmap.mmap):
        return True
    try:
        return bool(source.seekable())
    except (AttributeError, OSError, ValueError):
        return False


def path_behind(source: Any) -> Path | None:
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
    """Return the number of bytes before the position of a file object, which are not uploaded."""
    return source.start if isinstance(source, Unwatched) else 0

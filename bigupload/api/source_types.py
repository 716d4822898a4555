"""The types of what can be uploaded, for type checkers. `sources/opening` says what each becomes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Protocol, TypeAlias

from bigupload.batch.tree import FileEntry, Omitted


class BinaryFile(Protocol):
    """A file object that is open in binary mode."""

    def read(self, size: int = ..., /) -> bytes:
        """Read at most `size` bytes, none at the end."""
        ...


class AsyncBinaryFile(Protocol):
    """A stream reader, as asyncio, aiohttp and anyio have it."""

    def read(self, size: int = ..., /) -> Awaitable[bytes]:
        """Read at most `size` bytes, none at the end."""
        ...


StrPath: TypeAlias = str | os.PathLike[str]
Chunk: TypeAlias = bytes | bytearray | memoryview
UploadSource: TypeAlias = StrPath | Chunk | BinaryFile | AsyncBinaryFile | Iterable[Chunk] | AsyncIterable[Chunk]
"""What can be uploaded."""
ManySource: TypeAlias = StrPath | FileEntry | Omitted | tuple[UploadSource, str]
"""One of many: a path, whose file's name becomes the key; what `select_files` yields; or a source and its key."""

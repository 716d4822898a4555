"""The types of what can be uploaded, for type checkers; and such a source once it is open.

`sources/opening` opens each.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping
from dataclasses import field
from typing import Protocol, TypeAlias

from bigupload.batch.tree import FileEntry, Omitted
from bigupload.core.checksums import Algorithm
from bigupload.core.object_claims import CopySource
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.records import dataclass


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
"""A source: a path, bytes, a file object, or an iterable of bytes; the last two also async."""
ManySource: TypeAlias = StrPath | FileEntry | Omitted | tuple[UploadSource, str]
"""One of many: a path, whose file's name becomes the key; what `select_files` yields; or a source and its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSource:
    """An open source, and the name and type of its object where the caller gives none."""

    source: Source
    name: str
    content_type: str | None = None
    """None: what the name stands for."""
    content_encoding: str | None = None
    warning: str | None = None
    """A warning for the user about the source."""
    stored: CopySource | None = None
    """The object that it is, in the store that the upload's options lead to."""
    checksums: Mapping[Algorithm, str] = field(default_factory=dict)
    """The checksums of the whole object `stored`, as its store reports them."""

    def typed(self, options: S3Options) -> S3Options:
        """The options with the type of the source."""
        if self.content_type is None or options.content_type is not None:
            return options
        encoding = options.content_encoding or self.content_encoding
        return dataclasses.replace(options, content_type=self.content_type, content_encoding=encoding)

"""The types of what can be uploaded, and of what a sync or a verification finds; and an open source.

`sources/opening` opens each.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from bigupload import errors
from bigupload.batch.tree import FileEntry, Omitted
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import CopySource
from bigupload.core.manifest import Fingerprint
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.records import dataclass

if TYPE_CHECKING:
    from bigupload.batch.job import UploadFailed
    from bigupload.engine.upload_run import UploadResult


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStep:
    """An object that was deleted, or was to be; with `dry_run`, what would be done."""

    action: Literal["upload", "delete"]
    key: str
    """The object's key."""
    url: str
    """The object's URL, "s3://BUCKET/KEY"."""
    size: int
    """Bytes of what is uploaded or deleted."""
    source: str | None = None
    """The path of the file that would be uploaded."""
    done: bool = False
    """Whether it was done. False with `dry_run`, and if it failed."""
    error: errors.BigUploadError | None = None
    """The error because of which the object was not deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """The outcome of a sync; with `dry_run`, the expected one."""

    uploaded: int
    """Files that were sent."""
    same: int
    """Files that were in the store already."""
    deleted: int
    """Objects that were deleted."""
    failed: int
    """Files and directories that can't be read or were refused, and objects that were not deleted."""
    size: int
    """Bytes of the files that were sent."""
    seconds: float
    not_deleted: str | None = None
    """The reason why `delete` deleted nothing, or nothing below some directories, if something forbade it."""


SyncOutcome: TypeAlias = "UploadResult | UploadFailed | SyncStep | Omitted"
"""The argument of `on_outcome`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationFailed:
    """A file whose object is not proved: it is missing, or another, or nothing can be compared."""

    source: str
    """The file's path."""
    key: str
    """The object's key; empty if the file can have none."""
    error: errors.BigUploadError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file of a call, and what became of it. A step returns it with what it has added."""

    source: str
    """The file's path as the caller named it, or the name of another source."""
    path: str = ""
    """The file's absolute path; empty: it is not a file of this machine."""
    key: str = ""
    """The object's key below the target."""
    fingerprint: Fingerprint | None = None
    """The file's when it was sent, or proved to be in the store; None: it is not known."""
    result: UploadResult | None = None
    """The proved object. A step always gets one. None: the file is not in the store."""
    error: errors.BigUploadError | None = None
    """The error that the file ended with, although it may be in the store."""
    is_recorded: bool = False
    """Whether the record of the job has it."""
    retry_in: float | None = None
    """Seconds until `watch` tries a file that failed again; None: when it has changed, and in other calls never."""

    @property
    def proved(self) -> UploadResult:
        """The proved object, as a step has it."""
        assert self.result is not None
        return self.result


Work: TypeAlias = Callable[[Row], Awaitable[Row]]
"""A step that is open; and a step of the caller's own."""


class Step(Protocol):
    """A step of ours: `Digest`, `Link`, `Receipt`, `DeleteSource`."""

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise UsageError for what it can't do in a call with these options. Nothing was sent."""
        ...

    def check_source(self, source: UploadSource) -> None:
        """Raise UsageError for a source that it can't be done with, before that is sent."""
        ...


Then: TypeAlias = "Step | Work | Sequence[Step | Work]"
"""The steps of a call."""

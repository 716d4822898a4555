"""Open what the caller wants to upload, and find its name."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from bigupload import errors
from bigupload.api.arguments import UploadOptions, UploadSource, checked_path
from bigupload.api.places import UNKNOWN
from bigupload.core.manifest import SourceKind
from bigupload.ports import Source
from bigupload.sources.file import open_file, open_in_thread
from bigupload.sources.opening import checked_name, is_path, name_of, open_source
from bigupload.stores.service_client.multipart import ServiceStore
from bigupload.stores.targets import Store, head_of


async def open_named(source: UploadSource, options: UploadOptions) -> Source:
    """Open a source. The caller closes it.

    Raises:
        UsageError: It is nothing that can be uploaded, or it needs a name.
        SourceError: It can't be opened or read.
    """
    name = options.get("name")
    if name is not None:
        checked_name(name)
    if is_path(source):
        return await open_file(checked_path(source, "source"))
    name = name or name_of(source) or (options.get("to") or "").rpartition("/")[2]
    if not name:
        raise errors.UsageError("this source has no name of its own: give it one, as in name='movie.mov'")
    return await open_in_thread(lambda: open_source(source, name))


def reopening(source: Source, store: Store, opened: contextlib.ExitStack) -> Callable[[], Awaitable[Source]] | None:
    """Return a function that opens a file again, as it is now; None for what is no file.

    Args:
        source: The source.
        store: Its store. A media service is shown the file's new first bytes.
        opened: Closes what was opened.
    """
    if source.kind is not SourceKind.FILE:
        return None

    async def reopen() -> Source:
        again = opened.enter_context(await open_file(source.path))
        if isinstance(store, ServiceStore):
            store.use_head(head_of(again))
        return again

    return reopen


def size_of(source: UploadSource) -> int:
    """Bytes of a source that is not open yet. Blocking.

    Raises:
        OSError: There is no such file.
        ValueError: No file can have this name.
    """
    if is_path(source):
        return Path(source).stat().st_size
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).nbytes
    if isinstance(source, io.BytesIO):
        return len(source.getbuffer())
    try:
        return os.fstat(getattr(source, "fileno")()).st_size  # noqa: B009 - not every file object has it
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def shown(source: UploadSource, options: UploadOptions) -> str:
    """What a log line calls a source, which may not be opened yet."""
    return str(source) if is_path(source) else options.get("name") or name_of(source) or type(source).__name__

"""Open what the caller wants to upload, and find its name."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from bigupload import errors
from bigupload.api.arguments import UploadOptions, UploadSource, checked_expected_size, checked_marker, checked_path
from bigupload.api.change_options import DEFAULT_IDLE, check_follow, checked_idle
from bigupload.api.places import UNKNOWN
from bigupload.core.manifest import SourceKind
from bigupload.ports import Source
from bigupload.sources.end_marker import MarkedProducer
from bigupload.sources.file import open_file, open_in_thread
from bigupload.sources.growing import open_growing
from bigupload.sources.opening import checked_name, is_path, name_of, open_source, producer_of
from bigupload.sources.part_pool import PartPool
from bigupload.sources.producers import Producer
from bigupload.sources.stream import StreamSource
from bigupload.stores.service_client.multipart import ServiceStore
from bigupload.stores.targets import Store, head_of


async def open_named(source: UploadSource, options: UploadOptions, parts: PartPool) -> Source:
    """Open a source. The caller closes it.

    Args:
        source: What the caller gave.
        options: Those of the upload.
        parts: Where a stream's parts are held.

    Raises:
        UsageError: It is nothing that can be uploaded, needs a name, or has another size than the expected one.
        SourceError: It can't be opened or read.
    """
    expected = checked_expected_size(options.get("expected_size"))
    marker = checked_marker(options.get("end_marker"))
    name = options.get("name")
    if name is not None:
        checked_name(name)
    check_follow(options, is_path=is_path(source))
    if is_path(source) and options.get("follow", False):
        idle, allow_empty = checked_idle(options.get("idle", DEFAULT_IDLE)), options.get("allow_empty", False)
        return await open_growing(checked_path(source, "source"), idle=idle, allow_empty=allow_empty)
    if is_path(source):
        opened: Source = await open_file(checked_path(source, "source"))
    else:
        name = _name(source, options)
        if not name:
            raise errors.UsageError("this source has no name of its own: give it one, as in `name='movie.mov'`")
        producer = producer_of(source, name)
        if producer is not None:
            return await _open_stream(name, producer, marker, expected, options, parts)
        opened = await open_in_thread(lambda: open_source(source, name))
    try:
        size = opened.fingerprint.size
        if expected not in (None, size):
            raise errors.UsageError(
                f"{opened.path} has {size:,} bytes, and {expected:,} were expected: nothing was sent"
            )
        if marker is not None:
            raise errors.UsageError(f"end_marker is for streams, and {opened.path} is none: leave it out")
    except errors.UsageError:
        opened.close()
        raise
    return opened


async def _open_stream(
    name: str, producer: Producer, marker: bytes | None, expected: int | None, options: UploadOptions, parts: PartPool
) -> Source:
    _check_stream(name, expected, options)
    if marker is not None:
        producer = MarkedProducer(producer, marker, name)
    stream = StreamSource(name, producer, parts, expected=expected, allow_empty=options.get("allow_empty", False))
    try:
        await stream.begin()
    except BaseException:
        stream.close()
        raise
    return stream


def _name(source: UploadSource, options: UploadOptions) -> str:
    """The name of a source that has no path; "" if it has none."""
    return options.get("name") or name_of(source) or (options.get("to") or "").rpartition("/")[2]


def _check_stream(name: str, expected: int | None, options: UploadOptions) -> None:
    """Raises UsageError for what can't be done with a stream."""
    if options.get("service") is not None and not expected:
        raise errors.UsageError(f"a media service wants to know how long {name} is: give its size as `expected_size`")
    if options.get("skip_existing", False):
        raise errors.UsageError(f"`skip_existing` is for files, and {name} is a stream: leave it out")
    if options.get("verify_source", False):
        raise errors.UsageError(
            f"`verify_source` reads a file once more, and {name} is a stream, which is hashed and sent from one read: "
            "leave it out"
        )


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
        status = os.fstat(getattr(source, "fileno")())  # noqa: B009 - not every file object has it
    except (AttributeError, OSError, TypeError, ValueError):  # `open_source` says what is wrong with it, if anything
        return UNKNOWN
    return status.st_size if stat.S_ISREG(status.st_mode) else UNKNOWN


def shown(source: UploadSource, options: UploadOptions) -> str:
    """What a log line calls a source, which may not be opened yet."""
    return str(source) if is_path(source) else _name(source, options) or type(source).__name__

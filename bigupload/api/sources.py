"""Open what the caller wants to upload, and find its name."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bigupload import errors
from bigupload.api.arguments import UploadOptions, UploadSource
from bigupload.api.checks import (
    check_follow,
    checked_idle,
    checked_marker,
    checked_path,
    checked_size,
)
from bigupload.api.types import OpenedSource
from bigupload.api.upload_slots import UNKNOWN
from bigupload.core.manifest import SourceKind
from bigupload.core.remote_url import SCHEMES, foreign_scheme, is_remote, shown_url
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.sources.file import open_file, open_in_thread
from bigupload.sources.opening import (
    check_kind,
    checked_name,
    is_path,
    name_of,
    open_source,
    producer_of,
    skipped_bytes,
)
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import LOCAL_BUCKET, Store, head_of, parse_s3_url

if TYPE_CHECKING:  # imported where they are used: most uploads are of files
    from bigupload.api.remote import RemoteOpener
    from bigupload.sources.part_pool import PartPool
    from bigupload.sources.producers import Producer

_NAMELESS = "this source has no name of its own: give it one, as in `name='movie.mov'`"


async def open_named(
    source: UploadSource, options: UploadOptions, parts: PartPool, remote: RemoteOpener
) -> OpenedSource:
    """Open a source. The caller closes it.

    Args:
        source: What the caller gave.
        options: Those of the upload.
        parts: Where a stream's parts are held.
        remote: Opens a source that is given by its URL.

    Raises:
        UsageError: It is nothing that can be uploaded, needs a name, or has another size than the expected one.
        SourceError: It can't be opened or read.
    """
    expected = checked_size(options.get("expected_size"), "expected_size")
    marker = checked_marker(options.get("end_marker"))
    name = options.get("name")
    if name is not None:
        checked_name(name)
    check_follow(options, is_path=is_path(source))
    if is_remote(source):
        return await _open_remote(source, options, expected, remote)
    opened = await _open(source, options, parts, expected, marker)
    skipped = skipped_bytes(opened)
    if skipped and not opened.fingerprint.size and not options.get("allow_empty", False):
        opened.close()
        raise errors.UsageError(
            f"{opened.path} is at its end, after {skipped:,} bytes, so that nothing is left to upload: seek(0) makes "
            "all of it the source, and `allow_empty=True` uploads an empty object"
        )
    return OpenedSource(
        source=opened,
        name=name or Path(opened.path).name,
        warning=f"{opened.path} is uploaded from its position on: without its first {skipped:,} bytes"
        if skipped
        else None,
    )


async def _open_remote(source: str, options: UploadOptions, expected: int | None, remote: RemoteOpener) -> OpenedSource:
    if options.get("end_marker") is not None:
        raise errors.UsageError("`end_marker` is for streams, not for URLs: leave it out")
    opened = await remote.open(
        source,
        options.get("s3") or S3Options(),
        name=options.get("name"),
        expected=expected,
        allow_empty=options.get("allow_empty", False),
    )
    if opened.source.stream is not None:
        try:
            _check_stream(opened.source.path, opened.source.stream.expected, options)
        except errors.UsageError:
            opened.source.close()
            raise
    return opened


async def _open(
    source: UploadSource, options: UploadOptions, parts: PartPool, expected: int | None, marker: bytes | None
) -> Source:
    """Open a source that is not a URL."""
    if is_path(source) and options.get("follow", False):
        from bigupload.sources.file import open_growing

        idle, allow_empty = checked_idle(options.get("idle", "10s")), options.get("allow_empty", False)
        return await open_growing(checked_path(source, "source"), idle=idle, allow_empty=allow_empty)
    if is_path(source):
        refuse_foreign(source)
        opened: Source = await open_file(checked_path(source, "source"))
    else:
        check_kind(source)
        name = name_in_target(source, options)
        if not name:
            raise errors.UsageError(_NAMELESS)
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
            raise errors.UsageError(f"`end_marker` is for streams, and {opened.path} is not a stream: leave it out")
    except errors.UsageError:
        opened.close()
        raise
    return opened


def refuse_foreign(source: str | os.PathLike[str]) -> None:
    """Raises UsageError for a URL of another scheme. Nobody has a file of such a name, or else that is meant."""
    scheme = foreign_scheme(source) if isinstance(source, str) else None
    if scheme is not None and not os.path.lexists(source):
        raise errors.UsageError(
            f"a URL of the scheme {scheme}:// can't be read: a source is a path, or begins with {_schemes()}; what "
            "another program reads can be piped (bigupload upload -)"
        )


def _schemes() -> str:
    *others, last = (f"{scheme}://" for scheme in SCHEMES)
    return f"{', '.join(others)} or {last}"


async def _open_stream(
    name: str, producer: Producer, marker: bytes | None, expected: int | None, options: UploadOptions, parts: PartPool
) -> Source:
    from bigupload.sources.stream import StreamSource  # few uploads need it

    _check_stream(name, expected, options)
    allow_empty = options.get("allow_empty", False)
    stream = StreamSource(name, producer, parts, expected=expected, end_marker=marker, allow_empty=allow_empty)
    try:
        await stream.begin()
    except BaseException:
        stream.close()
        raise
    return stream


def check_stream_options(options: UploadOptions) -> None:
    """Refuse options before the first byte of a stream is there, as `open_named` refuses them with it.

    Raises:
        UsageError: A value is out of range, or the stream has no name.
    """
    name = options.get("name")
    if name is not None:
        checked_name(name)
    shown_name = name or (options.get("to") or "").rpartition("/")[2]
    if not shown_name:
        raise errors.UsageError(_NAMELESS)
    if options.get("service") is None:
        parse_s3_url(options.get("to") or f"s3://{LOCAL_BUCKET}/", shown_name)
    _check_stream(shown_name, checked_size(options.get("expected_size"), "expected_size"), options)


def name_in_target(source: UploadSource, options: UploadOptions) -> str:
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


def reopening(
    source: Source,
    store: Store,
    opened: contextlib.ExitStack | contextlib.AsyncExitStack,
    again_remote: Callable[[], Awaitable[OpenedSource]] | None = None,
) -> Callable[[], Awaitable[Source]] | None:
    """Return a function that opens a file again, as it is now; None for another source.

    Args:
        source: The source.
        store: Its store. A media service is shown the file's new first bytes.
        opened: Closes what was opened.
        again_remote: Opens a remote file again.
    """
    if source.kind is not SourceKind.FILE and (source.kind is not SourceKind.REMOTE or again_remote is None):
        return None

    async def reopen() -> Source:
        if source.kind is SourceKind.REMOTE:
            assert again_remote is not None
            again: Source = opened.enter_context(contextlib.closing((await again_remote()).source))
        else:
            again = opened.enter_context(await open_file(source.path))
        if not isinstance(store, S3Store):
            store.use_head(head_of(again))
        return again

    return reopen


def size_of(source: UploadSource) -> int:
    """Bytes of a source that is not open yet. Blocking.

    Raises:
        OSError: There is no such file.
        ValueError: No file can have this name.
    """
    if is_remote(source):
        return UNKNOWN
    if is_path(source):
        return os.stat(source).st_size  # noqa: PTH116 - of a thousand small files, each Path counts
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).nbytes
    if isinstance(source, io.BytesIO):
        return len(source.getbuffer())
    try:
        status = os.fstat(getattr(source, "fileno")())  # noqa: B009 - not every file object has it
    except (AttributeError, OSError, TypeError, ValueError):  # `open_source` reports an error of it, if there is one
        return UNKNOWN
    return status.st_size if stat.S_ISREG(status.st_mode) else UNKNOWN


def shown(source: UploadSource, options: UploadOptions) -> str:
    """Return a source's name for a log line. It may not be open yet."""
    if isinstance(source, str) and (is_remote(source) or foreign_scheme(source) is not None):
        return shown_url(source)
    return str(source) if is_path(source) else name_in_target(source, options) or type(source).__name__


def subject_of(source: str, options: UploadOptions) -> str:
    """Return an upload's name for a log line: its source, as `shown` returns it, and its target."""
    return f"{source} → {options.get('to') or options.get('service') or 'the local store'}"

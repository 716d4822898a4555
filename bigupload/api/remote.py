"""Open a source that is given by its URL: on a web server, or an object of a store, read through this machine."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from bigupload import errors
from bigupload.api.types import OpenedSource
from bigupload.core.content_types import DEFAULT, type_of
from bigupload.core.remote_url import SCHEMES, RemoteUrl, chosen_name, parse_remote
from bigupload.engine.retrying import Retrier
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.part_pool import PartPool
from bigupload.sources.stream import StreamSource
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.targets import connect_to_read

if TYPE_CHECKING:  # each upload has an opener, and few have something to open
    from bigupload.http.web_file import WebFile
    from bigupload.sources.remote import ServedFile
    from bigupload.stores.s3.object_file import ObjectFile

    _CHECKED: type[ServedFile] = WebFile  # SCHEMES names it, so that no checker compares the two

_UNKNOWN_TYPES = frozenset({DEFAULT, "binary/octet-stream", None})
"""Generic types: they carry no information. S3 gives the second one to objects that were stored without any."""
_HEAD = 4096
"""Bytes by which a media service judges a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOpener:
    """Opens remote sources for one call."""

    retrier: Retrier
    pool: PartPool
    buckets: BucketPool
    opened: contextlib.AsyncExitStack
    """Closes the connections."""
    with_head: bool
    """Whether the first bytes of an object are wanted at once: a media service judges them."""

    async def open(
        self, given: str, s3: S3Options, *, name: str | None, expected: int | None, allow_empty: bool
    ) -> OpenedSource:
        """Open a source by its URL.

        Args:
            given: The URL, as the caller gave it.
            s3: How to reach the store of an s3:// URL: the target's options. Of another URL, the CA bundle.
            name: The caller's name for it; None: its own.
            expected: The size in bytes that it must have; None: any.
            allow_empty: Whether it may have no bytes.

        Raises:
            UsageError: The URL can't be used, has no name, or has another size than the expected one.
            SourceError: It can't be read.
            StoreError: Its store can't be reached.
        """
        url = parse_remote(given)
        reader = SCHEMES[url.scheme].reader
        if reader is None:
            return await self._open_object(url, s3, name, expected)
        return await self._open_served(reader, url, s3, name, expected, allow_empty=allow_empty)

    async def _open_served(
        self,
        reader: str,
        url: RemoteUrl,
        s3: S3Options,
        name: str | None,
        expected: int | None,
        *,
        allow_empty: bool,
    ) -> OpenedSource:
        from pkgutil import resolve_name

        from bigupload.sources.remote import RemoteSource

        served: type[ServedFile] = resolve_name(reader)
        file = served(
            url,
            ca_bundle=s3.ca_bundle,
            stall_after=self.retrier.policy.stall_after,
        )
        self.opened.push_async_callback(file.aclose)
        facts = await self.retrier.request(lambda: file.look(without_length=expected is not None))
        _check_size(url, facts.size, expected)
        name = name or chosen_name(url, facts.file_name)
        if not name:
            raise errors.UsageError(f"{url.shown} has no name of its own: give it one, as in `name='movie.mov'`")
        kind = _usable_type(facts.content_type) if type_of(name).content_type == DEFAULT else None
        if facts.pin is not None and facts.size is not None:
            source = RemoteSource(url.shown, file, self.pool, size=facts.size, pin=facts.pin, head=facts.head)
            return OpenedSource(source=source, name=name, content_type=kind)
        size = expected if expected is not None else facts.size or None
        stream = StreamSource(url.shown, file, self.pool, expected=size, allow_empty=allow_empty)
        try:
            await stream.begin()
        except BaseException:
            stream.close()
            raise
        warning = (
            f"{url.shown} is read as one stream: the server sends no ranges of one version (that takes a strong ETag). "
            "If the upload stops, the next run reads it from its beginning again"
        )
        return OpenedSource(source=stream, name=name, content_type=kind, warning=warning)

    async def _open_object(self, url: RemoteUrl, s3: S3Options, name: str | None, expected: int | None) -> OpenedSource:
        from bigupload.sources.remote import RemoteSource

        file = await self._reach(url, s3)
        try:
            version = await self.retrier.request(file.look)
        except errors.WrongRegion as e:
            if e.region is None:
                raise
            file = await self._reach(url, dataclasses.replace(s3, region=e.region))  # the target's is another one
            version = await self.retrier.request(file.look)
        _check_size(url, version.size, expected)
        head = bytearray()

        async def take(data: bytes) -> None:
            head.extend(data)

        async def read_head() -> None:
            head.clear()
            await file.read(0, min(_HEAD, version.size), take)

        if version.size and self.with_head:
            await self.retrier.request(read_head)
        source = RemoteSource(url.shown, file, self.pool, size=version.size, pin=version.pin, head=bytes(head))
        return OpenedSource(
            source=source,
            name=name or url.name,
            content_type=_usable_type(version.content_type),
            content_encoding=version.content_encoding,
            stored=file.as_copy_source(),
            checksums=version.checksums,
        )

    async def _reach(self, url: RemoteUrl, s3: S3Options) -> ObjectFile:
        file = await connect_to_read(url.url, s3, self.buckets, stall_after=self.retrier.policy.stall_after)
        self.opened.push_async_callback(file.aclose)
        return file


def _check_size(url: RemoteUrl, size: int | None, expected: int | None) -> None:
    """Raises UsageError if a file has another size than the expected one."""
    if size is not None and expected is not None and size != expected:
        message = f"{url.shown} has {size:,} bytes, and {expected:,} were expected: nothing was sent"
        raise errors.UsageError(message)


def _usable_type(content_type: str | None) -> str | None:
    """The content type that a server gives for a file; None: it is unknown, or a store would not take it."""
    can_be_sent = content_type is not None and content_type.isascii() and content_type.isprintable()
    return content_type if can_be_sent and content_type not in _UNKNOWN_TYPES else None

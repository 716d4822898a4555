"""The arguments of `upload_many`: sources and their keys, one after another; and the files that a program selects."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import Any, cast

from bigupload import errors
from bigupload.api.types import ManySource, StrPath, UploadSource
from bigupload.batch.listing import CountedFiles, FileListing, FoundFiles, read_ahead
from bigupload.batch.selecting import Selection
from bigupload.batch.tree import FileEntry, Found, Omitted
from bigupload.core.manifest import Fingerprint
from bigupload.core.remote_url import chosen_name, is_remote, parse_remote
from bigupload.records import dataclass
from bigupload.sources.opening import is_path
from bigupload.stores.targets import parse_s3_url
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.systems import with_slashes
from bigupload.units import escaped


@dataclass(frozen=True, slots=True)
class ManyItem:
    """One file of the job."""

    source: UploadSource
    key: str
    """Below the target."""
    fingerprint: Fingerprint | None = None
    """The file's when it was listed."""
    is_second: bool = False
    """Whether another one had the same key before."""
    omitted: str | None = None
    """The reason why it can't be uploaded; it has no key then."""
    path: str = ""
    """A file's absolute path. Empty: it is not a file of this machine."""

    def check(self) -> None:
        """Raise an error if it can't be uploaded.

        Raises:
            UsageError: Another file has the same key: one object would replace the other.
            SourceError: It has no key, or was not found.
        """
        if self.omitted is not None:
            raise errors.SourceError(f"{escaped(self.shown)}: {self.omitted}")
        if self.is_second:
            raise errors.UsageError(f"another file of this call has the key {self.key}: give them different keys")

    def is_gone(self) -> bool:
        """Whether it is a file that does not exist, for certain: one that can't be looked at may. Blocking."""
        if not self.path:
            return False
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False

    @property
    def shown(self) -> str:
        """Its name in messages: its path, or its key."""
        return os.fspath(cast("StrPath", self.source)) if self.path else self.key


def prefix_of(to: str) -> str:
    """The prefix of all keys, as a URL that ends in a slash."""
    bucket, _ = parse_s3_url(to, "key")
    if to.endswith("/"):
        return to
    if to.partition("://")[2] != bucket:
        raise errors.UsageError(f"many files go below a folder: end the target with a slash, as in {to}/")
    return f"{to}/"


async def items_of(
    sources: Iterable[ManySource] | AsyncIterable[ManySource | ManyItem],
) -> AsyncIterator[ManyItem]:
    """Each source with its key; an item stays as it is. Of what no selection listed, a hash is remembered: 70 bytes for
    each file.

    Raises:
        UsageError: A source has neither a path nor a key.
    """
    seen: set[int] = set()

    def one(given: ManySource | ManyItem) -> ManyItem | None:
        """Return the item of a source; None: nothing comes of it."""
        if isinstance(given, ManyItem):
            return given
        if isinstance(given, Omitted):
            if not given.is_failure:
                return None
            return ManyItem(given.path, "", omitted=given.reason, path=_absolute(given.path))
        item = item_of(given)
        if not isinstance(given, FileEntry):  # a selection has each key once
            if hash(item.key) in seen:
                item = dataclasses.replace(item, is_second=True)
            seen.add(hash(item.key))
        return item

    if isinstance(sources, AsyncIterable):
        async for given in sources:
            if (item := one(given)) is not None:
                yield item
    else:
        for given in sources:
            if (item := one(given)) is not None:
                yield item


def item_of(given: Any) -> ManyItem:
    """Return a source with its key. Raises UsageError if it has neither a path nor a key."""
    if isinstance(given, FileEntry):
        known = given.fingerprint if given.inode else None
        return ManyItem(given.path, given.key, known, path=_absolute(given.path))
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str):
        source, key = given
        return ManyItem(source, key, path=_absolute(source) if is_path(source) else "")
    if is_path(given):
        text = os.fspath(given)
        return ManyItem(text, with_slashes(text).rpartition("/")[2] or Path(text).name, path=_absolute(text))
    if is_remote(given):
        url = parse_remote(given)
        if key := chosen_name(url, None):
            return ManyItem(given, key)
        raise errors.UsageError(f"{url.shown} has no name of its own: give it together with a key")
    raise errors.UsageError(
        f"one of many sources is a path, or a pair of a source and its key, not {type(given).__name__}"
    )


def _absolute(path: StrPath) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - as FileSource


def select_files(*sources: StrPath, selection: Selection | None = None) -> AsyncGenerator[FileEntry | Omitted, None]:
    """List the files of directories and patterns for `upload_many`, in the order in which S3 lists their keys.

    ::

        files = bigupload.select_files("photos", selection=bigupload.Selection(exclude=["*.tmp"]))
        async for done in uploader.upload_many(files, to="s3://bucket/photos/"):
            ...

    Directories are read in a thread, as files are needed. What can't be selected comes as an `Omitted`: `upload_many`
    makes an `UploadFailed` of each that is a failure.

    Args:
        *sources: Directories, whose files have keys relative to them; files, whose keys are their names; and patterns
            such as "src/**/*.c", whose files have keys relative to the directory before the first wildcard.
        selection: Which of their files; None: all.

    Raises:
        UsageError: When it is iterated: there is no source, two files have one key, or a directory beside other sources
            does not end in a slash, so that its name would be lost.
    """
    found = FoundFiles()
    return CountedFiles(_select([os.fspath(source) for source in sources], selection or Selection(), found), found)


async def _select(names: list[str], selection: Selection, counted: FoundFiles) -> AsyncGenerator[Found, None]:
    def open_listing() -> FileListing:
        listing = FileListing(names, selection, now=time.time())
        listing.check()
        return listing

    listing = await run_in_daemon_thread(open_listing)
    async for found in read_ahead(listing.found(), counted):
        yield found

"""The files that a program selects for `upload_many`."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator

import anyio

from bigupload.api.source_types import StrPath
from bigupload.batch.listing import CountedFiles, FileListing, FoundFiles, read_ahead
from bigupload.batch.selecting import Selection
from bigupload.batch.tree import FileEntry, Found, Omitted
from bigupload.support.daemon_threads import run_in_daemon_thread


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

    listing = await run_in_daemon_thread(open_listing, anyio.CapacityLimiter(1))
    async for found in read_ahead(listing.found(), counted):
        yield found

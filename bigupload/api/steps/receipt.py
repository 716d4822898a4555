"""`Receipt`: a file of what was proved and how, beside the uploads. `verification/receipts` has its form."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.api.receipts import NAME, Written, writing_receipt
from bigupload.api.steps import Row, StepCall, Work
from bigupload.api.types import StrPath, UploadSource
from bigupload.batch.tree import Selection, check_not_among_sources
from bigupload.support.missing_files import shown


class Receipt:
    """A step that writes each file that is in the store into a receipt: what was proved, how and when.

    It takes its name when all is done. With `DeleteSource`, and of a `watch`, an earlier receipt is continued, and a
    file is in it before it is deleted. If it can't be written, OutputUnwritable is raised before anything is sent, or
    at the end, where the message says that the upload is done.
    """

    def __init__(self, path: StrPath) -> None:
        """Name the file.

        Raises:
            UsageError: It is no path.
        """
        if not isinstance(path, str | os.PathLike):
            raise errors.UsageError(f"Receipt must be a path, not {type(path).__name__}")
        self.path = path

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise UsageError if nothing is sent."""
        if options.get("dry_run", False):
            raise errors.UsageError(f"`dry_run` sends nothing, so there is no receipt: leave out {NAME}")

    def check_source(self, source: UploadSource) -> None:
        """Any source will do. A receipt that would replace one of many does not take its name."""

    def check_beside(self, directory: str, selection: Selection) -> None:
        """Raise UsageError if the receipt would be a file that is read, or one of a directory."""
        check_not_among_sources(NAME, Path(os.fspath(self.path)), directory, selection)

    @contextlib.asynccontextmanager
    async def opened(self, call: StepCall) -> AsyncIterator[Work]:
        """Open the file."""
        async with writing_receipt(
            self.path, call.options, grows=call.deletes or call.function == "watch", must_grow=call.function == "watch"
        ) as written:
            yield _Writing(written, call)


class _Writing:
    """A receipt that is open."""

    def __init__(self, written: Written, call: StepCall) -> None:
        self._written = written
        self._call = call

    @property
    def failed(self) -> int:
        """How many files of the call are not in the store."""
        return self._written.failed

    @failed.setter
    def failed(self, count: int) -> None:
        self._written.failed = count

    async def __call__(self, row: Row) -> Row:
        """Add a file. One that is to be deleted is on disk then, once: nothing else may be left of it."""
        try:
            await self._written.add(dataclasses.replace(row.proved, source_deleted=self._call.deletes))
        except errors.OutputUnwritable as e:
            if not self._call.deletes:
                return dataclasses.replace(row, error=e)
            stays = errors.SourceNotDeleted(f"{shown(row.path)} is in the store and stays here: {e}", in_use=True)
            stays.__cause__ = e
            return dataclasses.replace(row, error=stays)
        return row

    async def end(self) -> None:
        """All files are done. Raises OutputUnwritable, which says that they are."""
        try:
            await self._written.end()
        except errors.OutputUnwritable as e:
            raise errors.OutputUnwritable(f"the upload is done, but {e}") from e

"""`Receipt`: a file of what was proved and how, beside the uploads. `verification/receipts` has its form.

A call that deletes its sources, and a watch, continue an earlier receipt: rows and their sums are appended by one
write, and are on disk before a source is deleted. Any other call writes a new receipt beside the earlier one, whose
name it takes at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bigupload import errors
from bigupload.api.steps import OurStep, Row, StepCall, Work
from bigupload.api.types import StrPath
from bigupload.batch.tree import Selection, check_not_among_sources
from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.stores.targets import LOCAL_BUCKET, endpoint_of
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import run_shielded
from bigupload.support.daemon_threads import DaemonThreadPool
from bigupload.support.files import shown
from bigupload.support.output_file import delete_open, descriptor_of, keep_to_one_process, naming, output_file
from bigupload.support.systems import open_binary, sync_to_disk
from bigupload.units import escaped
from bigupload.verification.receipts import VERSION, ReceiptReader, head_line, object_of, row_of, sums_line

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

R = TypeVar("R")
_NAME = "`Receipt`"
_MOST_AT_ONCE = 500
"""Rows of one write."""


class Receipt(OurStep):
    """A step that writes each file that is in the store into a receipt: what was proved, how and when.

    It takes its name when all is done. With `DeleteSource`, and of a `watch`, an earlier receipt is continued, and a
    file is in it before it is deleted. If it can't be written, OutputUnwritable is raised before anything is sent, or
    at the end, where the message says that the upload is done.
    """

    wants_each = False
    reports_each = True

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
            raise errors.UsageError(f"`dry_run` sends nothing, so there is no receipt: leave out {_NAME}")

    def check_beside(self, directory: str, selection: Selection) -> None:
        """Raise UsageError if the receipt would be a file that is read, or one of a directory."""
        check_not_among_sources(_NAME, Path(os.fspath(self.path)), directory, selection)

    @contextlib.asynccontextmanager
    async def opened(self, call: StepCall) -> AsyncIterator[Work]:
        """Open the file, unless it is open, for several calls: whoever opened it also ends it."""
        if isinstance(self.path, OpenReceipt):
            yield self.path.__call__
            return
        watches = call.function == "watch"
        async with open_receipt(self.path, call.options, deletes=call.deletes, watches=watches) as receipt:
            yield receipt


class OpenReceipt:
    """A receipt that is open for writing. A full disk ends the writing, and not the uploads. It is a path, too."""

    def __init__(self, path: Path, target: str, endpoint: str | None, *, deletes: bool, grows: bool) -> None:
        """Write nothing yet.

        Args:
            path: Its file.
            target: What the files' keys begin with, or the one object, or a media service's URL.
            endpoint: The store's; None: AWS.
            deletes: Whether each file is deleted once it is in the receipt.
            grows: Whether an earlier one is continued, and each write is whole, with sums, and on disk when it ends.
        """
        self.failed = 0
        """How many files of the call are not in the store."""
        self._path = path
        self._names = {os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100 - texts, as results have them
        self._target, self._endpoint = target, endpoint
        self._deletes, self._grows = deletes, grows
        self._threads = DaemonThreadPool(1, "bigupload-receipt")
        self._file: AsyncFileIO
        self._finish: Callable[[], None]
        self._size = 0
        """Bytes of the file. If it grows, what a failed write leaves behind them is cut off."""
        self._files = self._bytes = 0
        """The sums of its rows."""
        self._sums: tuple[int, int, int] | None = None
        """Those of its last line; None: that is a row, or there is none."""
        self._known: set[int] = set()
        """The objects that it has, by `object_of`, if it grows."""
        self._waiting: list[UploadResult] = []
        self._adding = Batcher(self._add_all, max_batch=_MOST_AT_ONCE)
        self._error: errors.OutputUnwritable | None = None

    def __fspath__(self) -> str:
        return str(self._path)

    async def __call__(self, row: Row) -> Row:
        """Add a file. One that is to be deleted is written then, once: nothing else may be left of it."""
        try:
            if self._error is None:
                await self.add(dataclasses.replace(row.proved, source_deleted=self._deletes))
        except errors.OutputUnwritable as e:
            if self._deletes:
                stays = errors.SourceNotDeleted(
                    f"{errors.IT} is in the store and stays here: {e}", it=shown(row.path), in_use=True
                )
                stays.__cause__ = e
                return dataclasses.replace(row, error=stays)
            if self._grows:
                return dataclasses.replace(row, error=e)
            self._error = e
        return row

    async def add(self, result: UploadResult) -> None:
        """Add a file, unless the receipt grows, and has it, and nothing was sent of it now.

        A result with `source_deleted` is of a file that is about to be deleted: it is added only once, too.

        Raises:
            OutputUnwritable: It can't be written. The same call may be made again.
        """
        if str(result.path) in self._names:
            raise errors.OutputUnwritable(f"the receipt would replace {result.path}, which was uploaded")
        self._waiting.append(result)
        if self._grows or self._deletes or len(self._waiting) >= _MOST_AT_ONCE:
            waiting, self._waiting = self._waiting, []
            await self._adding.submit(waiting)

    async def _add_all(self, batches: Sequence[Sequence[UploadResult]]) -> Sequence[None]:
        new, known = [], set[int]()
        for result in itertools.chain(*batches):
            if self._grows:
                mark = object_of(result)
                if (result.skipped or result.source_deleted) and (mark in self._known or mark in known):
                    continue
                known.add(mark)
            new.append(result)
        if new:
            await run_shielded(self._append(new, known))
        return [None] * len(batches)

    async def _append(self, results: Sequence[UploadResult], known: set[int], *, ends: bool = False) -> None:
        """Append rows, and their sums if it grows or ends, by one write."""
        files, size = self._files + len(results), self._bytes + sum(result.size for result in results)
        sums = (files, size, self.failed) if ends or self._grows else None
        head = b"" if self._size else head_line(self._target, self._endpoint)
        text = b"".join([head, *map(row_of, results), b"" if sums is None else sums_line(*sums)])
        rest = memoryview(text)
        with naming(_NAME, self._path):
            try:
                while rest:
                    rest = rest[await self._file.write(rest) :]
                if self._grows:
                    await self._in_thread(partial(sync_to_disk, self._file.fileno()))
            except OSError:
                if self._grows:
                    with contextlib.suppress(OSError):
                        await self._file.truncate(self._size)
                raise
        self._size += len(text)
        self._files, self._bytes, self._sums = files, size, sums
        self._known |= known

    async def end(self) -> None:
        """All files are done. Without a file, an earlier receipt stays.

        Raises:
            OutputUnwritable: Not all of it could be written. The message says that the upload is done.
        """
        try:
            if self._grows:
                if self._size and self._sums != (self._files, self._bytes, self.failed):
                    with contextlib.suppress(errors.OutputUnwritable):  # it lacks only those that failed
                        await run_shielded(self._append((), set()))
                return
            if self._error is not None:
                raise self._error
            if self._files or self._waiting:
                await run_shielded(self._append(self._waiting, set(), ends=True))
                await run_shielded(self._in_thread(self._finish))
        except errors.OutputUnwritable as e:
            raise errors.OutputUnwritable(f"the upload is done, but {e}") from e

    # -- its file

    async def _in_thread(self, function: Callable[[], R]) -> R:
        """Call a function in a thread that holds up neither the event loop nor the end of the process."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[OpenReceipt]:
        """Open its file. A new one that grows, and gets no row, is deleted at the end.

        Raises:
            OutputUnwritable: It can't be written, or another process writes it.
            UsageError: It is to grow, and the file is not a receipt, or one of another target, or one that lost files.
        """
        import aiofiles

        with contextlib.ExitStack() as opened:
            opened.callback(self._threads.shutdown, wait=False)
            is_new = not self._path.exists()
            if self._grows:
                descriptor = await run_shielded(self._in_thread(partial(self._continue, opened)))
            else:
                output = opened.enter_context(output_file(self._path, _NAME))
                descriptor, self._finish = output.fileno(), output.finish
            self._file = await aiofiles.open(descriptor, "ab", buffering=0, closefd=False, executor=self._threads)
            try:
                if self._size and self._sums is None:
                    await run_shielded(self._append((), set()))
                yield self
            finally:
                if is_new and self._grows and not self._size:
                    delete_open(self._path, opened.close)

    def _continue(self, opened: contextlib.ExitStack) -> int:
        """Open, lock and read it. Returns its descriptor, which `opened` closes. Blocking."""
        with naming(_NAME, self._path):
            if descriptor_of(self._path) is not None:
                raise OSError(errno.EINVAL, "a watch continues its receipt, so name a file")
            descriptor = open_binary(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            opened.callback(os.close, descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            keep_to_one_process(descriptor)
            if os.fstat(descriptor).st_size:
                with open(descriptor, "rb", closefd=False) as file:
                    self._read(ReceiptReader(self._path, file))
                os.truncate(descriptor, self._size)
        return descriptor

    def _read(self, reader: ReceiptReader) -> None:
        path = escaped(str(self._path))
        if reader.version != VERSION:
            raise errors.UsageError(f"{path} is a receipt of an earlier version, which is only read: name another file")
        if (reader.target, reader.endpoint) != (self._target, self._endpoint):
            raise errors.UsageError(
                f"{path} is the receipt of {reader.target}, and this is {self._target}: name another file"
            )
        self._known.update(map(object_of, reader.rows()))
        self._size, self._sums = reader.end, reader.sums
        self._files, self._bytes = reader.files, reader.size


async def head_of(options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the target and the endpoint that a call's receipt begins with."""
    service: str | None = options.get("service")
    if service is not None:
        return service, None
    endpoint = await endpoint_of(options.get("s3") or S3Options())
    return options.get("to") or f"s3://{LOCAL_BUCKET}/", endpoint


@contextlib.asynccontextmanager
async def open_receipt(
    path: StrPath, options: Mapping[str, Any], *, deletes: bool, watches: bool = False
) -> AsyncIterator[OpenReceipt]:
    """Open the receipt of a call. Without `end`, an earlier receipt stays as it is, unless it grows.

    A receipt that is deleted for, or of a watch, grows, but a pipe or standard output can't.

    Args:
        path: Its file.
        options: The call's.
        deletes: Whether the call deletes its sources.
        watches: Whether it is a watch.

    Raises:
        OutputUnwritable: It can't be written. Nothing was sent.
        UsageError: It is to grow, and the file is not a receipt, or one of another target.
    """
    path = Path(os.fspath(path))
    can_grow = descriptor_of(path) is None and (path.is_file() or not path.exists())
    receipt = OpenReceipt(path, *await head_of(options), deletes=deletes, grows=watches or (deletes and can_grow))
    async with receipt.opened():
        yield receipt

"""`receipt`: the file that a call writes beside its uploads, of what was proved and how.

`verification/receipts` has its form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bigupload import errors
from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.stores.targets import LOCAL_BUCKET, endpoint_of
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import run_shielded
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.output_file import descriptor_of

if TYPE_CHECKING:  # few calls write one
    from bigupload.verification.receipts import GrowingReceipt, ReceiptOutput

NAME = "`receipt`"
_MOST_AT_ONCE = 500


class Written:
    """The receipt of one call, or None of it."""

    has_all = True
    """Whether it lacks nothing that was added. Of a receipt that is the call's own, `end` raises if it does."""

    def __init__(self, output: ReceiptOutput | None) -> None:
        self._output = output
        self._failed = 0

    async def bring_to_disk(self, result: UploadResult) -> None:
        """Add a file whose source is about to be deleted, if the receipt can be continued.

        Raises:
            OutputUnwritable: It can't be written.
        """

    def add(self, outcome: object) -> None:
        """A file of the call is done: its result, or anything that means that it is not in the store."""
        if self._output is None:
            return
        if isinstance(outcome, UploadResult):
            self._output.add(outcome)
        else:
            self._failed += 1

    def end(self) -> None:
        """All files are done. Raises OutputUnwritable, which says that they are."""
        if self._output is None:
            return
        try:
            self._output.end(failed=self._failed)
        except errors.OutputUnwritable as e:
            raise errors.OutputUnwritable(f"the upload is done, but {e}") from e


class WrittenBefore(Written):
    """The receipt of a call that deletes its sources. Each file is in it before it is deleted."""

    def __init__(self, receipt: GrowingReceipt, *, ends: bool) -> None:
        """`ends`: whether the receipt has no other call."""
        super().__init__(None)
        self._receipt = receipt
        self._ends = ends
        self._one_writer = asyncio.Semaphore(1)
        self._adding = Batcher(self._add_all, max_batch=_MOST_AT_ONCE)

    async def bring_to_disk(self, result: UploadResult) -> None:
        await self._adding.submit(result)

    async def _add_all(self, results: Sequence[UploadResult]) -> Sequence[None]:
        add = partial(self._receipt.add, *results, failed=self._failed)
        await run_shielded(run_in_daemon_thread(add, self._one_writer))
        return [None] * len(results)

    def add(self, outcome: object) -> None:
        if not isinstance(outcome, UploadResult):
            self._failed += 1
        else:
            self._receipt.add_or_miss(outcome, failed=self._failed)

    def end(self) -> None:
        if not self._ends:
            self.has_all = self._receipt.has_all
            return
        try:
            self._receipt.end(failed=self._failed)
        except errors.OutputUnwritable as e:
            raise errors.OutputUnwritable(f"the upload is done, but {e}") from e


class ReceiptHead(NamedTuple):
    """The fields of a receipt that are those of the whole call."""

    target: str
    endpoint: str | None


async def head_of(options: Mapping[str, Any]) -> ReceiptHead:
    """Return the fields that a call's receipt begins with."""
    service: str | None = options.get("service")
    if service is not None:
        return ReceiptHead(service, None)
    endpoint = await endpoint_of(options.get("s3") or S3Options())
    return ReceiptHead(options.get("to") or f"s3://{LOCAL_BUCKET}/", endpoint)


@contextlib.asynccontextmanager
async def writing_receipt(options: Mapping[str, Any]) -> AsyncIterator[Written]:
    """Write the receipt that a call's options ask for. Without `end`, an earlier receipt stays as it is.

    With `delete_source`, an earlier receipt is continued. `receipt` may be one that is open already, of several calls.

    Raises:
        OutputUnwritable: It can't be written. Nothing was sent.
        UsageError: With `delete_source`: the file is not a receipt, or one of another target.
    """
    path = options.get("receipt")
    if path is None:
        yield Written(None)
        return
    from bigupload.verification.receipts import GrowingReceipt, receipt_output

    if isinstance(path, GrowingReceipt):
        yield WrittenBefore(path, ends=False)
        return
    path = Path(os.fspath(path))
    target, endpoint = await head_of(options)
    if options.get("delete_source", False) and can_grow(path):
        receipt = GrowingReceipt(path, NAME, target=target, endpoint=endpoint)
        with contextlib.closing(receipt):
            yield WrittenBefore(receipt, ends=True)
        return
    with receipt_output(path, NAME, target=target, endpoint=endpoint) as output:
        yield Written(output)


def can_grow(path: Path) -> bool:
    """Return whether a receipt can be continued there, which a pipe or standard output can't."""
    return descriptor_of(path) is None and (path.is_file() or not path.exists())

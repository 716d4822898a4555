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

from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.stores.targets import LOCAL_BUCKET, endpoint_of
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import run_shielded
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.output_file import descriptor_of

if TYPE_CHECKING:  # few calls write one
    from bigupload.verification.receipts import GrowingReceipt, ReceiptOutput

NAME = "`Receipt`"
_MOST_AT_ONCE = 500


class Written:
    """The receipt of one call."""

    def __init__(self, output: ReceiptOutput) -> None:
        self._output = output
        self.failed = 0

    async def add(self, result: UploadResult) -> None:
        """Add a file that is in the store."""
        self._output.add(result)

    async def end(self) -> None:
        """All files are done. Raises OutputUnwritable."""
        self._output.end(failed=self.failed)


class WrittenBefore(Written):
    """The receipt of a call that deletes its sources. Each file is in it before it is deleted."""

    def __init__(self, receipt: GrowingReceipt, *, ends: bool) -> None:
        """`ends`: whether the receipt has no other call."""
        self._receipt = receipt
        self._ends = ends
        self._one_writer = asyncio.Semaphore(1)
        self._adding = Batcher(self._add_all, max_batch=_MOST_AT_ONCE)
        self.failed = 0

    async def add(self, result: UploadResult) -> None:
        """Add a file, and wait until it is on disk. Raises OutputUnwritable."""
        await self._adding.submit(result)

    async def _add_all(self, results: Sequence[UploadResult]) -> Sequence[None]:
        add = partial(self._receipt.add, *results, failed=self.failed)
        await run_shielded(run_in_daemon_thread(add, self._one_writer))
        return [None] * len(results)

    async def end(self) -> None:
        """All files are done. Raises OutputUnwritable."""
        if self._ends:
            self._receipt.end(failed=self.failed)


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
async def writing_receipt(
    path: Any, options: Mapping[str, Any], *, grows: bool, must_grow: bool = False
) -> AsyncIterator[Written]:
    """Open the receipt of a call. Without `end`, an earlier receipt stays as it is, unless it grows.

    Args:
        path: Its file, or one that is open already, of several calls.
        options: The call's.
        grows: Whether an earlier receipt is continued, and each file is on disk at once.

    Raises:
        OutputUnwritable: It can't be written. Nothing was sent.
        UsageError: It is to grow, and the file is not a receipt, or one of another target.
    """
    from bigupload.verification.receipts import GrowingReceipt, receipt_output

    if isinstance(path, GrowingReceipt):
        yield WrittenBefore(path, ends=False)
        return
    path = Path(os.fspath(path))
    target, endpoint = await head_of(options)
    if grows and (must_grow or can_grow(path)):
        receipt = GrowingReceipt(path, NAME, target=target, endpoint=endpoint)
        with contextlib.closing(receipt):
            yield WrittenBefore(receipt, ends=True)
        return
    with receipt_output(path, NAME, target=target, endpoint=endpoint) as output:
        yield Written(output)


def can_grow(path: Path) -> bool:
    """Return whether a receipt can be continued there, which a pipe or standard output can't."""
    return descriptor_of(path) is None and (path.is_file() or not path.exists())

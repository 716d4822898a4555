"""`receipt`: the file that a call writes beside its uploads, of what was proved and how.

`verification/receipts` has its form.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bigupload import errors
from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.stores.targets import LOCAL_BUCKET, endpoint_of

if TYPE_CHECKING:  # few calls write one
    from bigupload.verification.receipts import ReceiptOutput

NAME = "`receipt`"


class Written:
    """The receipt of one call, or None of it."""

    def __init__(self, output: ReceiptOutput | None) -> None:
        self._output = output
        self._failed = 0

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


class ReceiptHead(NamedTuple):
    """What a receipt says of the whole call."""

    target: str
    endpoint: str | None


async def head_of(options: Mapping[str, Any]) -> ReceiptHead:
    """Return what the receipt of a call begins with."""
    service: str | None = options.get("service")
    if service is not None:
        return ReceiptHead(service, None)
    endpoint = await endpoint_of(options.get("s3") or S3Options())
    return ReceiptHead(options.get("to") or f"s3://{LOCAL_BUCKET}/", endpoint)


@contextlib.asynccontextmanager
async def writing_receipt(options: Mapping[str, Any]) -> AsyncIterator[Written]:
    """Write the receipt that a call's options ask for. Without `end`, an earlier receipt stays as it is.

    Raises:
        OutputUnwritable: It can't be written. Nothing was sent.
    """
    path = options.get("receipt")
    if path is None:
        yield Written(None)
        return
    from bigupload.verification.receipts import receipt_output

    target, endpoint = await head_of(options)
    with receipt_output(Path(os.fspath(path)), NAME, target=target, endpoint=endpoint) as output:
        yield Written(output)

"""What a command does once its files are uploaded and proved: the options for that, and their order.

A failure here is never a failure of the upload: the exit status is 3, and a line says what failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import PATH, joined
from bigupload.cli.output_file import OutputFile, check_not_among_sources, output_file

if TYPE_CHECKING:
    from bigupload.batch.selecting import Selection
    from bigupload.engine.upload_run import UploadResult
    from bigupload.options import S3Options
    from bigupload.verification.receipts import ReceiptWriter

RECEIPT = "--receipt"

after_options = joined(
    click.option(
        RECEIPT,
        type=PATH,
        metavar="FILE",
        help="Write what was proved, how and when, as JSON: `verify --receipt FILE` reads it.",
    ),
    click.option(
        "--sha256",
        is_flag=True,
        help="Read each file that is in the store once more, for its SHA-256 in --json and --receipt.",
    ),
)


class Wishes(NamedTuple):
    """What is to follow the uploads."""

    receipt: Path | None

    @property
    def named(self) -> list[str]:
        """The options that were given."""
        return [RECEIPT] if self.receipt is not None else []

    def check_not_dry(self, *, dry_run: bool) -> None:
        """Raise UsageError if nothing is sent, so that nothing can follow."""
        if dry_run and self.named:
            raise click.UsageError(f"--dry-run sends nothing, so nothing follows: leave out {', '.join(self.named)}")

    def check_sources(self, directory: str, selection: Selection) -> None:
        """Raise UsageError if the receipt would be one of the files of a directory that is uploaded."""
        if self.receipt is not None:
            check_not_among_sources(RECEIPT, self.receipt, directory, selection)


def take_wishes(arguments: dict[str, Any]) -> Wishes:
    """Take these options out of a command's arguments; `sha256` stays, as the library has it."""
    return Wishes(receipt=arguments.pop("receipt"))


class AfterProof:
    """What follows the uploads of one call."""

    def __init__(self, receipt: tuple[OutputFile, ReceiptWriter] | None) -> None:
        self.exit_status = errors.EXIT_OK
        """The command's, once `after_proof` has ended."""
        self._receipt = receipt
        self._failed = 0

    def add(self, result: UploadResult) -> None:
        """A file is in the store."""
        if self._receipt is not None:
            self._receipt[1].add(result)

    def ended(self, status: int, *, failed: int) -> None:
        """All uploads have ended.

        Args:
            status: The exit status that they have.
            failed: How many files are not in the store.
        """
        self.exit_status, self._failed = status, failed

    async def follow(self) -> None:
        """Do what is to follow."""
        with self._reporting():
            self._finish_receipt()

    def _finish_receipt(self) -> None:
        if self._receipt is not None and self._receipt[1].files:
            file, writer = self._receipt
            writer.end(failed=self._failed)
            file.finish()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Report a failure, which changes nothing of the uploads."""
        try:
            yield
        except errors.BigUploadError as e:
            complain(errors.BigUploadError(f"the upload is done, but {e}"))
            self.exit_status = self.exit_status or errors.EXIT_AFTERWARDS


@contextlib.asynccontextmanager
async def after_proof(wishes: Wishes, *, target: str, s3: S3Options | None) -> AsyncIterator[AfterProof]:
    """Prepare what is to follow, and do it at the end, unless an exception ends the uploads.

    Args:
        wishes: What is to follow.
        target: Where the files go.
        s3: How to reach the store; None: they go to a media service.

    Raises:
        BigUploadError: Something can't be done. Nothing was sent.
    """
    with contextlib.ExitStack() as opened:
        receipt = None
        if wishes.receipt is not None:
            from bigupload.verification.receipts import LOCAL, ReceiptWriter

            file = opened.enter_context(output_file(wishes.receipt, RECEIPT))
            endpoint = None
            if s3 is not None:
                from bigupload.stores.targets import reach

                endpoint = LOCAL if s3.local else (await reach(s3)).endpoint_url
            receipt = file, ReceiptWriter(file.write, target=target, endpoint=endpoint)
        after = AfterProof(receipt)
        yield after
        await after.follow()

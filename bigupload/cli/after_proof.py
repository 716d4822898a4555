"""What a command does once its files are uploaded and proved: the options for that, and their order.

A failure here is never a failure of the upload: the exit status is 3, and a line says what failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import DURATION, PATH, joined
from bigupload.cli.output_file import OutputFile, check_not_among_sources, output_file

if TYPE_CHECKING:
    from bigupload.batch.selecting import Selection
    from bigupload.engine.upload_run import Share, UploadResult
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

share_option: Callable[[Any], Any] = click.option(
    "--share",
    type=DURATION,
    metavar="TIME",
    help="Print a link by which anyone can read the object for so long, as in 7d, which is the most. It ends with "
    "temporary credentials, if these end sooner.",
)


class Wishes(NamedTuple):
    """What is to follow the uploads."""

    receipt: Path | None
    share: float | None

    @property
    def named(self) -> list[str]:
        """The options that were given."""
        given = {RECEIPT: self.receipt, "--share": self.share}
        return [option for option, value in given.items() if value is not None]

    def check_not_dry(self, *, dry_run: bool) -> None:
        """Raise UsageError if nothing is sent, so that nothing can follow."""
        if dry_run and self.named:
            raise click.UsageError(f"--dry-run sends nothing, so nothing follows: leave out {', '.join(self.named)}")

    def check_sources(self, directory: str, selection: Selection) -> None:
        """Raise UsageError if the receipt would be one of the files of a directory that is uploaded."""
        if self.receipt is not None:
            check_not_among_sources(RECEIPT, self.receipt, directory, selection)


def take_wishes(arguments: dict[str, Any]) -> Wishes:
    """Take these options out of a command's arguments; `sha256` and `share` stay, as the library has them."""
    return Wishes(receipt=arguments.pop("receipt"), share=arguments.get("share"))


def tell_end(first: Share, count: int = 1) -> None:
    """Print on standard error when a link ends, the first one of `count`."""
    ends = (first.expires_at or "").replace("T", " ").replace("+00:00", " UTC")
    what = "the link ends" if count == 1 else f"{count:,} links; the first ends"
    click.echo(f"bigupload: {what} {ends}{', ' if first.note else ''}{first.note or ''}", err=True)


class _Links:
    """The links to the objects of one call: how many, when the first ends, and why there are some less."""

    def __init__(self) -> None:
        self._first: Share | None = None
        self._count = 0
        self._refused: list[str] = []

    def add(self, link: Share) -> None:
        if link.refused is not None:
            self._refused.append(link.refused)
            return
        self._count += 1
        if self._first is None or (link.expires_at or "") < (self._first.expires_at or ""):
            self._first = link

    def tell(self, *, is_quiet: bool) -> None:
        if self._first is not None and not is_quiet:
            tell_end(self._first, self._count)

    def check(self) -> None:
        """Raise BigUploadError if a link could not be made."""
        if self._refused:
            some = f" to {len(self._refused):,} objects" if self._count or len(self._refused) > 1 else ""
            raise errors.BigUploadError(f"there is no link{some}: {self._refused[0]}")


class AfterProof:
    """What follows the uploads of one call."""

    def __init__(self, receipt: tuple[OutputFile, ReceiptWriter] | None, *, is_quiet: bool) -> None:
        self.exit_status = errors.EXIT_OK
        """The command's, once `after_proof` has ended."""
        self._receipt = receipt
        self._is_quiet = is_quiet
        self._failed = 0
        self._links = _Links()

    def add(self, result: UploadResult) -> None:
        """A file is in the store."""
        if self._receipt is not None:
            self._receipt[1].add(result)
        if result.share is not None:
            self._links.add(result.share)

    def ended(self, status: int, *, failed: int) -> None:
        """All uploads have ended.

        Args:
            status: The exit status that they have.
            failed: How many files are not in the store.
        """
        self.exit_status, self._failed = status, failed

    async def follow(self) -> None:
        """Do what is to follow."""
        self._links.tell(is_quiet=self._is_quiet)
        with self._reporting():
            self._links.check()
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
async def after_proof(wishes: Wishes, *, target: str, s3: S3Options | None, mode: str) -> AsyncIterator[AfterProof]:
    """Prepare what is to follow, and do it at the end, unless an exception ends the uploads.

    Args:
        wishes: What is to follow.
        target: Where the files go.
        s3: How to reach the store; None: they go to a media service.
        mode: That of `--progress`.

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
        after = AfterProof(receipt, is_quiet=mode in ("none", "json"))
        yield after
        await after.follow()

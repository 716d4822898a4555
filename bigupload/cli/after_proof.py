"""The actions of a command after its files are uploaded and proved: their options, and their order.

A failure here is never a failure of the upload: the exit status is 3, and a line says what failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import COMMAND, PATH, check_deletes, delete_options, joined, time_option
from bigupload.support.output_file import OutputFile, output_file
from bigupload.units import escaped, one_line

if TYPE_CHECKING:
    from bigupload.api.steps.receipt import OpenReceipt
    from bigupload.batch.tree import Selection
    from bigupload.cli.hash_lists import HashLists
    from bigupload.cli.on_done import Spool
    from bigupload.cli.selection_options import Chosen
    from bigupload.engine.upload_run import Share, UploadResult
    from bigupload.options import S3Options

RECEIPT = "--receipt"
ON_DONE = "--on-done"
MHL = "--mhl"

WRITE_CHECKSUMS = "--write-checksums"
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})

_SHARE = time_option(
    "--share",
    help="Print a link by which anyone can read the object for so long, as in 7d, which is the most. It ends with "
    "temporary credentials, if these end sooner.",
)
_MHL = partial(
    click.option,
    MHL,
    is_flag=True,
    help="Write an ASC Media Hash List (XXH128) of the directory's files into its folder ascmhl and the bucket.",
)
_OTHERS = joined(
    click.option(
        RECEIPT,
        type=PATH,
        metavar="FILE",
        help="Write what was proved, how and when, as JSON Lines: `verify --receipt FILE` reads it.",
    ),
    click.option(
        "--sha256",
        is_flag=True,
        help="Compute the SHA-256 of each file that is in the store, for --json and --receipt.",
    ),
    click.option(
        ON_DONE,
        type=COMMAND,
        metavar="COMMAND",
        help="Run this program with these arguments, not a shell, when everything is done and proved; of a watch, for "
        "each file. It gets BIGUPLOAD_DONE_... in its environment, and the receipt on its standard input.",
    ),
    time_option("--on-done-timeout", default="5min", help="End the program of --on-done after so long."),
)

_CHECKSUMS = click.option(
    WRITE_CHECKSUMS,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the SHA-256 of each file that is in the store, as sha256sum -c reads it.",
)

after_options = joined(_CHECKSUMS, _SHARE, _MHL(), _OTHERS, delete_options)
watch_after_options = joined(_SHARE, _MHL(hidden=True), _OTHERS, delete_options)
"""The options of `watch`, which refuses --mhl."""


class Wishes(NamedTuple):
    """The actions that the options ask for after the uploads."""

    receipt: Path | None
    share: float | None
    on_done: tuple[str, ...] | None
    on_done_timeout: float
    mhl: bool
    deletes: bool
    """Whether the command deletes what it has uploaded."""

    @property
    def named(self) -> list[str]:
        """The options that were given."""
        given = {RECEIPT: self.receipt, "--share": self.share, ON_DONE: self.on_done, MHL: self.mhl or None}
        return [option for option, value in given.items() if value is not None]

    @property
    def wants_each(self) -> bool:
        """Whether something follows for which each file counts that is in the store, also if it was there already."""
        return self.on_done is not None or self.mhl

    def check_mhl(self, names: Sequence[str], chosen: Chosen, service: str | None) -> None:
        """Raise UsageError if a hash list is wanted of what is not one whole directory, for a bucket."""
        if not self.mhl:
            return
        if service is not None:
            raise click.UsageError(f"{MHL} lists files by their names, and a media service makes its own: leave it out")
        selection = chosen.selection
        limits = (selection.min_size, selection.max_size, selection.newer_than)
        picks = any(rule.startswith("!") for rule in selection.exclude) or any(each is not None for each in limits)
        if chosen.files_from is not None or picks or selection.follow_symlinks:
            raise click.UsageError(f"{MHL} lists all files of a directory: of the rules, it takes --exclude alone")
        if len(names) != 1 or not os.path.isdir(names[0]):  # noqa: PTH112 - as the source is looked at
            raise click.UsageError(f"{MHL} lists the files of one directory: name it as the only source")

    def check_not_dry(self, *, dry_run: bool) -> None:
        """Raise UsageError if nothing is sent, so that nothing can follow."""
        if dry_run and self.named:
            raise click.UsageError(f"--dry-run proves nothing, so leave out {', '.join(self.named)}")

    def check_sources(self, directory: str, selection: Selection) -> None:
        """Raise UsageError if the receipt would be one of the files of a directory that is uploaded."""
        if self.receipt is not None:
            from bigupload.batch.tree import check_not_among_sources

            check_not_among_sources(RECEIPT, self.receipt, directory, selection)


def take_wishes(arguments: dict[str, Any]) -> Wishes:
    """Take these options out of a command's arguments; `sha256` and `share` stay, as the library has them.

    Raises UsageError for a program that may take no time, and for what contradicts `--delete-source`, or needs it.
    """
    check_deletes(arguments)
    own = ("receipt", "on_done", "on_done_timeout")
    if not arguments["on_done_timeout"] > 0:
        raise click.UsageError("--on-done-timeout must be above 0")
    mhl = arguments.pop("mhl", False)
    deletes = arguments.get("delete_source", False)
    return Wishes(share=arguments.get("share"), mhl=mhl, deletes=deletes, **{name: arguments.pop(name) for name in own})


def take_steps(arguments: dict[str, Any], *digests: str, receipt: Any = None) -> tuple[Any, ...]:
    """Take the options of steps out of a command's arguments, and return the steps.

    Args:
        arguments: Those of the command.
        digests: The digests that are wanted beside those of the options.
        receipt: The receipt's path, or the receipt, if it is open already.
    """
    import bigupload  # which loads the steps that are named

    sha256, share = arguments.pop("sha256"), arguments.pop("share")
    deletes = {name: arguments.pop(f"delete_{name}") for name in ("source", "if_proved", "empty_dirs", "links")}
    names: list[Any] = [*dict.fromkeys([*(["sha256"] if sha256 else []), *digests])]
    steps: list[Any] = [bigupload.Digest(*names)] if names else []
    if share is not None:
        steps.append(bigupload.Link(share))
    if receipt is not None:
        steps.append(bigupload.Receipt(receipt))
    if deletes["source"]:
        of_proof = {"proved_by": deletes["if_proved"], "empty_dirs": deletes["empty_dirs"], "links": deletes["links"]}
        steps.append(bigupload.DeleteSource(**of_proof))
    return tuple(steps)


def warn_of_program(wishes: Wishes) -> None:
    """Warn if the program of `--on-done` is not there now. It may be there in time."""
    if wishes.on_done is None:
        return
    import shutil

    if shutil.which(wishes.on_done[0]) is None:
        name = one_line(wishes.on_done[0])
        complain(errors.BigUploadError(f"{ON_DONE}: there is no program {name} now"), "warning")


def tell_end(first: Share, count: int = 1) -> None:
    """Print on standard error when a link ends, the first one of `count`."""
    ends = (first.expires_at or "").replace("T", " ").replace("+00:00", " UTC")
    what = "the link ends" if count == 1 else f"{count:,} links; the first ends"
    click.echo(f"bigupload: {what} {ends}{', ' if first.note else ''}{first.note or ''}", err=True)


def name_below(directory: str) -> Callable[[Path], str]:
    """Return a file's path for the list: relative to the directory, or as it is if it is elsewhere."""
    top = os.path.abspath(directory)  # noqa: PTH100 - keeps links, as the paths of results do

    def name(path: Path) -> str:
        relative = os.path.relpath(path, top)
        return str(path) if relative.startswith("../") else relative

    return name


class ChecksumList:
    """The list of `--write-checksums` while it is written. A full disk ends the writing, and not what is listed."""

    def __init__(self, file: OutputFile | None = None) -> None:
        """Begin an empty list; without `file`, nothing is written."""
        self._file = file
        self._has_lines = False
        self._error: errors.OutputUnwritable | None = None

    def add(self, sha256: str | None, name: str) -> None:
        """Add a file: its SHA-256, and its path as `sha256sum -c` shall open it."""
        if self._file is None or self._error is not None:
            return
        self._has_lines = True
        try:
            self._file.write(_line(sha256 or "", name))
        except errors.OutputUnwritable as e:
            self._error = e

    def end(self) -> None:
        """Let the file take its name. Without a line, as after a failed upload of one file, an earlier list stays.

        Raises:
            OutputUnwritable: Any of it could not be written.
        """
        if self._error is not None:
            raise self._error
        if self._file is not None and self._has_lines:
            self._file.finish()

    def end_verified(self) -> int:
        """Do the same after a verification, and report a failure. Returns the exit status."""
        try:
            self.end()
        except errors.OutputUnwritable as e:
            complain(errors.BigUploadError(f"the verification is done, but {e}"))
            return errors.EXIT_AFTERWARDS
        return errors.EXIT_OK


@contextlib.contextmanager
def checksum_list(path: Path | None) -> Iterator[ChecksumList]:
    """Open a list to write. Without its `end`, an earlier list of that name stays as it is.

    Raises:
        OutputUnwritable: The file can't be written.
    """
    if path is None:
        yield ChecksumList()
        return
    with output_file(path, WRITE_CHECKSUMS) as file:
        yield ChecksumList(file)


def _line(sha256: str, name: str) -> str:
    """A line as GNU's sha256sum and rclone read it: a backslash in front marks escapes in the name."""
    shown = name.translate(_ESCAPED)
    mark = "\\" if shown != name else ""
    return f"{mark}{sha256}  {shown}\n"


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
    """The actions that follow the uploads of one call."""

    def __init__(self, wishes: Wishes, *, target: str, mode: str) -> None:
        self.exit_status = errors.EXIT_OK
        """The command's, once `after_proof` has ended."""
        self.checksums = ChecksumList()
        """The list of `--write-checksums`."""
        self._wishes = wishes
        self._target = target
        self._is_quiet = mode in ("none", "json")
        self._failed = self._files = self._size = 0
        self._last: UploadResult | None = None
        self._links = _Links()
        self.receipt: OpenReceipt | None = None
        """That of `--receipt`, which the library's calls share."""
        self._given: Spool | None = None
        """The receipt that the command of `--on-done` reads."""
        self._hash_lists: HashLists | None = None

    async def prepare(self, opened: contextlib.AsyncExitStack, s3: S3Options | None) -> None:
        """Open what is written meanwhile.

        Args:
            opened: Closes it.
            s3: How to reach the store; None: the files go to a media service.

        Raises:
            OutputUnwritable: The receipt can't be written.
        """
        wishes = self._wishes
        options: dict[str, Any] = {"service": self._target} if s3 is None else {"to": self._target, "s3": s3}
        if wishes.receipt is not None:
            from bigupload.api.steps.receipt import open_receipt

            opening = open_receipt(wishes.receipt, options, deletes=wishes.deletes)
            self.receipt = await opened.enter_async_context(opening)
        if wishes.on_done is not None:
            from bigupload.api.steps.receipt import head_of
            from bigupload.cli import on_done
            from bigupload.verification.receipts import head_line

            self._given = opened.enter_context(on_done.document())
            self._given.write(head_line(*await head_of(options)))

    def add(self, result: UploadResult) -> None:
        """A file is in the store."""
        self._files, self._size, self._last = self._files + 1, self._size + result.size, result
        if self._hash_lists is not None:
            self._hash_lists.add(result)
        if self._given is not None:  # with the link, which is a secret, and not in receipts
            from bigupload.verification.receipts import row_of

            link = {} if result.share is None else {"share": dataclasses.asdict(result.share)}
            self._given.write(row_of(result, **link))
        if result.share is not None:
            self._links.add(result.share)

    def ended(self, status: int, *, failed: int) -> None:
        """All uploads have ended.

        Args:
            status: The exit status that they have.
            failed: How many files are not in the store.
        """
        self.exit_status, self._failed = status or self.exit_status, failed

    def list_hashes(self, hash_lists: HashLists) -> None:
        """Write hash lists of the files, too."""
        self._hash_lists = hash_lists

    async def follow(self) -> None:
        """Do what is to follow, each of it also if another failed."""
        is_proved = self.exit_status == errors.EXIT_OK
        self._links.tell(is_quiet=self._is_quiet)
        with self._reporting():
            self._links.check()
        with self._reporting():
            self.checksums.end()
        if self.receipt is not None:
            self.receipt.failed = self._failed
            with self._reporting(but=""):
                await self.receipt.end()
        if is_proved and self._hash_lists is not None:
            with self._reporting():
                for path in await self._hash_lists.write():
                    name = one_line(escaped(path))
                    complain(errors.BigUploadError(f"{name} differs from an earlier hash list of the directory"))
                    self.exit_status = errors.EXIT_FAILED
        if is_proved and self._given is not None and self._wishes.on_done is not None:
            with self._reporting():
                await self._run(self._wishes.on_done, self._given)

    async def _run(self, words: Sequence[str], given: Spool) -> None:
        from bigupload.cli import on_done
        from bigupload.verification.receipts import sums_line

        given.write(sums_line(self._files, self._size, 0))
        sums = {"files": self._files, "size": self._size, "target": self._target, "receipt": self._wishes.receipt}
        environment = on_done.variables(sums, self._last if self._files == 1 else None)
        await on_done.run_command(words, given, environment, within=self._wishes.on_done_timeout)

    @contextlib.contextmanager
    def _reporting(self, but: str = "the upload is done, but ") -> Iterator[None]:
        """Report a failure, which changes nothing of the uploads."""
        try:
            yield
        except errors.BigUploadError as e:
            complain(errors.BigUploadError(f"{but}{e}"))
            self.exit_status = self.exit_status or errors.EXIT_AFTERWARDS


@contextlib.asynccontextmanager
async def after_proof(
    wishes: Wishes,
    *,
    target: str,
    s3: S3Options | None,
    mode: str,
    warns: bool = True,
    checksums: Path | None = None,
) -> AsyncIterator[AfterProof]:
    """Prepare what is to follow, and do it at the end, unless an exception ends the uploads.

    Args:
        wishes: What is to follow.
        target: Where the files go.
        s3: How to reach the store; None: they go to a media service.
        mode: That of `--progress`.
        warns: Whether to warn of a program that is not there.
        checksums: The file of `--write-checksums`.

    Raises:
        BigUploadError: Something can't be done. Nothing was sent.
    """
    async with contextlib.AsyncExitStack() as opened:
        after = AfterProof(wishes, target=target, mode=mode)
        await after.prepare(opened, s3)
        after.checksums = opened.enter_context(checksum_list(checksums))
        if warns:
            warn_of_program(wishes)
        yield after
        await after.follow()


async def follow_one(result: UploadResult, wishes: Wishes, *, target: str, s3: S3Options, mode: str) -> int:
    """Do what is to follow one file of a call that has no end. Returns the exit status that this means."""
    try:
        async with after_proof(wishes, target=target, s3=s3, mode=mode, warns=False) as after:
            after.add(result)
    except errors.BigUploadError as e:
        complain(errors.BigUploadError(f"the upload is done, but {e}"))
        return errors.EXIT_AFTERWARDS
    return after.exit_status

"""What follows once the files of a command are uploaded and proved: its options, and what they do in their order.

`uploading` opens what the uploads of one command share. A failure here is never a failure of the upload: the exit
status is 3, and a line prints what failed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.destination import Destination
from bigupload.cli.options import COMMAND, ON_DONE, PATH, PROOFS, joined, pace, time_option
from bigupload.cli.wording import spelled
from bigupload.records import dataclass
from bigupload.support.output_file import OutputFile, output_file
from bigupload.units import escaped, one_line

if TYPE_CHECKING:
    from bigupload.api.steps.receipt import OpenReceipt
    from bigupload.api.uploader import Uploader
    from bigupload.batch.tree import Selection
    from bigupload.cli.hash_lists import HashLists
    from bigupload.cli.narration import Reporter
    from bigupload.cli.on_done import Spool
    from bigupload.cli.selection_options import Chosen
    from bigupload.engine.upload_run import Share, UploadResult

RECEIPT = "--receipt"
MHL = "--mhl"
WRITE_CHECKSUMS = "--write-checksums"
_DONE = "the upload is done, but "
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

_DELETES = joined(
    click.option(
        "--delete-source", is_flag=True, help="Delete each file once its object is proved, unless it has changed."
    ),
    click.option(
        "--delete-if-proved",
        type=click.Choice(PROOFS),
        default="full-object",
        show_default=True,
        help="With --delete-source: the proof that is needed to delete a file.",
    ),
    click.option(
        "--delete-empty-dirs",
        is_flag=True,
        help="With --delete-source: also delete directories that become empty, below the named one.",
    ),
    click.option(
        "--delete-links",
        is_flag=True,
        help="With --delete-source: also delete files with other hard links, and links (not their targets).",
    ),
)

after_options = joined(_CHECKSUMS, _SHARE, _MHL(), _OTHERS, _DELETES)
watch_after_options = joined(_SHARE, _MHL(hidden=True), _OTHERS, _DELETES)
"""The options of `watch`, which refuses --mhl."""


class AfterOptions(NamedTuple):
    """The values of these options."""

    receipt: Path | None
    share: float | None
    sha256: bool
    on_done: tuple[str, ...] | None
    on_done_timeout: float
    mhl: bool
    delete_source: bool
    delete_if_proved: str
    delete_empty_dirs: bool
    delete_links: bool
    write_checksums: Path | None = None

    @property
    def wants_each(self) -> bool:
        """Whether each file that is in the store counts, even if it was there already."""
        return self.on_done is not None or self.mhl

    @property
    def outputs(self) -> dict[str, Path]:
        """The files to write, by their options."""
        files = {WRITE_CHECKSUMS: self.write_checksums, RECEIPT: self.receipt}
        return {option: file for option, file in files.items() if file is not None}

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

    def check_dry_run(self) -> None:
        """Raise UsageError for options that need an upload."""
        if self.write_checksums is not None:
            raise click.UsageError(
                f"--dry-run sends nothing, so there is nothing to write: leave out {WRITE_CHECKSUMS}"
            )
        values = {RECEIPT: self.receipt, "--share": self.share, ON_DONE: self.on_done, MHL: self.mhl or None}
        if given := [option for option, value in values.items() if value is not None]:
            raise click.UsageError(f"--dry-run proves nothing, so leave out {', '.join(given)}")

    def check_outputs(self, source: str, selection: Selection) -> None:
        """Raise UsageError if a file to write would be the source, or one of its files."""
        from bigupload.batch.tree import check_not_among_sources

        for option, file in self.outputs.items():
            check_not_among_sources(option, file, source, selection)

    def check(self) -> None:
        """Raise UsageError for a program without time, and for what contradicts `--delete-source`, or needs it."""
        if not self.on_done_timeout > 0:
            raise click.UsageError("--on-done-timeout must be above 0")
        if not self.delete_source:
            given = {name: getattr(self, name) for name in ("delete_empty_dirs", "delete_links")}
            given["delete_if_proved"] = self.delete_if_proved != "full-object"
            if name := next((name for name, value in given.items() if value), None):
                raise click.UsageError(f"{spelled(name)} is for --delete-source: add that, or leave it out")
        elif self.write_checksums is not None:
            raise click.UsageError(
                "--write-checksums reads the files once more until its list is whole, and they would be deleted "
                "before: upload with --write-checksums first, then add --skip-existing --delete-source instead"
            )
        elif self.mhl:
            raise click.UsageError(
                "--mhl writes its list once all files are in the store, and they would be deleted before: upload with "
                "--mhl first, then run the command with --skip-existing and without --mhl"
            )

    def steps(self, receipt: Any) -> tuple[Any, ...]:
        """Return the library's steps. `receipt`: the receipt's path, or the open receipt; None: there is none."""
        import bigupload  # which loads the steps that are named

        digests = {"sha256": self.sha256 or self.write_checksums is not None, "xxh128": self.mhl}
        names: list[Any] = [name for name, is_wanted in digests.items() if is_wanted]
        steps: list[Any] = [bigupload.Digest(*names)] if names else []
        if self.share is not None:
            steps.append(bigupload.Link(self.share))
        if receipt is not None:
            steps.append(bigupload.Receipt(receipt))
        if self.delete_source:
            proof: Any = self.delete_if_proved
            step = bigupload.DeleteSource(proved_by=proof, empty_dirs=self.delete_empty_dirs, links=self.delete_links)
            steps.append(step)
        return tuple(steps)


def take_after_options(arguments: dict[str, Any]) -> AfterOptions:
    """Take these options out of a command's arguments. Raises UsageError as `AfterOptions.check`."""
    found = AfterOptions(**{name: arguments.pop(name) for name in AfterOptions._fields if name in arguments})
    found.check()
    return found


def print_link_end(first: Share, count: int = 1) -> None:
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
    """The links to the objects of one command: how many, the first that ends, and those that could not be made."""

    def __init__(self) -> None:
        self._first: Share | None = None
        self._count = self._refused = 0
        self._reason = ""

    def add(self, link: Share) -> None:
        if link.refused is not None:
            self._refused, self._reason = self._refused + 1, self._reason or link.refused
            return
        self._count += 1
        if self._first is None or (link.expires_at or "") < (self._first.expires_at or ""):
            self._first = link

    def end(self, *, is_quiet: bool) -> None:
        """Print when the first one ends. Raise BigUploadError if a link could not be made."""
        if self._first is not None and not is_quiet:
            print_link_end(self._first, self._count)
        if self._refused:
            some = f" to {self._refused:,} objects" if self._count or self._refused > 1 else ""
            raise errors.BigUploadError(f"there is no link{some}: {self._reason}")


class AfterProof:
    """The actions that follow the uploads of one command, or one file of a watch."""

    def __init__(self, wanted: AfterOptions, destination: Destination, *, mode: str) -> None:
        """Open nothing yet. `mode`: that of `--progress`."""
        self.exit_status = errors.EXIT_OK
        """The command's, once `opened` has ended."""
        self.receipt: OpenReceipt | None = None
        """That of `--receipt`, which the library's calls share."""
        self.hash_lists: HashLists | None = None
        """Those of `--mhl`."""
        self._wanted = wanted
        self._destination = destination
        self._is_quiet = mode in ("none", "json")
        self._failed = self._files = self._size = 0
        self._last: UploadResult | None = None
        self._links = _Links()
        self._checksums = ChecksumList()
        self._spool: Spool | None = None
        """The receipt that the program of `--on-done` reads."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[AfterProof]:
        """Open the files to write. At the end, run the actions, unless an exception ends the uploads.

        Raises:
            BigUploadError: A file can't be written. Nothing was sent.
        """
        wanted, call = self._wanted, self._destination.options
        async with contextlib.AsyncExitStack() as opened:
            if wanted.receipt is not None:
                from bigupload.api.steps.receipt import open_receipt

                opening = open_receipt(wanted.receipt, call, deletes=wanted.delete_source)
                self.receipt = await opened.enter_async_context(opening)
            if wanted.on_done is not None:
                from bigupload.api.steps.receipt import head_of
                from bigupload.cli import on_done
                from bigupload.verification.receipts import head_line

                self._spool = opened.enter_context(on_done.document())
                self._spool.write(head_line(*await head_of(call)))
            self._checksums = opened.enter_context(checksum_list(wanted.write_checksums))
            yield self
            await self._run_actions()

    def add(self, result: UploadResult, name: Callable[[Path], str] = str) -> None:
        """Add a file that is in the store. `name` returns the path that `sha256sum -c` must open."""
        self._files, self._size, self._last = self._files + 1, self._size + result.size, result
        if self._wanted.write_checksums is not None:  # a name takes a tenth of the time of a file that is there already
            self._checksums.add(result.sha256, name(result.path))
        if self.hash_lists is not None:
            self.hash_lists.add(result)
        if self._spool is not None:  # with the link, which is a secret, and not in receipts
            from bigupload.verification.receipts import row_of

            link = {} if result.share is None else {"share": dataclasses.asdict(result.share)}
            self._spool.write(row_of(result, **link))
        if result.share is not None:
            self._links.add(result.share)

    def ended(self, status: int, *, failed: int) -> None:
        """All uploads have ended.

        Args:
            status: The exit status that they have.
            failed: How many files are not in the store.
        """
        self.exit_status, self._failed = status, failed

    async def _run_actions(self) -> None:
        """Run each action, even if another one failed."""
        actions: list[Callable[[], Awaitable[None]]] = [self._end_links, self._end_checksums, self._end_receipt]
        if self.exit_status == errors.EXIT_OK:
            actions += [self._write_hash_lists, self._run_program]
        for action in actions:
            try:
                await action()
            except errors.BigUploadError as e:
                complain(errors.BigUploadError(f"{_DONE}{str(e).removeprefix(_DONE)}"))
                self.exit_status = self.exit_status or errors.EXIT_AFTERWARDS

    async def _end_links(self) -> None:
        self._links.end(is_quiet=self._is_quiet)

    async def _end_checksums(self) -> None:
        self._checksums.end()

    async def _end_receipt(self) -> None:
        if self.receipt is not None:
            self.receipt.failed = self._failed
            await self.receipt.end()

    async def _write_hash_lists(self) -> None:
        for path in [] if self.hash_lists is None else await self.hash_lists.write():
            name = one_line(escaped(path))
            complain(errors.BigUploadError(f"{name} differs from an earlier hash list of the directory"))
            self.exit_status = errors.EXIT_FAILED

    async def _run_program(self) -> None:
        wanted = self._wanted
        if wanted.on_done is None or self._spool is None:
            return
        from bigupload.cli import on_done
        from bigupload.verification.receipts import sums_line

        self._spool.write(sums_line(self._files, self._size, 0))
        target = self._destination.name
        sums = {"files": self._files, "size": self._size, "target": target, "receipt": wanted.receipt}
        environment = on_done.variables(sums, self._last if self._files == 1 else None)
        await on_done.run_command(wanted.on_done, self._spool, environment, within=wanted.on_done_timeout)


async def after_one(result: UploadResult, wanted: AfterOptions, destination: Destination, *, mode: str) -> int:
    """Run the actions for one file of a watch, which writes its receipt itself. Returns the exit status."""
    try:
        async with AfterProof(wanted._replace(receipt=None), destination, mode=mode).opened() as after:
            after.add(result)
    except errors.BigUploadError as e:
        complain(errors.BigUploadError(f"{_DONE}{e}"))
        return errors.EXIT_AFTERWARDS
    return after.exit_status


@dataclass(frozen=True, slots=True)
class Uploading:
    """What the uploads of one command share."""

    uploader: Uploader
    reporter: Reporter
    after: AfterProof
    _options: dict[str, Any]

    def options(self, declared: type) -> dict[str, Any]:
        """Return the options that a class of `api.arguments` declares, as far as they were given."""
        return {name: self._options[name] for name in declared.__annotations__ if self._options.get(name) is not None}

    async def list_hashes(self, directory: str, selection: Selection, to: str) -> None:
        """Write hash lists of a directory at the end. `to`: where its files go."""
        from bigupload.cli.hash_lists import open_hash_lists

        self.after.hash_lists = await open_hash_lists(directory, selection, to, self.uploader, self._options)


@contextlib.asynccontextmanager
async def uploading(
    destination: Destination,
    wanted: AfterOptions,
    arguments: dict[str, Any],
    *,
    job: bool = False,
    endless: bool = False,
) -> AsyncIterator[Uploading]:
    """Open uploader, progress display and steps of one command. At its end, run the actions that follow.

    Args:
        destination: Where the files go.
        wanted: What follows their proof.
        arguments: The other options of the command.
        job: As `reporting` takes it.
        endless: As `reporting` takes it. Actions then follow each file, by `after_one`.

    Raises:
        BigUploadError: Something can't be done. Nothing was sent.
    """
    from bigupload.api.uploader import Uploader
    from bigupload.cli.reporting import reporting

    options, mode = {**arguments, **destination.options}, arguments["progress"]
    options["resume"] = not options.pop("no_resume", False)
    after = AfterProof(wanted, destination, mode=mode)
    async with (
        Uploader(**pace(options), temp_dir=options.pop("temp_dir", None)) as uploader,
        contextlib.nullcontext() if endless else after.opened(),
    ):
        _warn_of_program(wanted)
        options["then"] = wanted.steps(after.receipt or wanted.receipt)
        with reporting(mode, job=job, endless=endless) as reporter:
            yield Uploading(uploader, reporter, after, options)


def _warn_of_program(wanted: AfterOptions) -> None:
    """Warn if the program of `--on-done` is not there now. It may be there in time."""
    if wanted.on_done is None:
        return
    import shutil

    if shutil.which(wanted.on_done[0]) is None:
        name = one_line(wanted.on_done[0])
        complain(errors.BigUploadError(f"{ON_DONE}: there is no program {name} now"), "warning")

"""`bigupload upload` and `move`: options, contradictions between them, and the two ways that files take.

Few files, a URL and standard input are uploads of their own; all others are one job.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors, events
from bigupload.cli import complain, print_line
from bigupload.cli.after_proof import (
    AfterOptions,
    Uploading,
    after_options,
    name_below,
    take_after_options,
    uploading,
)
from bigupload.cli.destination import Destination, upload_destination
from bigupload.cli.options import (
    CHECKSUMS,
    NAME,
    PATH,
    checksum_option,
    follow_options,
    joined,
    library_options,
    object_options,
    on_change_option,
    transfer_options,
)
from bigupload.cli.selection_options import (
    Chosen,
    CommandWithRules,
    check_many,
    dry_run_option,
    is_better_a_job,
    selection_options,
    take_selection,
)
from bigupload.cli.settings import LOG_FILE
from bigupload.cli.wording import spelled
from bigupload.core.remote_url import foreign_scheme, is_remote, path_of, shown_url
from bigupload.records import dataclass
from bigupload.units import escaped, format_size

if TYPE_CHECKING:
    from bigupload.cli.running import KeptParts

_STANDARD_INPUT = Path("-")
_PIPE_BYTES = 1024 * 1024
"""The largest pipe that Linux allows any user. Its default is 64 KiB: each read would wake the writer for little."""
_FILES_AT_ONCE = 4
_SAMPLE_SIZE = 250_000_000


all_options = joined(
    click.argument("names", metavar="PATH... [s3://BUCKET/KEY]", nargs=-1, type=NAME),
    click.option(
        "--to",
        metavar="s3://BUCKET/KEY",
        help="The object. s3://BUCKET/FOLDER/ keeps the files' names. May be the last argument instead.",
    ),
    click.option(
        "--service", metavar="URL", help="Upload through this media service, with the API key in BIGUPLOAD_API_KEY."
    ),
    click.option(
        "--local",
        is_flag=True,
        help="Upload into the local store, which is started if needed. Without PATH: a sample file.",
    ),
    library_options("UploadOptions"),
    checksum_option(CHECKSUMS),
    object_options,
    click.option("--if-none-match", is_flag=True, help="Fail if the object exists."),
    click.option("--manifest", type=PATH, metavar="PATH", help="Keep the upload's manifest in this file."),
    click.option("--no-resume", is_flag=True, help="Start a new upload, even if an unfinished one could be resumed."),
    on_change_option(None),
    after_options,
    follow_options,
    click.option(
        "--name", metavar="NAME", help="The name of the file, of a URL, or of standard input (-), for the object."
    ),
    click.option(
        "--end-marker",
        metavar="TEXT",
        help="The text at the end of standard input; it is not uploaded. Without it, nothing is completed.",
    ),
    click.option(
        "--temp-dir",
        type=PATH,
        metavar="DIR",
        help="Where parts of standard input wait that memory does not hold. [default: the system's]",
    ),
    selection_options,
    dry_run_option,
    transfer_options,
)
"""The options of `upload` and of `move`."""


@click.command(
    cls=CommandWithRules, epilog="After any stop, the same command (without --no-resume) resumes the upload."
)
@all_options
def upload(names: tuple[str, ...], **arguments: Any) -> None:
    """Upload files and directories to an S3 bucket or a media service, in parallel, and prove the objects.

    If an upload of the same file to the same key was interrupted, it is resumed. Of a directory, all files are
    uploaded: their paths in it are their keys below the target. PATH may be a URL, such as https://HOST/FILE or
    s3://BUCKET/KEY: it is read through this machine, unless the store can copy it. With - for PATH, standard input is
    uploaded. To resume that, run the same command with the same bytes again.
    """
    upload_named(names, arguments)


def upload_named(names: tuple[str, ...], arguments: dict[str, Any]) -> None:
    """Do what `upload` does, or `move`."""
    from bigupload.cli.running import KeptParts, run

    has_list = arguments["files_from"] is not None
    names, destination = upload_destination(names, arguments, has_list=has_list)
    files = [_source_named(name) for name in dict.fromkeys(names)]
    if arguments["delete_source"]:
        _check_deletable(files)
    chosen, wanted = take_selection(click.get_current_context(), arguments), take_after_options(arguments)
    stopped = "the same command without --no-resume resumes" if arguments["no_resume"] else "the same command resumes"
    if chosen.dry_run:
        wanted.check_dry_run()
        stopped = "nothing was sent"
    call = _UploadCommand(destination, arguments, wanted, KeptParts())
    is_near = chosen.dry_run or arguments["dask"]
    with contextlib.nullcontext() if is_near else destination.connecting():  # the checks import much
        is_job = chosen.is_for(names) or is_better_a_job(names, arguments)
        if is_job:
            check_many(names, chosen, arguments, destination.url, local=destination.s3.local)
        else:
            _check_files(files, arguments, destination)
        wanted.check_mhl(names, chosen, destination.service)
        command = partial(call.job, names, chosen) if is_job else partial(call.each, files or [_sample()])
        raise SystemExit(run(command, stopped=stopped, kept=call.kept))


def _source_named(name: str) -> Path | str:
    """A file, or a URL, which a path would take a slash from; also one that can't be read, for the error."""
    if is_remote(name) or (foreign_scheme(name) is not None and not os.path.lexists(name)):
        return name
    return Path(name) if name != "./-" else Path.cwd() / "-"


def _check_deletable(sources: Sequence[Path | str]) -> None:
    """Raise UsageError for sources that can't be deleted."""
    for source in sources:
        if isinstance(source, str) or source == _STANDARD_INPUT:
            what = "a URL can't be deleted here" if isinstance(source, str) else "standard input can't be deleted"
            raise click.UsageError(f"{what}: move and --delete-source are for files of this machine")


def _check_files(files: Sequence[Path | str], arguments: dict[str, Any], destination: Destination) -> None:
    """Raise UsageError for files and options that contradict each other."""
    if len(files) > 1:
        for name in ("name", "expected_size", "end_marker"):
            if arguments[name] is not None:
                raise click.UsageError(f"{spelled(name)} is for one file: upload one at a time")
    if _STANDARD_INPUT in files and arguments["name"] is None and destination.many_files:
        raise click.UsageError("standard input has no name: give one with --name, or name the object in the target")
    _check_urls([file for file in files if isinstance(file, str)])
    if len(files) > 1:
        if not destination.many_files:
            raise click.UsageError(
                f"{len(files)} files can't become one object: end the target with a slash, as in {destination.url}/"
            )
        if arguments["manifest"] is not None:
            raise click.UsageError("--manifest is for one file: leave it out, or upload one file at a time")
        names = Counter(_label_of(file, arguments, destination).name for file in files)
        twice = [name for name, count in names.items() if count > 1]
        if twice and destination.service is None:
            raise click.UsageError(
                f"several files are named {twice[0]} and would become one object: upload them to different folders"
            )


def _check_urls(urls: Sequence[str]) -> None:
    """Raise UsageError for a source that can't be one, before another is sent."""
    from bigupload.api.sources import refuse_foreign
    from bigupload.core.remote_url import parse_remote
    from bigupload.stores.s3.access import split_bucket

    for url in urls:
        refuse_foreign(url)
        if not is_remote(url):
            continue
        parsed = parse_remote(url)
        if parsed.scheme == "s3" and (not split_bucket(url[len("s3://") :])[1] or url.endswith("/")):
            raise click.UsageError(
                f"{shown_url(url)} names no object to read; a target comes last: bigupload upload PATH... s3://BUCKET/KEY"
            )


def _sample() -> Path:
    """A file of random bytes to try with, made once. It lies with the local store, and is removed with it."""
    from bigupload.stores.local_store import sample_path

    path = sample_path()
    is_piped = False
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
        is_piped = stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    if is_piped:  # it may hold what a person meant to upload
        click.echo("note: standard input is not read. To upload it, name it: bigupload upload - --local", err=True)
    try:
        if not path.exists():
            click.echo(f"making a sample file of {format_size(_SAMPLE_SIZE)}: {path}", err=True)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                for _ in range(_SAMPLE_SIZE // 1_000_000):
                    file.write(os.urandom(1_000_000))
            partial.replace(path)
    except OSError as e:
        raise errors.SourceUnreadable(f"can't make a sample file ({e.strerror}): name a file of your own") from e
    return path


@dataclass(slots=True)
class _UploadCommand:
    """One call of the command."""

    destination: Destination
    arguments: dict[str, Any]
    wanted: AfterOptions
    kept: KeptParts

    async def each(self, files: Sequence[Path | str]) -> int:
        """Upload few files, each by itself and with a row of its own. Returns the exit status."""
        from bigupload.cli.reporting import waits_for, worst

        for file in files:
            if isinstance(file, Path):
                self._check_outputs(str(file))
        codes: list[int] = []
        at_once = asyncio.Semaphore(_FILES_AT_ONCE)
        async with uploading(self.destination, self.wanted, self.arguments) as shared:

            async def one(source: Path | str) -> None:
                label = _label_of(source, self.arguments, self.destination)
                async with at_once:
                    shared.reporter.begin(label, await waits_for(local=self.destination.s3.local))
                    try:
                        codes.append(await self._one(shared, source, label))
                    finally:
                        shared.reporter.end(label)

            if len(files) == 1:  # in no task of its own: one PUT does without anyio
                await one(files[0])
            else:
                import anyio

                async with anyio.create_task_group() as tasks:
                    for source in files:
                        tasks.start_soon(one, source)
            shared.after.ended(worst(codes), failed=sum(map(bool, codes)))
        return shared.after.exit_status

    def _check_outputs(self, source: str) -> None:
        """Raise UsageError if what is written beside the upload of a file would be the file, or replace it."""
        from bigupload.batch.tree import Selection, check_not_among_sources

        if (log := click.get_current_context().meta.get(LOG_FILE)) is not None:
            check_not_among_sources(LOG_FILE, log, source, Selection())
        self.wanted.check_outputs(source, Selection())

    async def _one(self, shared: Uploading, source: Path | str, label: Path) -> int:
        from bigupload.api.arguments import UploadOptions
        from bigupload.cli.reporting import result_line

        completed: list[events.Event] = []
        reporter, as_json = shared.reporter, self.arguments["as_json"]
        named = shown_url(source) if isinstance(source, str) else escaped(str(label))

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.UploadCompleted):
                completed.append(event)
            self.kept.on_event(event)
            reporter.on_event(label, event)

        try:
            opened = _open_standard_input() if source == _STANDARD_INPUT else source
            result = await shared.uploader.upload(opened, on_event=on_event, **shared.options(UploadOptions))
        except asyncio.CancelledError:
            if completed:  # stopped too late: the upload is done
                complain(errors.BigUploadError("the object is complete and proved"), named)
            raise
        except errors.BigUploadError as e:
            complain(_with_kept(e, self.kept), named)
            if as_json:
                from bigupload.cli.job_report import absolute, failed_json

                whole = named if isinstance(source, str) else str(source)
                where = str(label) if source == _STANDARD_INPUT else absolute(whole)
                reporter.on_failure(failed_json(where, self._key_of(label), e))
            return e.exit_code
        self.kept.on_outcome(result)
        shared.after.add(result, lambda _: str(source))
        reporter.on_result(result_line(result, as_json=as_json))
        if result.source_deleted and not as_json and self.arguments["progress"] != "none":
            print_line(f"bigupload: {named}: deleted here")
        return errors.EXIT_OK

    def _key_of(self, label: Path) -> str:
        """The key that a source would have had; empty where a media service chooses it, or it can't be one."""
        from bigupload.stores.targets import parse_s3_url

        with contextlib.suppress(errors.BigUploadError):
            if self.destination.url is not None:
                return parse_s3_url(self.destination.url, label.name)[1]
        return ""

    async def job(self, names: Sequence[str], chosen: Chosen) -> int:
        """Upload the files that directories, patterns and lists stand for. Returns the exit status."""
        from bigupload.api.arguments import UploadManyOptions
        from bigupload.batch.job import UploadFailed
        from bigupload.batch.tree import Omitted
        from bigupload.cli.job_report import JobReport
        from bigupload.cli.listed_files import ListedFiles, dry_run
        from bigupload.cli.reporting import mode_of, waits_for

        mode, as_json, destination = self.arguments["progress"], self.arguments["as_json"], self.destination
        listed = ListedFiles(names, chosen, destination.url or "s3://bucket/", mode == "none")
        listed.deletes = self.wanted.delete_source
        await listed.open()
        if chosen.dry_run:
            return await dry_run(listed, as_json=as_json, service=destination.service)
        if not listed.is_prefix:
            async for file in listed.found():  # the one file
                if isinstance(file, Omitted):
                    raise errors.SourceError(f"{errors.IT}: {file.reason}", it=escaped(file.path))
                return await self.each([Path(file.path)])
            return errors.EXIT_OK
        status = await waits_for(local=destination.s3.local)
        for option, output in self.wanted.outputs.items():
            await listed.check_output(option, output)
        if self.wanted.delete_source:
            await listed.check_deletable()
        name_of = name_below(listed.top)
        async with uploading(destination, self.wanted, self.arguments, job=True) as shared:
            if self.wanted.mhl:
                await shared.list_hashes(names[0], chosen.selection, listed.to)
            report = JobReport(shared.reporter, as_json=as_json, sums=chosen.is_for(names), mode=mode_of(mode))
            report.begin(status)

            def on_event(event: events.Event) -> None:
                self.kept.on_event(event)
                report.on_event(event)

            outcomes = shared.uploader.upload_many(
                listed.found(), job=listed.job, on_event=on_event, **shared.options(UploadManyOptions)
            )
            with report.running():
                async with contextlib.aclosing(outcomes):
                    async for outcome in outcomes:
                        self.kept.on_outcome(outcome)
                        report.on_outcome(outcome)
                        if not isinstance(outcome, UploadFailed):
                            shared.after.add(outcome, name_of)
            shared.after.ended(report.finish(), failed=report.failed)
        return shared.after.exit_status


def _with_kept(error: errors.BigUploadError, kept: KeptParts) -> errors.BigUploadError:
    """The end of a cluster, or of reading a file, with what is in the store: nothing of that is lost."""
    parts = str(kept).removesuffix("; ")
    text = f"{error} ({parts})" if parts else str(error)
    if isinstance(error, errors.ClusterUnreachable) and parts:
        return errors.ClusterUnreachable(text, it=error.it)
    if isinstance(error, errors.SourceUnreadable) and error.manifest is not None:  # a file server restarts, perhaps
        text += ": try again when it can be read"
        return errors.SourceUnreadable(text, manifest=error.manifest, it=error.it)
    return error


def _label_of(source: Path | str, arguments: dict[str, Any], destination: Destination) -> Path:
    """Return a source's name in messages; the file name of a URL."""
    if isinstance(source, str):
        return Path(arguments["name"] or path_of(shown_url(source)))
    if source != _STANDARD_INPUT:
        return source
    return Path(arguments["name"] or (destination.url or "").rpartition("/")[2] or "standard input")


def _open_standard_input() -> io.FileIO:
    """Standard input without a buffer of Python's: its lock would keep a process that ends from ending.

    Raises:
        SourceUnreadable: It is closed.
    """
    try:
        if sys.stdin is None:  # it was closed when Python started: its number may be another file's by now
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        file = io.FileIO(0, closefd=False)
        with contextlib.suppress(ImportError, OSError, AttributeError):  # no pipe, or another system than Linux
            import fcntl

            fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError as e:
        raise errors.SourceUnreadable(f"can't read standard input: {e.strerror}") from None
    return file

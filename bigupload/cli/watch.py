"""`bigupload watch`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors, events
from bigupload.cli import complain, print_line
from bigupload.cli.after_proof import (
    MHL,
    AfterOptions,
    after_one,
    take_after_options,
    uploading,
    watch_after_options,
)
from bigupload.cli.destination import Destination, directory_and_target, directory_destination
from bigupload.cli.options import (
    CHECKSUMS,
    DURATION,
    checksum_option,
    library_options,
    local_path,
    object_options,
    transfer_options,
)
from bigupload.cli.selection_options import CommandWithRules, rule_options, take_rules
from bigupload.cli.settings import LOG_FILE
from bigupload.units import counted, escaped, format_seconds, format_size

if TYPE_CHECKING:
    from bigupload.batch.job import UploadFailed
    from bigupload.cli.narration import Reporter
    from bigupload.engine.upload_run import UploadResult


@click.command(
    cls=CommandWithRules,
    context_settings={"allow_extra_args": True},  # `directory_destination` reports wrong ones
    epilog="After any stop, the same command resumes: uploaded files are not sent again.",
)
@directory_and_target("Upload")
@click.option(
    "--idle",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="A file that has not changed for so long has settled, and is uploaded.",
)
@rule_options
@library_options("WatchOptions")
@checksum_option([name for name in CHECKSUMS if name != "none"])
@object_options
@click.option("--if-none-match", is_flag=True, help="Fail a file if another file's object has its key.")
@watch_after_options
@transfer_options
def watch(directory: str, target: str | None, **arguments: Any) -> None:
    """Upload the files of a directory, those that come into it, and those that change, until it is stopped.

    A file that has settled (10 s without a change, or --idle) is uploaded. One of more than 16 MiB that is still
    written is followed, so that it is in the bucket soon after its end. Keys are FOLDER/ and the files' paths in DIR.
    Symbolic links are left out; so are hidden and temporary names, as .x, x~, x.part and x.tmp, unless --all-names is
    given.
    """
    from bigupload.cli.running import run

    ctx = click.get_current_context()
    destination = directory_destination(directory, target, arguments)
    if arguments["mhl"]:
        raise click.UsageError(
            f"{MHL} lists the files of a directory that does not change: when the watch has ended, run bigupload "
            f"sync DIR s3://BUCKET/FOLDER/ {MHL}"
        )
    arguments["selection"] = take_rules(ctx, arguments)
    wanted = take_after_options(arguments)
    path = local_path(directory)
    if (log := ctx.meta[LOG_FILE]) is not None:  # each upload of it would make it grow
        from bigupload.batch.tree import check_not_among_sources

        check_not_among_sources(LOG_FILE, log, str(path), arguments["selection"])
    raise SystemExit(run(lambda: _watch(path, destination, arguments, wanted)))


async def _watch(directory: Path, destination: Destination, arguments: dict[str, Any], wanted: AfterOptions) -> int:
    from bigupload.api.arguments import WatchOptions
    from bigupload.batch.job import UploadFailed
    from bigupload.cli.reporting import worst
    from bigupload.engine.upload_run import UploadResult

    mode, as_json, absolute = arguments["progress"], arguments["as_json"], directory.absolute()
    seen, afterwards = _Seen(), errors.EXIT_OK
    async with uploading(destination, wanted, arguments, endless=True) as shared:
        reporter = shared.reporter

        def on_event(event: events.Event) -> None:
            reporter.on_event(Path(event.upload.source or absolute), event)

        watching = shared.uploader.watch(directory, on_event=on_event, **shared.options(WatchOptions))
        if directory.is_dir():  # else an error says so
            idle = format_seconds(arguments["idle"])
            reporter.begin(absolute, f"watching: files are uploaded once unchanged for {idle}")
        async with contextlib.aclosing(watching) as outcomes:
            async for outcome in outcomes:
                path = Path(outcome.source) if isinstance(outcome, UploadFailed) else outcome.path
                reporter.end(path)
                seen.add(path, outcome, reporter, as_json=as_json)
                if isinstance(outcome, UploadResult) and not outcome.skipped:
                    afterwards = await after_one(outcome, wanted, destination, mode=mode) or afterwards
                reporter.begin(absolute, f"watching: {seen}")
        reporter.end(absolute)
    if mode != "none" and not as_json:
        print_line(f"bigupload: {seen}")
    return worst(list(seen.failed.values())) or afterwards


class _Seen:
    """The outcomes so far."""

    def __init__(self) -> None:
        self.failed: dict[Path, int] = {}
        """Files whose last upload failed, with the exit status that this means."""
        self._uploads = 0
        self._size = 0

    def add(self, path: Path, outcome: UploadResult | UploadFailed, reporter: Reporter, *, as_json: bool) -> None:
        """Print what became of a file, and count it."""
        from bigupload.batch.job import UploadFailed
        from bigupload.cli.reporting import result_line

        self.failed.pop(path, None)
        if isinstance(outcome, UploadFailed):
            error, retry_in = outcome.error, outcome.retry_in
            self.failed[path] = error.exit_code if retry_in is None else errors.EXIT_RESUMABLE
            if not isinstance(error, errors.SourceChanged):  # whose message has it
                when = "when it changes" if retry_in is None else f"in {format_seconds(retry_in)}"
                error = errors.BigUploadError(f"{error}; it is tried again {when}", it=error.it)
            complain(error, escaped(outcome.source))
            return
        if not outcome.skipped:
            self._uploads += 1
            self._size += outcome.size
        if not outcome.skipped or as_json:
            reporter.on_result(result_line(outcome, as_json=as_json))

    def __str__(self) -> str:
        failed = f", {len(self.failed):,} failed" if self.failed else ""
        return f"uploaded {counted(self._uploads, 'file')}, {format_size(self._size)}{failed}"

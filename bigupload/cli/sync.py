"""`bigupload sync`."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from bigupload import events
from bigupload.cli.after_proof import AfterOptions, after_options, name_below, take_after_options, uploading
from bigupload.cli.destination import Destination, directory_and_target, directory_destination
from bigupload.cli.options import (
    CHECKSUMS,
    checksum_option,
    library_options,
    object_options,
    on_change_option,
    transfer_options,
)
from bigupload.cli.selection_options import CommandWithRules, limit_options, take_selection

if TYPE_CHECKING:
    from bigupload.api.types import SyncOutcome
    from bigupload.cli.running import KeptParts


@click.command(
    cls=CommandWithRules,
    context_settings={"allow_extra_args": True},  # `directory_destination` reports wrong ones
    epilog="After any stop, the same command resumes: stored files are not sent again.",
)
@directory_and_target("Sync")
@click.option("--service", metavar="URL", hidden=True)
@library_options("SyncOptions")
@checksum_option(CHECKSUMS)
@object_options
@click.option(
    "--no-resume", is_flag=True, help="Forget what earlier syncs recorded: all files are hashed, and compared."
)
@on_change_option("restart")
@after_options
@limit_options
@transfer_options
@click.option("--json-summary", is_flag=True, help="Print one JSON object with the sums alone. Also --json=summary.")
def sync(directory: str, target: str | None, **arguments: Any) -> None:
    """Send the files of a directory that are not in the bucket yet.

    An object is the file if that is proved: by its checksums, or by what an earlier sync recorded of both. Keys are
    FOLDER/ and the files' paths in DIR. A file that fails does not stop the others.
    """
    from bigupload.cli.running import KeptParts, run

    ctx = click.get_current_context()
    if arguments.pop("service") is not None:
        raise click.UsageError(
            "a media service makes a new object for each upload: name a bucket, as s3://BUCKET/FOLDER/"
        )
    destination = directory_destination(directory, target, arguments)
    dry_run, wanted = arguments["dry_run"], take_after_options(arguments)
    if dry_run:
        wanted.check_dry_run()
    chosen = take_selection(ctx, arguments)
    wanted.check_mhl([directory], chosen, None)
    arguments |= {"selection": chosen.selection, "dry_run": dry_run}
    stopped = "nothing was sent" if dry_run else "the same command resumes"
    kept = KeptParts()
    command = partial(_sync, directory, destination, arguments, wanted, kept)
    raise SystemExit(run(command, stopped=stopped, kept="" if dry_run else kept))


def _has_entries(directory: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return next(entries, None) is not None
    return False


async def _sync(
    directory: str, destination: Destination, arguments: dict[str, Any], wanted: AfterOptions, kept: KeptParts
) -> int:
    from bigupload.api.arguments import SyncOptions
    from bigupload.cli.job_report import SyncReport
    from bigupload.cli.reporting import mode_of
    from bigupload.engine.upload_run import UploadResult

    only_sums = arguments["json_summary"] and not arguments["as_json"]
    as_json = only_sums or arguments["as_json"]
    wanted.check_outputs(directory, arguments["selection"])
    name_of = name_below(directory)
    async with uploading(destination, wanted, arguments, job=True) as shared:
        options = shared.options(SyncOptions)
        for step in options["then"]:
            step.check(options)  # before a comparison is shown
        if wanted.mhl:
            await shared.list_hashes(directory, arguments["selection"], destination.name)
        mode = mode_of(arguments["progress"])
        report = SyncReport(shared.reporter, as_json=as_json, mode=mode, dry_run=arguments["dry_run"])
        report.only_sums = only_sums
        if destination.many_files and _has_entries(directory):  # else an error says so
            report.begin("comparing the directory with the bucket")

        def on_event(event: events.Event) -> None:
            kept.on_event(event)
            report.on_event(event)

        def on_outcome(outcome: SyncOutcome) -> None:
            kept.on_outcome(outcome)
            report.on_sync(outcome)
            if isinstance(outcome, UploadResult):
                shared.after.add(outcome, name_of)

        def on_same(files: int, size: int) -> None:
            kept.on_same(files, size)
            report.on_same(files)

        if not (wanted.wants_each or (as_json and not only_sums)):
            options["on_same"] = on_same
        with report.running():
            result = await shared.uploader.sync(directory, on_outcome=on_outcome, on_event=on_event, **options)
        shared.after.ended(report.end(result), failed=report.failed)
    return shared.after.exit_status

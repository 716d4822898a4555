"""`bigupload gc`: aborts orphaned uploads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.destination import object_destination
from bigupload.cli.options import PATH, connection_options, local_option, store_options, time_option
from bigupload.units import counted, format_age, format_size, one_line

if TYPE_CHECKING:
    from bigupload.verification.orphans import Orphan, OrphanReport


@click.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX", required=False)
@local_option
@time_option("--older-than", default="7d", help="Only uploads that got no part for so long, as in 12h or 2d.")
@click.option(
    "--state",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="A manifest that was moved, or a directory of manifests, whose uploads are not orphaned. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Abort nothing. Show the orphaned uploads.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per upload.")
@connection_options
@store_options
def gc(older_than: float, state: tuple[Path, ...], dry_run: bool, as_json: bool, **arguments: Any) -> None:
    """Abort the orphaned uploads of keys that begin with PREFIX, and free their parts.

    An open multipart upload is orphaned if no manifest of this machine owns it and no part arrived for a while. Each
    line shows for how long it was idle, its parts, their size, and its key.

    With --local and no URL, it searches the bucket of upload --local.

    bigupload cannot see the manifests of other machines and users. Only --older-than protects their uploads. If a
    manifest can't be read, nothing is aborted, because it may own any upload.

    Exit status 75 if the same command may succeed later, 1 if it would fail again.
    """
    from bigupload.cli.reporting import worst
    from bigupload.cli.running import run
    from bigupload.manifests.state_directory import state_dir
    from bigupload.verification.orphans import OrphanSearch, Owners

    destination = object_destination(
        arguments, "name what to look at: s3://BUCKET/PREFIX, or --local for the local store"
    )

    def print_orphan(orphan: Orphan) -> None:
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(orphan), "dry_run": dry_run}))
        else:
            size, parts = format_size(orphan.held), counted(orphan.parts, "part")
            click.echo(f"{format_age(orphan.idle):>6}  {parts:>12}  {size:>9}  {one_line(orphan.key)}")

    async def collect() -> int:
        owners = Owners(state_dir(), state)
        search = OrphanSearch(
            owners,
            older_than=older_than,
            dry_run=dry_run,
            on_orphan=print_orphan,
            on_failure=lambda key, e: complain(e, key),
        )
        report = await search.run(destination.name, destination.s3)
        for e in report.unreadable:
            complain(
                errors.BigUploadError(f"nothing is aborted while this manifest may own the uploads: {e}"), "warning"
            )
        click.echo(_summary(report, dry_run=dry_run), err=True)
        return worst([e.exit_code for e in report.failed])

    raise SystemExit(run(collect))


def _summary(report: OrphanReport, *, dry_run: bool) -> str:
    counts = {
        "owned by manifests of this machine": report.owned,
        "not idle long enough": report.alive,
        "left to the media service": report.media,
        "failed": len(report.failed),
    }
    rest = "".join(f"; {count} {what}" for what, count in counts.items() if count)
    would = "would abort" if dry_run else "aborted"
    if report.unreadable and report.orphans:  # only with --dry-run
        rest = f", but nothing while a manifest can't be read{rest}"
    return f"{would} {counted(report.orphans, 'orphaned upload')} ({format_size(report.held)}){rest}"

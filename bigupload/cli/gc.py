"""`bigupload gc`: open uploads that nobody goes on with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import DURATION, PATH, connection_options, s3_options
from bigupload.units import format_age, format_size, one_line

if TYPE_CHECKING:
    from bigupload.verification.abandoned_uploads import Orphan, OrphanReport


@click.command()
@click.argument("url", metavar="s3://BUCKET/PREFIX")
@click.option("--local", is_flag=True, help="In the local store, which is started where it does not run.")
@click.option(
    "--older-than",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="Only uploads of which no part has arrived for so long, like 12h or 2d.",
)
@click.option(
    "--state",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="A manifest, or a directory of manifests, that owns uploads too; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Give nothing up, and say what would be.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an upload.")
@connection_options
def gc(
    url: str, older_than: float, state: tuple[Path, ...], dry_run: bool, as_json: bool, local: bool, **arguments: Any
) -> None:
    """Give up the open multipart uploads of keys that begin with PREFIX and that nobody goes on with: no manifest of
    this machine owns them, and no part has arrived for a while. Each line: how long nothing came, parts, bytes, key.

    Manifests of other machines and users can't be seen from here: what protects their uploads is --older-than. A
    manifest that can't be read may own anything, and so nothing is given up then.

    Exit status 75 where the same command may do better later, 1 where it would fail again.
    """
    from bigupload.cli.reporting import worst
    from bigupload.cli.running import run
    from bigupload.stores.targets import state_dir
    from bigupload.verification.abandoned_uploads import OrphanCollection, Owners

    def tell(orphan: Orphan) -> None:
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(orphan), "dry_run": dry_run}))
        else:
            size, parts = format_size(orphan.held), f"{orphan.parts:,} part" + "s" * (orphan.parts != 1)
            click.echo(f"{format_age(orphan.idle):>6}  {parts:>12}  {size:>9}  {one_line(orphan.key)}")

    async def collect() -> int:
        owners = Owners(state_dir(), state)
        collection = OrphanCollection(
            owners,
            older_than=older_than,
            dry_run=dry_run,
            on_orphan=tell,
            on_failure=lambda key, e: complain(e, key),
        )
        report = await collection.run(url, s3_options(arguments, local=local))
        for e in report.unreadable:
            complain(errors.BigUploadError(f"these may be its uploads: {e}"), "warning")
        click.echo(_summary(report, dry_run=dry_run), err=True)
        return worst([e.exit_code for e in report.failed])

    raise SystemExit(run(collect))


def _summary(report: OrphanReport, *, dry_run: bool) -> str:
    counts = {
        "owned by manifests here": report.owned,
        "not idle for so long": report.alive,
        "left to the media service": report.media,
        "failed": len(report.failed),
    }
    rest = "".join(f"; {count} {what}" for what, count in counts.items() if count)
    would = "would give up" if dry_run else "gave up"
    return f"{would} {report.orphans} open uploads ({format_size(report.held)}){rest}"

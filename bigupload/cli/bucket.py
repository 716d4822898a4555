"""`bigupload bucket`: prepares and sweeps the media service's bucket."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import connection_options, need_service, s3_options
from bigupload.cli.settings import drop_weaker
from bigupload.units import format_size, one_line

if TYPE_CHECKING:
    from bigupload.options import S3Options
    from bigupload.service.sweep import Removal
    from bigupload.stores.s3.client import S3Bucket

_BUCKET = click.argument("url", metavar="s3://BUCKET")
_LOCAL = click.option("--local", is_flag=True, help="The bucket is in the local store, which is started if needed.")


@click.group()
def bucket() -> None:
    """The media service's bucket: its rules, and the deletion of what must not stay."""


@bucket.command()
@_BUCKET
@_LOCAL
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="URL",
    help="The origin of a page that may upload, as in https://app.example.com. Repeatable. [default: *]",
)
@click.option("--no-public-read", is_flag=True, help="Media can only be read with a signature.")
@connection_options
def setup(origins: tuple[str, ...], no_public_read: bool, **arguments: Any) -> None:
    """Create the bucket if it is missing, and set its rules.

    The rules: media are deleted after 7 days, browsers may PUT, and anyone may GET media/*. Your own rules stay. It is
    safe to run this again.
    """
    from bigupload.cli.running import run

    name = _bucket_name(arguments["url"])
    drop_weaker(click.get_current_context(), arguments, "local", than="url")
    for origin in origins:
        _check_origin(origin)
    options = s3_options(arguments, local=arguments.pop("local"))

    async def set_up_all() -> int:
        from bigupload.service.bucket_rules import set_up

        connection = await _reach(name, options)
        try:
            warnings = await set_up(
                connection, origins=origins or ("*",), public_read=not no_public_read, on_done=click.echo
            )
        finally:
            await connection.aclose()
        for warning in warnings:
            complain(errors.BigUploadError(warning), "warning")
        return errors.EXIT_OK

    need_service()
    raise SystemExit(run(set_up_all))


@bucket.command()
@_BUCKET
@_LOCAL
@click.option("--dry-run", is_flag=True, help="Delete nothing. Show what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per deletion, then one with the totals.")
@connection_options
def sweep(dry_run: bool, as_json: bool, **arguments: Any) -> None:
    """Delete objects that are 7 days old, larger than 5 GB, or not the medium that they claim to be. Abort uploads that
    were open for 7 days. `bigupload serve` does this regularly.

    Exit status 75 if something could not be examined or deleted: the next sweep tries again.
    """
    from bigupload.cli.running import run

    name = _bucket_name(arguments["url"])
    drop_weaker(click.get_current_context(), arguments, "local", than="url")
    options = s3_options(arguments, local=arguments.pop("local"))

    def tell(removal: Removal) -> None:
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(removal), "dry_run": dry_run}))
        else:
            click.echo(f"{removal.reason:<14}  {format_size(removal.size):>9}  {one_line(removal.key)}")

    async def sweep_all() -> int:
        from bigupload.service.sweep import Sweep

        connection = await _reach(name, options)
        try:
            sweeping = Sweep(connection, now=lambda: datetime.now(UTC), on_removal=tell)
            report = await sweeping.run(dry_run=dry_run)
        finally:
            await connection.aclose()
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(report), "dry_run": dry_run}))
        else:
            would = "would delete" if dry_run else "deleted"
            click.echo(
                f"{would} {report.deleted} of {report.looked_at} objects ({format_size(report.bytes_freed)}) and "
                f"{report.aborted_uploads} open uploads; {report.failed} failed",
                err=True,
            )
        return errors.EXIT_RESUMABLE if report.failed else errors.EXIT_OK

    need_service()
    raise SystemExit(run(sweep_all))


def _bucket_name(url: str) -> str:
    from bigupload.stores.targets import parse_s3_url

    name, key = parse_s3_url(url, "")
    if key:
        raise errors.UsageError(f"{url!r} names more than a bucket: write it like s3://bucket")
    return name


def _check_origin(origin: str) -> None:
    """What browsers send as Origin has neither a path nor a slash at its end: such a rule would never fit."""
    try:
        parts = urlsplit(origin)
        sound = origin == "*" or (parts.scheme in ("http", "https") and origin == f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        sound = False
    if not sound or (origin != "*" and not parts.netloc):
        raise errors.UsageError(f"not an origin: {origin!r} (write it like https://app.example.com)")


async def _reach(name: str, options: S3Options) -> S3Bucket:
    """The connection to a bucket."""
    from bigupload.stores.s3.client import S3Bucket
    from bigupload.stores.targets import reach

    return S3Bucket(name, await reach(options))

"""`bigupload bucket`: prepares and sweeps the media service's bucket."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain
from bigupload.cli.options import completed_by, connection_options, local_option, need_service, s3_options
from bigupload.cli.service_options import (
    before_finish_option,
    hook_timeout_option,
    policy_options,
    take_hooks,
    take_policy,
    webhook_secret_option,
)
from bigupload.cli.settings import drop_weaker
from bigupload.units import format_size, one_line

if TYPE_CHECKING:
    from bigupload.options import S3Options
    from bigupload.service.hooks import HookSettings
    from bigupload.service.sweep import Removal, SweepReport
    from bigupload.stores.s3.bucket import S3Bucket

bucket_argument = click.argument("url", metavar="s3://BUCKET", shell_complete=completed_by("s3_urls"))


@click.group()
def bucket() -> None:
    """The media service's bucket: its rules, and the deletion of what must not stay."""


@bucket.command()
@bucket_argument
@local_option
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="URL",
    help="The origin of a page that may upload, as in https://app.example.com. Repeatable. [default: *]",
)
@click.option("--no-public-read", is_flag=True, help="Media can only be read with a signature.")
@policy_options
@connection_options
def setup(origins: tuple[str, ...], no_public_read: bool, **arguments: Any) -> None:
    """Create the bucket if it is missing, and set its policy and its rules.

    The rules: media are deleted after 7 days (or --keep), browsers may PUT, and anyone may GET media/*. Your own rules
    stay. It is safe to run this again: what is not named of the policy stays as it is. Then restart the service.
    """
    from bigupload.cli.running import run
    from bigupload.service.cors import check_origin

    for origin in origins:
        check_origin(origin, patterns=True)
    policy = take_policy(arguments)
    name, options = take_bucket(arguments)

    async def set_up_all() -> int:
        from bigupload.service.bucket_rules import set_up

        async with reached(name, options) as bucket:
            warnings = await set_up(
                bucket,
                named=policy,
                origins=origins or ("*",),
                public_read=not no_public_read,
                on_done=click.echo,
            )
        for warning in warnings:
            complain(errors.BigUploadError(warning), "warning")
        return errors.EXIT_OK

    need_service()
    raise SystemExit(run(set_up_all))


@bucket.command()
@bucket_argument
@local_option
@click.option("--dry-run", is_flag=True, help="Delete nothing. Show the objects to delete.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per deletion, then one with the totals.")
@click.option("--tell-webhooks", is_flag=True, help="Note each deletion for a service, which notifies its webhooks.")
@click.option("--public-url", metavar="URL", help="With --tell-webhooks: the public URL of the bucket's objects.")
@before_finish_option
@hook_timeout_option
@webhook_secret_option
@connection_options
def sweep(dry_run: bool, as_json: bool, tell_webhooks: bool, **arguments: Any) -> None:
    """Delete objects that the bucket's policy does not allow: by default those that are 7 days old, larger than 5 GB,
    or not the medium that they claim to be. Abort uploads that were open for 7 days. `bigupload serve` does this
    regularly.

    Exit status 75 if something could not be examined or deleted: the next sweep tries again.
    """
    from bigupload.cli.running import run

    need_service()
    from bigupload.service.hooks import HookSettings

    asked, noted = take_hooks(arguments), (tell_webhooks, arguments.pop("public_url"))
    name, options = take_bucket(arguments)

    def report_removal(removal: Removal) -> None:
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(removal), "dry_run": dry_run}))
        else:
            click.echo(f"{removal.reason:<14}  {format_size(removal.size):>9}  {one_line(removal.key)}")

    async def sweep_all() -> int:
        async with reached(name, options) as bucket:
            report = await _sweep(bucket, HookSettings(**asked), noted, report_removal, dry_run=dry_run)
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

    raise SystemExit(run(sweep_all))


async def _sweep(
    bucket: S3Bucket,
    asked: HookSettings,
    noted: tuple[bool, str | None],
    on_removal: Callable[[Removal], None],
    *,
    dry_run: bool,
) -> SweepReport:
    """Sweep once. `noted`: whether to note events for webhooks, and the bucket's public URL for them."""
    from bigupload.service.access_log import AccessLog
    from bigupload.service.hooks import opened_hooks
    from bigupload.service.policy import read_policy
    from bigupload.service.sweep import Sweep
    from bigupload.service.webhooks.telling import telling_for

    policy, now = await read_policy(bucket), functools.partial(datetime.now, UTC)
    telling = telling_for(bucket, policy, noted[1]) if noted[0] else None
    async with opened_hooks(asked, AccessLog()) as hooks:
        sweeping = Sweep(bucket, now=now, policy=policy, on_removal=on_removal, hooks=hooks, telling=telling)
        return await sweeping.run(dry_run=dry_run)


def take_bucket(arguments: dict[str, Any]) -> tuple[str, S3Options]:
    """Take the bucket of s3://BUCKET out of a command's arguments, and how to reach it.

    Raises:
        UsageError: The URL is another one.
    """
    from bigupload.stores.targets import parse_s3_url

    url = arguments["url"]
    name, key = parse_s3_url(url, "")
    if key:
        raise errors.UsageError(f"{url!r} names more than a bucket: write it like s3://bucket")
    drop_weaker(click.get_current_context(), arguments, "local", than="url")
    return name, s3_options(arguments, local=arguments.pop("local"))


@contextlib.asynccontextmanager
async def reached(name: str, options: S3Options) -> AsyncIterator[S3Bucket]:
    """Connect to a bucket."""
    from bigupload.stores.s3.bucket import S3Bucket
    from bigupload.stores.targets import reach

    async with contextlib.aclosing(S3Bucket(name, await reach(options))) as bucket:
        yield bucket

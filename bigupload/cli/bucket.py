"""`bigupload bucket`: prepares and sweeps the media service's bucket. Also the options of its policy and hooks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bigupload import errors
from bigupload.cli import complain, print_line, unwritten
from bigupload.cli.destination import object_destination
from bigupload.cli.options import (
    completed_by,
    connection_options,
    file_option,
    joined,
    local_option,
    need_service,
    size_option,
    time_option,
)
from bigupload.cli.running import run
from bigupload.units import format_size, one_line, parse_duration

if TYPE_CHECKING:
    from bigupload.options import S3Options
    from bigupload.service.media.policy import MediaTypes
    from bigupload.service.uploads.sweep import Removal
    from bigupload.stores.s3.bucket import S3Bucket

bucket_argument = click.argument("url", metavar="s3://BUCKET")


before_finish_option = click.option(
    "--before-finish",
    metavar="COMMAND|URL",
    help="Checks each file in the store before it counts, as a virus scanner. Refused files are deleted.",
)
hook_timeout_option = time_option(
    "--hook-timeout", default="60s", help="How long a hook may take. After that, clients get 503 and try again."
)
webhook_secret_option = file_option(
    "--webhook-secret-file",
    help="The secrets that sign requests to your URLs. [default: $BIGUPLOAD_WEBHOOK_SECRET_FILE, else the user's own]",
)
FOREVER = "forever"


policy_options = joined(
    size_option("--max-size", help="The largest file. [default: the bucket's, or 5GB]"),
    click.option(
        "--types",
        metavar="FILE|any",
        shell_complete=completed_by("files"),
        help="Accept the types in a file like mime.types, or any. [default: the bucket's, or the published list]",
    ),
    click.option(
        "--keep", metavar="TIME|forever", help="When files are deleted, as in 30d. [default: the bucket's, or 7d]"
    ),
    click.option(
        "--key-template",
        metavar="TEMPLATE",
        help="The shape of keys. [default: the bucket's, or media/{owner}/{random}.{extension}]",
    ),
)
"""The options of a bucket's policy."""


def take_policy(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's arguments. Returns the fields of `Policy` that were named.

    Raises:
        UsageError: A value can't be.
    """
    from bigupload.service.media.object_keys import KeyTemplate
    from bigupload.service.media.policy import PUBLISHED_POLICY

    size, types, keep, template = (arguments.pop(name) for name in ("max_size", "types", "keep", "key_template"))
    found: dict[str, Any] = {}
    if size is not None:
        found["max_file_size"] = size
    if types is not None:
        found["types"] = _types(types)
    if keep is not None:
        found["keep"] = _keep(keep)
    if template is not None:
        found["keys"] = KeyTemplate(template)
    PUBLISHED_POLICY.replaced(found)  # raises UsageError
    return found


def _types(text: str) -> MediaTypes:
    from bigupload.service.media.policy import ANY_TYPES, PUBLISHED_TYPES, read_types

    for known in (ANY_TYPES, PUBLISHED_TYPES):
        if text == known.name:
            return known
    try:
        return read_types(Path(text).read_text(encoding="utf-8-sig"), where=text)
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or "not UTF-8"
        write = f"{ANY_TYPES.name}, {PUBLISHED_TYPES.name} or the name of a file with types"
        raise errors.UsageError(f"can't read the types in {text}: {why} (write {write})") from e


def _keep(text: str) -> int | None:
    if text.strip().lower() == FOREVER:
        return None
    try:
        return round(parse_duration(text))
    except errors.UsageError:
        raise errors.UsageError(f"--keep is a time or forever, and not {text!r}: write it like 30d") from None


hook_options = joined(
    click.option(
        "--before-create", metavar="COMMAND|URL", help="Asked before an upload begins. It may refuse with a reason."
    ),
    before_finish_option,
    hook_timeout_option,
    click.option(
        "--webhook-url",
        "webhook_urls",
        multiple=True,
        metavar="URL",
        help="Gets an event for each file that is completed, refused or expired. Repeatable.",
    ),
    click.option("--webhook-uploads", is_flag=True, help="Send events of uploads that begin or are aborted, too."),
    webhook_secret_option,
)
"""The options of `serve`."""


def take_hooks(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the options out of a command's arguments. Returns the fields of `ServiceConfig` that they are.

    Raises:
        UsageError: A hook can't be.
        ServiceError: There is no secret to sign with, or it can't be read.
    """
    from bigupload.service.webhooks.hooks import (
        check_hook,
        check_webhook_url,
        default_webhook_secret_file,
        is_url,
        load_webhook_secrets,
    )

    file = arguments.pop("webhook_secret_file")
    found = {name: arguments.pop(name, None) for name in ("before_create", "before_finish", "hook_timeout")}
    if not found["hook_timeout"] > 0:
        raise errors.UsageError("--hook-timeout must be above 0")
    hooks = {name: found[name] for name in ("before_create", "before_finish")}
    found["webhook_urls"] = tuple(arguments.pop("webhook_urls", ()))
    found["webhook_uploads"] = arguments.pop("webhook_uploads", False)
    for url in found["webhook_urls"]:
        check_webhook_url(url)
    signs = found["webhook_urls"] or any(hook is not None and is_url(hook) for hook in hooks.values())
    if file is not None or signs:
        found["webhook_secrets"] = load_webhook_secrets(file or default_webhook_secret_file(), create=True)
    for name, hook in hooks.items():
        check_hook(name, hook, found.get("webhook_secrets", ()))
    return found


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
    from bigupload.service.access.keys import check_origin

    for origin in origins:
        check_origin(origin, patterns=True)
    policy = take_policy(arguments)
    name, options = take_bucket(arguments)

    async def set_up_all() -> int:
        rules = {"origins": origins or ("*",), "public_read": not no_public_read}
        async with reached(name, options) as bucket:
            await set_up_bucket(bucket, policy, **rules, on_done=click.echo)
        return errors.EXIT_OK

    need_service()
    raise SystemExit(run(set_up_all))


async def set_up_bucket(bucket: S3Bucket, policy: Mapping[str, Any], **more: Any) -> None:
    """Set a bucket's policy and its rules, and warn of what the store did not accept. `more`: as `set_up` has it."""
    from bigupload.service.uploads.bucket_rules import set_up

    for warning in await set_up(bucket, named=policy, **more):
        complain(errors.BigUploadError(warning), "warning")


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
    need_service()
    asked, public_url = take_hooks(arguments), arguments.pop("public_url")
    name, options = take_bucket(arguments)
    broken: OSError | None = None

    def show(line: str) -> None:
        """Print a line. If nobody reads it, as with `| head -1`, the sweep still deletes the rest. A dry run ends."""
        nonlocal broken
        try:
            if broken is None:
                click.echo(line)
        except OSError as e:
            if dry_run:
                raise
            broken = e

    def report_removal(removal: Removal) -> None:
        if as_json:
            show(json.dumps({**dataclasses.asdict(removal), "dry_run": dry_run}))
        else:
            show(f"{removal.reason:<14}  {format_size(removal.size):>9}  {one_line(removal.key)}")

    async def sweep_all() -> int:
        from bigupload.service.call import AccessLog
        from bigupload.service.media.policy import read_policy
        from bigupload.service.uploads.sweep import Sweep
        from bigupload.service.webhooks.hooks import HookSettings, opened_hooks
        from bigupload.service.webhooks.telling import Telling

        async with reached(name, options) as bucket, opened_hooks(HookSettings(**asked), AccessLog()) as hooks:
            policy, now = await read_policy(bucket), functools.partial(datetime.now, UTC)
            telling = Telling(bucket, policy.keys, public_url) if tell_webhooks else None
            sweeping = Sweep(bucket, now=now, policy=policy, on_removal=report_removal, hooks=hooks, telling=telling)
            report = await sweeping.run(dry_run=dry_run)
        summary = (
            f"{'would delete' if dry_run else 'deleted'} {report.deleted} of {report.looked_at} objects "
            f"({format_size(report.bytes_freed)}) and {report.aborted_uploads} open uploads; {report.failed} failed"
        )
        if as_json:
            show(json.dumps({**dataclasses.asdict(report), "dry_run": dry_run}))
        elif broken is None:
            print_line(summary)
        status = errors.EXIT_OK
        if broken is not None:
            complain(errors.BigUploadError(f"{summary}, but {unwritten(broken)}"))
            status = errors.EXIT_FAILED
        return errors.EXIT_RESUMABLE if report.failed else status

    raise SystemExit(run(sweep_all))


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
    return name, object_destination(arguments).s3


@contextlib.asynccontextmanager
async def reached(name: str, options: S3Options) -> AsyncIterator[S3Bucket]:
    """Connect to a bucket."""
    from bigupload.stores.s3.bucket import S3Bucket
    from bigupload.stores.targets import reach

    async with contextlib.aclosing(S3Bucket(name, await reach(options))) as bucket:
        yield bucket

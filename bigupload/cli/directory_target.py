"""Shared by commands about one directory: the directory, and the target of its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from bigupload.cli.options import NAME, completed_by, joined
from bigupload.cli.selection_options import quoting_hint
from bigupload.cli.settings import COMMAND_LINE, choose, strength

F = TypeVar("F", bound=Callable[..., Any])


def directory_and_target(verb: str) -> Callable[[F], F]:
    """The arguments DIR and target, `--to` and `--local`. `verb`: what is done with the files, as in "Upload"."""

    return joined(
        click.argument("directory", metavar="DIR", type=NAME),
        click.argument("target", metavar="[s3://BUCKET/FOLDER/]", required=False, type=NAME),
        click.option(
            "--to",
            metavar="s3://BUCKET/FOLDER/",
            shell_complete=completed_by("s3_urls"),
            help="Where the objects go. May be the last argument instead.",
        ),
        click.option("--local", is_flag=True, help=f"{verb} into the local store, which is started if needed."),
    )


def take_target(ctx: click.Context, directory: str, target: str | None, arguments: dict[str, Any]) -> None:
    """Put the one target into the arguments: what the command line names beats what else does.

    Raises:
        UsageError: No target is named, or two; or several directories; or the directory's name is empty.
    """
    if ctx.args:
        several = ": bigupload upload takes several" if ctx.info_name == "sync" else ""
        raise click.UsageError(
            f"{ctx.info_name} takes one directory and one target, and the command names {len(ctx.args) + 2}"
            f"{quoting_hint() or several}"
        )
    if target is not None:
        if strength(ctx, "to") == COMMAND_LINE:
            raise click.UsageError(f"name one target: --to {arguments['to']}, or {target}")
        arguments.update(to=target, local=arguments["local"] and strength(ctx, "local") == COMMAND_LINE)
    else:
        choose(ctx, arguments, "to", "local")
    if arguments["to"] is None and not arguments["local"]:
        raise click.UsageError(
            f"name one target: bigupload {ctx.info_name} DIR s3://BUCKET/FOLDER/ (or --to s3://…, or --local)"
        )
    choose(ctx, arguments, "endpoint_url", "local")
    if arguments["local"] and arguments["endpoint_url"] is not None:
        raise click.UsageError("--local has its own endpoint: leave out --endpoint-url")
    if not directory:
        raise click.UsageError("the directory's name is empty: is a variable of the shell not set?")

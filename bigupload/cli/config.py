"""`bigupload config`: what the commands' options are, and where each value comes from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bigupload.cli import settings
from bigupload.units import printable

_SECRET = frozenset({"shared", "sse_customer_key"})
"""Options whose values may be a secret."""


@click.group()
def config() -> None:
    """Options from the environment and from the configuration file."""


@config.command(short_help="Show where option values come from.", context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="[COMMAND [OPTIONS...]]", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per option.")
@click.pass_context
def show(ctx: click.Context, words: tuple[str, ...], as_json: bool) -> None:
    """Show where the values of options come from: command line, environment, file or default.

    With COMMAND, every option of it, as a call with these OPTIONS would take it; without, all options of all commands
    that are set in the environment or in the file.
    """
    given: Path | None = ctx.meta.get("bigupload.config")
    root = ctx.find_root().command
    if words and not any(words[: len(names)] == names for names, _ in settings.leaves(root)):
        what = "option" if words[0].startswith("-") else "command"
        raise click.UsageError(f"no such {what}: {' '.join(words)}")
    path = settings.path_in_use(given)
    if not as_json:
        missing = "" if path.exists() else "  (there is no such file)"
        click.echo(f"configuration file: {printable(str(path))}{missing}")
    shown = False
    for names, command in settings.leaves(root):
        if words[: len(names)] == names:
            rows = list(_rows(ctx, command, names, words[len(names) :], given))
        elif not words:
            rows = [row for row in _rows(ctx, command, names, (), given) if row["source"] != "default"]
        else:
            continue
        shown = shown or bool(rows)
        _show(" ".join(names), rows, as_json=as_json)
    if not shown:
        click.echo("no option is set; bigupload config show COMMAND lists those of a command", err=True)
    for name in settings.OTHERS:
        if os.environ.get(name) and not as_json:
            value = "(set)" if name == "BIGUPLOAD_API_KEY" else os.environ[name]
            click.echo(f"{name}: {printable(value)}")


def _show(title: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps({"command": title, **row}))
    elif rows:
        click.echo(f"\n{title}")
        name, value = (max(len(row[column]) for row in rows) for column in ("option", "value"))
        for row in rows:
            where = f"{row['source']} {row['where']}".strip()
            click.echo(f"  {row['option']:<{name}}  {row['value']:<{min(value, 40)}}  {where}")


def _rows(
    ctx: click.Context, command: click.Command, names: Sequence[str], arguments: Sequence[str], given: Path | None
) -> Iterator[dict[str, Any]]:
    """Each option with its value, as text that was given, and where that was."""
    from_file = settings.located(given, ctx.find_root().command, names)
    context = click.Context(command, info_name=" ".join(("bigupload", *names)))
    parsed, _, _ = command.make_parser(context).parse_args(list(arguments))
    for param in settings.options_of_files(command):
        names_of = param.envvar if isinstance(param.envvar, list) else ()
        variable = next((name for name in names_of if os.environ.get(name)), None)
        if param.name in parsed:
            value, source, where = parsed[param.name], "command line", ""
        elif variable is not None:
            value, source, where = os.environ[variable], "environment", variable
        elif param.name in from_file:
            (value, where), source = from_file[param.name], "file"
        else:
            value, source, where = param.get_default(context), "default", ""
        shown = "(set)" if param.name in _SECRET and source != "default" else _text(value)
        yield {"option": f"--{settings.name_of(param)}", "value": shown, "source": source, "where": where}


def _text(value: Any) -> str:
    """As it was given; "-" where nothing was. Without user and password of a URL."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or type(value).__name__ == "Sentinel":  # click 8.3 has an object of its own for "not given"
        return "-"
    return printable(re.sub(r"(://)[^/@\s]+@", r"\1…@", str(value)))

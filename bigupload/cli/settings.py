"""Where a command's options come from: the command line, the environment, the configuration file, the default.

`prepare` gives every option its variables and every command the options that all of them have. Those of
`config_file.TYPED_ALONE` have none. An option that is
given in several places is taken from the first of these:

1. the command line;
2. `BIGUPLOAD_<COMMAND>_<OPTION>`, as in `BIGUPLOAD_UPLOAD_PART_SIZE`, for this command;
3. `BIGUPLOAD_<OPTION>`, as in `BIGUPLOAD_ENDPOINT_URL`, for every command that has the option;
4. the configuration file: the command's table (`[upload]`, `[bucket.setup]`), then the keys above all tables.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bigupload.cli import color_option, config_file
from bigupload.cli.help import add_help
from bigupload.errors import UsageError

_COMMON = "bigupload.common"
"""The key in `Context.meta` of what was given before the command's name, as in `bigupload -v upload`."""

VERBOSE = "bigupload.verbose"
"""The key in `Context.meta` of how often -v was given, once the command runs."""
QUIET = "bigupload.quiet"
"""The key in `Context.meta` of whether -q was given, once the command runs."""


LOG_LEVELS = ("debug", "info", "warning")
"""The values of --log-level: each attempt of each request, results, problems."""


def common_options() -> list[click.Option]:
    """Return the options that every command takes, also before its name."""
    path = click.Path(path_type=Path)
    return [
        click.Option(["-v", "--verbose"], count=True, help="Log what happens; -vv logs each attempt of each request."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show errors and results only."),
        click.Option(
            ["--log-file"], type=click.Path(path_type=Path), metavar="FILE", help="Append a full log to FILE."
        ),
        click.Option(["--log-level"], type=click.Choice(LOG_LEVELS), help="What FILE gets. [default: debug]"),
        color_option(),
        click.Option(
            ["--config"],
            type=path,
            metavar="FILE",
            is_eager=True,
            help="Take options from this TOML file. [default: config.toml in the user's configuration directory]",
            callback=_load,
        ),
    ]


def variables(path: Sequence[str], option: str) -> list[str]:
    """The environment variables of an option, the strongest first.

    Args:
        path: the command's names, as in `("bucket", "setup")`.
        option: the option's name, as in "part-size".
    """
    return ["_".join(("BIGUPLOAD", *words)).upper().replace("-", "_") for words in ((*path, option), (option,))]


def prepare(command: click.Command, path: tuple[str, ...]) -> click.Command:
    """Give a command, or each command of a group, its variables and the common options. May be repeated."""
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            prepare(member, (*path, name))
        return command
    if any(param.name == "log_file" for param in command.params):
        return command
    command.params += common_options()
    for param in command.params:
        if isinstance(param, click.Option) and config_file.name_of(param) not in config_file.TYPED_ALONE:
            given = [param.envvar] if isinstance(param.envvar, str) else list(param.envvar or ())
            param.envvar = [*variables(path, config_file.name_of(param)), *given]
    add_help(command, path)
    command.callback = _with_log(command.callback)
    command.parse_args = _naming_the_command(command.parse_args)  # type: ignore[method-assign]  # of any command
    return command


def _naming_the_command(parse_args: Callable[[click.Context, list[str]], list[str]]) -> Any:
    """The command's parser, which knows --json=summary.

    Its errors name the command, which click leaves out where a value is missing.
    """

    @functools.wraps(parse_args)
    def parse(ctx: click.Context, args: list[str]) -> list[str]:
        if _SUMMARY in args and any(param.name == "json_summary" for param in ctx.command.params):
            args = ["--json-summary" if word == _SUMMARY else word for word in args]
        try:
            return parse_args(ctx, args)
        except click.UsageError as e:
            e.ctx = e.ctx or ctx
            raise

    return parse


def remember(ctx: click.Context, **values: Any) -> None:
    """Keep what was given before the command's name."""
    ctx.meta[_COMMON] = values


def _load(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Read the configuration file, before any other option is looked at."""
    path = value or ctx.meta.get(_COMMON, {}).get("config")
    ctx.meta["bigupload.config"] = path
    words = ctx.command_path.split()[1:]
    if words[:1] == ["config"]:  # it shows what another command would take
        return path
    ctx.default_map = config_file.options_of(path, ctx.find_root().command, words)
    return path


def _with_log(callback: Any) -> Any:
    """The command's function, called while the log goes where it was asked to."""

    @functools.wraps(callback)
    def logging_too(
        verbose: int, quiet: bool, log_file: Path | None, log_level: str | None, config: Path | None, **arguments: Any
    ) -> Any:
        ctx = click.get_current_context()
        before = ctx.meta.get(_COMMON, {})
        given = {"verbose": verbose, "quiet": quiet}
        if before.get("verbose"):
            given["quiet"] = quiet and strength(ctx, "quiet") == COMMAND_LINE
        elif before.get("quiet"):
            given["verbose"] = verbose if strength(ctx, "verbose") == COMMAND_LINE else 0
        else:
            choose(ctx, given, "verbose", "quiet")
        verbose = int(given["verbose"] or 0) + before.get("verbose", 0)
        quiet = bool(given["quiet"]) or before.get("quiet", False)
        log_file = log_file or before.get("log_file")
        log_level = log_level or before.get("log_level") or LOG_LEVELS[0]
        if verbose and quiet:
            raise UsageError("--quiet and --verbose exclude each other: leave one out")
        if quiet and "progress" in arguments and strength(ctx, "progress") < COMMAND_LINE:
            arguments["progress"] = "none"
        if verbose or log_file is not None:
            from bigupload.cli import logs  # logging takes 10 ms to import

            ctx.call_on_close(logs.begin(verbose, log_file, log_level))
        ctx.meta[VERBOSE], ctx.meta[QUIET] = verbose, quiet
        return callback(**arguments)

    return logging_too


COMMAND_LINE = 3
_SUMMARY = "--json=summary"
"""Another way to write --json-summary: a flag of click's takes no value."""


def strength(ctx: click.Context, name: str) -> int:
    """How near to the person an option's value is: 3 command line, 2 environment, 1 file, 0 default or not given."""
    sources = click.core.ParameterSource
    order = {sources.COMMANDLINE: COMMAND_LINE, sources.ENVIRONMENT: 2, sources.DEFAULT_MAP: 1}
    source = ctx.get_parameter_source(name)
    return order.get(source, 0) if source is not None else 0


def choose(ctx: click.Context, arguments: dict[str, Any], *names: str) -> None:
    """Of options that exclude each other, drop those that are farther from the person than the nearest.

    `--local` on the command line beats `to = "s3://…"` in the file. Two on the command line stay, for the caller to
    refuse.
    """
    nearest = max((strength(ctx, name) for name in names if _given(arguments[name])), default=0)
    for name in names:
        if strength(ctx, name) < nearest:
            _drop(arguments, name)


def drop_weaker(ctx: click.Context, arguments: dict[str, Any], *names: str, than: str) -> None:
    """Drop options that mean nothing beside the option `than`, if they are farther from the person than that."""
    if _given(arguments[than]):
        for name in names:
            if strength(ctx, name) < strength(ctx, than):
                _drop(arguments, name)


def _given(value: Any) -> bool:
    return value not in (None, False, ())


def _drop(arguments: dict[str, Any], name: str) -> None:
    if name == "addressing":
        arguments[name] = "auto"
    else:
        arguments[name] = type(arguments[name])() if isinstance(arguments[name], (bool, tuple)) else None


def origin(ctx: click.Context, param: click.Parameter) -> str:
    """Where a value that is wrong was given, as " in BIGUPLOAD_PART_SIZE"; empty for the command line."""
    match strength(ctx, param.name or ""):
        case 2 if isinstance(param.envvar, list):
            return f" in {next((name for name in param.envvar if os.environ.get(name)), 'the environment')}"
        case 1:
            return f" in {config_file.path_in_use(ctx.meta.get('bigupload.config'))}"
        case _:
            return ""

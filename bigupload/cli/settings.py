"""The sources of a command's options: the command line, the environment, the configuration file, the default.

`prepare` gives every option its variables and every command the options that all of them have. Those of
`TYPED_ALONE` have none. An option that is given in several places is taken from the first of these:

1. the command line;
2. `BIGUPLOAD_<COMMAND>_<OPTION>`, as in `BIGUPLOAD_UPLOAD_PART_SIZE`, for this command;
3. `BIGUPLOAD_<OPTION>`, as in `BIGUPLOAD_ENDPOINT_URL`, for every command that has the option;
4. the configuration file: the command's table (`[upload]`, `[bucket.setup]`), then the keys above all tables.

The file is TOML, and what it does not know is refused::

    endpoint-url = "https://minio.example:9000"   # for every command that has the option

    [upload]                                      # for `bigupload upload`
    limit-rate = "08:00=2MB/s,20:00=off"
    metadata = { project = "north" }
    tag = ["team=film", "year=2026"]

    [bucket.setup]
    origin = ["https://app.example.com"]
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bigupload.cli.help import LOG_LEVELS, add_help, common_options
from bigupload.errors import UsageError
from bigupload.support.files import user_path
from bigupload.units import printable

OTHERS = ("BIGUPLOAD_API_KEY", "BIGUPLOAD_STATE_DIR", "BIGUPLOAD_LOCAL_STORE_DIR")
"""Variables of all commands that belong to no option."""
_FILES_OF_THE_SERVICE = ("BIGUPLOAD_KEYS", "BIGUPLOAD_SECRET_FILE", "BIGUPLOAD_WEBHOOK_SECRET_FILE")
_PREFIX = "BIGUPLOAD_"
_FOREIGN = tuple(f"{_PREFIX}{word}_" for word in ("DONE", "SERVICE"))
"""Variables that others set: `--on-done` for its program, and Kubernetes for pods beside a Service named bigupload."""
_NEAR = 0.8
"""The similarity of a misspelt name, as difflib counts it. ENDPOINT is just so near to ENDPOINT_URL."""
TYPED_ALONE = frozenset({"trust"})
"""Options that only the command line may set: they approve one particular manifest."""


def default_path() -> Path:
    """Return the default path of the file. Raises UsageError for a user without a home."""
    return user_path("config", instead="--config FILE") / "config.toml"


def path_in_use(given: Path | None) -> Path:
    """The file that is read, whether or not it exists. Raises UsageError for a user without a home."""
    return given if given is not None else default_path()


def name_of(option: click.Option) -> str:
    """An option's name without dashes: "part-size"."""
    longest = max(option.opts, key=len)
    return longest.lstrip("-")


def options_of(given: Path | None, root: click.Command, words: Sequence[str]) -> dict[str, Any]:
    """Return the file's values for one command's options, by the names of click's parameters.

    Args:
        given: the file that was asked for; None takes the default one, if it exists.
        root: the group of all commands.
        words: the command's names, as in `["bucket", "setup"]`.

    Raises:
        UsageError: the file can't be read, is not TOML, or has an option that the command does not have.
    """
    return {name: value for name, (value, _) in located(given, root, words).items()}


def located(given: Path | None, root: click.Command, words: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """As `options_of`, with where each value is in the file: "[upload] part-size"."""
    try:
        path = path_in_use(given)
    except UsageError:  # whoever has no home has no file in it
        return {}
    document = _read(path, required=given is not None)
    if not document:
        return {}
    command = _find(root, words)
    options = _options(command)
    found: dict[str, tuple[Any, str]] = {}
    table, place = document, ""
    for depth in range(len(words) + 1):
        for key, value in table.items():
            if key in TYPED_ALONE and key in options:
                raise UsageError(f"{path}: {place}{key} can't be set here: give --{key} on the command line")
            if key in options and not _is_command(root, words[:depth], key, value):
                found[options[key].name or key] = (_value(options[key], value, path), f"{place}{key}")
            elif not _is_command(root, words[:depth], key, value) and not _known(root, words, depth, key):
                raise UsageError(_unknown(path, root, f"{place}{key}", key))
        if depth < len(words):
            table = table.get(words[depth], {})
            place = f"[{'.'.join(words[: depth + 1])}] "
            if not isinstance(table, dict):  # an option that has a command's name, as `bucket`
                break
    return found


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that is not a group, with its names."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        member = command.get_command(ctx, name)
        if member is not None:
            yield from leaves(member, (*words, name))


def _find(root: click.Command, words: Sequence[str]) -> click.Command:
    command = root
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        if found is None:
            break
        command = found
    return command


def options_of_files(command: click.Command) -> list[click.Option]:
    """Return the options that a configuration file may set. --config and --help-all are none of them."""
    options = [param for param in command.params if isinstance(param, click.Option) and param.name != "config"]
    return [option for option in options if option.expose_value or option.name == "color"]


def _options(command: click.Command) -> dict[str, click.Option]:
    return {name_of(option): option for option in options_of_files(command)}


def _is_command(root: click.Command, words: Sequence[str], key: str, value: Any) -> bool:
    """Whether a table is that of a command, and not the value of an option that has the same name."""
    here = _find(root, words)
    return isinstance(value, dict) and isinstance(here, click.Group) and key in here.list_commands(click.Context(here))


def _known(root: click.Command, words: Sequence[str], depth: int, key: str) -> bool:
    """Whether this place in the file also applies to another command, which has the option."""
    below = leaves(_find(root, words[:depth])) if depth < len(words) else ()
    return any(key in _options(command) for _, command in below)


def _unknown(path: Path, root: click.Command, place: str, key: str) -> str:
    if place == key and isinstance(root, click.Group) and key in root.list_commands(click.Context(root)):
        return f"{path}: {key} is a command: write its options below [{key}]"
    import difflib

    names = {name for _, command in leaves(root) for name in _options(command)}
    close = difflib.get_close_matches(key, sorted(names), 1)
    advice = f"did you mean {close[0]}?" if close else "bigupload config show lists the options"
    return f"{path}: there is no option {place}: {advice}"


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    if not required and not os.path.exists(path):  # noqa: PTH110 - Path.exists raises where a directory is closed
        return {}
    try:
        return _parse(path, path.read_bytes())
    except OSError as e:
        raise UsageError(f"can't read the configuration file {path}: {e.strerror}") from e


@functools.cache
def _parse(path: Path, content: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"the configuration file {path} is not TOML: {e}") from e


def _value(option: click.Option, value: Any, path: Path) -> Any:
    """A TOML value as click's parsers expect it: text, or a list of texts where an option may be repeated."""
    name = name_of(option)
    if isinstance(value, dict):
        if not option.multiple:
            raise UsageError(f"{path}: {name} is one value, and not a table")
        if any(isinstance(item, dict | list) for item in value.values()):
            raise UsageError(f"{path}: each value in {name} is one value, and not a table or a list")
        value = [f"{key}={_text(item)}" for key, item in value.items()]
    if isinstance(value, list) != option.multiple:
        shape = 'a list, as in ["a=b"]' if option.multiple else "one value, and not a list"
        raise UsageError(f"{path}: {name} is {shape}")
    if isinstance(value, list):
        if any(isinstance(item, dict | list) for item in value):
            raise UsageError(f"{path}: {name} is a list of single values")
        return [_text(item) for item in value]
    if option.is_flag or isinstance(value, bool):
        if not (option.is_flag and isinstance(value, bool)):
            raise UsageError(
                f"{path}: {name} is {'true or false' if option.is_flag else 'a value, and not true or false'}"
            )
        return value
    text = _text(value)
    return str(Path(text).expanduser()) if isinstance(option.type, click.Path) else text


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


_COMMON = "bigupload.common"
"""The key in `Context.meta` of what was given before the command's name, as in `bigupload -v upload`."""

VERBOSE = "bigupload.verbose"
"""The key in `Context.meta` of how often -v was given, once the command runs."""
QUIET = "bigupload.quiet"
"""The key in `Context.meta` of whether -q was given, once the command runs."""
LOG_FILE = "--log-file"
"""The option, and the key in `Context.meta` of the log file, once the command runs."""


def variables(path: Sequence[str], option: str) -> list[str]:
    """The environment variables of an option, the strongest first.

    Args:
        path: the command's names, as in `("bucket", "setup")`.
        option: the option's name, as in "part-size".
    """
    return ["_".join(("BIGUPLOAD", *words)).upper().replace("-", "_") for words in ((*path, option), (option,))]


def _variables_of(commands: Iterable[click.Command]) -> set[str]:
    found: set[str] = set()
    for param in (param for command in commands for param in command.params):
        found.update([param.envvar] if isinstance(param.envvar, str) else param.envvar or ())
    return found


def _warn_of_misspelt_variables(ctx: click.Context) -> None:
    """Warn of each variable that no command reads, if this one reads another of nearly the same name.

    A name that is near to none may be a variable of the user's own.
    """
    read = {*_variables_of([ctx.command]), *OTHERS}
    given = [name for name, value in os.environ.items() if value and name.startswith(_PREFIX)]
    others = [name for name in given if name not in read and not name.startswith(_FOREIGN)]
    if not others:
        return
    import difflib

    words = [name.removeprefix(_PREFIX) for name in sorted(read)]
    near = {name: difflib.get_close_matches(name.removeprefix(_PREFIX), words, 1, _NEAR) for name in others}
    if not any(near.values()):
        return
    every = _variables_of(command for _, command in leaves(ctx.find_root().command))  # imports all of them
    for name, meant in near.items():
        if meant and name not in every and name not in _FILES_OF_THE_SERVICE:
            text = f"no command reads the variable {name}: did you mean {_PREFIX}{meant[0]}?"
            with contextlib.suppress(OSError):  # nobody reads it
                click.echo(f"bigupload: warning: {printable(text)}", err=True)


def prepare(command: click.Command, path: tuple[str, ...]) -> click.Command:
    """Give a command, or each command of a group, its variables and the common options. May be repeated."""
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            prepare(member, (*path, name))
        return command
    if any(param.name == "log_file" for param in command.params):
        return command
    command.params += common_options(_load)
    for param in command.params:
        if isinstance(param, click.Option) and name_of(param) not in TYPED_ALONE:
            given = [param.envvar] if isinstance(param.envvar, str) else list(param.envvar or ())
            param.envvar = [*variables(path, name_of(param)), *given]
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
    if words[:1] == ["config"]:  # it shows the options of another command
        return path
    ctx.default_map = options_of(path, ctx.find_root().command, words)
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
        ctx.meta[VERBOSE], ctx.meta[QUIET], ctx.meta[LOG_FILE] = verbose, quiet, log_file
        if not quiet:
            _warn_of_misspelt_variables(ctx)
        return callback(**arguments)

    return logging_too


COMMAND_LINE = 3
_SUMMARY = "--json=summary"
"""Another way to write --json-summary: a flag of click's takes no value."""


def strength(ctx: click.Context, name: str) -> int:
    """Return the precedence of an option's source: 3 command line, 2 environment, 1 file, 0 default or not given."""
    sources = click.core.ParameterSource
    order = {sources.COMMANDLINE: COMMAND_LINE, sources.ENVIRONMENT: 2, sources.DEFAULT_MAP: 1}
    source = ctx.get_parameter_source(name)
    return order.get(source, 0) if source is not None else 0


def choose(ctx: click.Context, arguments: dict[str, Any], *names: str) -> None:
    """Keep the nearest to the person among options that exclude each other, and drop the others.

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
    """Return the source of a wrong value, as " in BIGUPLOAD_PART_SIZE"; empty for the command line."""
    match strength(ctx, param.name or ""):
        case 2 if isinstance(param.envvar, list):
            return f" in {next((name for name in param.envvar if os.environ.get(name)), 'the environment')}"
        case 1:
            return f" in {path_in_use(ctx.meta.get('bigupload.config'))}"
        case _:
            return ""

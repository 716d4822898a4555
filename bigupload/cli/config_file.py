"""The configuration file: TOML, whose keys are the commands' options. Reads it and refuses what it does not know.

::

    endpoint-url = "https://minio.example:9000"   # for every command that has the option

    [upload]                                      # for `bigupload upload`
    limit-rate = "08:00=2MB/s,20:00=off"
    metadata = { project = "north" }
    tag = ["team=film", "year=2026"]

    [bucket.setup]
    origin = ["https://app.example.com"]
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from bigupload.errors import UsageError
from bigupload.support.files import user_path

TYPED_ALONE = frozenset({"trust"})
"""Options that only the command line may set: they approve one particular manifest."""


def default_path() -> Path:
    """Where the file is if no option or variable names another. Raises UsageError for a user without a home."""
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


def _options(command: click.Command) -> dict[str, click.Option]:
    options = [param for param in command.params if isinstance(param, click.Option)]
    found = {name_of(option): option for option in options if option.expose_value}  # --help-all has no value
    found.pop("config", None)  # a file names no other
    return found


def _is_command(root: click.Command, words: Sequence[str], key: str, value: Any) -> bool:
    """Whether a table is that of a command, and not the value of an option that has the same name."""
    here = _find(root, words)
    return isinstance(value, dict) and isinstance(here, click.Group) and key in here.list_commands(click.Context(here))


def _known(root: click.Command, words: Sequence[str], depth: int, key: str) -> bool:
    """Whether another command, to which this place in the file applies as well, has the option."""
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
        value = [f"{key}={_text(item)}" for key, item in value.items()]
    if isinstance(value, list) != option.multiple:
        shape = 'a list, as in ["a=b"]' if option.multiple else "one value, and not a list"
        raise UsageError(f"{path}: {name} is {shape}")
    if isinstance(value, list):
        return [_text(item) for item in value]
    if option.is_flag or isinstance(value, bool):
        if not (option.is_flag and isinstance(value, bool)):
            raise UsageError(f"{path}: {name} is {'true or false' if option.is_flag else 'not true or false'}")
        return value
    text = _text(value)
    return str(Path(text).expanduser()) if isinstance(option.type, click.Path) else text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)

"""The library's messages in the words of the command line: options and commands, not arguments and functions.

The library names an argument in backticks: `part_size`, or with its value: `resume=False`. A function of the library is
named with its first argument: `abort('…')`. Nothing else in a message stands in backticks. What a
program does by "make the same call", a person does by "run the same command".
"""

from __future__ import annotations

import functools
import re

from bigupload.s3_parameters import PARAMETERS
from bigupload.units import quoted

OTHERS = {
    "api_key": "BIGUPLOAD_API_KEY",
    "credentials": "a --profile with a role, SSO or credential_process",
    "proxies": "HTTPS_PROXY",
    "read_back": "bigupload verify --download",
    "lasts": "--for",
    "xxh128": "--mhl",
    "sha256": "--sha256 (or --write-checksums)",
}
"""The replacements of other arguments and functions."""
COMMANDS = {
    "abort": "bigupload abort {}",
    "adopt": "bigupload resume --adopt {} --source FILE",
    "resume": "bigupload resume {} --source PATH",
}
"""Functions of the library that take one name, as commands."""
_OF_THE_SERVICE = frozenset({"imports", "shared"})
_ARGUMENT = r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`"
_CALL = r"([mM])ake the same call"
_FUNCTION = r"`([a-z_]+)\('([^`]*)'\)`"


def for_command_line(message: str) -> str:
    """Return a message of the library with options in place of arguments, and commands in place of functions."""
    message = re.sub(_FUNCTION, _command, re.sub(_ARGUMENT, _option, message))
    return re.sub(_CALL, lambda match: {"m": "run", "M": "Run"}[match[1]] + " the same command", message)


def spelled(name: str) -> str:
    """Return the option of an argument or of a field of S3Options."""
    row = PARAMETERS.get(name)
    return f"--{(row.option if row is not None else None) or name.replace('_', '-')}"


@functools.cache
def _arguments() -> frozenset[str]:
    """The arguments of the library, which are options of the same names. Few commands end with a message of these."""
    import dataclasses

    from bigupload.api import arguments
    from bigupload.batch.selecting import Selection
    from bigupload.core.retry_policy import RetryPolicy
    from bigupload.options import S3Options

    classes = (Selection, RetryPolicy, S3Options)
    fields = {field.name for kind in classes for field in dataclasses.fields(kind)}
    declared = (kind for name, kind in vars(arguments).items() if name.endswith("Options"))
    return _OF_THE_SERVICE.union(fields, *(kind.__annotations__ for kind in declared))


def _option(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name in OTHERS or (name not in PARAMETERS and name not in _arguments()):
        return OTHERS.get(name, match[0])
    option = spelled(name)
    if value is None or value == "True":
        return option
    if value == "False":
        return option.replace("--", "--no-", 1)
    text = _quoted(value.strip("'"))
    return f"{option} {text}"


def _command(match: re.Match[str]) -> str:
    command = COMMANDS.get(match[1])
    return match[0] if command is None else command.format(_quoted(match[2]))


def _quoted(text: str) -> str:
    if text.isalnum() and text.isascii():  # as in the help of options, which every command makes
        return text
    return quoted(text)

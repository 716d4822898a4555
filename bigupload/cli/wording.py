"""The library's messages in the words of the command line: options and commands, not arguments and functions.

The library names an argument in backticks: `part_size`, or with its value: `resume=False`. A function of the library is
named with its first argument: `abort('…')`. Nothing else in a message stands in backticks. What a
program does by "make the same call", a person does by "run the same command".
"""

from __future__ import annotations

import re
import shlex

from bigupload.s3_parameters import PARAMETERS

OPTIONS = PARAMETERS.keys() | {
    "addressing", "all_names", "allow_empty", "ca_bundle", "checksum", "dask", "delta", "end_marker",
    "endpoint_url", "exclude", "exclude_from", "expected_size", "follow", "follow_symlinks", "give_up_after",
    "hedge", "idle", "if_none_match", "include", "local", "manifest", "max_size", "min_size", "name", "newer_than",
    "no_sign_request", "no_verify_ssl", "on_change", "part_size", "poll", "profile", "region", "require_proof",
    "response_timeout", "resume", "service", "shared", "size_only", "skip_existing", "source", "temp_dir", "to",
    "trust", "until_idle", "upload_id", "verify_source",
}  # fmt: skip
"""Arguments of the library that are options, by the same name or as in `s3_parameters`."""
OTHERS = {
    "credentials": "a --profile with a role, SSO or credential_process",
    "read_back": "bigupload verify --download",
    "sha256": "--write-checksums",
}
"""The replacements of other arguments and functions."""
COMMANDS = {
    "abort": "bigupload abort {}",
    "adopt": "bigupload resume --adopt {} --source FILE",
    "resume": "bigupload resume {} --source PATH",
}
"""Functions of the library that take one name, as commands."""
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
_CALL = re.compile(r"([mM])ake the same call")
_FUNCTION = re.compile(r"`([a-z_]+)\('([^`]*)'\)`")


def for_command_line(message: str) -> str:
    """Return a message of the library with options in place of arguments, and commands in place of functions."""
    message = _FUNCTION.sub(_command, _ARGUMENT.sub(_option, message))
    return _CALL.sub(lambda match: {"m": "run", "M": "Run"}[match[1]] + " the same command", message)


def spelled(name: str) -> str:
    """Return the option of an argument or of a field of S3Options."""
    row = PARAMETERS.get(name)
    return f"--{(row.option if row is not None else None) or name.replace('_', '-')}"


def _option(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if name not in OPTIONS:
        return OTHERS.get(name, match[0])
    option = spelled(name)
    if value is None or value == "True":
        return option
    if value == "False":
        return option.replace("--", "--no-", 1)
    text = value.strip("'")
    return f"{option} {text}"


def _command(match: re.Match[str]) -> str:
    command = COMMANDS.get(match[1])
    return match[0] if command is None else command.format(shlex.quote(match[2]))

"""The library's messages in the words of the command line: options and commands, not arguments and functions.

The library names an argument in backticks: `part_size`, or with its value: `resume=False`. It names a function with
its first argument: `abort('…')`, or alone. Other code in backticks stays as it is, as `chcp 65001` does.

A mark in the text is the lightest form of such a hint. About 200 messages have one. They reach a command as errors, as
the `message` of events, as lines of a log and as help. Three of these four are plain text, and public. A hint as an
object would need a second field in each of them and a change of each message. The price of marks: if a file's name has
an argument's name in backticks, it is translated, too.
"""

from __future__ import annotations

import functools

from bigupload.s3_parameters import PARAMETERS
from bigupload.units import quoted

OTHERS = {
    "api_key": "BIGUPLOAD_API_KEY",
    "credentials": "a --profile with a role, SSO or credential_process",
    "proxies": "HTTPS_PROXY",
    "read_back": "bigupload verify --download",
    "abort": "bigupload abort",
    "lasts": "--for",
    "DeleteSource": "--delete-source",
    "DeleteSource(empty_dirs=True)": "--delete-empty-dirs",
    "DeleteSource(links=True)": "--delete-links",
    "Digest('sha256')": "--sha256 (or --write-checksums)",
    "Digest('xxh128')": "--mhl",
    "Link": "--share",
    "Receipt": "--receipt",
}
"""The replacements of other arguments, functions and steps."""
COMMANDS = {
    "abort('": "bigupload abort {}",
    "adopt('": "bigupload resume --adopt {} --source FILE",
    "resume('": "bigupload resume {} --source PATH",
    "DeleteSource(proved_by='": "--delete-if-proved {}",
}
"""Functions and steps of the library that take one text, by their beginnings."""
_OF_THE_SERVICE = frozenset({"shared"})


def for_command_line(message: str) -> str:
    """Return a message of the library with options in place of arguments, and commands in place of functions."""
    first, *pieces = message.split("`")
    shown, closes = first, False  # whether the mark before a piece ends code that was translated
    for number, piece in enumerate(pieces, 1):
        words = None if closes or number == len(pieces) else _translated(piece)
        shown += words if words is not None else piece if closes else f"`{piece}"
        closes = words is not None
    return shown


def spelled(name: str) -> str:
    """Return the option of an argument or of a field of S3Options."""
    row = PARAMETERS.get(name)
    return f"--{(row.option if row is not None else None) or name.replace('_', '-')}"


@functools.cache
def _arguments() -> frozenset[str]:
    """The arguments of the library, which are options of the same names. Few commands end with a message of these."""
    from bigupload.api import arguments
    from bigupload.batch.tree import Selection
    from bigupload.core.retry_policy import RetryPolicy

    declared = (kind for name, kind in vars(arguments).items() if name.endswith("Options"))
    return _OF_THE_SERVICE.union(*(kind.__annotations__ for kind in (*declared, Selection, RetryPolicy)))


def _translated(code: str) -> str | None:
    """Return the words for code; None: it stays as it is."""
    name, _, value = code.partition("=")
    if known := OTHERS.get(code) or OTHERS.get(name):
        return known
    begin, quote, text = code.partition("'")
    if command := COMMANDS.get(begin + quote):
        return command.format(_quoted(text.removesuffix("')")))
    if name not in PARAMETERS and name not in _arguments():
        return None
    option = spelled(name)
    if value == "False":
        return option.replace("--", "--no-", 1)
    text = _quoted(value.strip("'"))
    return option if value in ("", "True") else f"{option} {text}"


def _quoted(text: str) -> str:
    if text.isalnum() and text.isascii():  # as in the help of options, which every command makes
        return text
    return quoted(text)

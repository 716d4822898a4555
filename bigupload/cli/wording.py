"""The library's messages in the words of the command line: options and commands, not arguments and functions.

The library names an argument in backticks: `part_size`, or with its value: `resume=False`. It names a function with
its first argument: `abort('…')`, or alone. "Make the same call" becomes "run the same command". Other code in backticks
stays as it is, as `chcp 65001` does.

A mark in the text is the lightest form of such a hint. About 180 messages have one. They reach a command as errors, as
the `message` of events, as lines of a log and as help. Three of these four are plain text, and public. A hint as an
object would need a second field in each of them and a change of each message, in place of the one pattern below. The
price of marks: if a file's name has an argument's name in backticks, it is translated, too.
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
    "abort": "bigupload abort",
    "lasts": "--for",
}
"""The replacements of other arguments and functions."""
COMMANDS = {
    "abort": "bigupload abort {}",
    "adopt": "bigupload resume --adopt {} --source FILE",
    "resume": "bigupload resume {} --source PATH",
}
"""Functions of the library that take one name, as commands."""
STEPS = {
    "DeleteSource": "--delete-source",
    "DeleteSource proved_by": "--delete-if-proved {}",
    "DeleteSource empty_dirs": "--delete-empty-dirs",
    "DeleteSource links": "--delete-links",
    "Digest sha256": "--sha256 (or --write-checksums)",
    "Digest xxh128": "--mhl",
    "Link": "--share",
    "Receipt": "--receipt",
}
"""Steps of the library, as options."""
_STEP = r"`(DeleteSource|Digest|Link|Receipt)(?:\((?:(\w+)=)?'?([\w-]+)'?\))?`"
_OF_THE_SERVICE = frozenset({"imports", "shared"})
_MARKED = r"`([a-z][a-z0-9_]*)(?:=([^`]*)|\('([^`]*)'\))?`"


def for_command_line(message: str) -> str:
    """Return a message of the library with options in place of arguments, and commands in place of functions."""
    message = message.replace("make the same call", "run the same command")
    message = message.replace("Make the same call", "Run the same command")
    message = re.sub(_STEP, _step, message)
    return re.sub(_MARKED, _translated, message)


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


def _step(match: re.Match[str]) -> str:
    kind, name, value = match.groups()
    return STEPS.get(" ".join(filter(None, [kind, name or value])), match[0]).format(value)


def _translated(match: re.Match[str]) -> str:
    name, value, subject = match.groups()
    if subject is not None:
        return COMMANDS[name].format(_quoted(subject)) if name in COMMANDS else match[0]
    if name in OTHERS or (name not in PARAMETERS and name not in _arguments()):
        return OTHERS.get(name, match[0])
    option = spelled(name)
    if value is None or value == "True":
        return option
    if value == "False":
        return option.replace("--", "--no-", 1)
    text = _quoted(value.strip("'"))
    return f"{option} {text}"


def _quoted(text: str) -> str:
    if text.isalnum() and text.isascii():  # as in the help of options, which every command makes
        return text
    return quoted(text)

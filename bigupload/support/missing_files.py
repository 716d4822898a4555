"""Suggestions for the name of a file that does not exist."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

_MOST_NAMES = 20_000
"""Names of a directory that are compared with the missing one."""
_PRIVATE = r"(?s)(?<=[:/])[^/?#]*@|[?#].*"
"""The user and password, the query and the fragment of a URL."""
_ONE_SLASH = r"(?is)(s3|https?):/*(?!/)(?P<rest>.*)"


def why_missing(name: str) -> str:
    """Return the text behind "no such file: NAME", empty if nothing is known. Reads the directory. Blocking.

    It never raises: what can't be looked at is left out.
    """
    if match := re.fullmatch(_ONE_SLASH, shown(name)):
        return f"; a URL has two slashes: {match[1].lower()}://{match['rest']}"
    if name.startswith("~"):
        return "; the shell did not replace ~: write it without quotes"
    try:
        return _what_is_there(Path(name)) or in_working_directory(name)
    except (OSError, ValueError):
        return ""


def shown(name: str) -> str:
    """Return the name for a message: of what may be meant as a URL, without what may be secret in it."""
    return re.sub(_PRIVATE, "", name) if re.fullmatch(_ONE_SLASH, name) else name


def _what_is_there(path: Path) -> str:
    if path.is_symlink():
        return f"; it is a symbolic link to {str(path.readlink())!r}, which does not exist"
    if not path.parent.is_dir():
        above = next(each for each in path.parents if each.parent.exists())
        what = "is not a directory" if above.exists() else "does not exist"
        return f"; {above} {what}{in_working_directory(str(path))}"
    wanted = _folded(path.name)
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES) if _folded(entry.name) == wanted]
    if names and path.name not in names:
        return f"; there is {min(names)!r}, whose name differs in case, spaces, quotes or accents"
    return ""


def _folded(name: str) -> str:
    """A name as people compare it."""
    import unicodedata

    return "".join(unicodedata.normalize("NFKC", name).casefold().split()).strip("'\"")


def in_working_directory(name: str) -> str:
    """Return the directory that a relative path is relative to, in brackets; empty for an absolute one."""
    try:
        return "" if Path(name).is_absolute() else f" (the working directory is {Path.cwd()})"
    except OSError:  # it is gone
        return ""

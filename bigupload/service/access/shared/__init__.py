"""State that replicas share through Valkey or Redis, the *engine*, and its replacement while that is away.

Here is what those need who may never have an engine: nothing here imports the library that connects to it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from bigupload import errors


class EngineAwayError(Exception):
    """The engine does not respond, or refuses. The caller does without it."""


def check_shared_url(url: str) -> None:
    """Raise UsageError if `url` is not a URL of an engine. The message never has the URL, which may have a password."""
    try:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        sound = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        sound = sound and (not database or database.isdecimal()) and not parts.fragment
    except ValueError:  # brackets, a port over 65535
        sound = False
    if not sound:
        raise errors.UsageError("`shared` is not a URL of Valkey or Redis: write it like redis://host:6379/0")

"""The URL of the engine that replicas share, checked without the library that connects to it."""

from __future__ import annotations

from urllib.parse import urlsplit

from bigupload import errors


def check_shared_url(url: str) -> None:
    """Raise UsageError if `url` is no URL of an engine. The message never has the URL, which may have a password."""
    try:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")
        sound = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
        sound = sound and (not database or database.isdecimal()) and not parts.fragment
    except ValueError:  # brackets, a port over 65535
        sound = False
    if not sound:
        raise errors.UsageError("`shared` is no URL of Valkey or Redis: write it like redis://host:6379/0")

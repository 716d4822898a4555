"""The keyword arguments about files that change: while they are uploaded, or because something still writes them."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, TypedDict

from bigupload import errors
from bigupload.units import parse_duration

OnChange: TypeAlias = Literal["raise", "restart"]

DEFAULT_IDLE = 10.0
_LEAST_IDLE = 1.0
"""Seconds. A file's times are coarse, and whoever writes to it needs a moment between two writes."""


class ChangeOptions(TypedDict, total=False):
    """What to do about a source that changes."""

    on_change: OnChange
    """"raise" (the default): SourceChanged, if the source changes during the upload, or has another size than when its
    unfinished upload began. "restart" (the default of `sync`): upload it as it is now. If its size is the same, parts
    that did not change are kept. Otherwise the unfinished upload is aborted, so that its parts cost nothing, and a new
    one begins. After three changes in one call, SourceChanged."""


class FollowOptions(TypedDict, total=False):
    """What to do about a file that is still being written."""

    follow: bool
    """Upload a file while something still writes it: each part as soon as it is complete. When nothing was written for
    `idle`, all parts are hashed again, those that were rewritten are sent again, and the upload completes. Default:
    False."""
    idle: float | str
    """How long nothing is written to a file that has ended: seconds, or a text like "10s" (the default); 1 at least."""


def checked_idle(idle: float | str, name: str = "idle") -> float:
    """Seconds. Raises UsageError for what is no finite number from 1 on."""
    seconds = parse_duration(idle) if isinstance(idle, str) else idle
    if not math.isfinite(seconds):
        raise errors.UsageError(f"{name} is a number of seconds, or like '10s', not {idle!r}")
    if seconds < _LEAST_IDLE:
        raise errors.UsageError(f"`{name}` is 1 second at least, not {idle!r}")
    return seconds


def check_follow(options: Any, *, is_path: bool) -> None:
    """Raise UsageError for what can't be done with a file that is still being written.

    Args:
        options: Those of the upload.
        is_path: Whether the source is given by its path.
    """
    if not options.get("follow", False):
        if "idle" in options:
            raise errors.UsageError("`idle` is for files that are followed: add `follow=True`, or leave it out")
        return
    if not is_path:
        raise errors.UsageError("`follow` is for files: name one by its path")
    refused = {
        "service": "a media service wants to know how long a file is",
        "expected_size": "nobody knows how long the file will be",
        "end_marker": "it ends when nothing is written to it for `idle`",
        "skip_existing": "the file has to be whole to be compared",
        "delta": "the file has to be whole to be compared",
    }
    for name, reason in refused.items():
        if options.get(name):
            raise errors.UsageError(f"`{name}` can't be used with `follow`: {reason}")
    if options.get("checksum") == "none":
        raise errors.UsageError("`checksum='none'` can't be used with `follow`: only checksums show what was rewritten")
    if options.get("on_change") == "restart":
        raise errors.UsageError(
            "`on_change='restart'` can't be used with `follow`, which expects changes: leave it out"
        )

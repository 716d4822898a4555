"""The caller's selection of the sources' files."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from bigupload.batch.tree import WalkOptions
from bigupload.core.selection import (
    FileLimits,
    FileRule,
    Scope,
    exclude,
    include,
    parse_exclude_file,
    scope_of,
    selects,
)
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.support.output_file import partial_name
from bigupload.support.systems import with_slashes
from bigupload.units import parse_duration, parse_size

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files of directories, globs and lists that are uploaded. By default all of them.

    Patterns are those of `.gitignore`, with "{jpg,png}" for alternatives: see docs/many-files.md. They are matched
    against the keys below the target's prefix.

    Raises:
        UsageError: A pattern is malformed, a value or a file of patterns can't be read, or no file could be within the
            limits.
    """

    include: Sequence[str] = ()
    """Only files that match one of these patterns."""
    exclude: Sequence[str] = ()
    """Not the files that match one of these. "!" before a pattern includes again; the last one that matches decides."""
    exclude_from: Sequence[str | os.PathLike[str]] = ()
    """Files like `.gitignore`, whose patterns come before those of `exclude`."""
    min_size: int | str | None = None
    """The size of the smallest selected file: bytes, or a text, as in "1MB"."""
    max_size: int | str | None = None
    """The size of the largest selected file: bytes, or a text, as in "5GB"."""
    newer_than: str | datetime.datetime | None = None
    """Only files that changed since then: "7d" (so long before the listing), "2026-01-31", "2026-01-31T08:00", in local
    time if it names no zone."""
    older_than: str | datetime.datetime | None = None
    """Only files that did not change since then."""
    follow_symlinks: bool = False
    """Upload what symbolic links lead to. False: they are left out and named. A source that is one is followed."""

    def __post_init__(self) -> None:
        for name in ("include", "exclude", "exclude_from"):
            if isinstance(getattr(self, name), str | os.PathLike):
                raise UsageError(f"`{name}` is a list, not one text or path")
        self.scope()
        self.walk_options(now=0.0)

    def scope(self) -> Scope:
        """The patterns, for the top of a tree."""
        listed = [rule for path in self.exclude_from for rule in read_exclude_file(path)]
        rest = [include(pattern[1:]) if pattern.startswith("!") else exclude(pattern) for pattern in self.exclude]
        return scope_of([*map(include, self.include), *listed, *rest])

    def walk_options(self, *, now: float, prefix: str | None = "") -> WalkOptions:
        """The rest.

        Args:
            now: Seconds since 1970, from which durations count back.
            prefix: What keys get in front, which counts for their length. None: names are not part of a key.
        """
        limits = FileLimits(
            min_size=_size("min_size", self.min_size),
            max_size=_size("max_size", self.max_size),
            newer_than=_instant("newer_than", self.newer_than, now),
            older_than=_instant("older_than", self.older_than, now),
        )
        plain = WalkOptions(limits=limits, follow_symlinks=self.follow_symlinks)
        return WalkOptions(
            limits=limits,
            follow_symlinks=self.follow_symlinks,
            most_key_bytes=plain.most_key_bytes - len((prefix or "").encode()),
            names_are_keys=prefix is not None,
        )


def read_exclude_file(path: str | os.PathLike[str]) -> list[FileRule]:
    """The rules of a file like `.gitignore`. Blocking.

    Raises:
        UsageError: The file can't be read, is not text, or has a malformed pattern.
    """
    name = os.fspath(path)
    try:
        with open(name, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as e:
        raise UsageError(f"can't read `exclude_from` {name}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"`exclude_from` {name} is not a text in UTF-8") from None
    return parse_exclude_file(text, name)


def check_not_among_sources(
    option: str, file: Path, directory: str, selection: Selection, *, done: str = "uploaded"
) -> None:
    """Raise UsageError if a file that is written meanwhile would be, or replace, one of those that are read.

    Args:
        option: The option or argument that names the file, as messages spell it.
        file: The file.
        directory: The directory, or the file, that is read.
        selection: Which files of it.
        done: What is done with them, in messages.
    """
    top, path = os.path.realpath(directory), os.path.realpath(file)
    if top in (path, str(partial_name(Path(path)))):
        raise UsageError(f"{option} {file} would replace the file that is {done}: name another one")
    try:
        is_below = os.path.commonpath([top, path]) == top
    except ValueError:  # on another drive of Windows
        is_below = False
    if is_below:
        key = with_slashes(os.path.relpath(path, top))
        if any(selects(selection.scope(), name) for name in (key, partial_name(Path(key)).as_posix())):
            raise UsageError(
                f"{option} {file} would be {done} itself while it is written: name a file elsewhere, or exclude it: "
                f"`exclude='/{key}*'`"
            )


def _size(name: str, given: int | str | None) -> int | None:
    if given is not None and not isinstance(given, str) and (isinstance(given, bool) or given < 0):
        raise UsageError(f"`{name}` is a number of bytes, or a text like '20MB', not {given!r}")
    return parse_size(given) if isinstance(given, str) else given


def _instant(name: str, given: str | datetime.datetime | None, now: float) -> int | None:
    """Nanoseconds since 1970."""
    if given is None:
        return None
    if isinstance(given, str):
        try:
            return round((now - parse_duration(given)) * 1e9)
        except UsageError:
            pass
        try:
            given = datetime.datetime.fromisoformat(given)
        except ValueError:
            raise UsageError(
                f"`{name}`: not a time: {given!r} (write it like 7d, 12h, 2026-01-31 or 2026-01-31T08:00)"
            ) from None
    since = given.astimezone(datetime.UTC) - _EPOCH
    return since // datetime.timedelta(microseconds=1) * 1000

"""The files of a watched directory as they are now, listed again and again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from bigupload.batch.entries import FileEntry, Omitted
from bigupload.batch.selecting import Selection
from bigupload.batch.tree import walk
from bigupload.core.selection import Scope, exclude, scope_of
from bigupload.errors import UsageError

TEMPORARY = (".*", "*~", "*.part", "*.partial", "*.tmp", "*.crdownload")
"""Patterns of names that are hidden, or of files that are renamed when they are whole: those of rsync, wget, editors,
browsers."""


class WatchedFiles:
    """Which files of a directory are watched."""

    def __init__(
        self, directory: str, selection: Selection, *, now: float, all_names: bool = False, prefix: str = ""
    ) -> None:
        """Check what is selected.

        Args:
            directory: Its absolute path.
            selection: Which files.
            now: Seconds since 1970, from which durations count back.
            all_names: Whether names are watched that are hidden or temporary.
            prefix: What keys get in front, which counts for their length.

        Raises:
            UsageError: Symbolic links can't be followed: nothing tells when what they lead to changes.
        """
        if selection.follow_symlinks:
            raise UsageError("a watch can't follow symbolic links: leave out `follow_symlinks=True`")
        self._directory = directory
        self._scopes: list[Scope] = [selection.scope()] if all_names else [selection.scope(), _not_temporary()]
        self._options = selection.walk_options(now=now, prefix=prefix)

    def found(self) -> Iterator[FileEntry | Omitted]:
        """List them, and what can't be one of them. Blocking. What vanishes meanwhile is left out without a word."""
        for found in walk(self._directory, self._scopes, self._options):
            if isinstance(found, FileEntry):
                yield found
            elif os.path.lexists(found.path):
                # What follows a colon is advice for a selection that can follow symbolic links.
                yield found if found.is_failure else dataclasses.replace(found, reason=found.reason.partition(":")[0])


def _not_temporary() -> Scope:
    return scope_of([exclude(pattern) for pattern in TEMPORARY])
